"""The options of a sweep."""

from dataclasses import dataclass
from pathlib import Path

from workbench.config.cells import Changes
from workbench.config.study import Study
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
        timeout_s: seconds after which a search starts no more trials; 0 for no limit.
        workers: processes that share the work and this machine's memory.
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
    resumes: bool = False

    @property
    def study_name(self) -> str:
        return self.name or self.study.name

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
