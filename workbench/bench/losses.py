"""Cost of the losses, forward and backward, against a naive implementation and the matrix products alone."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from workbench.bench.contest import Bench, Row, Work, choose_cases, clock, measure
from workbench.bench.references import STRAIGHTFORWARD, floor
from workbench.config.run import LossConfig
from workbench.embeddings import Embeddings
from workbench.losses import LOSSES
from workbench.losses.base import Convention, Widths
from workbench.losses.comparison import Comparison
from workbench.losses.learned import LearnedParts
from workbench.losses.logits import BLOCK_ROWS
from workbench.losses.objective import Objective

MEANING = "Times faster than a naive implementation; times the lower bound (matrix products); peak: extra memory."
CLIP_KD = ("clip", "crd", "fd", "gd", "icl", "afd")  # mfd costs the same as fd: masking happens in the tower
TINYCLIP = ("affinity", "cross_modal", "single_modal")
STUDENT_SCALE, TEACHER_SCALE = 14.3, 50.0
DENSE_UP_TO = 4096  # pairs; the mixture needs about 2 GB here, and four times that at twice the batch size
WARM_UP_PAIRS = 8
PRODUCTS_ALONE, STRAIGHTFORWARD_FORM = "products alone", "straightforward"


@dataclass(frozen=True)
class LossCase:
    """Losses that are computed together. Only the "released" convention has a naive implementation."""

    name: str
    losses: tuple[str, ...]
    convention: Convention = "released"


CASES: dict[str, LossCase] = {
    case.name: case
    for case in (
        *(LossCase(name, (name,)) for name in CLIP_KD + TINYCLIP),
        LossCase("gd-paper", ("gd",), "paper"),
        LossCase("mixture", CLIP_KD),
    )
}


@dataclass(frozen=True)
class LossMeasurement:
    """Measures cases on random pairs.

    Args:
        width: embedding width of student and teacher.
        straightforward_up_to: largest batch size for the naive implementation, whose memory is O(B · B · D).
        in_tf32: with ``train.loss_precision=tf32``.
    """

    width: int
    device: torch.device
    straightforward_up_to: int
    in_tf32: bool = False

    def rows(self, case: LossCase, batch_size: int) -> list[Row]:
        """The case at one batch size: a row for the chunked form, and one for the dense form unless it is too large."""
        for load in self.contenders(case, WARM_UP_PAIRS).values():
            load()  # warm-up: lazily loaded code must not count as the case's memory
        contenders = self.contenders(case, batch_size)
        measured = measure(contenders, self.device)
        naive, products = measured.pop(STRAIGHTFORWARD_FORM, None), measured.pop(PRODUCTS_ALONE, None)
        return [
            Row(
                f"{case.name}, {form}",
                batch_size,
                one.time_s,
                one.peak_mb,
                ratio=naive.time_s / one.time_s if naive else None,
                floor_ratio=one.time_s / products.time_s if products else None,
            )
            for form, one in measured.items()
        ]

    def contenders(self, case: LossCase, batch_size: int) -> dict[str, Work]:
        """The contenders by name: our forms, and :data:`PRODUCTS_ALONE` and :data:`STRAIGHTFORWARD_FORM` if any."""
        pairs = RandomPairs(case, batch_size, self.width, self.device, in_tf32=self.in_tf32)
        # At least four chunks, so that a small batch measures chunking, too.
        chunk_size = min(BLOCK_ROWS, (batch_size + 3) // 4)
        contenders = {f"chunked {chunk_size}": pairs.work(pairs.objective, chunk_size)}
        if batch_size <= DENSE_UP_TO:
            contenders = {"dense": pairs.work(pairs.objective)} | contenders
        products = floor(case.losses, case.convention, batch_size, self.width, self.device)
        if products:
            contenders[PRODUCTS_ALONE] = products
        if batch_size <= self.straightforward_up_to and case.convention == "released":
            contenders[STRAIGHTFORWARD_FORM] = pairs.work(pairs.straightforward)
        return contenders


def losses_bench(measurement: LossMeasurement, cases: list[str], sizes: list[int]) -> Bench:
    """The benchmark of these losses, or of all if none are given, at these batch sizes."""
    entries = {
        f"losses, {case.name}, B = {size}": partial(measurement.rows, case, size)
        for case in choose_cases(cases, CASES)
        for size in sizes
    }
    return Bench(entries, MEANING, clock(measurement.device))


class RandomPairs:
    """Random unit-length embeddings of a student and its teacher, and the learned parameters of a case's losses."""

    def __init__(
        self, case: LossCase, batch_size: int, width: int, device: torch.device, *, in_tf32: bool = False
    ) -> None:
        self._in_tf32 = in_tf32
        generator = torch.Generator().manual_seed(0)

        def unit_BD() -> Tensor:
            return F.normalize(torch.randn(batch_size, width, generator=generator), dim=1).to(device)

        scales = [torch.tensor(scale, device=device) for scale in (STUDENT_SCALE, TEACHER_SCALE)]
        self._teacher = Embeddings(unit_BD(), unit_BD(), scales[1])
        self._student = Embeddings(unit_BD().requires_grad_(), unit_BD().requires_grad_(), scales[0].requires_grad_())
        self._objective = Objective({name: _config(name, case) for name in case.losses}, batch_size, width)
        self._parts = LearnedParts(self._objective.losses, Widths(width, width)).to(device)

    def comparison(self, chunk_size: int = 0) -> Comparison:
        """A new input for the losses; a comparison caches what it has computed."""
        return Comparison(
            *(self._student, self._teacher, self._student, self._parts.parts),
            chunk_size=chunk_size,
            in_tf32=self._in_tf32,
        )

    def objective(self, comparison: Comparison) -> Tensor:
        """The workbench's weighted sum."""
        return self._objective(comparison).total

    def straightforward(self, comparison: Comparison) -> Tensor:
        """The same sum of the naive implementations."""
        weights = self._objective.weights
        return torch.stack([weight * STRAIGHTFORWARD[name](comparison) for name, weight in weights.items()]).sum()

    def work(self, total: Callable[[Comparison], Tensor], chunk_size: int = 0) -> Work:
        """A call that runs forward and backward once."""
        learning = [self._student.image_BD, self._student.text_BD, self._student.scale, *self._parts.parameters()]

        def run() -> None:
            total(self.comparison(chunk_size)).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            for tensor in learning:
                tensor.grad = None

        return run


def _config(loss: str, case: LossCase) -> LossConfig:
    published = LOSSES[loss].published_weight.get(case.convention, 1.0)
    return LossConfig.parse({"weight": published, "convention": case.convention})
