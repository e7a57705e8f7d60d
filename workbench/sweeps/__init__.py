"""Sweeps: a study file -> trials -> runs -> a table with intervals. START at sweep.py."""
