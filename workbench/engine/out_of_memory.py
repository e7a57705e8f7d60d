"""Running out of memory, said in one line with what to do; PyTorch's own errors have three types and many lines."""

import torch

from workbench.engine.cohort import Cohort
from workbench.engine.device import peak_memory_mb

CPU_MESSAGES = ("allocate memory", "not enough memory")  # in bare RuntimeErrors of PyTorch's allocator


def explained(error: Exception, cohort: Cohort) -> Exception:
    """The error itself, or for one that means too little memory a MemoryError with the remedy.

    The batch is never made smaller unasked: it decides the negatives of the contrastive losses. Micro-batches keep
    their gradients exact.
    """
    if not is_out_of_memory(error):
        return error
    held = cohort.members[0].config.train.micro_batch_size or cohort.batch_size
    peak_mb = peak_memory_mb(cohort.device)
    return MemoryError(
        f"out of memory on {cohort.device} after step {cohort.members[0].step} (batch {cohort.batch_size}, "
        f"{held} at a time, peak {peak_mb:,.0f} MB): checkpoints are kept; "
        f"try --set train.micro_batch_size={max(1, held // 2)}, which leaves the gradients as they are"
    )


def is_out_of_memory(error: Exception) -> bool:
    """Whether the error means that memory ran out, on a GPU or a CPU."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and any(said in str(error) for said in CPU_MESSAGES)
    )
