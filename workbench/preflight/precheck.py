"""Checks that need no torch: names of losses and settings, and whether models and data exist.

Building a run checks the same and more; these report a typo in a fraction of a second.
"""

from collections.abc import Sequence
from pathlib import Path

from workbench.config.cells import Cell
from workbench.config.run import INHERITED, RunConfig, check_cacheable, check_candidates
from workbench.config.study import Study
from workbench.data.detection.spec import check_detection
from workbench.data.spec import check_spec, evaluated_splits, no_held_out_pairs
from workbench.errors import set_by, unknown
from workbench.losses.declared import check_losses
from workbench.models.names import check_model, check_source, check_teacher, is_run
from workbench.views.metrics import METRIC_LABELS

OF_THE_RUN = {"num_params", "elapsed_s"}  # objectives that are not evaluation metrics
WITH_TEACHER = {"similarity_single", "similarity_cross", "cka", "affinity_kl"}
DETECTOR_METRICS = ("box_ap", "mask_ap")
NEVER_MEASURED = ("affinity_entropy", "loss_", "_kept")  # names with labels for figures, but not evaluation metrics


def check_steps(config: RunConfig) -> None:
    """Refuse a run without training steps where these are to be measured. Raises ValueError."""
    if not config.train.num_steps:
        raise ValueError("the run has no training steps to measure (train.num_steps = 0): --set train.num_steps=N")


def check_config(config: RunConfig, runs_dir: Path) -> None:
    """Refuse a run whose losses, models or data do not exist.

    Raises:
        ValueError: one line with the remedy and the setting to change.
    """
    check_losses(config.loss)
    check_candidates(config)
    if config.teacher.cache == "on":
        check_cacheable(config)
    if config.teacher.model:
        with set_by("teacher.model"):
            check_teacher(config.teacher.model, runs_dir)
    if config.student.model == INHERITED:
        with set_by("inheritance.source"):
            check_model(config.inheritance.source or config.teacher.model, runs_dir, needs_weights=True)
    else:
        with set_by("student.model"):
            check_model(config.student.model, runs_dir)
    with set_by("data.train"):
        check_spec(config.data.train, "train")
    for split, spec, _ in evaluated_splits(config.data):
        with set_by(f"data.{split}"):
            check_spec(spec, split)
    if config.dense.is_on:
        check_detection(config.dense)


def check_objectives(study: Study, cells: Sequence[Cell]) -> None:
    """Refuse objectives and budgets that the runs of a study never measure.

    Args:
        cells: all cells of a grid or list, or examples of a search.

    Raises:
        ValueError: an unknown metric, with the nearest name, or one that needs held-out pairs or a teacher.
    """
    known = [name for name in METRIC_LABELS if not any(part in name for part in NEVER_MEASURED)]
    for kind, names in (("objective", [one.metric for one in study.objectives]), ("budget", list(study.budget))):
        for name in names:
            if name not in known:
                raise unknown(kind, name, known)
            _check_measured(kind, name, cells)


def _check_measured(kind: str, name: str, cells: Sequence[Cell]) -> None:
    if name in OF_THE_RUN:
        return
    for cell in cells:
        if name.startswith(DETECTOR_METRICS):
            if not cell.config.dense.is_on:
                raise ValueError(
                    f"{kind} {name} needs a detector, and cell '{cell.name}' trains none: name images with boxes with "
                    "--set dense.data=samples:scenes-dense"
                )
            continue
        if not evaluated_splits(cell.config.data):
            remedy = "name held-out pairs with --set data.validation=SPEC"
            raise ValueError(f"{kind} {name}: cell '{cell.name}' has no evaluation: {remedy}")
        if name in WITH_TEACHER and not cell.config.teacher.model:
            raise ValueError(
                f"{kind} {name} needs a teacher, and cell '{cell.name}' has none: name one with "
                "--set teacher.model=SPEC, or choose another objective, such as image_to_text_r1"
            )


def check_measurement(source: str, data: str | None, runs_dir: Path, train: str) -> None:
    """Refuse to fit a linear probe of a model, or on data, that do not exist.

    Raises:
        ValueError: one line with the remedy.
    """
    check_models([source], data, runs_dir)
    check_spec(train, "train")


def check_models(sources: Sequence[str], data: str | None, runs_dir: Path) -> None:
    """Refuse to measure models on the same pairs that do not exist, or of which one is named twice.

    Raises:
        ValueError: one line with the remedy.
    """
    for source in sources:
        check_source(source, runs_dir)
    if len(set(sources)) < len(sources):
        raise ValueError(f"the same model is named twice among {', '.join(sources)}: name different ones")
    if data is not None:
        check_spec(data, "validation")
    elif not any(is_run(source, runs_dir) or Path(source).is_dir() for source in sources):
        raise no_held_out_pairs(sources[0])
