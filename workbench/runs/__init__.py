"""The run directory: create, write, read, command and lock it, without torch.

``directory`` names its files · ``log`` appends and reads events · ``record`` writes a running loop's events
down · ``lineage`` forks a run and tells a fork's whole history · ``liveness`` and ``summary`` say how a run is
and what came out · ``control`` carries commands · ``lock`` admits one writer · ``atomic`` and ``process`` are
the tools beneath.
"""
