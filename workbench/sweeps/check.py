"""What is wrong with a study's objectives and losses, found before a model is loaded or a step is taken."""

from collections.abc import Iterable, Sequence

from workbench.config.cells import Cell
from workbench.config.nearest import unknown
from workbench.config.study import Study
from workbench.data.spec import evaluated_splits
from workbench.losses.objective import Objective
from workbench.views.metrics import METRIC_LABELS

OF_THE_RUN = {"num_params", "elapsed_s"}  # objectives that no evaluation measures
WITH_TEACHER = {"similarity_single", "similarity_cross", "cka", "affinity_kl"}
NEVER_MEASURED = ("affinity_entropy", "loss_", "_kept")  # labels of figures, not of evaluations


def check_study(study: Study, cells: Sequence[Cell]) -> None:
    """Refuse what no run of the study could do.

    Args:
        cells: all of a grid or list, or examples of a search.

    Raises:
        ValueError: an objective or budget that nothing measures, or a loss that cannot be, with the cell's name.
    """
    known = [name for name in METRIC_LABELS if not any(part in name for part in NEVER_MEASURED)]
    for kind, names in (("objective", [one.metric for one in study.objectives]), ("budget", list(study.budget))):
        for name in names:
            if name not in known:
                raise unknown(kind, name, known)
            _check_measured(kind, name, cells)
    for cell in _of_different_losses(cells):
        width = 1 if cell.config.teacher.model else None
        try:
            Objective(cell.config.loss, cell.config.train.batch_size, width)
        except ValueError as error:
            raise ValueError(f"cell '{cell.name}': {error}") from None


def _check_measured(kind: str, name: str, cells: Iterable[Cell]) -> None:
    if name in OF_THE_RUN:
        return
    for cell in cells:
        if not evaluated_splits(cell.config.data):
            remedy = "name held-out pairs with --set data.validation=SPEC"
            raise ValueError(f"{kind} {name}: nothing is evaluated in cell '{cell.name}': {remedy}")
        if name in WITH_TEACHER and not cell.config.teacher.model:
            raise ValueError(
                f"{kind} {name} is measured against a teacher, and cell '{cell.name}' has none: name one with "
                "--set teacher.model=SPEC, or choose another objective, such as image_to_text_r1"
            )


def _of_different_losses(cells: Iterable[Cell]) -> list[Cell]:
    """One cell for each set of losses: a user's file is run to load its loss, and once is enough."""
    found: dict[str, Cell] = {}
    for cell in cells:
        found.setdefault(repr((cell.config.loss, bool(cell.config.teacher.model))), cell)
    return list(found.values())
