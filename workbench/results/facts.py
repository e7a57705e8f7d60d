"""Provenance of a study's runs: machine, settings, data, code, and the commands to reproduce them."""

import hashlib
import json
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from workbench.config.cells import Changes, as_text, cells_of, make_cell
from workbench.config.run import RunConfig
from workbench.config.study import QUICK, Study, flat
from workbench.config.toml import load_run_config, read_toml
from workbench.runs.checkpoints import newest_checkpoint, read_manifest
from workbench.runs.directory import RunDirectory
from workbench.runs.studies import StudyRun
from workbench.sweeps.space import settings_of

NO_TEACHER = "none"
MACHINE = ("device", "num_threads", "torch", "python")


@dataclass(frozen=True)
class Facts:
    """What determines a study's numbers, as recorded by its runs; runs of earlier versions recorded less.

    ``config_sha256`` is the hash of the settings shared by all cells, ``data_sha256`` the training pairs' fingerprint,
    ``teacher_scale`` the teacher's 1/τ, needed to compare temperatures across teachers. ``command`` repeats the runs,
    ``report`` this report.
    """

    machines: tuple[str, ...]
    steps: tuple[int, ...]
    batch_size: tuple[int, ...]
    pairs: tuple[str, ...]
    student: tuple[str, ...]
    teacher: tuple[str, ...]
    teacher_scale: float | None
    teacher_sha256: str
    config_sha256: str
    data_sha256: str
    code_sha256: tuple[str, ...]
    command: str
    report: str

    def to_json(self) -> dict[str, Any]:
        """``made_on`` in ``--json``."""
        return asdict(self)


def facts(study: Study, name: str, source: str, runs: Sequence[StudyRun], default: Study | None = None) -> Facts:
    """The facts recorded by the runs; where runs differ, all values.

    Args:
        name: the name that the runs have.
        source: the study's name or file as given by the user.
        default: the study as in its file, which a command starts from; ``study`` if not given.
    """
    default = default or study
    read = {one.run.id: _config(one.run) for one in runs}
    configs = {run: config for run, config in read.items() if config is not None}
    runs = [one for one in runs if one.run.id in configs]
    every = list(configs.values())
    given = _given(study, source, name)
    pairs = _each(f"{config.data.num_pairs or 'all'} of {config.data.train}" for config in every)
    teacher = _each(config.teacher.model or NO_TEACHER for config in every)
    recorded = _recorded(runs)
    # Facts of one checkpoint describe all runs only if they share the teacher.
    taught_by = recorded.get("teacher", {}) if len(teacher) == 1 else {}
    return Facts(
        machines=_each(_machine(one.run) for one in runs),
        steps=_each(config.train.num_steps for config in every),
        batch_size=_each(config.train.batch_size for config in every),
        pairs=pairs,
        student=_each(config.student.model for config in every),
        teacher=teacher,
        teacher_scale=taught_by.get("scale"),
        teacher_sha256=str(taught_by.get("weights_sha256", "")),
        config_sha256=_fingerprint(every),
        data_sha256=str(recorded.get("data_fingerprint", "")) if len(pairs) == 1 else "",
        code_sha256=_each(code for one in runs if (code := machine_of(one.run).get("code_sha256"))),
        command=shlex.join(["workbench", "sweep", "--study", *given, *_changes(study, default, runs, configs)]),
        report=report_command(study, source, name),
    )


def report_command(study: Study, source: str, name: str) -> str:
    """The command that reports on the runs of this name; ``source`` as in :func:`facts`."""
    return shlex.join(["workbench", "report", *_given(study, source, name)])


def _each(values: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(sorted(set(values)))


def _given(study: Study, source: str, name: str) -> list[str]:
    """The arguments that name the study on the command line."""
    quick = name.endswith(QUICK) and not source.endswith(QUICK)
    own = name.removesuffix(QUICK) if quick else name
    return [source, *(["--name", own] if own != study.name else []), *(["--quick"] if quick else [])]


def _config(run: RunDirectory) -> RunConfig | None:
    """The run's config; None if it is invalid, so that one bad run does not break the report."""
    try:
        return load_run_config(run.config_file)
    except ValueError:
        return None


def _machine(run: RunDirectory) -> str:
    machine = machine_of(run)
    found = [f"{key.replace('num_', '')} {machine[key]}" for key in MACHINE if key in machine]
    return ", ".join(found) or "unknown"


def machine_of(run: RunDirectory) -> dict[str, Any]:
    """The ``[machine]`` table of a run: machine and code version."""
    machine: dict[str, Any] = read_toml(run.config_file).get("machine", {})
    return machine


def _recorded(runs: Sequence[StudyRun]) -> dict[str, Any]:
    """The manifest of one checkpoint, with the fingerprints of training pairs and teacher that all runs share."""
    for one in runs:
        checkpoint = newest_checkpoint(one.run)
        if checkpoint is not None:
            return read_manifest(checkpoint)
    return {}


def _fingerprint(configs: Sequence[RunConfig]) -> str:
    """Hash of the settings shared by all runs, without seeds."""
    tables = [settings_of(config) for config in configs]
    if not tables:
        return ""
    shared = {key: value for key, value in tables[0].items() if all(table.get(key) == value for table in tables)}
    return hashlib.sha256(json.dumps(shared, sort_keys=True).encode()).hexdigest()


def _changes(study: Study, default: Study, runs: Sequence[StudyRun], configs: dict[str, RunConfig]) -> list[str]:
    """The options that reproduce these runs from the study's file: seeds, steps and overrides."""
    if not runs:
        return []
    options = _seed_options(study, default, len({one.origin.seed for one in runs}))
    one = runs[0]
    config = configs[one.run.id]
    # Steps first: --steps also rescales schedules and intervals, which --set must not repeat.
    planned = _planned(study, one, Changes())
    if config.train.num_steps != planned.train.num_steps:
        options += ["--steps", str(config.train.num_steps)]
        planned = _planned(study, one, Changes(steps=config.train.num_steps))
    before, now = (flat(of.model_dump(mode="json")) for of in (planned.with_seed(config.seed), config))
    for key, value in now.items():
        if key in before and value != before[key] and before[key] != "auto" and key not in ("recipe", "question"):
            options += ["--set", f"{key}={_as_toml(value)}"]
    return options


def _seed_options(study: Study, default: Study, num_seeds: int) -> list[str]:
    """The rule for the number of seeds that the runs followed, where it is not that of the study's file."""
    if not study.is_sequential:
        return ["--seeds", str(num_seeds)] if default.is_sequential or num_seeds != study.seeds else []
    margin = ["--margin", f"{study.margin:g}"] if study.margin != default.margin else []
    return [*([] if default.is_sequential else ["--seeds", "auto"]), *margin]


def _planned(study: Study, one: StudyRun, changes: Changes) -> RunConfig:
    if study.search:
        return make_cell(study, one.origin.cell, one.origin.values, changes).config
    cells = {cell.name: cell.config for cell in cells_of(study, changes)}
    return cells.get(one.origin.cell, next(iter(cells.values())))


def _as_toml(value: Any) -> str:
    return json.dumps(value) if isinstance(value, list | str | tuple) else as_text(value)
