"""What a study is reported as: runs -> a table with intervals beside the paper's, verdicts, figures, files.

START at study.py. Nothing here loads torch, and nothing asks the sweep's storage: run directories are all it needs.
"""
