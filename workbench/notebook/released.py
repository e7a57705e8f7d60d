"""What the explorers show of a model without a run, such as a released student's file."""

from collections.abc import Sequence
from pathlib import Path

from workbench.config.toml import load_run_config
from workbench.data.spec import evaluated_splits
from workbench.models.names import is_run, parse_model
from workbench.resources import find_resource
from workbench.runs.directory import RunDirectory
from workbench.runs.snapshots import MOST_PAIRS, MaskSnapshot, Probe

SHIPPED = Path("data_samples") / "runs"


def is_model(source: str | Path, runs_dir: Path) -> bool:
    """Whether a source names a model, rather than a run."""
    name = str(source)
    shipped = find_resource(str(SHIPPED / name))
    if is_run(name, runs_dir) or (shipped and RunDirectory(shipped).exists):
        return False
    return parse_model(name).kind in ("open_clip", "config", "sample", "folder", "weights")


def model_probe(
    source: str, data: str, teacher: str, runs_dir: Path, like: RunDirectory | None, captions: Sequence[str] = ()
) -> Probe:
    """Embeddings of the first pairs by a model and its teacher, as a run saves them with every evaluation.

    Args:
        source: a model SPEC.
        data: SPEC of the pairs; by default those of ``like``.
        teacher: SPEC; by default that of ``like``, or none.
        like: a run to compare with.
        captions: of the run's probe pairs, which the pairs must be.

    Raises:
        ValueError: there are no such model, teacher or pairs.
    """
    from workbench.engine.remeasure import remeasure

    numbers = [MOST_PAIRS]
    if like:
        config = load_run_config(like.config_file)
        teacher = teacher or config.teacher.model
        for split, spec, number in evaluated_splits(config.data) if not data else ():
            if split == "validation":
                # The first pairs of most data do not depend on how many are requested, and a few are faster.
                data, numbers = spec, [len(captions), number]
    if not data:
        raise ValueError(f"{source} has no run, and so no pairs: name them with data=SPEC")
    for number in numbers:
        probe = remeasure(source, data, num_pairs=number, teacher=teacher, runs_dir=runs_dir).probe
        if probe is not None and (not captions or probe.captions == tuple(captions)):
            return probe
    raise ValueError(f"the first pairs of {data} are not the probe pairs to compare with")


def model_masks(source: str, teacher: str, runs_dir: Path) -> MaskSnapshot:
    """What a model has of its teacher, recovered from the weights of both.

    Raises:
        ValueError: no teacher is named, there is no such model, or nothing can be compared.
    """
    from workbench.inheritance.recovery import recover
    from workbench.models.spec import load_model

    if not teacher:
        raise ValueError(f"{source} has no run: name the model that it inherits from with teacher=SPEC")
    return recover(load_model(source, runs_dir=runs_dir), load_model(teacher, runs_dir=runs_dir)).snapshot
