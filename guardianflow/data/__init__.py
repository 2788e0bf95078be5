"""Datasets: reading and checking them, and generated site scenes."""
