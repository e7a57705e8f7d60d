"""Results of suites: one file per evaluation, in the run's folder, or in the cache for models without a run.

A result belongs to its weights, its data and the way it was measured: :attr:`SuiteResult.identity` is a hash of all
three. An evaluation with the same identity is not repeated.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from workbench.config.suite import ExpectedAccuracy, Task
from workbench.documents import read_file, strict_numbers
from workbench.files import write_atomically
from workbench.resources import cache_dir
from workbench.runs.directory import RunDirectory

MOST_BYTES = 2**20
FORMAT = 1  # raise it if the same inputs would now give other numbers


class SuiteResult(BaseModel):
    """The result of one evaluation of a suite."""

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="strings")

    suite: str
    name: str
    task: Task
    data: str
    """The SPEC."""
    identity: str
    weights_sha256: str
    step: int | None = None
    """Step of the run's checkpoint; None for a model without a run."""
    num_images: int
    num_classes: int = 0
    """0 for retrieval."""
    metrics: dict[str, float]
    errors: dict[str, float]
    """Standard errors."""
    chance: dict[str, float] = {}
    """Expected scores of random answers."""
    shift_of: str = ""
    expected: ExpectedAccuracy | None = None
    notes: list[str] = []
    elapsed_s: float = 0.0


def identity_of(parts: Mapping[str, Any]) -> str:
    """Hex SHA-256 of all that a result depends on."""
    return hashlib.sha256(json.dumps({"format": FORMAT, **parts}, sort_keys=True).encode()).hexdigest()


def results_folder(run: RunDirectory | None, weights_sha256: str) -> Path:
    """Where the results of a run are, or those of a model without a run."""
    return run.suites if run else cache_dir() / "suites" / weights_sha256[:32]


def keep_result(folder: Path, result: SuiteResult) -> None:
    """Write a result; it replaces an earlier one of the same suite and name.

    Raises:
        OSError: it cannot be written; an earlier one is intact.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # A file per evaluation: two suites that are measured at the same time overwrite nothing of each other.
    content = json.dumps(strict_numbers(result.model_dump(mode="json")), indent=2) + "\n"
    write_atomically(folder / _file_name(result.suite, result.name), content)


def find_result(folder: Path, suite: str, name: str, identity: str) -> SuiteResult | None:
    """The result of an evaluation, if it was measured with this identity."""
    found = _read(folder / _file_name(suite, name))
    return found if found and found.identity == identity else None


def read_results(folder: Path) -> list[SuiteResult]:
    """All results, by suite and then in the order in which they were measured; unreadable files are left out."""
    files = [path for path in folder.glob("*.json") if path.is_file()] if folder.is_dir() else []
    ordered = sorted(files, key=lambda path: (path.stat().st_mtime_ns, path.name))
    return sorted(filter(None, map(_read, ordered)), key=lambda result: result.suite)


def modified_ns(folder: Path) -> int:
    """When a result was last written, in nanoseconds; 0 if there is none."""
    try:
        return folder.stat().st_mtime_ns  # every result is renamed into the folder
    except OSError:
        return 0


def _file_name(suite: str, name: str) -> str:
    # Names are the user's and may hold slashes.
    return f"{hashlib.sha256(json.dumps([suite, name]).encode()).hexdigest()[:32]}.json"


def _read(path: Path) -> SuiteResult | None:
    try:
        return SuiteResult.model_validate_json(read_file(path, MOST_BYTES))
    except (OSError, ValueError):
        return None
