"""``workbench doctor``: facts about the machine and checks of a run before training; ``examine`` is the entry point."""
