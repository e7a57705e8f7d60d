"""Steps that were not finite: where it showed first, how many there were, and when that is one too many."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

SHOWN_KEYS = 3


@dataclass(frozen=True)
class Divergence:
    """A step whose loss or gradient was not finite, and where it showed first.

    ``parameter`` is the first whose gradient was not, and ``keys`` are pairs of the batch; both known on a CPU only,
    for a GPU is not waited for at every step.
    """

    step: int
    term: str
    parameter: str = ""
    keys: tuple[str, ...] = ()

    def __str__(self) -> str:
        where = f" (first in the gradient of {self.parameter}; pairs {', '.join(self.keys)}, ...)" if self.keys else ""
        return f"{self.term} was not finite at step {self.step}{where}"


def first_not_finite(tensors: Mapping[str, Tensor]) -> str:
    """The name of the first tensor that holds an infinity or a NaN; empty where there is none. Waits for a GPU."""
    return next((name for name, tensor in tensors.items() if not tensor.isfinite().all()), "")


class DivergenceWatch:
    """Counts the steps of one student that were not finite, on the device: nothing here waits for a GPU but ``first``.

    Args:
        terms: names of the losses, in the order in which their values come.
        max_skipped: how many such steps may be skipped.
    """

    def __init__(self, terms: tuple[str, ...], max_skipped: int, device: torch.device) -> None:
        self._names = terms
        self._max_skipped = max_skipped
        self._count = torch.zeros((), dtype=torch.int64, device=device)
        self._step = torch.full((), -1, dtype=torch.int64, device=device)
        self._terms = torch.zeros(len(terms), device=device)
        self._parameter = ""
        self._keys: tuple[str, ...] = ()
        self._told = 0
        self._weights: Divergence | None = None

    def look(self, module: nn.Module, norm: Tensor, keys: tuple[str, ...]) -> None:
        """Remember where a gradient is not finite for the first time, before clipping spreads it to all."""
        if norm.device.type != "cpu" or self._keys or norm.isfinite():
            return
        gradients = ((name, p.grad) for name, p in module.named_parameters() if p.grad is not None)
        self._parameter = next((name for name, grad in gradients if not grad.isfinite().all()), "none alone")
        self._keys = keys[:SHOWN_KEYS]

    def note(self, step: int, is_bad: Tensor, terms: Tensor) -> None:
        """Count step ``step`` (from 1) if it was bad, 0-d bool; ``terms`` are the values of the losses."""
        is_first = is_bad & (self._step < 0)
        self._step = torch.where(is_first, step, self._step)
        self._terms = torch.where(is_first, terms, self._terms)
        self._count += is_bad

    def inspect(self, module: nn.Module, step: int) -> bool:
        """Whether all weights are finite after ``step`` steps; if not, no step can mend them. Waits for the device.

        A finite gradient does not ensure it: at a learning rate of 1e38 the step itself overflows.
        """
        if name := first_not_finite(module.state_dict()):
            self._weights = Divergence(step, f"the weight {name}")
        return not name

    def first(self) -> Divergence | None:
        """The first bad step, once there were more than may be skipped, or weights that are not finite.

        Waits for the device.
        """
        return self._first() if int(self._count) > self._max_skipped else self._weights

    def news(self) -> str:
        """What to warn of since it was last asked: steps that were skipped; empty for none."""
        count = int(self._count)
        if count == self._told or count > self._max_skipped:
            return ""
        self._told = count
        steps = "step" if count == 1 else "steps"
        return f"{count} {steps} skipped of {self._max_skipped} that may be: {self._first()}"

    def _first(self) -> Divergence:
        values = dict(zip(self._names, self._terms.tolist(), strict=True))
        names = [name for name, value in values.items() if not math.isfinite(value)]
        return Divergence(int(self._step), names[0] if names else "gradient norm", self._parameter, self._keys)
