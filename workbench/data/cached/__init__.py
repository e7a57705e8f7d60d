"""Stores: images decoded once, written to disk, and read from there by every later run."""
