"""Reports of studies: a table with intervals next to the paper's figures, verdicts, plots and files, from the runs.

START HERE: study.py. Nothing here loads torch or opens the sweep's database; run directories are the only input.
"""
