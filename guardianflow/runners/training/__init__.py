"""Trainings: runner, evidence, result, verdict."""
