"""Several runs at once: one chart for each metric, their settings, and their differences."""
