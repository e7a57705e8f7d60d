"""The screen of several runs side by side."""
