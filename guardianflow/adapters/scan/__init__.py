"""Folders searched for scripts, datasets, weights and finished runs, by reading; see `scan/scan.py`."""
