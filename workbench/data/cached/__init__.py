"""Stores: images decoded, or cropped, once, written to disk, and read from there by every later run."""
