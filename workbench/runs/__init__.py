"""The run directory: create, write, read, control and lock it, without torch.

``directory`` names its files · ``log`` appends and reads events · ``record`` logs a training loop's events ·
``checkpoints``, ``snapshots``, ``mask_snapshots`` and ``gradient_snapshots`` store tensors · ``lineage`` forks a run
and reads a fork's full history · ``liveness`` locks a run and reports its state · ``summary`` reports its results and
finds the runs of a study · ``control`` sends and receives commands.
"""
