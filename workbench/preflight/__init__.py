"""What judges a run before it trains: early checks, ``workbench doctor``, forecasts, calibration, teacher import."""
