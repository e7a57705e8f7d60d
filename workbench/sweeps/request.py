"""The options of a sweep, and checks of what is queued by hand: values to try (``--try``), or a cell (``--retry``)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from workbench.config.cells import Cell, Changes, parse_values
from workbench.config.study import Study
from workbench.errors import unknown
from workbench.sweeps.leases import DEFAULT_GRACE_S
from workbench.sweeps.storage import default_file

NO_CHANGES = Changes()


@dataclass(frozen=True)
class Request:
    """A study and the options it is trained with.

    Attributes:
        name: name in the database and in run ids; empty for the study's own.
        storage: URL of a database; empty for a file in the runs folder.
        grace_s: worker heartbeat timeout, seconds.
        at_once: maximum number of cells that train together; 0 for as many as fit in memory.
        timeout_s: seconds after which no more runs of a grid, or trials of a search, are started; 0 for no limit.
        workers: processes that share the work and this machine's memory.
        gpus: GPUs that the workers are distributed over; 0 on a CPU.
        resumes: continue an existing study, and retry failed runs.
    """

    study: Study
    changes: Changes = NO_CHANGES
    runs_dir: Path = Path("runs")
    name: str = ""
    storage: str = ""
    grace_s: float = DEFAULT_GRACE_S
    at_once: int = 0
    timeout_s: float = 0.0
    workers: int = 1
    gpus: int = 0
    resumes: bool = False

    @property
    def study_name(self) -> str:
        return self.name or self.study.name

    @property
    def workers_per_device(self) -> int:
        """How many workers share the memory of one GPU, or of the machine."""
        return math.ceil(self.workers / max(1, self.gpus))

    def check_can_resume(self) -> None:
        """Check that a study to resume has a database; only for files, other databases are checked when opened.

        Raises:
            ValueError: it has none.
        """
        if self.resumes and not self.storage and not default_file(self.runs_dir, self.study_name).exists():
            raise self.nothing_to_resume()

    def nothing_to_resume(self) -> ValueError:
        """The error for resuming a study that was not started."""
        name = self.study_name
        return ValueError(f"there is no study '{name}' to resume: drop --resume, --try and --retry to start it")

    @property
    def seeds(self) -> range:
        return range(self.study.first_seed, self.study.first_seed + self.study.seeds)


def check_by_hand(study: Study, cells: Sequence[Cell], overrides: Sequence[str], cell: str) -> None:
    """Check values (``KEY=VALUE``) for a search, or a cell of a grid.

    Raises:
        ValueError: both are given, or one that does not apply to this kind of study; a setting that is not searched, a
            value outside the search space, or no such cell.
    """
    if overrides and cell:
        raise ValueError("--try is for searches and --retry for grids: use one of the two")
    if overrides and not study.search:
        raise ValueError(
            f"study '{study.name}' is a fixed list of cells; --try is for searches. To add cells, write a study that "
            f'extends it: extends = "{study.name}"'
        )
    if cell and study.search:
        raise ValueError("--retry is for grids: a search retries failed trials with --resume, or use --try KEY=VALUE")
    parse_values(study, overrides)
    names = [one.name for one in cells]
    if cell and cell not in names:
        raise unknown("cell", cell, names)
