"""How fast and how lean: what the workbench does, beside the obvious way and beside what no way can avoid."""
