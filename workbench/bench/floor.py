"""The matrix products that a dense loss cannot do without, forward and backward, and nothing else.

What a loss takes beyond them is its own doing: exponentials, sums, copies, and products done twice.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

import torch

from workbench.losses.base import Convention


@dataclass(frozen=True)
class Products:
    """``count`` products of a [rows, inner] with an [inner, columns] matrix, each length a shape letter.

    B is the batch, D the width of both models, E both widths side by side.
    """

    why: str
    rows: str
    inner: str
    columns: str
    count: int


STUDENT = (
    Products("the student's cosines", "B", "D", "B", 1),
    Products("their gradient, to its pictures and its texts", "B", "B", "D", 2),
)
TEACHER = (Products("the teacher's cosines", "B", "D", "B", 1),)
MIXED = (
    Products("the student's pictures with the teacher's texts, and the reverse", "B", "D", "B", 2),
    Products("the gradient of mixed cosines, to the student alone", "B", "B", "D", 2),
)
FUSED = (
    Products("the fusion of either modality", "B", "E", "D", 2),
    Products("fused cosines", "B", "D", "B", 1),
    Products("the gradient of fused cosines, to pictures and texts", "B", "B", "D", 2),
    Products("the gradient of either fusion, to its weights", "D", "B", "E", 2),
    Products("the gradient of either fusion, to the student", "B", "D", "D", 2),
)
WITHIN = (
    Products("the student's cosines within either modality", "B", "D", "B", 2),
    Products("the teacher's cosines within either modality", "B", "D", "B", 2),
    Products("the gradient of cosines within, which are symmetric", "B", "B", "D", 2),
)
# The softmaxes over rows and over columns are added before they meet the embeddings ...
GRADIENTS = (
    Products("the teacher's contrastive gradients, of pictures and texts", "B", "B", "D", 2),
    Products("the student's contrastive gradients, of pictures and texts", "B", "B", "D", 2),
    Products("their gradient, to the softmaxes", "B", "D", "B", 2),
    Products("their gradient, to the embeddings they weight", "B", "B", "D", 2),
)
# ... unless the two directions are compared one by one.
GRADIENTS_APART = tuple(replace(products, count=2 * products.count) for products in GRADIENTS)

RELEASED: dict[str, tuple[Products, ...]] = {
    "clip": STUDENT,
    "crd": STUDENT + TEACHER,
    "fd": (),
    "gd": STUDENT + TEACHER + GRADIENTS_APART,
    "icl": MIXED,
    "afd": FUSED,
    "affinity": STUDENT + TEACHER,
    "cross_modal": MIXED + TEACHER,
    "single_modal": WITHIN,
}
PRODUCTS: dict[Convention, dict[str, tuple[Products, ...]]] = {
    "released": RELEASED,
    "paper": RELEASED | {"gd": STUDENT + TEACHER + GRADIENTS},
}


def floor(
    losses: Collection[str], convention: Convention, batch_size: int, width: int, device: torch.device
) -> Callable[[], None] | None:
    """A call that does what these losses together need, on random float32 matrices; None where that is nothing.

    What several of them need is done once.
    """
    needed = dict.fromkeys(products for loss in losses for products in PRODUCTS[convention][loss])
    if not needed:
        return None
    lengths = {"B": batch_size, "D": width, "E": 2 * width}

    def matrix(rows: str, columns: str) -> torch.Tensor:
        return torch.randn(lengths[rows], lengths[columns], device=device)

    work = [
        (matrix(one.rows, one.inner), matrix(one.inner, one.columns), matrix(one.rows, one.columns), one.count)
        for one in needed
    ]

    def multiply() -> None:
        for left, right, out, count in work:
            for _ in range(count):
                torch.mm(left, right, out=out)

    return multiply
