"""Where image-caption pairs come from: webdataset shards, tables, COCO, Karpathy's splits and class folders."""
