"""Scripts of others, run as they are."""
