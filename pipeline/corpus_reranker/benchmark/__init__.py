"""Benchmarks: their splits, published figures, and the tables of a result."""
