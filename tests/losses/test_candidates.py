"""Losses among all training pairs, against float64 softmaxes written out over the whole matrix."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from workbench.embeddings import Embeddings
from workbench.losses import build_loss
from workbench.losses.candidates import Candidates
from workbench.losses.comparison import Comparison
from workbench.losses.registry import make_loss

NUM_PAIRS, BATCH = 11, (7, 2, 9, 4)  # the pairs of the batch, in its order
ALIKE = {(0, 2), (0, 10), (1, 7), (3, 5)}  # row of the batch, number of a pair: known to match, besides its own
SIZES = [1, 3, 4, 11, 50]


@pytest.fixture
def pairs(embeddings) -> Embeddings:
    """The teacher's embeddings of all training pairs."""
    found = embeddings(5, num_pairs=NUM_PAIRS)
    return Embeddings(found.image_BD.detach(), found.text_BD.detach(), torch.tensor(30.0, dtype=torch.float64))


@pytest.fixture
def comparison(embeddings, pairs):
    """``comparison(size)``: a batch of the pairs, with all of them as candidates in blocks of ``size``."""
    student = embeddings(1, num_pairs=len(BATCH))
    own = list(BATCH)
    teacher = Embeddings(pairs.image_BD[own], pairs.text_BD[own], pairs.scale)
    known = sorted({(row, pair) for row, pair in enumerate(BATCH)} | ALIKE)
    matches = tuple(torch.tensor(column) for column in zip(*known, strict=True))

    def make(size: int) -> Comparison:
        def blocks(modality):
            rows = pairs.image_BD if modality == "image" else pairs.text_BD
            for start in range(0, NUM_PAIRS, size):
                block = torch.arange(start, min(start + size, NUM_PAIRS))
                yield block, rows[block].float()  # as a cache has them

        candidates = Candidates(blocks, {"image": matches, "text": matches})
        return Comparison(student, teacher, student, all_pairs=candidates)

    return make


def directions(comparison: Comparison, pairs: Embeddings):
    """Student anchors, teacher anchors and all candidates, both ways."""
    student, teacher = comparison.student, comparison.teacher
    yield student.image_BD, teacher.image_BD, pairs.text_BD.float().double(), student.text_BD, teacher.text_BD
    yield student.text_BD, teacher.text_BD, pairs.image_BD.float().double(), student.image_BD, teacher.image_BD


def agrees(found: torch.Tensor, expected: torch.Tensor, comparison: Comparison) -> None:
    leaves = (comparison.student.image_BD, comparison.student.text_BD, comparison.student.scale)
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
    for ours, theirs in zip(*(torch.autograd.grad(of, leaves) for of in (found, expected)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("size", SIZES)
def test_icl_picks_its_own_among_all_that_do_not_match(comparison, pairs, size: int) -> None:
    given = comparison(size)
    expected = torch.zeros((), dtype=torch.float64)
    for anchors, _, candidates, _, _ in directions(given, pairs):
        logits = given.student.scale * anchors @ candidates.T
        for row, pair in ALIKE:
            logits[row, pair] = -torch.inf
        expected = expected + F.cross_entropy(logits, torch.tensor(BATCH)) / 2
    agrees(make_loss("icl", scale="student", candidates="all")(given), expected, given)


@pytest.mark.parametrize("size", SIZES)
def test_cross_modal_has_targets_over_all_where_the_teacher_is_the_candidate(comparison, pairs, size: int) -> None:
    given = comparison(size)
    expected = torch.zeros((), dtype=torch.float64)
    for anchors, targets, candidates, ours, theirs in directions(given, pairs):
        scale = given.student.scale
        target = (pairs.scale * targets @ candidates.T).softmax(1)
        expected = expected - (target * (scale * anchors @ candidates.T).log_softmax(1)).sum(1).mean() / 2
        target = (pairs.scale * targets @ theirs.T).softmax(1)  # the student's candidates are those of the batch
        expected = expected - (target * (scale * targets @ ours.T).log_softmax(1)).sum(1).mean() / 2
    loss = make_loss("cross_modal", scale="student", teacher_scale="teacher", candidates="all")
    agrees(loss(given), expected, given)


@pytest.mark.parametrize("name", ["icl", "cross_modal"])
def test_all_pairs_of_one_batch_are_its_batch(embeddings, name: str) -> None:
    student, teacher = embeddings(1), embeddings(2)

    def blocks(modality):
        rows = teacher.image_BD if modality == "image" else teacher.text_BD
        yield torch.arange(len(rows)), rows.detach()

    own = torch.arange(len(teacher))
    candidates = Candidates(blocks, {"image": (own, own), "text": (own, own)})
    found = []
    for among in ("batch", "all"):
        comparison = Comparison(student, teacher, student, all_pairs=candidates)
        loss = make_loss(name, scale="student", candidates=among)(comparison)
        found.append((loss.detach(), *torch.autograd.grad(loss, (student.image_BD, student.text_BD, student.scale))))
    for in_batch, among_all in zip(*found, strict=True):
        torch.testing.assert_close(in_batch, among_all)


def test_an_anchor_that_all_candidates_match_has_no_loss(comparison) -> None:
    given = comparison(3)
    row, pair = torch.meshgrid(torch.arange(len(BATCH)), torch.arange(NUM_PAIRS), indexing="ij")
    everything = (row.flatten(), pair.flatten())
    candidates = replace(given.all_pairs, matches={"image": everything, "text": everything})
    loss = make_loss("icl", scale="student", candidates="all")(replace(given, all_pairs=candidates))
    gradients = torch.autograd.grad(loss, (given.student.image_BD, given.student.text_BD, given.student.scale))
    assert loss.item() == 0
    assert all(not gradient.any() for gradient in gradients)


def test_it_needs_a_training_run(embeddings) -> None:
    with pytest.raises(ValueError, match='candidates = "all"'):
        build_loss("icl", candidates="all")(embeddings(1), embeddings(2))
    with pytest.raises(ValueError, match=r"loss\.icl: unknown candidates 'al'.*'all'"):
        make_loss("icl", candidates="al")
