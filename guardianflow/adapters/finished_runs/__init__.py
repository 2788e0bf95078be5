"""Runs that others have finished: recognised in folders, and brought into MLflow and the metrics store."""
