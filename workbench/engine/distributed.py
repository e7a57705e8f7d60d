"""The processes of one run: each encodes its own rows of every batch, and all compute the loss of the whole batch.

Gradients are then those of one process with micro-batches: no loss is split, averaged or approximated. Collectives are
plain: rows are gathered without a graph, gradients of the towers are summed, and rank 0 alone reads and writes files.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import accumulate, pairwise
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from workbench.process import launched_rank

T = TypeVar("T")

# Rank 0 evaluates and saves while the others wait in a collective, for as long as that takes.
TIMEOUT = timedelta(hours=12)


@dataclass(frozen=True)
class Ranks:
    """This process among those of a run. The default is a run in one process, where nothing is communicated.

    Attributes:
        rank: from 0.
        size: number of processes.
        batch_size: pairs in a batch, over all ranks.
        control: group for Python objects, on the CPU, so that a message never waits for a GPU.
    """

    rank: int = 0
    size: int = 1
    batch_size: int = 0
    control: Any = None

    @property
    def is_first(self) -> bool:
        """Whether this process writes the run's files and prints."""
        return self.rank == 0

    def rows(self, num_rows: int, unit: int = 1) -> slice:
        """This rank's rows of a batch or a set.

        Args:
            unit: rows that stay together; only the last unit may be shorter. The numbers of units differ by at most one
                between ranks.
        """
        ends = self._ends(num_rows, unit)
        return slice(ends[self.rank], ends[self.rank + 1])

    def gather(self, own: Tensor, num_rows: int = 0, unit: int = 1) -> Tensor:
        """All rows, [B, ...], in order and without a graph, from this rank's :meth:`rows` of them, [n, ...].

        Args:
            num_rows: B; 0 for a batch.
        """
        if self.size == 1:
            return own.detach()
        ends = self._ends(num_rows or self.batch_size, unit)
        counts = [end - start for start, end in pairwise(ends)]
        # Backends gather equal shapes only: the missing rows of a shorter part are padded.
        padded = own.detach().new_zeros(max(counts), *own.shape[1:])
        padded[: len(own)] = own.detach()
        parts = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(parts, padded)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    def sum_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Sum the gradients of all ranks in place; a parameter without a gradient here must have none anywhere."""
        if self.size > 1:  # before the parameters are listed, at every step
            self.sum_([parameter.grad for parameter in parameters if parameter.grad is not None])

    def sum_(self, tensors: Sequence[Tensor]) -> None:
        """Sum tensors over the ranks, in place."""
        if self.size == 1 or not tensors:
            return
        # One collective for all: a small student has hundreds of parameters, and each call has a fixed cost.
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        dist.all_reduce(flat)
        for tensor, summed in zip(tensors, torch.split(flat, [tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(summed.view_as(tensor))

    def of_first(self, value: T) -> T:
        """Rank 0's value, on every rank; a Python object that can be pickled."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self.control)
        return box[0]

    def of_all(self, value: T) -> Sequence[T]:
        """The values of all ranks, in order."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, group=self.control)
        return values

    def check_equal(self, what: str, own: object) -> None:
        """Refuse ranks that have opened different data under the same name, as machines with disks of their own may.

        Raises:
            ValueError: on every rank.
        """
        values = self.of_all(own)
        if different := [rank for rank, value in enumerate(values) if value != values[0]]:
            raise ValueError(
                f"rank {different[0]} has other {what} than rank 0: give every machine the same files under the same "
                "path"
            )

    def _ends(self, num_rows: int, unit: int = 1) -> list[int]:
        """The first row of each rank, and the end of the last."""
        share, rest = divmod(-(-num_rows // unit), self.size)
        units = accumulate(share + (rank < rest) for rank in range(self.size))
        return [0, *(min(num_rows, unit * end) for end in units)]


ALONE = Ranks()


@contextmanager
def joined() -> Iterator[Ranks]:
    """Join the other processes that torchrun started; a run in one process joins nobody.

    Raises:
        ValueError: no GPU for this rank, no NCCL, or the other ranks cannot be reached, with the remedy.
    """
    rank = launched_rank()
    if rank is None:
        yield ALONE
        return
    if missing := [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]:
        raise ValueError(
            f"WORLD_SIZE is {os.environ['WORLD_SIZE']} without {' and '.join(missing)}: start the ranks with torchrun, "
            "or unset WORLD_SIZE"
        )
    size, local = int(os.environ["WORLD_SIZE"]), int(os.environ.get("LOCAL_RANK", rank))
    backend = "gloo"
    if "WORKBENCH_GPUS" in os.environ and not torch.cuda.is_available():
        raise ValueError("--gpus needs GPUs, and PyTorch sees none here; torchrun starts several CPU processes")
    if torch.cuda.is_available():
        if local >= torch.cuda.device_count():
            raise ValueError(
                f"rank {rank} has no GPU of its own: this machine has {torch.cuda.device_count()}, so start torchrun "
                f"with --nproc-per-node {torch.cuda.device_count()}"
            )
        if not dist.is_nccl_available():
            raise ValueError("this PyTorch has no NCCL, so several GPUs cannot train one run: install a CUDA build")
        torch.cuda.set_device(local)
        backend = "nccl"
    try:
        dist.init_process_group(backend, timeout=TIMEOUT)
    except (dist.DistError, RuntimeError, ValueError) as error:
        raise ValueError(f"rank {rank} cannot reach the other ranks ({str(error).splitlines()[0]})") from None
    try:
        yield Ranks(rank, size, control=dist.new_group(backend="gloo", timeout=TIMEOUT))
    finally:
        dist.destroy_process_group()
