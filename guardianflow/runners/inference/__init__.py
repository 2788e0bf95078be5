"""Benchmarks: matrix, runner, evidence, result, verdict."""
