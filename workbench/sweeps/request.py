"""What was asked for on the command line."""

from dataclasses import dataclass
from pathlib import Path

from workbench.config.cells import Changes
from workbench.config.study import Study
from workbench.sweeps.leases import DEFAULT_GRACE_S
from workbench.sweeps.storage import default_file

NO_CHANGES = Changes()


@dataclass(frozen=True)
class Request:
    """A study, how and where it is to be trained, and by whom.

    Attributes:
        name: of the study in the storage and in run ids; empty for the study's own.
        storage: a database's URL; empty for a file in the runs folder.
        grace_s: silence after which a worker counts as dead.
        at_once: most cells that train together; 0 for as many as fit.
        timeout_s: no search begins another trial after it; 0 for none.
        workers: processes that share the work and this machine's memory.
        resumes: go on with a study that must be there, and try again what failed.
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
    resumes: bool = False

    @property
    def study_name(self) -> str:
        return self.name or self.study.name

    def check_can_resume(self) -> None:
        """Refuse to go on with a study that has no database in the runs folder; one elsewhere is asked when it is open.

        Raises:
            ValueError: as said.
        """
        if self.resumes and not self.storage and not default_file(self.runs_dir, self.study_name).exists():
            raise self.nothing_to_resume()

    def nothing_to_resume(self) -> ValueError:
        """The error for a study that is to go on and has not begun."""
        name = self.study_name
        return ValueError(f"there is no study '{name}' to resume: leave out --resume, --try and --retry to begin it")

    @property
    def seeds(self) -> range:
        return range(self.study.first_seed, self.study.first_seed + self.study.seeds)
