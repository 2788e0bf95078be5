"""Metrics of a script that knows nothing of us: in what it prints, and in files that it writes."""
