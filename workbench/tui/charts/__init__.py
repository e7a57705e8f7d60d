"""Charts and heat maps drawn with the characters of a terminal."""
