"""Readers of image-caption pairs: webdataset shards, tables, COCO, Karpathy's splits and class folders."""
