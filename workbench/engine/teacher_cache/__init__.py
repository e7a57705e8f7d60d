"""Teacher embeddings of every view of every training pair, on disk: computed once, read by later runs."""
