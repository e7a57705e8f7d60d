"""Evaluate a model on a set of pairs: retrieval, zero-shot, and agreement with the teacher.

Shape letters: N images, M captions, K classes, D width."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from workbench.data.dataset import ZeroShotTask
from workbench.data.evaluation_set import EvaluationSet
from workbench.embeddings import Embeddings
from workbench.engine.distributed import ALONE, Ranks
from workbench.engine.encoding import Encoded, Encoder, Joined, SetEncoding, only
from workbench.engine.teacher_cache.store import keep_held_out, recall_held_out
from workbench.evaluation.agreement import agreement, agreement_by_pair, mutual_information_bounds
from workbench.evaluation.chance import (
    constant_accuracy,
    constant_recall,
    false_negative_ceiling,
    random_accuracy,
    random_recall,
)
from workbench.evaluation.retrieval import ItemScores, retrieval
from workbench.evaluation.zero_shot import zero_shot
from workbench.events import EvalDone
from workbench.losses.base import Loss
from workbench.losses.learned import LearnedParts
from workbench.models.clip import Clip
from workbench.models.teacher import Teacher
from workbench.models.teacher_group import Teachers
from workbench.runs.snapshots import MOST_PAIRS, Probe, ProbeOutputs


@dataclass(frozen=True)
class Measured:
    """The result of one evaluation.

    ``errors`` are standard errors, ``hits`` the outcome of each query. ``ceiling`` is the score of a perfect model if
    only an image's own caption counted as correct, which shows how much shared captions matter. ``chance`` is the
    expected score of random answers, ``teacher`` the recall of the teacher, if any. ``probe`` has the embeddings of the
    first pairs. ``agreement_by_pair`` has each pair's agreement with the teacher. ``notes`` name what could not be
    measured.
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
    agreement_by_pair: dict[str, Tensor] = field(default_factory=dict, repr=False)
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


class Evaluator:
    """Evaluates students on one set of pairs; the teacher's embeddings of the set are computed once.

    Args:
        teacher: to compare with; None for none.
        task: classes and prompts for zero-shot, where the images have classes.
        block_size: retrieval gallery size, in images.
        cache: whether the teacher's embeddings of the set are read from disk, and saved there (on); see
            ``teacher.cache``.
        name: of the set, for progress, such as "validation".
        precision: of the students' towers, as they train; a teacher has its own.
        ranks: the processes that measure students together; whatever measures the teacher alone runs on this one.
    """

    def __init__(
        self,
        pairs: EvaluationSet,
        teacher: Teachers | None,
        task: ZeroShotTask | None,
        *,
        block_size: int,
        device: torch.device,
        cache: Literal["auto", "on", "off"] = "off",
        name: str = "",
        precision: str = "fp32",
        ranks: Ranks = ALONE,
    ) -> None:
        self.pairs = pairs
        self._precision = precision
        self._ranks = ranks
        self._teacher = teacher
        self._task = task if pairs.answers_N is not None else None
        self._block_size = block_size
        self._device = device
        self._cache = cache
        self._teacher_encoded: Encoded | None = None
        self._encoding = SetEncoding(pairs, device, name)

    def measure(
        self, student: Clip, learned: LearnedParts | None = None, losses: Mapping[str, Loss] | None = None
    ) -> Measured:
        """All metrics of a student.

        Args:
            learned: the learned parts of its losses; without its projection some agreement metrics are left out.
            losses: those it trains with; with icl among them, mutual-information bounds are measured too.
        """
        return self.measure_together([(student, learned, losses)])[0]

    def measure_together(
        self, students: Sequence[tuple[Clip, LearnedParts | None, Mapping[str, Loss] | None]]
    ) -> list[Measured]:
        """:meth:`measure` of several students with equal input specs, for which every image is decoded once.

        Every rank must call it, and encodes its slice; rank 0 scores, and the others return an empty list.
        """
        start_s = time.perf_counter()
        modes = [student.training for student, _, _ in students]
        with torch.no_grad():
            encoders = [Encoder.of_student(student.eval(), self._precision) for student, _, _ in students]
            encoded = self._encoding.whole(encoders, ranks=self._ranks)
            classifiers = [self._classifier([encoder], ranks=self._ranks) for encoder in encoders]
            self._encode_teacher(self._ranks)
            encoding_s = (time.perf_counter() - start_s) / len(students)
            measured = [
                self._measure(own, classifier_KD, learned, losses or {}, encoding_s)
                for own, classifier_KD, (_, learned, losses) in zip(encoded, classifiers, students, strict=True)
                if self._ranks.is_first
            ]
        # An evaluation during training must leave dropout and batch norm as they were.
        for (student, _, _), was_training in zip(students, modes, strict=True):
            student.train(was_training)
        return measured

    def _measure(
        self,
        encoded: Encoded,
        classifier_KD: Tensor | None,
        learned: LearnedParts | None,
        losses: Mapping[str, Loss],
        encoding_s: float,
    ) -> Measured:
        """All metrics of a student whose images, captions and prompts are encoded, which took ``encoding_s``."""
        start_s = time.perf_counter()
        raw = self._paired(encoded)
        own, projected = Embeddings.from_raw(*raw), learned.project(*raw) if learned else None
        measured = self._score(encoded, classifier_KD)
        metrics, teacher = dict(measured.metrics), self.teacher_pairs() if self._teacher else None
        by_pair = agreement_by_pair(own, teacher, projected) if teacher else {}
        if teacher:
            metrics |= agreement(own, teacher, projected, by_pair)
        if teacher and learned and (icl := losses.get("icl")):
            assert icl.scale is not None
            scale = icl.scale.value(own.scale, teacher.scale, learned.parts.get(icl.name))
            metrics |= mutual_information_bounds(projected or own, teacher, float(scale))
        captions = tuple(self.first_captions(MOST_PAIRS))
        probe = Probe(0, captions, _first_outputs(own), _first_outputs(teacher) if teacher else None)
        recall = self.teacher_recall if self._teacher else {}
        elapsed_s = encoding_s + time.perf_counter() - start_s
        return replace(
            measured, metrics=metrics, elapsed_s=elapsed_s, teacher=recall, probe=probe, agreement_by_pair=by_pair
        )

    def measure_teacher(self) -> Measured:
        """Retrieval and zero-shot of the teacher."""
        assert self._teacher is not None
        start_s = time.perf_counter()
        encoders = [Encoder.of_teacher(member) for member in self._teacher.members]
        classifier_KD = self._classifier(encoders, self._teacher.joined)
        measured = self._score(self._teacher_outputs(), classifier_KD)
        return replace(measured, elapsed_s=time.perf_counter() - start_s)

    def teacher_pairs(self) -> Embeddings:
        """The teacher's embeddings of each image and its first caption, [N, D] each."""
        return Embeddings.from_raw(*self._paired(self._teacher_outputs()))

    @cached_property
    def teacher_recall(self) -> dict[str, float]:
        """R@k of the teacher in both directions, by metric name."""
        encoded = self._teacher_outputs()
        return retrieval(encoded.image_ND, encoded.text_MD, *self.groups, block_size=self._block_size).metrics

    @property
    def knows_teacher(self) -> bool:
        """Whether the teacher's embeddings of the set are in memory already."""
        return self._teacher_encoded is not None

    def constant_baseline(self) -> dict[str, float]:
        """Chance level by metric name: the score of the best constant prediction."""
        recall = constant_recall(*self.groups, block_size=self._block_size)
        return recall if self._task is None else recall | constant_accuracy(self._labels())

    def _score(self, encoded: Encoded, classifier_KD: Tensor | None) -> Measured:
        """Retrieval and zero-shot; the time is not measured yet."""
        image_ND, text_MD = F.normalize(encoded.image_ND, dim=1), F.normalize(encoded.text_MD, dim=1)
        recall = retrieval(image_ND, text_MD, *self.groups, block_size=self._block_size)
        ceiling = false_negative_ceiling(*self.groups, block_size=self._block_size)
        metrics, errors, hits = dict(recall.metrics), dict(recall.errors), dict(recall.hits)
        if scored := self._zero_shot(image_ND, classifier_KD):
            # The captions of a class folder are prompts, so zero-shot is its main metric and comes first.
            metrics = scored.metrics | metrics if self.pairs.is_class_folder else metrics | scored.metrics
            errors |= scored.errors
            hits |= scored.hits
        chance = {name: value for name, value in self._chance.items() if name in metrics}
        return Measured(self.pairs.num_images, 0.0, metrics, errors, ceiling, hits, chance)

    def _classifier(self, encoders: Sequence[Encoder], joined: Joined = only, ranks: Ranks = ALONE) -> Tensor | None:
        """The zero-shot classifier of a model, [K, D]; None if the data name no classes."""
        return None if self._task is None else self._encoding.classifier(encoders, self._task, joined, ranks)

    def _zero_shot(self, image_ND: Tensor, classifier_KD: Tensor | None) -> ItemScores | None:
        """Zero-shot classification of unit-length image embeddings; None if the data name no classes."""
        if self._task is None or classifier_KD is None:
            return None
        return zero_shot(image_ND, classifier_KD, self._labels(), self._task.classes)

    @torch.no_grad()
    def image_features(self, student: Clip) -> Tensor:
        """The raw embeddings [N, D] of all images, by a student in eval mode."""
        return self._encoding.images([Encoder.of_student(student, self._precision)])[0]

    @torch.no_grad()
    def zero_shot(self, student: Clip, feature_ND: Tensor) -> ItemScores | None:
        """Zero-shot classification of :meth:`image_features`; None if the data name no classes."""
        classifier_KD = self._classifier([Encoder.of_student(student, self._precision)])
        return self._zero_shot(F.normalize(feature_ND, dim=1), classifier_KD)

    def zero_shot_chance(self) -> dict[str, float]:
        """The expected accuracy of a random guess, by metric name; empty if the data name no classes."""
        return random_accuracy(self._labels(), len(self._task.classes)) if self._task else {}

    @cached_property
    def _chance(self) -> dict[str, float]:
        recall = random_recall(*self.groups, self.pairs.captions, block_size=self._block_size)
        return recall | self.zero_shot_chance()

    def _teacher_outputs(self) -> Encoded:
        """The teacher's embeddings of the set, on this rank."""
        self._encode_teacher()
        assert self._teacher_encoded is not None
        return self._teacher_encoded

    def _encode_teacher(self, ranks: Ranks = ALONE) -> None:
        """Have the teacher's embeddings of the set: from memory, from disk, or encoded by these ranks.

        Rank 0, which scores, has them afterwards.
        """
        teacher = self._teacher
        if teacher is None or not ranks.of_first(self._teacher_encoded is None):
            return
        parts = [self._encode_member(member, ranks) for member in teacher.members]
        if ranks.is_first:
            images, texts = zip(*filter(None, parts), strict=True)
            self._teacher_encoded = Encoded(teacher.joined(images), teacher.joined(texts), teacher.scale)

    def _encode_member(self, teacher: Teacher, ranks: Ranks) -> tuple[Tensor, Tensor] | None:
        """All images and captions by one teacher; those that rank 0 finds on disk, it has alone."""
        kept = recall_held_out(self.pairs, teacher) if self._cache != "off" and ranks.is_first else None
        if ranks.of_first(kept is not None):
            return kept
        (encoded,) = self._encoding.whole([Encoder.of_teacher(teacher)], " by the teacher", ranks)
        if self._cache == "on" and ranks.is_first:
            keep_held_out(self.pairs, teacher, encoded.image_ND, encoded.text_MD)
        return encoded.image_ND, encoded.text_MD

    def _paired(self, encoded: Encoded) -> tuple[Tensor, Tensor, Tensor]:
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

    @cached_property
    def groups(self) -> tuple[Tensor, Tensor]:
        """Group numbers of images, [N], and of captions, [M]; a caption is correct for every image of its group."""
        numbers = {group: number for number, group in enumerate(dict.fromkeys(self.pairs.image_group_N))}

        def numbered(groups: Sequence[str]) -> Tensor:
            return torch.tensor([numbers[group] for group in groups], device=self._device)

        return numbered(self.pairs.image_group_N), numbered(self.pairs.caption_group_M)

    def _labels(self) -> Tensor:
        """The numbers of each image's correct classes, [N, A]; one is repeated where an image has fewer than A."""
        answers_N = self.pairs.answers_N
        assert self._task is not None and answers_N is not None
        numbers = {name: number for number, names in enumerate(self._task.classes) for name in names}
        numbers |= {label: number for number, label in enumerate(self._task.labels)}
        most = max(map(len, answers_N))
        rows = [[numbers[name] for name in names] + [numbers[names[0]]] * (most - len(names)) for names in answers_N]
        return torch.tensor(rows, device=self._device)


def _first_outputs(embeddings: Embeddings) -> ProbeOutputs:
    """Embeddings of the first pairs, at most 32; keeping them costs a file and no extra forward."""
    image_PD, text_PD = (part[:MOST_PAIRS].half().cpu().numpy() for part in (embeddings.image_BD, embeddings.text_BD))
    return ProbeOutputs(image_PD, text_PD, float(embeddings.scale))
