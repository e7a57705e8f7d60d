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
from workbench.evaluation.zero_shot import build_classifier, zero_shot
from workbench.events import EvalDone
from workbench.losses.base import Loss
from workbench.losses.learned import LearnedParts
from workbench.models.clip import Clip
from workbench.models.precision import autocast
from workbench.models.teacher import Teacher
from workbench.models.teacher_group import Teachers
from workbench.progress import phase
from workbench.runs.snapshots import MOST_PAIRS, Probe, ProbeOutputs

CHUNK = 256  # images or captions in one forward


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


Joined = Callable[[Sequence[Tensor]], Tensor]  # of several encoders' embeddings, Teacher.joined


def _only(parts: Sequence[Tensor]) -> Tensor:
    (own_ND,) = parts
    return own_ND


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
    ) -> None:
        self.pairs = pairs
        self._precision = precision
        self._name = name
        self._teacher = teacher
        self._task = task if pairs.answers_N is not None else None
        self._block_size = block_size
        self._device = device
        self._cache = cache
        self._teacher_encoded: _Encoded | None = None
        self._tokens: dict[str, Tensor] = {}  # of all captions, by the tokenizer's identity

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
        """:meth:`measure` of several students with equal input specs, for which every image is decoded once."""
        start_s = time.perf_counter()
        modes = [student.training for student, _, _ in students]
        with torch.no_grad():
            encoders = [self._student_encoder(student.eval()) for student, _, _ in students]
            encoded = self._encode(encoders)
            encoding_s = (time.perf_counter() - start_s) / len(students)
            measured = [
                self._measure(own, encoder, learned, losses or {}, encoding_s)
                for own, encoder, (_, learned, losses) in zip(encoded, encoders, students, strict=True)
            ]
        # An evaluation during training must leave dropout and batch norm as they were.
        for (student, _, _), was_training in zip(students, modes, strict=True):
            student.train(was_training)
        return measured

    def _measure(
        self,
        encoded: _Encoded,
        encoder: _Encoder,
        learned: LearnedParts | None,
        losses: Mapping[str, Loss],
        encoding_s: float,
    ) -> Measured:
        """All metrics of a student whose images and captions are encoded, which took ``encoding_s``."""
        start_s = time.perf_counter()
        raw = self._paired(encoded)
        own, projected = Embeddings.from_raw(*raw), learned.project(*raw) if learned else None
        measured = self._score(encoded, [encoder])
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

    def _student_encoder(self, student: Clip) -> _Encoder:
        """The student's towers in the precision that they train in; its raw embeddings are float32 in either case."""

        def in_precision(encode: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
            def encoded(inputs: Tensor) -> Tensor:
                with autocast(inputs.device, self._precision):
                    return encode(inputs)

            return encoded

        image, text = in_precision(student.encode_image), in_precision(student.encode_text)
        return _Encoder(student.input_spec, image, text, student.scale)

    def measure_teacher(self) -> Measured:
        """Retrieval and zero-shot of the teacher."""
        assert self._teacher is not None
        start_s = time.perf_counter()
        encoders = [_teacher_encoder(member) for member in self._teacher.members]
        measured = self._score(self._encode_teacher(), encoders, self._teacher.joined)
        return replace(measured, elapsed_s=time.perf_counter() - start_s)

    def teacher_pairs(self) -> Embeddings:
        """The teacher's embeddings of each image and its first caption, [N, D] each."""
        return Embeddings.from_raw(*self._paired(self._encode_teacher()))

    @cached_property
    def teacher_recall(self) -> dict[str, float]:
        """R@k of the teacher in both directions, by metric name."""
        encoded = self._encode_teacher()
        return retrieval(encoded.image_ND, encoded.text_MD, *self.groups, block_size=self._block_size).metrics

    @property
    def knows_teacher(self) -> bool:
        """Whether the teacher's embeddings of the set are in memory already."""
        return self._teacher_encoded is not None

    def constant_baseline(self) -> dict[str, float]:
        """Chance level by metric name: the score of the best constant prediction."""
        recall = constant_recall(*self.groups, block_size=self._block_size)
        return recall if self._task is None else recall | constant_accuracy(self._labels())

    def _score(self, encoded: _Encoded, encoders: Sequence[_Encoder], joined: Joined = _only) -> Measured:
        """Retrieval and zero-shot; the time is not measured yet."""
        image_ND, text_MD = F.normalize(encoded.image_ND, dim=1), F.normalize(encoded.text_MD, dim=1)
        recall = retrieval(image_ND, text_MD, *self.groups, block_size=self._block_size)
        ceiling = false_negative_ceiling(*self.groups, block_size=self._block_size)
        metrics, errors, hits = dict(recall.metrics), dict(recall.errors), dict(recall.hits)
        if scored := self._zero_shot(image_ND, encoders, joined):
            # The captions of a class folder are prompts, so zero-shot is its main metric and comes first.
            metrics = scored.metrics | metrics if self.pairs.is_class_folder else metrics | scored.metrics
            errors |= scored.errors
            hits |= scored.hits
        chance = {name: value for name, value in self._chance.items() if name in metrics}
        return Measured(self.pairs.num_images, 0.0, metrics, errors, ceiling, hits, chance)

    def _zero_shot(self, image_ND: Tensor, encoders: Sequence[_Encoder], joined: Joined = _only) -> ItemScores | None:
        """Zero-shot classification of unit-length image embeddings; None if the data name no classes."""
        if self._task is None:
            return None

        def encode(prompts: Sequence[str]) -> Tensor:
            tokens = [encoder.input_spec.tokenize(prompts) for encoder in encoders]
            return joined(
                [
                    self._encode_texts([encoder], own, "class prompts")[0]
                    for encoder, own in zip(encoders, tokens, strict=True)
                ]
            )

        classifier_KD = build_classifier(
            encode,
            self._task.classes,
            self._task.templates,
            verbatim=self._task.verbatim,
        )
        return zero_shot(image_ND, classifier_KD, self._labels(), self._task.classes)

    @torch.no_grad()
    def image_features(self, student: Clip) -> Tensor:
        """The raw embeddings [N, D] of all images, by a student in eval mode."""
        return self._encode_images([self._student_encoder(student)])[0]

    @torch.no_grad()
    def zero_shot(self, student: Clip, feature_ND: Tensor) -> ItemScores | None:
        """Zero-shot classification of :meth:`image_features`; None if the data name no classes."""
        return self._zero_shot(F.normalize(feature_ND, dim=1), [self._student_encoder(student)])

    def zero_shot_chance(self) -> dict[str, float]:
        """The expected accuracy of a random guess, by metric name; empty if the data name no classes."""
        return random_accuracy(self._labels(), len(self._task.classes)) if self._task else {}

    @cached_property
    def _chance(self) -> dict[str, float]:
        recall = random_recall(*self.groups, self.pairs.captions, block_size=self._block_size)
        return recall | self.zero_shot_chance()

    def _encode_teacher(self) -> _Encoded:
        teacher = self._teacher
        assert teacher is not None
        if self._teacher_encoded is None:
            images, texts = zip(*map(self._encode_member, teacher.members), strict=True)
            self._teacher_encoded = _Encoded(teacher.joined(images), teacher.joined(texts), teacher.scale)
        return self._teacher_encoded

    def _encode_member(self, teacher: Teacher) -> tuple[Tensor, Tensor]:
        """All images and captions by one teacher, read from disk if they were saved there."""
        if self._cache != "off" and (kept := recall_held_out(self.pairs, teacher)):
            return kept
        (encoded,) = self._encode([_teacher_encoder(teacher)], " by the teacher")
        if self._cache == "on":
            keep_held_out(self.pairs, teacher, encoded.image_ND, encoded.text_MD)
        return encoded.image_ND, encoded.text_MD

    def _encode(self, encoders: Sequence[_Encoder], who: str = "") -> list[_Encoded]:
        """All images and captions by each of the encoders, whose input specs are equal."""
        spec = encoders[0].input_spec
        if spec.tokenizer_id not in self._tokens:
            self._tokens[spec.tokenizer_id] = spec.tokenize(self.pairs.captions)
        images = self._encode_images(encoders, who)
        texts = self._encode_texts(encoders, self._tokens[spec.tokenizer_id], f"captions{who}")
        return [
            _Encoded(image_ND, text_MD, encoder.scale.detach())
            for image_ND, text_MD, encoder in zip(images, texts, encoders, strict=True)
        ]

    def _encode_images(self, encoders: Sequence[_Encoder], who: str = "") -> list[Tensor]:
        spec = encoders[0].input_spec
        chunks = self.pairs.image_chunks(spec.image_size, CHUNK, spec.resizing)
        encode_image = [encoder.encode_image for encoder in encoders]
        return self._in_chunks(encode_image, chunks, f"images{who}", self.pairs.num_images)

    def _encode_texts(self, encoders: Sequence[_Encoder], tokens_ML: Tensor, what: str) -> list[Tensor]:
        encode_text = [encoder.encode_text for encoder in encoders]
        return self._in_chunks(encode_text, torch.split(tokens_ML, CHUNK), what, len(tokens_ML))

    def _in_chunks(
        self, encode: Sequence[Callable[[Tensor], Tensor]], chunks: Iterable[Tensor], what: str, total: int
    ) -> list[Tensor]:
        """All chunks encoded and concatenated, by each function, with progress."""
        rows: list[list[Tensor]] = [[] for _ in encode]
        with phase(" ".join(filter(None, ("encoding", self._name, what))), total) as shown:
            for chunk in chunks:
                inputs = chunk.to(self._device)
                for own, function in zip(rows, encode, strict=True):
                    own.append(function(inputs))
                shown.advance(len(chunk))
        return [torch.cat(own) for own in rows]

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


def _teacher_encoder(teacher: Teacher) -> _Encoder:
    return _Encoder(teacher.input_spec, teacher.embed_image, teacher.embed_text, teacher.scale)


def _first_outputs(embeddings: Embeddings) -> ProbeOutputs:
    """Embeddings of the first pairs, at most 32; keeping them costs a file and no extra forward."""
    image_PD, text_PD = (part[:MOST_PAIRS].half().cpu().numpy() for part in (embeddings.image_BD, embeddings.text_BD))
    return ProbeOutputs(image_PD, text_PD, float(embeddings.scale))
