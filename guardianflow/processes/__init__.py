"""One process tree: its signals, its memory, its end."""
