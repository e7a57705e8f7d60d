"""What a difference between runs is worth: intervals and paired gains."""
