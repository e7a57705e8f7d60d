"""Evaluate a model on a set of pairs: retrieval, zero-shot, and agreement with the teacher.

Shape letters: N images, M captions, K classes, D width."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from workbench.data.dataset import ZeroShotTask
from workbench.data.evaluation_set import EvaluationSet
from workbench.embeddings import Embeddings, InputSpec
from workbench.engine.probe import first_pairs
from workbench.engine.teacher_cache.store import keep_held_out, recall_held_out
from workbench.evaluation.agreement import agreement, mutual_information_bounds
from workbench.evaluation.chance import (
    constant_accuracy,
    constant_recall,
    false_negative_ceiling,
    random_accuracy,
    random_recall,
)
from workbench.evaluation.retrieval import retrieval
from workbench.evaluation.zero_shot import build_classifier, zero_shot
from workbench.events import EvalDone
from workbench.losses.base import Loss
from workbench.losses.learned import LearnedParts
from workbench.models.clip import Clip
from workbench.models.teacher import Teacher
from workbench.progress import phase
from workbench.runs.snapshots import MOST_PAIRS, Probe

CHUNK = 256  # images or captions in one forward


@dataclass(frozen=True)
class Measured:
    """The result of one evaluation.

    ``errors`` are standard errors, ``hits`` the outcome of each query. ``ceiling`` is the score of a perfect model if
    only an image's own caption counted as correct, which shows how much shared captions matter. ``chance`` is the
    expected score of random answers, ``teacher`` the recall of the teacher, if any. ``probe`` has the embeddings of the
    first pairs. ``notes`` name what could not be measured.
    """

    num_pairs: int
    elapsed_s: float
    metrics: dict[str, float]
    errors: dict[str, float]
    ceiling: dict[str, float]
    hits: dict[str, Tensor] = field(repr=False)
    chance: dict[str, float] = field(default_factory=dict)
    teacher: dict[str, float] = field(default_factory=dict)
    probe: Probe | None = field(default=None, repr=False)
    notes: tuple[str, ...] = ()

    def event(self, run: str, step: int, split: str) -> EvalDone:
        return EvalDone(
            run=run,
            step=step,
            split=split,
            num_pairs=self.num_pairs,
            metrics=self.metrics,
            errors=self.errors,
            chance=self.chance,
            teacher=self.teacher,
            elapsed_s=self.elapsed_s,
        )


@dataclass(frozen=True)
class _Encoder:
    """The parts of a model that evaluation needs. Embeddings of a student are raw, of a teacher at unit length."""

    input_spec: InputSpec
    encode_image: Callable[[Tensor], Tensor]
    encode_text: Callable[[Tensor], Tensor]
    scale: Tensor


@dataclass(frozen=True)
class _Encoded:
    """Raw embeddings of all images and all captions, and the scale."""

    image_ND: Tensor
    text_MD: Tensor
    scale: Tensor


class Evaluator:
    """Evaluates students on one set of pairs; the teacher's embeddings of the set are computed once.

    Args:
        teacher: to compare with; None for none.
        task: classes and prompts for zero-shot, where the images have classes.
        block_size: retrieval gallery size, in images.
        cache: whether the teacher's embeddings of the set are read from disk, and saved there (on); see
            ``teacher.cache``.
        name: of the set, for progress, such as "validation".
    """

    def __init__(
        self,
        pairs: EvaluationSet,
        teacher: Teacher | None,
        task: ZeroShotTask | None,
        *,
        block_size: int,
        device: torch.device,
        cache: Literal["auto", "on", "off"] = "off",
        name: str = "",
    ) -> None:
        self.pairs = pairs
        self._name = name
        self._teacher = teacher
        self._task = task if pairs.classes_N is not None else None
        self._block_size = block_size
        self._device = device
        self._cache = cache
        self._teacher_encoded: _Encoded | None = None
        self._tokens: dict[str, Tensor] = {}  # of all captions, by the tokenizer's identity

    def measure(
        self, student: Clip, learnt: LearnedParts | None = None, losses: Mapping[str, Loss] | None = None
    ) -> Measured:
        """All metrics of a student.

        Args:
            learnt: the learned parts of its losses; without its projection some agreement metrics are left out.
            losses: those it trains with; with icl among them, mutual-information bounds are measured too.
        """
        start = time.perf_counter()
        was_training = student.training
        student.eval()
        with torch.no_grad():
            encoder = _Encoder(student.input_spec, student.encode_image, student.encode_text, student.scale)
            encoded = self._encode(encoder)
            projected = learnt.project(encoded.image_ND, *self._paired(encoded)[1:]) if learnt else None
            measured = self._score(encoded, encoder, projected, start)
            bounds = self._information(encoded, projected, learnt, (losses or {}).get("icl"))
            teacher = self.teacher_pairs() if self._teacher else None
            probe = first_pairs(self.first_captions(MOST_PAIRS), Embeddings.from_raw(*self._paired(encoded)), teacher)
        # An evaluation during training must leave dropout and batch norm as they were.
        student.train(was_training)
        recall = self.teacher_recall if self._teacher else {}
        return replace(measured, metrics=measured.metrics | bounds, teacher=recall, probe=probe)

    def measure_teacher(self) -> Measured:
        """Retrieval and zero-shot of the teacher."""
        assert self._teacher is not None
        start = time.perf_counter()
        return self._score(self._encode_teacher(), _teacher_encoder(self._teacher), None, start, compare=False)

    def teacher_pairs(self) -> Embeddings:
        """The teacher's embeddings of each image and its first caption, [N, D] each."""
        return Embeddings.from_raw(*self._paired(self._encode_teacher()))

    @cached_property
    def teacher_recall(self) -> dict[str, float]:
        """R@k of the teacher in both directions, by metric name."""
        encoded = self._encode_teacher()
        return retrieval(encoded.image_ND, encoded.text_MD, *self._groups(), block_size=self._block_size).metrics

    @property
    def knows_teacher(self) -> bool:
        """Whether the teacher's embeddings of the set are in memory already."""
        return self._teacher_encoded is not None

    def blind(self) -> dict[str, float]:
        """Chance level by metric name: the score of the best constant prediction."""
        found = constant_recall(*self._groups(), block_size=self._block_size)
        return found if self._task is None else found | constant_accuracy(self._labels())

    def _score(
        self,
        encoded: _Encoded,
        encoder: _Encoder,
        projected: Embeddings | None,
        start: float,
        *,
        compare: bool = True,
    ) -> Measured:
        image_ND, text_MD = F.normalize(encoded.image_ND, dim=1), F.normalize(encoded.text_MD, dim=1)
        groups = self._groups()
        found = retrieval(image_ND, text_MD, *groups, block_size=self._block_size)
        ceiling = false_negative_ceiling(*groups, block_size=self._block_size)
        metrics, errors, hits = dict(found.metrics), dict(found.errors), dict(found.hits)
        if self._task is not None:
            classifier_KD = build_classifier(
                lambda prompts: self._encode_prompts(encoder, encoder.input_spec.tokenize(prompts)),
                self._task.classes,
                self._task.templates,
            )
            scored = zero_shot(image_ND, classifier_KD, self._labels())
            # The captions of a class folder are prompts, so zero-shot is its main metric and comes first.
            metrics = scored.metrics | metrics if self.pairs.is_class_folder else metrics | scored.metrics
            errors |= scored.errors
            hits |= scored.hits
        if compare and self._teacher is not None:
            metrics |= agreement(Embeddings.from_raw(*self._paired(encoded)), self.teacher_pairs(), projected)
        chance = {name: value for name, value in self._chance.items() if name in metrics}
        return Measured(self.pairs.num_images, time.perf_counter() - start, metrics, errors, ceiling, hits, chance)

    @cached_property
    def _chance(self) -> dict[str, float]:
        found = random_recall(*self._groups(), self.pairs.captions, block_size=self._block_size)
        return found if self._task is None else found | random_accuracy(len(self._task.classes))

    def _information(
        self, encoded: _Encoded, projected: Embeddings | None, learnt: LearnedParts | None, icl: Loss | None
    ) -> dict[str, float]:
        """Bounds on the mutual information that icl maximizes, at its scale; empty without it."""
        if icl is None or learnt is None or self._teacher is None:
            return {}
        assert icl.scale is not None
        student, teacher = Embeddings.from_raw(*self._paired(encoded)), self.teacher_pairs()
        scale = icl.scale.value(student.scale, teacher.scale, learnt.parts.get(icl.name))
        return mutual_information_bounds(projected or student, teacher, float(scale))

    def _encode_teacher(self) -> _Encoded:
        assert self._teacher is not None
        if self._teacher_encoded is None:
            kept = recall_held_out(self.pairs, self._teacher) if self._cache != "off" else None
            self._teacher_encoded = _Encoded(*kept, self._teacher.scale) if kept else self._run_teacher(self._teacher)
        return self._teacher_encoded

    def _run_teacher(self, teacher: Teacher) -> _Encoded:
        encoded = self._encode(_teacher_encoder(teacher), "by the teacher")
        if self._cache == "on":
            keep_held_out(self.pairs, teacher, encoded.image_ND, encoded.text_MD)
        return encoded

    def _encode(self, encoder: _Encoder, who: str = "") -> _Encoded:
        form = encoder.input_spec
        if form.tokenizer_id not in self._tokens:
            self._tokens[form.tokenizer_id] = form.tokenize(self.pairs.captions)
        chunks = self.pairs.image_chunks(form.image_size, CHUNK)
        image_ND = self._in_chunks(encoder.encode_image, chunks, self._doing("images", who), self.pairs.num_images)
        tokens_ML = self._tokens[form.tokenizer_id]
        text_MD = self._in_chunks(
            encoder.encode_text, torch.split(tokens_ML, CHUNK), self._doing("captions", who), len(tokens_ML)
        )
        return _Encoded(image_ND, text_MD, encoder.scale.detach())

    def _encode_prompts(self, encoder: _Encoder, tokens_ML: Tensor) -> Tensor:
        chunks = torch.split(tokens_ML, CHUNK)
        return self._in_chunks(encoder.encode_text, chunks, self._doing("class prompts"), len(tokens_ML))

    def _doing(self, what: str, who: str = "") -> str:
        return " ".join(filter(None, ("encoding", self._name, what, who)))

    def _in_chunks(
        self, encode: Callable[[Tensor], Tensor], chunks: Iterable[Tensor], doing: str, total: int
    ) -> Tensor:
        """All chunks encoded and concatenated, with progress."""
        rows = []
        with phase(doing, total) as shown:
            for chunk in chunks:
                rows.append(encode(chunk.to(self._device)))
                shown.advance(len(chunk))
        return torch.cat(rows)

    def _paired(self, encoded: _Encoded) -> tuple[Tensor, Tensor, Tensor]:
        """Each image and its first caption, [N, D] each, and the scale."""
        rows = torch.tensor(self._first_caption_N, device=self._device)
        return encoded.image_ND, encoded.text_MD[rows], encoded.scale

    @cached_property
    def _first_caption_N(self) -> list[int]:
        """The index of each image's first caption."""
        first_N: dict[int, int] = {}
        for caption, image in enumerate(self.pairs.caption_image_index_M.tolist()):
            first_N.setdefault(image, caption)
        return [first_N[image] for image in range(self.pairs.num_images)]

    def first_captions(self, num_images: int) -> list[str]:
        """The first caption of each of the first images."""
        return [self.pairs.captions[caption] for caption in self._first_caption_N[:num_images]]

    def _groups(self) -> tuple[Tensor, Tensor]:
        """Group numbers of images, [N], and of captions, [M]; a caption is correct for every image of its group."""
        numbers = {group: number for number, group in enumerate(dict.fromkeys(self.pairs.image_group_N))}

        def numbered(groups: Sequence[str]) -> Tensor:
            return torch.tensor([numbers[group] for group in groups], device=self._device)

        return numbered(self.pairs.image_group_N), numbered(self.pairs.caption_group_M)

    def _labels(self) -> Tensor:
        assert self._task is not None and self.pairs.classes_N is not None
        numbers = {name: number for number, names in enumerate(self._task.classes) for name in names}
        return torch.tensor([numbers[name] for name in self.pairs.classes_N], device=self._device)


def _teacher_encoder(teacher: Teacher) -> _Encoder:
    return _Encoder(teacher.input_spec, teacher.embed_image, teacher.embed_text, teacher.scale)
