"""``encode_pairs``: embeddings of a run's held-out pairs by its student and its teacher."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from workbench.config.toml import load_run_config
from workbench.embeddings import Embeddings, InputSpec
from workbench.notebook.process import Bar
from workbench.notebook.source import open_run
from workbench.runs.directory import RunDirectory
from workbench.views.information import InformationBounds, information_bounds

if TYPE_CHECKING:
    from workbench.config.run import RunConfig
    from workbench.data.evaluation_set import EvaluationSet
    from workbench.models.clip import Clip
    from workbench.models.teacher import Teacher

CHUNK = 250  # pairs in one forward pass
Encode = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class EncodedPairs:
    """Embeddings of the same P pairs by a run's student, projected to the teacher's width, and by its teacher.

    ``scale`` is 1/τ between the two models: learned by icl, or else the student's own.
    """

    run: str
    student: Embeddings
    teacher: Embeddings
    scale: float

    def bounds(self) -> dict[str, InformationBounds]:
        """InfoNCE bounds on the mutual information, by pairing."""
        student, teacher = self.student, self.teacher
        return {
            "teacher image → teacher text": _bounds(teacher.image_BD, teacher.text_BD, float(teacher.scale)),
            "student image → teacher text": _bounds(student.image_BD, teacher.text_BD, self.scale),
            "student text → teacher image": _bounds(student.text_BD, teacher.image_BD, self.scale),
        }


def _bounds(rows_PD: Tensor, columns_PD: Tensor, scale: float) -> InformationBounds:
    return information_bounds(rows_PD.numpy(), columns_PD.numpy(), scale)


def encode_pairs(
    source: str | Path | RunDirectory, num_pairs: int = 5000, runs_dir: Path | None = None
) -> EncodedPairs:
    """Encode a run's test pairs, or else its validation pairs, each image with its first caption.

    Args:
        source: a run's id or path, or a :class:`RunDirectory`.
        num_pairs: encode the first pairs, at most as many as the run was evaluated on.
        runs_dir: the runs folder; ``runs`` if not given.

    Raises:
        ValueError: the run has no checkpoint, no teacher or no held-out pairs, or its student has another width than
            its teacher and no learned projection.
    """
    from workbench.data.evaluation_set import open_evaluation_set
    from workbench.data.spec import evaluated_splits
    from workbench.engine.build import load_teacher
    from workbench.engine.device import resolve_device
    from workbench.models.source import load_student

    run = open_run(source, runs_dir)
    config = load_run_config(run.config_file)
    device, splits = resolve_device(config.train.device), evaluated_splits(config.data)
    teacher = load_teacher(config, device, run.path.parent)
    if teacher is None or not splits:
        missing = "held-out pairs" if teacher else "teacher"
        raise ValueError(f"run {run.id} has no {missing}: choose a run with both")
    student = load_student(run.path).to(device)
    role, spec, num_evaluated = splits[-1]
    data = config.data
    pairs = open_evaluation_set(spec, role, min(num_pairs, num_evaluated or num_pairs), data.prepare, data.bad_shards)
    with torch.no_grad():
        targets = _encode(pairs, teacher.form, (teacher.embed_image, teacher.embed_text), device, "teacher")
        raw = _encode(pairs, student.form, (student.encode_image, student.encode_text), device, "student")
        projected, scale = _projected(run, config, student, teacher, raw)
    return EncodedPairs(run.id, projected, Embeddings(*targets, teacher.scale.cpu()), scale)


def _encode(
    pairs: "EvaluationSet", form: InputSpec, encode: tuple[Encode, Encode], device: torch.device, name: str
) -> tuple[Tensor, Tensor]:
    """Outputs of a model's two towers for each image and its first caption, [P, D] twice, on the CPU."""
    from IPython.display import display

    images = pairs.caption_image_index_M.tolist()
    first = {image: caption for caption, image in reversed(list(enumerate(images)))}  # the lowest index wins
    tokens_PL = form.tokenize([pairs.captions[first[image]] for image in range(pairs.num_images)])
    bar = Bar(pairs.num_images, f"encoding pairs by the {name}")
    display(bar.widget)  # type: ignore[no-untyped-call]  # IPython's
    parts: tuple[list[Tensor], list[Tensor]] = [], []
    for chunks in zip(pairs.image_chunks(form.image_size, CHUNK), torch.split(tokens_PL, CHUNK), strict=True):
        for part, tower, chunk in zip(parts, encode, chunks, strict=True):
            part.append(tower(chunk.to(device)).cpu())
        bar.add(len(chunks[1]))
    bar.end()
    return torch.cat(parts[0]), torch.cat(parts[1])


def _projected(
    run: RunDirectory, config: "RunConfig", student: "Clip", teacher: "Teacher", raw: tuple[Tensor, Tensor]
) -> tuple[Embeddings, float]:
    """The student's embeddings at the teacher's width, and 1/τ between the two models."""
    from workbench.engine.build import learned_widths, make_objective
    from workbench.engine.checkpoint import load_learned
    from workbench.losses.learnt import LearnedParts
    from workbench.models.weights import load_weights
    from workbench.runs.checkpoints import newest_checkpoint

    objective, checkpoint = make_objective(config, teacher), newest_checkpoint(run)
    assert checkpoint is not None  # load_student has read it
    learned = LearnedParts(objective.losses, learned_widths(objective, student, teacher))
    load_weights(learned, load_learned(checkpoint), str(checkpoint))
    own_scale = student.scale.cpu()
    projected = learned.project(*raw, own_scale) or Embeddings.from_raw(*raw, own_scale)
    if projected.width != teacher.width:
        raise ValueError(
            f"run {run.id} has a student of width {projected.width}, a teacher of width {teacher.width}, and no loss "
            "with a learned projection: train with icl or fd"
        )
    icl = objective.losses.get("icl")
    if icl and icl.scale:
        return projected, float(icl.scale.value(own_scale, teacher.scale.cpu(), learned.parts.get("icl")))
    return projected, float(own_scale)
