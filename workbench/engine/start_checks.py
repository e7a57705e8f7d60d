"""Warnings before the first step of every run: a teacher at chance level, and words unknown to a tokenizer.

They take little time and do not change the run's numbers; ``workbench doctor`` checks more.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from workbench.cache.identity import digest_of
from workbench.data.captions import NUM_TOKENIZED
from workbench.data.dataset import Dataset, spread
from workbench.embeddings import Embeddings
from workbench.engine.cohort import Cohort
from workbench.engine.evaluate import Evaluator
from workbench.engine.teacher_cache.manifest import HeldOutIdentity
from workbench.evaluation.chance import beats_chance, mean_recall, random_recall
from workbench.evaluation.retrieval import retrieval
from workbench.files import write_atomically
from workbench.models.clip import Clip
from workbench.models.teacher import Teacher
from workbench.models.teacher_group import Teachers, joined_embeddings
from workbench.models.tokenizers import WordTokenizer
from workbench.progress import phase
from workbench.resources import cache_dir

SOME_UNKNOWN = 0.05  # of the words of the captions
MANY_UNKNOWN = 0.2
NUM_PAIRS = 256  # held-out pairs on which the teacher is measured
CHUNK = 32  # pairs in one forward
ENOUGH_S = 5.0  # after which a slow teacher gets no further chunk
WORTH_KEEPING_S = 1.0  # a measurement that took longer is saved on disk

Level = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Finding:
    """The result of a check.

    Attributes:
        check: its name, one to three words.
        level: a warning needs a decision; a problem means that the run would be wasted.
        message: one clause.
        remedy: empty if the level is ok.
    """

    check: str
    level: Level
    message: str
    remedy: str = ""

    def __post_init__(self) -> None:
        assert bool(self.remedy) == (self.level != "ok"), "a warning or problem has a remedy, and ok has none"

    def to_json(self) -> dict[str, str]:
        """One of the ``findings`` of ``--json``."""
        return asdict(self)

    @staticmethod
    def warn_if(is_bad: bool, check: str, message: str, remedy: str) -> "Finding":
        """A warning with its remedy if something is bad, else ok."""
        return Finding(check, "warning", message, remedy) if is_bad else Finding(check, "ok", message)


def start_warnings(cohort: Cohort) -> Iterator[str]:
    """One line, with the remedy, for each problem that is likely to waste the run."""
    if not cohort.num_steps:  # the student is only evaluated
        return
    first = cohort.members[0]
    needs_teacher = any(member.objective.needs_teacher for member in cohort.members)
    teacher = cohort.teacher if needs_teacher else None
    findings = list(word_findings(cohort.stream.dataset, first.state.student, teacher, first.config.student.model))
    if teacher and cohort.evaluators:
        split, evaluator = next(iter(cohort.evaluators.items()))
        level = teacher_level(evaluator, teacher)
        group_N, captions = evaluator.groups[0][: level.num_pairs], evaluator.first_captions(level.num_pairs)
        chance = mean_recall(random_recall(group_N, group_N, captions, block_size=level.num_pairs))
        findings.append(teacher_finding(level.recall, chance, level.num_pairs, split))
    yield from (f"{found.check}: {found.message}; {found.remedy}" for found in findings if found.level != "ok")


def teacher_finding(recall: float, chance: float, num_pairs: int, split: str) -> Finding:
    """Whether the teacher's R@1 is above chance; both are means over the two directions."""
    message = f"R@1 of {recall:.1%} on {num_pairs:,} {split} pairs, where guessing gives {chance:.1%}"
    match beats_chance(recall, chance, num_pairs):
        case True:
            return Finding("teacher", "ok", message)
        case None:
            remedy = "name more held-out pairs with --set data.validation=SPEC"
            return Finding("teacher", "warning", f"too few pairs to tell a teacher from guessing: {message}", remedy)
    remedy = "name a teacher for such data with --set teacher.model=SPEC; `workbench teacher import` measures one"
    return Finding("teacher", "problem", f"no better than guessing: {message}", remedy)


class TeacherLevel(BaseModel):
    """A teacher's R@1, the mean of both directions, among the first ``num_pairs`` pairs."""

    model_config = ConfigDict(frozen=True)

    num_pairs: int
    recall: float


def teacher_level(evaluator: Evaluator, teacher: Teachers) -> TeacherLevel:
    """Recall of the teacher on a few held-out pairs, read from disk if it was saved there."""
    folder = cache_dir() / "teacher-levels"

    def file() -> Path:
        digests = [digest_of(HeldOutIdentity.of(evaluator.pairs, member)) for member in teacher.members]
        # The level of several depends on how they are combined, too.
        name = (
            digests[0]
            if len(digests) == 1
            else sha256(" ".join([*digests, teacher.fingerprint()]).encode()).hexdigest()
        )
        return folder / f"{name}.json"

    if folder.is_dir():
        with suppress(OSError, ValueError):
            return TeacherLevel.model_validate_json(file().read_bytes())
    start_s = time.perf_counter()
    level = _measure(evaluator, teacher)
    if time.perf_counter() - start_s > WORTH_KEEPING_S:
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            write_atomically(file(), level.model_dump_json())
    return level


def _measure(evaluator: Evaluator, teacher: Teachers) -> TeacherLevel:
    # The run needs the embeddings of all pairs anyway; a small set, or one that is ready, is not embedded twice.
    needs_all = evaluator.knows_teacher or evaluator.pairs.num_images <= NUM_PAIRS
    pairs = evaluator.teacher_pairs() if needs_all else _first_pairs(evaluator, teacher.in_chunks_of(CHUNK))
    image_ND, text_ND = pairs.image_BD[:NUM_PAIRS], pairs.text_BD[:NUM_PAIRS]
    group_N = evaluator.groups[0][: len(image_ND)]
    metrics = retrieval(image_ND, text_ND, group_N, group_N, block_size=len(image_ND)).metrics
    return TeacherLevel(num_pairs=len(image_ND), recall=mean_recall(metrics))


def _first_pairs(evaluator: Evaluator, teacher: Teachers) -> Embeddings:
    """Teacher embeddings of the first pairs: of as many as the slowest of several teachers embeds."""
    parts = [_embed_few(evaluator, member) for member in teacher.members]
    rows = slice(min(map(len, parts)))
    return joined_embeddings(
        teacher, [replace(part, image_BD=part.image_BD[rows], text_BD=part.text_BD[rows]) for part in parts]
    )


def _embed_few(evaluator: Evaluator, teacher: Teacher) -> Embeddings:
    """Teacher embeddings of the first pairs, in small forwards; fewer pairs if it is slow."""
    captions, device = evaluator.first_captions(NUM_PAIRS), teacher.scale.device
    parts: list[Embeddings] = []
    until_s, spec = time.perf_counter() + ENOUGH_S, teacher.input_spec
    with (
        closing(evaluator.pairs.image_chunks(spec.image_size, CHUNK, spec.resizing)) as chunks,
        phase("measuring the teacher", NUM_PAIRS) as shown,
    ):
        for start, image_BCHW in zip(range(0, NUM_PAIRS, CHUNK), chunks, strict=False):
            text_BL = teacher.tokenize(captions[start : start + CHUNK])
            parts.append(teacher.embed(image_BCHW.to(device), text_BL.to(device)))
            shown.advance(CHUNK)
            if time.perf_counter() > until_s:
                break
    image_ND, text_ND = torch.cat([part.image_BD for part in parts]), torch.cat([part.text_BD for part in parts])
    return Embeddings(image_ND, text_ND, teacher.scale)


def word_findings(dataset: Dataset, student: Clip, teacher: Teachers | None, student_spec: str) -> Iterator[Finding]:
    """Whether the word list of each model has the words of some captions."""
    texts = [dataset.text(index).captions[0] for index in spread(len(dataset), NUM_TOKENIZED)]
    has_weights = "@" in student_spec or student_spec.startswith(("run:", "sample:")) or Path(student_spec).is_dir()
    remedies = {
        "student": "start from a student whose tokenizer knows them" if has_weights else "--set student.tokenizer=bpe",
        "teacher": "name a teacher whose tokenizer knows them with --set teacher.model=SPEC",
    }
    teachers = [("teacher", member.input_spec) for member in teacher.members] if teacher else []
    for model, input_spec in (("student", student.input_spec), *teachers):
        unknown = share_unknown(input_spec.tokenize, texts)
        if unknown is None:
            continue
        message = f"{unknown:.1%} of the captions' words are unknown to the {model}'s word list"
        if unknown < SOME_UNKNOWN:
            yield Finding(f"{model}'s words", "ok", message)
        else:
            level: Level = "problem" if unknown >= MANY_UNKNOWN else "warning"
            yield Finding(f"{model}'s words", level, message, remedies[model])


def share_unknown(tokenize: Callable[[Sequence[str]], Tensor], texts: Sequence[str]) -> float | None:
    """The share of words that are not in a word list; None for a subword tokenizer, which has no unknown words."""
    if not isinstance(tokenize, WordTokenizer):
        return None
    text_ML = tokenize(texts)
    first_bucket, end = 1 + len(tokenize.words), tokenize.vocab_size - 1
    is_word_ML = (text_ML > 0) & (text_ML < end)
    num_words = int(is_word_ML.sum())
    return int(torch.sum(is_word_ML & (text_ML >= first_bucket))) / num_words if num_words else 0.0
