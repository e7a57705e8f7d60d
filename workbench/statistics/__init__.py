"""Statistics of differences between runs: intervals, paired gains, verdicts, power and rank agreement."""
