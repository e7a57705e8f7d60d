"""Training. Start with ``loop.py``: everything else here serves it."""
