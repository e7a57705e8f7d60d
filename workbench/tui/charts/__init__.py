"""Curves and matrices drawn with the characters of a terminal."""
