"""Prepared data: images decoded once, kept on disk, and read from there by every later run."""
