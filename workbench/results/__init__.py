"""Results of studies: one table from runs or trials, its verdicts in words, reports and files. START at table.py.

Nothing that the dashboard imports from here loads torch; trials.py alone needs a planned sweep.
"""
