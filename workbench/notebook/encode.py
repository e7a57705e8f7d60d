"""Many held-out pairs of a run, as its student and its teacher embed them, with a bar while it takes."""

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

CHUNK = 250  # pairs in one forward, between two moves of the bar
Encode = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class EncodedPairs:
    """The same P pairs by a run's newest student, at the teacher's width, and by its teacher.

    ``scale`` is 1/τ of the contrast between the two: what icl has learnt, or else the student's own.
    """

    run: str
    student: Embeddings
    teacher: Embeddings
    scale: float

    def bounds(self) -> dict[str, InformationBounds]:
        """How much contrasts prove that one knows of the other, by what is contrasted with what."""
        student, teacher = self.student, self.teacher
        return {
            "teacher's pictures, its own texts": _bounds(teacher.image_BD, teacher.text_BD, float(teacher.scale)),
            "student's pictures, teacher's texts": _bounds(student.image_BD, teacher.text_BD, self.scale),
            "student's texts, teacher's pictures": _bounds(student.text_BD, teacher.image_BD, self.scale),
        }


def _bounds(rows_PD: Tensor, columns_PD: Tensor, scale: float) -> InformationBounds:
    return information_bounds(rows_PD.numpy(), columns_PD.numpy(), scale)


def encode_pairs(
    source: str | Path | RunDirectory, num_pairs: int = 5000, runs_dir: Path | None = None
) -> EncodedPairs:
    """The run's test pairs, or else its validation pairs, each picture with its first caption.

    Args:
        num_pairs: the first ones, as many as the run was tested on at most.

    Raises:
        ValueError: the run has no checkpoint, no teacher or no held-out pairs, or nothing that it learnt carries its
            width to the teacher's.
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
        raise ValueError(f"run {run.id} has no {missing}: choose one that was distilled and evaluated")
    student = load_student(run.path).to(device)
    role, spec, most = splits[-1]
    data = config.data
    pairs = open_evaluation_set(spec, role, min(num_pairs, most or num_pairs), data.prepare, data.bad_shards)
    with torch.no_grad():
        known = _encode(pairs, teacher.form, (teacher.embed_image, teacher.embed_text), device, "teacher")
        raw = _encode(pairs, student.form, (student.encode_image, student.encode_text), device, "student")
        across, scale = _carried(run, config, student, teacher, raw)
    return EncodedPairs(run.id, across, Embeddings(*known, teacher.scale.cpu()), scale)


def _encode(
    pairs: "EvaluationSet", form: InputSpec, encode: tuple[Encode, Encode], device: torch.device, name: str
) -> tuple[Tensor, Tensor]:
    """What a model's two towers say of every picture and of its first caption, [P, D] twice, on the CPU."""
    from IPython.display import display

    images = pairs.caption_image_index_M.tolist()
    first = {image: caption for caption, image in reversed(list(enumerate(images)))}
    tokens_PL = form.tokenize([pairs.captions[first[image]] for image in range(pairs.num_images)])
    bar = Bar(pairs.num_images, f"pairs through the {name}")
    display(bar.widget)  # type: ignore[no-untyped-call]  # IPython's
    parts: tuple[list[Tensor], list[Tensor]] = [], []
    for chunks in zip(pairs.image_chunks(form.image_size, CHUNK), torch.split(tokens_PL, CHUNK), strict=True):
        for part, tower, chunk in zip(parts, encode, chunks, strict=True):
            part.append(tower(chunk.to(device)).cpu())
        bar.add(len(chunks[1]))
    bar.end()
    return torch.cat(parts[0]), torch.cat(parts[1])


def _carried(
    run: RunDirectory, config: "RunConfig", student: "Clip", teacher: "Teacher", raw: tuple[Tensor, Tensor]
) -> tuple[Embeddings, float]:
    """The student's pairs at the teacher's width, and 1/τ of the contrast between the two."""
    from workbench.engine.build import learned_widths, make_objective
    from workbench.engine.checkpoint import load_learned
    from workbench.losses.learnt import LearnedParts
    from workbench.models.weights import load_weights
    from workbench.runs.checkpoints import newest_checkpoint

    objective, checkpoint = make_objective(config, teacher), newest_checkpoint(run)
    assert checkpoint is not None  # the student was read from it
    learnt = LearnedParts(objective.losses, learned_widths(objective, student, teacher))
    load_weights(learnt, load_learned(checkpoint), str(checkpoint))
    own_scale = student.scale.cpu()
    across = learnt.project(*raw, own_scale) or Embeddings.from_raw(*raw, own_scale)
    if across.width != teacher.width:
        raise ValueError(
            f"run {run.id} has a student of width {across.width} and a teacher of {teacher.width}, and no loss that "
            "learns a projection: train with icl or fd"
        )
    icl = objective.losses.get("icl")
    scale = icl.scale.value(own_scale, teacher.scale.cpu(), learnt.parts.get("icl")) if icl and icl.scale else own_scale
    return across, float(scale)
