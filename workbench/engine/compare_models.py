"""Several models on the same pairs, each next to the first: retrieval, zero-shot, and agreement with one teacher."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from workbench.engine.evaluate import Evaluator, Measured
from workbench.engine.remeasure import find_teacher, learned_parts, open_pairs, open_source
from workbench.models.clip import count_parameters
from workbench.statistics.intervals import Gain, paired_gain


@dataclass(frozen=True)
class ModelOnPairs:
    """One model's results.

    Attributes:
        gains: by metric, the difference to the first model, with its interval over the pairs; empty for the first.
    """

    source: str
    num_parameters: int
    measured: Measured = field(repr=False)
    gains: dict[str, Gain]


@dataclass(frozen=True)
class ModelsOnPairs:
    """All models, the first of which the others are compared with; ``notes`` name what could not be measured."""

    models: tuple[ModelOnPairs, ...]
    num_pairs: int
    notes: tuple[str, ...]


def compare_models(
    sources: Sequence[str],
    data: str | None,
    *,
    teacher: str = "",
    num_pairs: int | None = None,
    block_size: int | None = None,
    runs_dir: Path = Path("runs"),
) -> ModelsOnPairs:
    """Measure every model on the same pairs.

    A run's learned projection maps its embeddings to the teacher's width, if it was trained with this teacher.

    Args:
        sources: as for :func:`~workbench.engine.remeasure.remeasure`.
        data: None takes the validation pairs of the first run among the sources.
        teacher: SPEC of the model to agree with; by default the teacher of the first run.

    Raises:
        ValueError: there is no such model, or no pairs.
    """
    models = [open_source(source, runs_dir) for source in sources]
    main = next((model for model in models if model.run), models[0])
    own, missing = find_teacher(main, teacher, runs_dir)
    evaluator = open_pairs(main, data, num_pairs, teacher=own, block_size=block_size)
    measured = []
    for model in models:
        model.student.to(main.device)
        is_own = model is main and not teacher and not missing
        measured.append(evaluator.measure(model.student, *learned_parts(model, own, is_own=is_own)))
    rows = tuple(
        ModelOnPairs(
            model.name,
            count_parameters(model.student)["total"],
            found,
            _gains(evaluator, measured[0], found) if found is not measured[0] else {},
        )
        for model, found in zip(models, measured, strict=True)
    )
    notes = (f"agreement with the teacher is left out: {missing}",) if missing else ()
    return ModelsOnPairs(rows, evaluator.pairs.num_images, notes)


def _gains(evaluator: Evaluator, first: Measured, other: Measured) -> dict[str, Gain]:
    """The differences of all metrics that are means over queries or pairs, paired by them."""
    image_group_N, text_group_M = (groups.cpu() for groups in evaluator.groups)
    gains = {}
    for one, two in ((first.hits, other.hits), (first.agreement_by_pair, other.agreement_by_pair)):
        for name in one.keys() & two.keys():
            # Captions of one image, and images of one caption, are one item: they do not average out. Zero-shot has no
            # captions, and an error of its own for each image.
            item_N = text_group_M if name.startswith("text_to_image") else image_group_N
            item_N = torch.arange(len(one[name])) if name.startswith("zero_shot") else item_N
            baseline_SN, treated_SN = (values[name].double().numpy()[None] for values in (one, two))
            gains[name] = paired_gain(baseline_SN, treated_SN, item_N=item_N.numpy())
    return gains
