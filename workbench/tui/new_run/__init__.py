"""The screen on which a run is configured and started."""
