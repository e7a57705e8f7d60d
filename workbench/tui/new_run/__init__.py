"""The screen on which a run is started."""
