"""Whether captions and pictures reach the student, and the teacher, as they should."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from workbench.data.captions import NUM_TOKENIZED, captions_of, share_filling
from workbench.data.picture_files import spread
from workbench.data.preflight import MANY_CUT, MANY_FALSE_NEGATIVES
from workbench.data.reading import Reading
from workbench.data.sample import Dataset
from workbench.data.unusable import MAX_SHARE
from workbench.embeddings import InputForm
from workbench.engine.doctor.finding import Finding, Level
from workbench.engine.doctor.trial import Trial
from workbench.models.clip import Clip
from workbench.models.teacher import Teacher
from workbench.models.tokenizers import WordTokenizer

SOME_UNKNOWN = 0.05  # of the words of the captions
MANY_UNKNOWN = 0.2
SOME_REPLACED = 0.01  # of the pictures


def input_findings(
    dataset: Dataset, student: Clip, teacher: Teacher | None, batch_size: int, student_spec: str
) -> Iterator[Finding]:
    """What the captions are like, and what each model makes of them."""
    yield from reading_findings("training data", dataset.reading)
    yield _duplicates(dataset, batch_size)
    yield _lengths(dataset, student.form)
    yield from word_findings(dataset, student, teacher, student_spec)
    if teacher:
        yield _forms(student, teacher)


def reading_findings(name: str, reading: Reading) -> Iterator[Finding]:
    """What was left out when data were opened, and class names that are no words."""
    yield from (Finding(name, "warning", note, "`workbench data check SPEC` shows more") for note in reading.notes)


def picture_finding(trial: Trial) -> Finding:
    """Whether the pictures of the steps that were taken could be used."""
    if trial.num_replaced > SOME_REPLACED * trial.num_pairs:
        return Finding(
            "pictures",
            "problem" if trial.num_replaced > MAX_SHARE * trial.num_pairs else "warning",
            f"{trial.num_replaced:,} of the first {trial.num_pairs:,} cannot be used, and others stand in their place",
            "`workbench data check SPEC --all` lists them",
        )
    return Finding("pictures", "ok", f"{trial.num_replaced:,} of the first {trial.num_pairs:,} cannot be used")


def _duplicates(dataset: Dataset, batch_size: int) -> Finding:
    captions = captions_of(dataset)
    expected = captions.false_negative_share * (batch_size - 1)
    message = (
        f"{len(captions.text_M):,}, {captions.num_distinct:,} of them different: "
        f"{expected:.2g} of a pair's {batch_size - 1:,} negatives in a batch have its caption"
    )
    if expected >= MANY_FALSE_NEGATIVES:
        return Finding("captions", "warning", message, "lower train.batch_size, or give captions that say more")
    return Finding("captions", "ok", message)


def _lengths(dataset: Dataset, form: InputForm) -> Finding:
    filling = share_filling(dataset, form.tokenize)
    message = f"{filling:.0%} fill the {form.tokenize(['']).shape[1]} tokens that the student reads, or are cut there"
    if filling >= MANY_CUT:
        return Finding("caption length", "warning", message, "take a student with a longer context, or shorten them")
    return Finding("caption length", "ok", message)


def word_findings(dataset: Dataset, student: Clip, teacher: Teacher | None, student_spec: str) -> Iterator[Finding]:
    """Whether each model's word list knows the words of some captions."""
    texts = [dataset.text(index).captions[0] for index in spread(len(dataset), NUM_TOKENIZED)]
    has_weights = "@" in student_spec or student_spec.startswith(("run:", "sample:")) or Path(student_spec).is_dir()
    remedies = {
        "student": "begin with a student that knows them" if has_weights else "--set student.tokenizer=bpe",
        "teacher": "name a teacher that knows them with --set teacher.model=SPEC",
    }
    for model, form in (("student", student.form), ("teacher", teacher.form if teacher else None)):
        unknown = share_unknown(form.tokenize, texts) if form else None
        if unknown is None:
            continue
        message = f"{unknown:.1%} of the captions' words are unknown to the {model}'s word list"
        if unknown < SOME_UNKNOWN:
            yield Finding(f"{model}'s words", "ok", message)
        else:
            level: Level = "problem" if unknown >= MANY_UNKNOWN else "warning"
            yield Finding(f"{model}'s words", level, message, remedies[model])


def share_unknown(tokenize: Callable[[Sequence[str]], Tensor], texts: Sequence[str]) -> float | None:
    """The share of words that a word list does not hold; None of a tokenizer that splits words and so knows all."""
    if not isinstance(tokenize, WordTokenizer):
        return None
    text_ML = tokenize(texts)
    first_bucket, end = 1 + len(tokenize.words), tokenize.vocab_size - 1
    is_word_ML = (text_ML > 0) & (text_ML < end)
    num_words = int(is_word_ML.sum())
    return int(torch.sum(is_word_ML & (text_ML >= first_bucket))) / num_words if num_words else 0.0


def _forms(student: Clip, teacher: Teacher) -> Finding:
    """What differs in how the two are fed; each is fed its own way, so that nothing is wrong with it."""
    theirs, ours = teacher.form, student.form
    differing = []
    if ours.image_size != theirs.image_size:
        differing.append(f"pictures of {ours.image_size} and {theirs.image_size} pixels")
    if ours.tokenizer_id != theirs.tokenizer_id:
        differing.append(f"tokenizers ({_described(ours.tokenize)} and {_described(theirs.tokenize)})")
    if (student.mean, student.std) != teacher.normalisation:
        (red, *_), _ = teacher.normalisation
        differing.append(f"normalisation (mean red {student.mean[0]:.3g} and {red:.3g})")
    if not differing:
        return Finding("input forms", "ok", "student and teacher are fed alike")
    return Finding("input forms", "ok", f"student and teacher differ in {', '.join(differing)}: each gets its own")


def _described(tokenize: object) -> str:
    if isinstance(tokenize, WordTokenizer):
        return f"{len(tokenize.words):,} words in {tokenize.context_length} tokens"
    return f"{getattr(tokenize, 'vocab_size', 0):,} byte pairs in {getattr(tokenize, 'context_length', 0)} tokens"
