"""What the teacher says of every view of every training pair, on disk: computed once, read by every run after."""
