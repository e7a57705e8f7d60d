"""Runs in other people's tools, without torch: TensorBoard, Weights & Biases, trackio.

``tail`` follows a run's log and hands ``scalars`` of its events to a ``sink``, one file a tool · ``tools`` names them ·
``beside`` does it in a process of its own while the run trains. Nothing here writes to a run or is waited for by it, so
nothing here can stop one.
"""
