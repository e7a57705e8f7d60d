"""Pictures with captions: from shards on disk to batches in the form that the models want."""
