"""Benchmarks of speed, memory and precision, and plain implementations of the papers to compare with."""
