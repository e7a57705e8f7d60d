"""Export of runs to TensorBoard, Weights & Biases and trackio, without torch.

``export`` follows a run's log and passes its scalars to a ``Sink``, one module per tool. While a run trains, this
happens in a separate process. Nothing here writes to the run, and the run never waits for it, so a failing tool cannot
stop training.
"""
