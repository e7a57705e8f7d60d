"""Embeddings -> numbers: retrieval, zero-shot classification, agreement with the teacher."""
