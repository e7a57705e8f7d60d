"""Warnings before the first step of every run: a teacher at chance level, and words unknown to a tokenizer.

They take little time and do not change the run's numbers; ``workbench doctor`` checks more.
"""

import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict

from workbench.embeddings import Embeddings
from workbench.engine.cohort import Cohort
from workbench.engine.doctor.checks import chance_of, level_finding, mean_recall, word_findings
from workbench.engine.evaluate import Evaluator
from workbench.engine.teacher_cache.held_out import HeldOutIdentity
from workbench.engine.teacher_cache.identity import digest_of
from workbench.evaluation.retrieval import retrieval
from workbench.files import write_atomically
from workbench.models.teacher import Teacher
from workbench.progress import phase
from workbench.resources import cache_dir

NUM_PAIRS = 256  # held-out pairs on which the teacher is measured
CHUNK = 32  # pairs in one forward
ENOUGH_S = 5.0  # after which a slow teacher gets no further chunk
WORTH_KEEPING_S = 1.0  # a measurement that took longer is saved on disk


class TeacherLevel(BaseModel):
    """A teacher's R@1, the mean of both directions, among the first ``num_pairs`` pairs."""

    model_config = ConfigDict(frozen=True)

    num_pairs: int
    recall: float


def start_warnings(cohort: Cohort) -> Iterator[str]:
    """One line, with the remedy, for each problem that is likely to waste the run."""
    first = cohort.members[0]
    needs_teacher = any(member.objective.needs_teacher for member in cohort.members)
    teacher = cohort.teacher if needs_teacher else None
    student_spec = first.config.student.model
    findings = list(word_findings(cohort.stream.dataset, first.state.student, teacher, student_spec))
    if teacher and cohort.evaluators:
        split, evaluator = next(iter(cohort.evaluators.items()))
        level = teacher_level(evaluator, teacher)
        groups = evaluator.pairs.image_group_N[: level.num_pairs]
        chance = chance_of(groups, level.num_pairs)
        findings.append(level_finding(level.recall, chance, level.num_pairs, split))
    yield from (f"{one.check}: {one.message}; {one.remedy}" for one in findings if one.level != "ok")


def teacher_level(evaluator: Evaluator, teacher: Teacher) -> TeacherLevel:
    """Recall of the teacher on a few held-out pairs, read from disk if it was saved there."""
    folder = cache_dir() / "teacher-levels"
    if folder.is_dir():
        with suppress(OSError, ValueError):
            return TeacherLevel.model_validate_json(_place(folder, evaluator, teacher).read_bytes())
    start_s = time.perf_counter()
    level = _measure(evaluator, teacher)
    if time.perf_counter() - start_s > WORTH_KEEPING_S:
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            write_atomically(_place(folder, evaluator, teacher), level.model_dump_json())
    return level


def _measure(evaluator: Evaluator, teacher: Teacher) -> TeacherLevel:
    needs_all = evaluator.knows_teacher or evaluator.pairs.num_images <= NUM_PAIRS
    # The run needs the embeddings of all pairs anyway; a small set, or one that is ready, is not embedded twice.
    found = evaluator.teacher_pairs() if needs_all else _embed_few(evaluator, teacher.in_chunks_of(CHUNK))
    embedded = Embeddings(found.image_BD[:NUM_PAIRS], found.text_BD[:NUM_PAIRS], found.scale)
    groups = evaluator.pairs.image_group_N[: len(embedded)]
    numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    group_N = torch.tensor([numbers[group] for group in groups], device=embedded.image_BD.device)
    metrics = retrieval(embedded.image_BD, embedded.text_BD, group_N, group_N, block_size=len(embedded)).metrics
    return TeacherLevel(num_pairs=len(embedded), recall=mean_recall(metrics))


def _embed_few(evaluator: Evaluator, teacher: Teacher) -> Embeddings:
    """Teacher embeddings of the first pairs, in small forwards; fewer pairs if it is slow."""
    captions, device = evaluator.first_captions(NUM_PAIRS), teacher.scale.device
    parts: list[Embeddings] = []
    until_s = time.perf_counter() + ENOUGH_S
    with (
        closing(evaluator.pairs.image_chunks(teacher.form.image_size, CHUNK)) as chunks,
        phase("measuring the teacher", NUM_PAIRS) as shown,
    ):
        for start, image_BCHW in zip(range(0, NUM_PAIRS, CHUNK), chunks, strict=False):
            text_BL = teacher.tokenize(captions[start : start + CHUNK])
            parts.append(teacher.embed(image_BCHW.to(device), text_BL.to(device)))
            shown.advance(CHUNK)
            if time.perf_counter() > until_s:
                break
    image_ND, text_ND = torch.cat([one.image_BD for one in parts]), torch.cat([one.text_BD for one in parts])
    return Embeddings(image_ND, text_ND, teacher.scale)


def _place(folder: Path, evaluator: Evaluator, teacher: Teacher) -> Path:
    return folder / f"{digest_of(HeldOutIdentity.of(evaluator.pairs, teacher))}.json"
