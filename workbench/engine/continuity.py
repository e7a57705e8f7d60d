"""Whether a run that goes on is still the same run: its settings, its machine, and what of its checkpoints is whole."""

from collections.abc import Iterator
from pathlib import Path

from workbench.config.run import RunConfig
from workbench.config.toml import read_toml
from workbench.engine.device import machine_facts, resolve_device
from workbench.runs.checkpoints import checkpoint_step, damaged_checkpoints, newest_checkpoint, read_manifest
from workbench.runs.directory import RunDirectory
from workbench.runs.lineage import forked_from
from workbench.views.comparison import ComparedRun, compare_runs

FREE = (
    "log.",
    "data.num_workers",
    "data.prepare",
    "teacher.cache",
    "train.device",
    "train.micro_batch_size",
    "evaluate.",
)  # change no step
BITS = ("torch", "device", "num_threads")  # of the machine: what decides the last bits of the numbers
MAX_SHOWN = 5


def check_unchanged(run: RunDirectory, config: RunConfig) -> None:
    """Refuse to go on with settings that are not those of the run's newest checkpoint.

    Raises:
        ValueError: ``run.toml`` was edited since in a setting that decides what is learnt.
    """
    checkpoint = _own_checkpoint(run)
    if checkpoint is None:
        return
    now = config.model_dump(mode="json")
    before = read_manifest(checkpoint).get("config", now)
    compared = compare_runs([ComparedRun("before", before), ComparedRun("now", now)])
    changed = [
        f"{setting.name} was {setting.values[0]} and is {setting.values[1]}"
        for setting in compared.settings
        if setting.differs and not setting.name.startswith(FREE)
    ]
    if changed:
        shown = "; ".join(changed[:MAX_SHOWN]) + ("; ..." if len(changed) > MAX_SHOWN else "")
        raise ValueError(
            f"{run.config_file} was edited since {checkpoint.name}: {shown}; put it back, and make the change in a "
            f"run of its own: workbench runs fork {run.id} --set KEY=VALUE"
        )


def check_same_data(run: RunDirectory, data_fingerprint: str) -> None:
    """Refuse to go on with training pairs that are not those of the run's newest checkpoint.

    Raises:
        ValueError: the SPEC is the same, and what lies there is not.
    """
    checkpoint = _own_checkpoint(run)
    if checkpoint is None:
        return
    if read_manifest(checkpoint).get("data_fingerprint", data_fingerprint) != data_fingerprint:
        raise ValueError(
            f"the pairs of data.train have changed since {checkpoint.name}: put them back, or go on with these in a "
            f"run of its own: workbench runs fork {run.id}"
        )


def _own_checkpoint(run: RunDirectory) -> Path | None:
    """The newest that the run itself wrote; the one that a fork starts from is its parent's."""
    checkpoint, forked = newest_checkpoint(run), forked_from(run)
    if checkpoint is None or (forked and checkpoint_step(checkpoint) <= forked.parent_step):
        return None
    return checkpoint


def remarks(run: RunDirectory, config: RunConfig) -> Iterator[str]:
    """What a person should know of a run that goes on here."""
    for reason in damaged_checkpoints(run):
        yield f"a checkpoint was passed over: {reason}"
    before, now = read_toml(run.config_file).get("machine", {}), machine_facts(resolve_device(config.train.device))
    moved = [f"{key} was {before[key]} and is {now[key]}" for key in BITS if before.get(key, now[key]) != now[key]]
    if moved:
        yield f"not bit for bit as it would have been, for the machine is another: {'; '.join(moved)}"
