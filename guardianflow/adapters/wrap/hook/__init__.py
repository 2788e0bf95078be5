"""What a wrapped Python process starts with: it notes what its own argument parsers handed back."""
