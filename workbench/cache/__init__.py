"""The cache on disk: prepared images (``workbench data prepare``) and teacher rows (``workbench teacher cache``).

``arrays`` reads and writes files, ``identity`` decides what makes an entry stale, and ``entries`` lists and removes.
"""
