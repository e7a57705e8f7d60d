"""Benchmarks of time and memory against naive implementations and lower bounds."""
