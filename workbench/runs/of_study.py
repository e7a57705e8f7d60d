"""The runs of a study, found by what their ``run.toml`` says."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from workbench.config.origin import Origin, read_origin
from workbench.runs.directory import RunDirectory, list_runs


@dataclass(frozen=True)
class StudyRun:
    """A run, and its place in its study."""

    run: RunDirectory
    origin: Origin


def runs_of_study(runs_dir: Path, study: str) -> list[StudyRun]:
    """Every run of the study, by cell, seed and attempt; a ``run.toml`` that cannot be read belongs to none.

    Of one cell and seed there may be several attempts: those before the last were given up.
    """
    found = [one for one in _runs_of_studies(runs_dir) if one.origin.study == study]
    return sorted(found, key=lambda one: (one.origin.trial, one.origin.seed, one.origin.attempt))


def studies_with_runs(runs_dir: Path) -> list[str]:
    """The names under which studies have runs there."""
    return sorted({one.origin.study for one in _runs_of_studies(runs_dir)})


def _runs_of_studies(runs_dir: Path) -> Iterator[StudyRun]:
    for run in list_runs(runs_dir):
        try:
            origin = read_origin(run.config_file)
        except ValueError:
            continue
        if origin is not None:
            yield StudyRun(run, origin)


def counted(found: list[StudyRun]) -> list[StudyRun]:
    """One run for each cell and seed: the last attempt, which is the one that its trial has recorded."""
    return list({(one.origin.cell, one.origin.seed): one for one in found}.values())
