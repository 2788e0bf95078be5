"""What does the work of a run: one folder a kind."""
