"""Batch -> Embeddings: the only door to open_clip."""
