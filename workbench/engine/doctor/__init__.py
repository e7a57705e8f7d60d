"""What a machine can do and what is wrong with a run, before it costs a night: examine.py. START THERE."""
