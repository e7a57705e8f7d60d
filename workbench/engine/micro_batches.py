"""How many pairs of a batch a GPU holds at once under ``train.micro_batch_size = "auto"``: from measured memory.

Before the first step two small forward and backward passes are measured. Memory grows in proportion to the pairs, so
that they predict the most that fit. If memory runs out all the same, the step starts over with half as many pairs.
The gradient is that of the whole batch either way, up to the order of summation.
"""

import math

import torch

from workbench.embeddings import Batch
from workbench.engine.state import TrainState
from workbench.engine.step import encode, take_rows
from workbench.losses.objective import LossInputs
from workbench.process import MIB

PROBES = 8, 24  # pairs of the two passes
SHARE = 0.8  # of the free memory for activations; the rest is for the losses, the teacher and fragmentation


class MicroBatches:
    """The micro-batch size of one student.

    Attributes:
        size: pairs per micro-batch; 0 for the whole batch.

    Args:
        setting: ``train.micro_batch_size``; "auto" is the whole batch on a CPU, which swaps instead of running out.
    """

    def __init__(self, setting: int | str, device: torch.device) -> None:
        self.size = setting if isinstance(setting, int) else 0
        self.is_auto = setting == "auto" and device.type == "cuda"
        self.is_chosen = not self.is_auto
        self._news: list[str] = []

    def choose(self, size: int, why: str) -> None:
        """Use this size from now on."""
        self.size, self.is_chosen = size, True
        self._news.append(f"train.micro_batch_size=auto: {size or 'all'} pairs at a time ({why})")

    def halve(self, num_pairs: int, step: int) -> bool:
        """Use half the size after memory ran out at ``step`` (from 0); False if that is impossible or not asked for."""
        size = self.size or num_pairs
        if not self.is_auto or size < 2:
            return False
        self.choose(-(-size // 2), f"memory ran out with {size} at step {step + 1}, which was started over")
        torch.cuda.empty_cache()
        return True

    def new_warning(self) -> str:
        """What has been chosen since the last call; empty if nothing was. The last bits of a run depend on it."""
        news, self._news = "; ".join(self._news), []
        return news


def fitting_size(num_pairs: int, peaks_mb: tuple[float, float], room_mb: float) -> int:
    """Pairs of equal micro-batches of a batch of ``num_pairs`` that fit in the room; 0 if the whole batch does.

    Args:
        peaks_mb: of a forward and backward of ``PROBES`` pairs.
        room_mb: for such a pass.
    """
    few, more = PROBES
    pair_mb = (peaks_mb[1] - peaks_mb[0]) / (more - few)
    fixed_mb = peaks_mb[0] - few * pair_mb
    if fixed_mb + num_pairs * pair_mb <= room_mb:
        return 0
    most = max(1, math.floor((room_mb - fixed_mb) / pair_mb))
    return -(-num_pairs // -(-num_pairs // most))  # as few parts as possible, of equal size


def measured_size(state: TrainState, batch: Batch, inputs: LossInputs, precision: str) -> tuple[int, str]:
    """The size that fits on the GPU, and the measurement as text; changes no weight, gradient or random state."""
    device = state.student.scale.device
    if len(batch) <= max(PROBES):
        return 0, f"a batch of {len(batch)} is not measured"
    few_mb, more_mb = (_peak_mb(state, take_rows(batch, slice(0, size)), inputs, precision) for size in PROBES)
    cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    free_mb = (torch.cuda.mem_get_info(device)[0] + cached) / MIB
    # The optimizer makes its two moments at its first step.
    moments_mb = 0.0 if state.optimizer.state else 2 * sum(p.numel() * p.element_size() for p in state.weights) / MIB
    size = fitting_size(len(batch), (few_mb, more_mb), SHARE * free_mb - moments_mb)
    peaks = f"{few_mb:,.0f} MB for {PROBES[0]} pairs and {more_mb:,.0f} MB for {PROBES[1]}"
    return size, f"a pass takes {peaks}, and {free_mb:,.0f} MB are free"


def _peak_mb(state: TrainState, batch: Batch, inputs: LossInputs, precision: str) -> float:
    """Peak memory of a forward and backward of the student's towers above what is held before, MiB."""
    device = state.student.scale.device
    with state.unchanged():
        state.student.train()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        outputs = [one for one in encode(state, batch, inputs, precision).tensors().values() if one.requires_grad]
        # Zeros instead of a loss's gradient: memory does not depend on values, and no gradient overflows float16.
        torch.autograd.backward(outputs, [torch.zeros_like(one) for one in outputs])
        peak_mb = (torch.cuda.max_memory_allocated(device) - before) / MIB
        state.optimizer.zero_grad(set_to_none=True)
    return peak_mb
