"""Trackers, their runs, their truth, their clip."""
