"""The metrics store and what reads it."""
