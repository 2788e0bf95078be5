"""Notebooks as the unit of execution."""
