"""The first screen: the runs and studies of a folder."""
