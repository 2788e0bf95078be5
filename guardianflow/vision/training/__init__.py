"""Ultralytics as a trainer, kept apart from the user's data."""
