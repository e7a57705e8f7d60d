"""The run directory: create, write, read, control and lock it, without torch.

``directory`` names its files · ``log`` appends and reads events, also of a fork's ancestors · ``checkpoints`` and
``snapshots`` store tensors · ``liveness`` locks a run, reports its state and sends it commands · ``summary`` records
a training loop's events and reports its results · ``studies`` finds studies and their runs.
"""
