"""Checks of a run's data and teacher: captions, tokenizers, bad images, teacher recall, entropy of its affinities.

Shape letters: N pairs · D embedding width."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.data.captions import captions_of, share_filling
from workbench.data.check import MANY_CUT, MANY_FALSE_NEGATIVES
from workbench.data.dataset import Dataset
from workbench.data.unusable import MAX_SHARE, Reading
from workbench.embeddings import Embeddings, InputSpec
from workbench.engine.cohort import Cohort
from workbench.engine.start_checks import Finding, Level, word_findings
from workbench.evaluation.agreement import affinity_entropy
from workbench.losses.base import Loss
from workbench.losses.scale import ScaleChoice
from workbench.models.clip import Clip
from workbench.models.teacher import Teacher
from workbench.models.teacher_group import Teachers, joined_embeddings
from workbench.models.tokenizers import BytePairTokenizer, WordTokenizer
from workbench.preflight.trial import StepTrial

SOME_REPLACED = 0.01  # of the images


def input_findings(
    dataset: Dataset, student: Clip, teacher: Teachers | None, batch_size: int, student_spec: str
) -> Iterator[Finding]:
    """Checks of the captions, and of how each model reads them."""
    yield from reading_findings("training data", dataset.reading)
    yield _duplicates(dataset, batch_size)
    yield _lengths(dataset, student.input_spec)
    yield from word_findings(dataset, student, teacher, student_spec)
    for member in teacher.members if teacher else ():
        yield _forms(student, member)


def reading_findings(name: str, reading: Reading) -> Iterator[Finding]:
    """Notes of a data source: entries that were left out, and class names that are not words."""
    yield from (Finding(name, "warning", note, "`workbench data check SPEC` shows more") for note in reading.notes)


def image_finding(trial: StepTrial) -> Finding:
    """Whether the images of the trial steps were good."""
    message = f"{trial.num_replaced:,} of the first {trial.num_pairs:,} cannot be used"
    if trial.num_replaced <= SOME_REPLACED * trial.num_pairs:
        return Finding("images", "ok", message)
    level: Level = "problem" if trial.num_replaced > MAX_SHARE * trial.num_pairs else "warning"
    return Finding(
        "images", level, f"{message}, and others replace them", "`workbench data check SPEC --all` lists them"
    )


def _duplicates(dataset: Dataset, batch_size: int) -> Finding:
    captions = captions_of(dataset)
    expected = captions.false_negative_share * (batch_size - 1)
    message = (
        f"{len(captions.text_M):,}, {captions.num_distinct:,} of them different: "
        f"{expected:.2g} of a pair's {batch_size - 1:,} negatives in a batch have its caption"
    )
    remedy = "lower train.batch_size, or give more specific captions"
    return Finding.warn_if(expected >= MANY_FALSE_NEGATIVES, "captions", message, remedy)


def _lengths(dataset: Dataset, input_spec: InputSpec) -> Finding:
    filling, num_tokens = share_filling(dataset, input_spec.tokenize), input_spec.tokenize([""]).shape[1]
    message = f"{filling:.0%} fill the {num_tokens} tokens that the student reads, or are truncated"
    remedy = "take a student with a longer context, or shorten them"
    return Finding.warn_if(filling >= MANY_CUT, "caption length", message, remedy)


def _forms(student: Clip, teacher: Teacher) -> Finding:
    """Differences in image size, tokenizer and normalization; all are allowed, since each model gets its own input."""
    theirs, ours = teacher.input_spec, student.input_spec
    differing = []
    if ours.image_size != theirs.image_size:
        differing.append(f"images of {ours.image_size} and {theirs.image_size} pixels")
    if ours.tokenizer_id != theirs.tokenizer_id:
        differing.append(f"tokenizers ({_described(ours.tokenize)} and {_described(theirs.tokenize)})")
    if ours.resizing != theirs.resizing:
        modes = (f"{one.mode}, {one.interpolation}" for one in (ours.resizing, theirs.resizing))
        differing.append(f"resizing of evaluation images ({' and '.join(modes)})")
    if (student.mean, student.std) != teacher.normalization:
        (red, *_), _ = teacher.normalization
        differing.append(f"normalization (mean red {student.mean[0]:.3g} and {red:.3g})")
    message = f"student and teacher differ in {', '.join(differing)}: each gets its own"
    return Finding("model inputs", "ok", message if differing else "student and teacher have the same input")


def _described(tokenize: object) -> str:
    if isinstance(tokenize, WordTokenizer):
        return f"{len(tokenize.words):,} words in {tokenize.context_length} tokens"
    pieces = "byte pairs" if isinstance(tokenize, BytePairTokenizer) else "subwords"
    return f"{getattr(tokenize, 'vocab_size', 0):,} {pieces} in {getattr(tokenize, 'context_length', 0)} tokens"


NUM_PAIRS = 500  # pairs for the entropy of the affinities
NEAR_ONE_HOT = 0.05  # of the entropy of uniform affinities
AFFINITY_LOSSES = ("crd", "affinity", "cross_modal", "dark")  # their target is the teacher's image-to-text affinity


@dataclass(frozen=True)
class Affinities:
    """Mean entropy, in nats, of the teacher's affinities among N pairs, at the scale at which ``losses`` use them.

    ``held_out`` is the entropy on as many held-out pairs; None if the run has none.
    """

    losses: tuple[str, ...]
    scale: float
    num_pairs: int
    training: float
    held_out: float | None

    @property
    def uniform(self) -> float:
        return math.log(self.num_pairs)


def measure_affinities(cohort: Cohort) -> list[Affinities]:
    """The entropy of the teacher's affinities at each scale at which a loss has them as its target.

    Without such a loss, at the teacher's own scale.
    """
    teacher, (member,) = cohort.teacher, cohort.members
    assert teacher is not None
    training = _training_pairs(cohort, teacher)
    held_out = _held_out_pairs(cohort, teacher, len(training))
    num_pairs = len(held_out) if held_out else len(training)

    def entropy(pairs: Embeddings, scale: float) -> float:
        return affinity_entropy(Embeddings(pairs.image_BD[:num_pairs], pairs.text_BD[:num_pairs], torch.tensor(scale)))

    scales = _target_scales(member.objective.losses, member.state.student.scale, teacher.scale)
    return [
        Affinities(losses, scale, num_pairs, entropy(training, scale), entropy(held_out, scale) if held_out else None)
        for scale, losses in scales.items()
    ]


def affinity_finding(affinities: Affinities) -> Finding:
    """Whether affinities are so sharp that they add nothing to the contrastive labels."""
    held_out = "" if affinities.held_out is None else f", {affinities.held_out:.2f} on held-out ones"
    message = (
        f"entropy {affinities.training:.2f} nats on training pairs{held_out}; uniform over {affinities.num_pairs:,} is "
        f"{affinities.uniform:.2f} (scale {affinities.scale:.3g})"
    )
    check = " ".join(("affinities", *affinities.losses))
    if not affinities.losses or affinities.training > NEAR_ONE_HOT * affinities.uniform:
        return Finding(check, "ok", message)
    return Finding(
        check,
        "warning",
        f"nearly one-hot, so they add nothing to the contrastive labels: {message}",
        f"--set loss.{affinities.losses[0]}.teacher_scale='0.5 x teacher', or a teacher that was not trained on these "
        "pairs",
    )


def _target_scales(
    losses: Mapping[str, Loss], student_scale: Tensor, teacher_scale: Tensor
) -> dict[float, tuple[str, ...]]:
    """Losses whose target is the teacher's affinities, by the scale they use."""
    by_scale: dict[float, tuple[str, ...]] = {}
    for name in AFFINITY_LOSSES:
        choice = getattr(losses.get(name), "teacher_scale", None)
        if isinstance(choice, ScaleChoice):
            scale = float(choice.value(student_scale.detach(), teacher_scale, None))
            by_scale[scale] = (*by_scale.get(scale, ()), name)
    return by_scale or {float(teacher_scale): ()}


def _training_pairs(cohort: Cohort, teacher: Teachers) -> Embeddings:
    """Teacher embeddings of the pairs of the first batches, each pair once."""
    stream = cohort.stream
    num_batches = min(-(-NUM_PAIRS // cohort.batch_size), max(1, len(stream.dataset) // cohort.batch_size))
    embedded = []
    for step in range(num_batches):
        batch = stream.batch(step).to(cohort.device)
        parts = [
            member.embed(inputs.image_BCHW[:NUM_PAIRS], inputs.text_BL[:NUM_PAIRS])
            for member, inputs in zip(teacher.members, batch.teachers, strict=True)
        ]
        embedded.append(joined_embeddings(teacher, parts))
    image_ND = torch.cat([batch.image_BD for batch in embedded])[:NUM_PAIRS]
    text_ND = torch.cat([batch.text_BD for batch in embedded])[:NUM_PAIRS]
    return Embeddings(image_ND, text_ND, teacher.scale)


def _held_out_pairs(cohort: Cohort, teacher: Teachers, num_pairs: int) -> Embeddings | None:
    """Teacher embeddings of held-out pairs, each image with its first caption; None if the run has none."""
    evaluator = next(iter(cohort.evaluators.values()), None)
    if evaluator is None:
        return None
    captions, parts = evaluator.first_captions(num_pairs), []
    for member in teacher.members:
        spec = member.input_spec
        image_NCHW = next(evaluator.pairs.image_chunks(spec.image_size, num_pairs, spec.resizing))
        text_NL = member.tokenize(captions[: len(image_NCHW)])
        parts.append(member.embed(image_NCHW.to(cohort.device), text_NL.to(cohort.device)))
    return joined_embeddings(teacher, parts)
