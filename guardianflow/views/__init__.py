"""Results and objects as HTML."""
