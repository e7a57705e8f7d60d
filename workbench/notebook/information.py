"""Bounds on the mutual information of student and teacher.

``InformationExplorer`` shows them over training and by batch size; ``encode_pairs`` gives those of a run's held-out
pairs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.events import EvalDone, Event, RunStarted, StepDone
from workbench.figures.information import information_over_time_figure
from workbench.notebook.controls import Bar, row, scale_slider, set_steps, step_slider
from workbench.notebook.explorer import Explorer, default_runs_dir, nearest, open_run
from workbench.notebook.released import is_model, model_probe
from workbench.runs.directory import RunDirectory
from workbench.runs.log import read_history
from workbench.runs.snapshots import Probe
from workbench.views.information import (
    NUM_DRAWS,
    InformationBounds,
    InformationOverTime,
    information_bounds,
    information_over_time,
)

if TYPE_CHECKING:
    import torch
    from matplotlib.figure import Figure
    from numpy.typing import NDArray
    from torch import Tensor

    from workbench.config.run import RunConfig
    from workbench.data.evaluation_set import EvaluationSet
    from workbench.embeddings import Embeddings, InputSpec
    from workbench.models.clip import Clip
    from workbench.models.teacher_group import Teachers

PROBE_DRAWS = 200  # random batches; cheap for the few pairs of a probe
CHUNK = 250  # pairs in one forward pass
Towers = tuple["NDArray[Any]", "NDArray[Any]"]  # embeddings of images and of texts, [P, D] each


def bounds_by_pairing(
    student: Towers, teacher: Towers, teacher_scale: float, scale: float, num_draws: int = NUM_DRAWS
) -> dict[str, InformationBounds]:
    """InfoNCE bounds on the mutual information of the teacher's towers, and of the student's with the teacher's.

    Args:
        scale: 1/τ between student and teacher.
        num_draws: random batches of each size.
    """
    return {
        "teacher image → teacher text": information_bounds(*teacher, teacher_scale, num_draws),
        "student image → teacher text": information_bounds(student[0], teacher[1], scale, num_draws),
        "student text → teacher image": information_bounds(student[1], teacher[0], scale, num_draws),
    }


class InformationExplorer(Explorer):
    """ICL's bound on the mutual information of student and teacher, on training batches, held-out and probe pairs.

    Args:
        source: a run's id or path, a :class:`RunDirectory`, probes, or the SPEC of a model without a run.
        runs_dir: the runs folder; ``runs`` if not given.
        data: SPEC of the pairs that a model without a run encodes.
        teacher: SPEC of its teacher.

    Attributes:
        selection: the step, 1/τ, and each pairing's bound with the most negatives.
    """

    def __init__(
        self,
        source: str | Path | RunDirectory | Sequence[Probe],
        runs_dir: Path | None = None,
        data: str = "",
        teacher: str = "",
    ) -> None:
        super().__init__()
        self._source, self._runs_dir = source, runs_dir
        self._data, self._teacher = data, teacher
        self._probes: list[Probe] = []
        self._over_time: InformationOverTime | None = None
        self._learned_scales: dict[int, float] = {}
        self.step = step_slider()
        self.scale = scale_slider(14.3, "learned scale")
        self.own_scale = self.scale.own
        self.controls.children = (row(self.step, self.step.play), row(self.scale, self.own_scale))
        self.watch(self.step)
        self.watch_scale(self.scale)
        self.refresh()

    def load(self) -> None:
        source, runs_dir = self._source, self._runs_dir or default_runs_dir()
        if isinstance(source, str | Path) and is_model(source, runs_dir):
            source = [model_probe(str(source), self._data, self._teacher, runs_dir, None)]
        self._probes = self.read(source, self._runs_dir, Probe)
        if self.run:
            events = read_history(self.run, (RunStarted, StepDone, EvalDone)).events
            steps = [event for event in events if isinstance(event, StepDone)]
            self._learned_scales = {one.step: one.scales["icl"] for one in steps if "icl" in one.scales}
            self._over_time = _over_time(events)
        if not self._probes or self._probes[0].teacher is None:
            raise ValueError("no probe pairs of a student and a teacher: distill with --set evaluate.every_steps=20")
        set_steps(self.step, [probe.step for probe in self._probes])

    def draw(self) -> "Figure":
        num_pairs = len(self._probes[0].captions)
        self.note.value = (
            f"right: {num_pairs} probe pairs at 1/τ = {self._scale:.3g}; bars: 95 % of random batches of this size; "
            "hollow: from here on, the bound grows less than half as fast as log N"
        )
        return information_over_time_figure(self._over_time, self.bounds, self.step.value, self.earlier)

    @property
    def bounds(self) -> dict[str, InformationBounds]:
        """The bounds in the right half of the figure, by pairing."""
        probe = nearest(self._probes, self.step.value)
        teacher, student = probe.teacher, probe.student
        assert teacher is not None
        if student.image_PD.shape != teacher.image_PD.shape:
            raise ValueError(
                "student and teacher have different widths, and probes are not projected: use encode_pairs"
            )
        towers = (student.image_PD, student.text_PD), (teacher.image_PD, teacher.text_PD)
        return bounds_by_pairing(*towers, teacher.scale, self._scale, num_draws=PROBE_DRAWS)

    @property
    def selection(self) -> dict[str, Any]:
        """The step, 1/τ between student and teacher, and each pairing's bound with the most negatives, in nats."""
        self.check()
        found = self.bounds
        largest = next(iter(found.values()))
        return {
            "step": self.step.value,
            "scale": self._scale,
            "negatives": int(largest.num_negatives_N[-1]),
            "at most": float(largest.most_N[-1]),
            "bounds": {name: float(one.mean_N[-1]) for name, one in found.items()},
        }

    @property
    def _scale(self) -> float:
        """The slider's value; or the scale that icl has learned at this step; or, without icl, the student's scale."""
        if not self.own_scale.value:
            return float(self.scale.value)
        known = [step for step in self._learned_scales if step <= self.step.value]
        return self._learned_scales[max(known)] if known else nearest(self._probes, self.step.value).student.scale


def _over_time(events: Sequence[Event]) -> InformationOverTime | None:
    from workbench.evaluation.agreement import CONTRAST_SIZE
    from workbench.evaluation.retrieval import block_slices

    num_pairs = max(
        (one.num_pairs for one in events if isinstance(one, EvalDone) and one.split == "validation"), default=0
    )
    blocks = block_slices(num_pairs, CONTRAST_SIZE) if num_pairs else []
    return information_over_time(events, [block.stop - block.start for block in blocks])


@dataclass(frozen=True)
class EncodedPairs:
    """Embeddings of the same P pairs by a run's student, projected to the teacher's width, and by its teacher.

    ``scale`` is 1/τ between the two models: learned by icl, or else the student's own.
    """

    run: str
    student: "Embeddings"
    teacher: "Embeddings"
    scale: float

    def bounds(self) -> dict[str, InformationBounds]:
        """InfoNCE bounds on the mutual information, by pairing."""
        student, teacher = ((one.image_BD.numpy(), one.text_BD.numpy()) for one in (self.student, self.teacher))
        return bounds_by_pairing(student, teacher, float(self.teacher.scale), self.scale)


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
    import torch

    from workbench.config.toml import load_run_config
    from workbench.data.evaluation_set import open_evaluation_set
    from workbench.data.spec import evaluated_splits
    from workbench.embeddings import Embeddings
    from workbench.engine.build import load_teacher
    from workbench.engine.device import resolve_device
    from workbench.models.spec import load_student

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
        parts = [
            _encode(pairs, member.input_spec, (member.embed_image, member.embed_text), device, "teacher")
            for member in teacher.members
        ]
        target_image_PD, target_text_PD = (teacher.joined(some) for some in zip(*parts, strict=True))
        raw = _encode(pairs, student.input_spec, (student.encode_image, student.encode_text), device, "student")
        projected, scale = _projected(run, config, student, teacher, raw)
    return EncodedPairs(run.id, projected, Embeddings(target_image_PD, target_text_PD, teacher.scale.cpu()), scale)


def _encode(
    pairs: "EvaluationSet",
    form: "InputSpec",
    encode: "tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]",
    device: "torch.device",
    name: str,
) -> "tuple[Tensor, Tensor]":
    """Outputs of a model's two towers for each image and its first caption, [P, D] twice, on the CPU."""
    import torch
    from IPython.display import display

    images = pairs.caption_image_index_M.tolist()
    first = {image: caption for caption, image in reversed(list(enumerate(images)))}  # the lowest index wins
    tokens_PL = form.tokenize([pairs.captions[first[image]] for image in range(pairs.num_images)])
    bar = Bar(pairs.num_images, f"encoding pairs by the {name}")
    display(bar.widget)  # type: ignore[no-untyped-call]  # IPython's
    parts: tuple[list[torch.Tensor], list[torch.Tensor]] = [], []
    images_PCHW = pairs.image_chunks(form.image_size, CHUNK, form.resizing)
    for chunks in zip(images_PCHW, torch.split(tokens_PL, CHUNK), strict=True):
        for part, tower, chunk in zip(parts, encode, chunks, strict=True):
            part.append(tower(chunk.to(device)).cpu())
        bar.add(len(chunks[1]))
    bar.end()
    return torch.cat(parts[0]), torch.cat(parts[1])


def _projected(
    run: RunDirectory, config: "RunConfig", student: "Clip", teacher: "Teachers", raw: "tuple[Tensor, Tensor]"
) -> "tuple[Embeddings, float]":
    """The student's embeddings at the teacher's width, and 1/τ between the two models."""
    from workbench.embeddings import Embeddings
    from workbench.engine.build import learned_widths, make_objective
    from workbench.engine.checkpoint import load_learned
    from workbench.losses.learned import LearnedParts
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
