"""Cells of a benchmark: processes, profiles, statistics."""
