"""Plain tables and arrays computed from events, snapshots and results, for the terminal, ``figures`` and notebooks."""
