"""From a data SPEC to batches.

``open_dataset(spec)`` (spec.py) opens the files with a reader of ``sources/`` or draws ``samples/``, and gives a
``Dataset`` (dataset.py). ``cached(dataset, policy)`` (cached/prepare.py) may read its images from a store on disk.
``BatchStream`` (batches.py) orders the samples (order.py), crops the images (augment.py) and gives training batches;
``EvaluationSet`` (evaluation_set.py) gives the images and captions of retrieval and zero-shot classification.
"""
