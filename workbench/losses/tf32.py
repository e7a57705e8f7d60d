"""TF32 for the matrix products of losses: a GPU rounds their factors to 10 bits, and adds in float32.

The loss of a nearly solved pair is the small difference of its own logit and the log-sum-exp of its row. If the logit
came from the embeddings as they are and the row from rounded ones, that difference would be wrong by percents. So the
embeddings are rounded first, to what a GPU's product would make of them: whatever is computed from them agrees.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

# Dekker's split: multiplying by 2^13 + 1 and subtracting leaves 24 - 13 significant bits, one of them implicit.
SPLIT = 2.0**13 + 1


def rounded(values: Tensor) -> Tensor:
    """float32 values of any shape, below 2^114, rounded to the nearest with 10 bits; the gradient passes unchanged."""
    with torch.no_grad():
        scaled = values * SPLIT
        correction = scaled - (scaled - values) - values
    return values + correction  # exact: the sum is the rounded value


@contextmanager
def tf32_products(is_on: bool) -> Iterator[None]:
    """While the block runs, a GPU computes products of float32 matrices in TF32; a CPU computes them in float32.

    Gradients flow into the products of a backward pass too, which must run in the block to be as fast.
    """
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = is_on or before
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
