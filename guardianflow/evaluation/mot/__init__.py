"""Tracks against their truth: HOTA, CLEAR, identity."""
