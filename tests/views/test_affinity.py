"""Affinities, orders, ranks and sharpness, by brute force."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.runs.snapshots import Probe, ProbeOutputs
from workbench.views.affinity import affinity_view, divergence, flips, in_order, ordered, ranks, recall_at_1, sharpness

CAPTIONS = ("a red star", "a blue ring", "one red ring", "a green dot")


def outputs(seed: int, num_pairs: int = 4, scale: float = 10.0) -> ProbeOutputs:
    generator = np.random.default_rng(seed)
    both = generator.normal(size=(2, num_pairs, 6))
    both /= np.linalg.norm(both, axis=2, keepdims=True)
    return ProbeOutputs(both[0].astype(np.float16), both[1].astype(np.float16), scale)


PROBE = Probe(5, CAPTIONS, outputs(1), outputs(2, scale=20.0))


def softmax(row: np.ndarray) -> np.ndarray:
    return np.exp(row) / np.exp(row).sum()


@pytest.mark.parametrize(("between", "rows", "columns"), [("image-image", 0, 0), ("text-text", 1, 1)])
def test_within_a_modality_the_softmax_excludes_the_diagonal(between, rows: int, columns: int) -> None:
    view = affinity_view(PROBE, "affinity", between)
    sides = [PROBE.student.image_PD.astype(float), PROBE.student.text_PD.astype(float)]
    for k in range(4):
        others = [j for j in range(4) if j != k]
        logits = 10 * sides[rows][k] @ sides[columns].T
        assert view.student_PP[k, others] == pytest.approx(softmax(logits[others]))
        assert view.student_PP[k, k] == 0


def test_all_is_the_four_blocks_and_cosines_are_symmetric() -> None:
    full = affinity_view(PROBE, "affinity", "all").student_PP
    assert full.shape == (8, 8)
    assert full[:4, :4] == pytest.approx(affinity_view(PROBE, "affinity", "image-image").student_PP)
    assert full[:4, 4:] == pytest.approx(affinity_view(PROBE).student_PP)
    assert full[4:, 4:] == pytest.approx(affinity_view(PROBE, "affinity", "text-text").student_PP)
    cosines = affinity_view(PROBE, "cosine", "all").student_PP
    assert cosines == pytest.approx(cosines.T)


def test_each_model_can_have_another_scale() -> None:
    view = affinity_view(PROBE, "affinity", "image-text", student_scale=3.0, teacher_scale=7.0)
    cosine = PROBE.student.image_PD.astype(float) @ PROBE.student.text_PD.astype(float).T
    assert view.student_PP[2] == pytest.approx(softmax(3 * cosine[2]))
    teacher = PROBE.teacher.image_PD.astype(float) @ PROBE.teacher.text_PD.astype(float).T
    assert view.teacher_PP[2] == pytest.approx(softmax(7 * teacher[2]))


def test_words_group_by_the_first_one_a_caption_has() -> None:
    cosine_PP = np.eye(4)
    assert ordered(CAPTIONS, "index", cosine_PP) == [0, 1, 2, 3]
    assert ordered(CAPTIONS, "words", cosine_PP, ["blue", "red"]) == [1, 0, 2, 3]
    assert ordered(CAPTIONS, "words", cosine_PP, ["ring", "star"]) == [1, 2, 0, 3]
    with pytest.raises(ValueError, match="order"):
        ordered(CAPTIONS, "alphabet", cosine_PP)


def test_clustering_puts_like_items_together() -> None:
    vectors = np.array([[1, 0], [0, 1], [0.99, 0.14], [0.1, 0.99]])
    places = ordered(CAPTIONS, "cluster", vectors @ vectors.T)
    assert abs(places.index(0) - places.index(2)) == abs(places.index(1) - places.index(3)) == 1


@given(st.permutations(range(4)))
def test_an_order_moves_rows_and_columns_of_both_halves_together(order: list[int]) -> None:
    full = affinity_view(PROBE, "cosine", "all").student_PP
    placed = in_order(full, order)
    for i, j in ((0, 1), (3, 2)):
        assert placed[i, j] == full[order[i], order[j]]
        assert placed[i, 4 + j] == full[order[i], 4 + order[j]]
        assert placed[4 + i, j] == full[4 + order[i], order[j]]


def test_ranks_recall_and_flips_by_brute_force() -> None:
    cosine = PROBE.student.image_PD.astype(float) @ PROBE.student.text_PD.astype(float).T
    expected = [1 + sum(cosine[k, j] > cosine[k, k] for j in range(4) if j != k) for k in range(4)]
    assert ranks(PROBE.student).tolist() == expected
    assert recall_at_1(PROBE.student) == expected.count(1) / 4
    later = Probe(9, CAPTIONS, outputs(7))
    found = {flip.pair: (flip.rank_before, flip.rank_after) for flip in flips(PROBE, later)}
    after = ranks(later.student).tolist()
    assert found == {k: (expected[k], after[k]) for k in range(4) if (expected[k] == 1) != (after[k] == 1)}
    with pytest.raises(ValueError, match="different probe pairs"):
        flips(PROBE, Probe(9, CAPTIONS[:1], outputs(7, 1)))


def test_ties_are_not_hits() -> None:
    one = np.ones((3, 2), dtype=np.float16) / np.float16(2**0.5)
    assert recall_at_1(ProbeOutputs(one, one, 1.0)) == 0


def test_divergence_is_kullback_and_leiblers() -> None:
    view = affinity_view(PROBE)
    expected = np.mean([(t * np.log(t / s)).sum() for s, t in zip(view.student_PP, view.teacher_PP, strict=True)])
    assert divergence(view) == pytest.approx(expected)
    assert divergence(affinity_view(Probe(5, CAPTIONS, PROBE.teacher, PROBE.teacher))) == pytest.approx(0)
    assert divergence(affinity_view(PROBE, "cosine")) is None
    assert divergence(affinity_view(Probe(5, CAPTIONS, PROBE.student))) is None


def test_sharpness_goes_from_all_texts_to_one() -> None:
    view = sharpness(PROBE, [1e-6, 10.0, 1e4])
    assert view.student_N[0] == pytest.approx(4, rel=1e-4)
    assert view.student_N[2] == pytest.approx(1, abs=0.05)
    entropies = [-(p * np.log(p)).sum() for p in affinity_view(PROBE).student_PP]
    assert view.student_N[1] == pytest.approx(np.exp(entropies).mean())


TWO = ("a", "b")
TURNED = np.array([[0.6, 0.8], [0.0, 1.0]], dtype=np.float16)
STUDENT = ProbeOutputs(np.eye(2, dtype=np.float16), TURNED, 2.0)
TEACHER = ProbeOutputs(np.eye(2, dtype=np.float16), np.eye(2, dtype=np.float16), 5.0)


def test_cosines_are_between_images_and_texts() -> None:
    view = affinity_view(Probe(7, TWO, STUDENT, TEACHER), "cosine")
    assert view.student_PP == pytest.approx(np.array([[0.6, 0.0], [0.8, 1.0]]), abs=1e-3)
    assert view.difference_PP == pytest.approx(np.array([[-0.4, 0.0], [0.8, 0.0]]), abs=1e-3)
    assert (view.step, view.captions) == (7, TWO)


def test_affinities_are_softmaxes_at_each_models_scale() -> None:
    view = affinity_view(Probe(7, TWO, STUDENT, TEACHER))
    assert view.student_PP.sum(axis=1) == pytest.approx([1, 1])
    assert view.student_PP[0, 0] == pytest.approx(1 / (1 + math.exp(-2 * 0.6)), rel=1e-3)
    assert view.teacher_PP is not None
    assert view.teacher_PP[1, 1] == pytest.approx(1 / (1 + math.exp(-5)))


def test_without_a_teacher_there_is_no_difference() -> None:
    view = affinity_view(Probe(7, TWO, STUDENT))
    assert view.teacher_PP is None
    assert view.difference_PP is None


def test_a_huge_scale_does_not_overflow() -> None:
    view = affinity_view(Probe(7, TWO, ProbeOutputs(STUDENT.image_PD, STUDENT.text_PD, 1e6)))
    assert np.isfinite(view.student_PP).all()
