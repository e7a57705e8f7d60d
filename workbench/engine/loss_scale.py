"""Loss scaling for float16, as ``torch.amp.GradScaler`` does it, without a wait for the device.

Gradients of towers below 6e-8 are 0 in float16. So the objective is multiplied by a scale before the backward pass, and
the gradients are divided by it before anything reads them. A gradient that is not finite then is an overflow: the step
is skipped, and the scale halved; it doubles after 2,000 steps without one. A skipped step takes its batch and its place
in the schedule of the learning rate as any other, and AdamW's own count of steps leaves it out.
"""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

INITIAL, GROWTH, BACKOFF, INTERVAL = 2.0**16, 2.0, 0.5, 2000  # the defaults of torch.amp.GradScaler
LEAST = 1.0  # an overflow at this scale is no matter of scaling: it counts as divergence


class LossScale:
    """The loss scale of one student, on its device.

    Members of a cohort have one each, stacked or not: an overflow of one skips no step of the others.
    """

    def __init__(self, device: torch.device) -> None:
        self._scale = torch.tensor(INITIAL, device=device)
        self._steps = torch.zeros((), dtype=torch.int64, device=device)  # since the scale last changed
        self._skipped = torch.zeros((), dtype=torch.int64, device=device)
        self._num_reported = 0

    def scaled(self, total: Tensor) -> Tensor:
        """The objective, or a vector with its gradient, to backpropagate."""
        return total * self._scale

    @torch.no_grad()
    def unscale_(self, parameters: Iterable[nn.Parameter]) -> None:
        """Divide the gradients by the scale; it is a power of two, so that nothing is rounded."""
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if gradients:
            torch._foreach_mul_(gradients, self._scale.reciprocal())

    def is_overflow(self, is_bad: Tensor, total: Tensor) -> Tensor:
        """Whether a step is skipped because of the scale alone: its loss is finite, and the scale can still fall.

        Args:
            is_bad: whether its loss or its gradient is not finite, 0-d bool, as the result.
            total: the objective, not scaled.
        """
        return is_bad & total.isfinite() & (self._scale > LEAST)

    @torch.no_grad()
    def update_(self, is_bad: Tensor, is_overflow: Tensor) -> None:
        """Adapt the scale after a step."""
        grows = ~is_bad & (self._steps + 1 >= INTERVAL)
        factor = torch.where(is_bad, BACKOFF, torch.where(grows, GROWTH, 1.0))
        grown = self._scale * factor
        self._scale = torch.where(grown.isfinite(), grown, self._scale)  # as GradScaler: never infinite
        self._steps = torch.where(is_bad | grows, 0, self._steps + 1)
        self._skipped += is_overflow

    def new_warning(self) -> str:
        """A warning once the steps skipped have doubled since the last; empty otherwise. Waits for the device."""
        # The scale overflows now and then by design, so that a line for each would be noise.
        count = int(self._skipped)
        if count < max(1, 2 * self._num_reported):
            return ""
        self._num_reported = count
        steps = "step" if count == 1 else "steps"
        return f"{count} {steps} skipped while the loss scale of float16 adapted, now {float(self._scale):g}"

    def tensors(self) -> dict[str, Tensor]:
        """All of its state by name, as a checkpoint holds it."""
        return {"scale": self._scale, "steps": self._steps, "skipped": self._skipped}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Load what :meth:`tensors` returned."""
        device = self._scale.device
        self._scale, self._steps, self._skipped = (tensors[name].to(device) for name in self.tensors())
        self._num_reported = int(self._skipped)
