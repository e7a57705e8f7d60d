"""The first screen: the runs and the studies of a folder."""
