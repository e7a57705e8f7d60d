"""Evaluation of embeddings: retrieval, zero-shot classification, agreement with the teacher, and chance levels."""
