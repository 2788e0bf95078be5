"""Plots: pure functions make the data, thin ones draw it."""
