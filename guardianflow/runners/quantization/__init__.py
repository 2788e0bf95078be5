"""Quantizations: checks, steps, comparison, evidence, result."""
