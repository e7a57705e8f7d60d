import math

import numpy as np
import pytest

from workbench.runs.snapshots import Probe, ProbeOutputs
from workbench.views.affinity import affinity_view

CAPTIONS = ("a", "b")
TURNED = np.array([[0.6, 0.8], [0.0, 1.0]], dtype=np.float16)
STUDENT = ProbeOutputs(np.eye(2, dtype=np.float16), TURNED, 2.0)
TEACHER = ProbeOutputs(np.eye(2, dtype=np.float16), np.eye(2, dtype=np.float16), 5.0)


def test_cosines_are_between_images_and_texts() -> None:
    view = affinity_view(Probe(7, CAPTIONS, STUDENT, TEACHER), "cosine")
    assert view.student_PP == pytest.approx(np.array([[0.6, 0.0], [0.8, 1.0]]), abs=1e-3)
    assert view.difference_PP == pytest.approx(np.array([[-0.4, 0.0], [0.8, 0.0]]), abs=1e-3)
    assert (view.step, view.captions) == (7, CAPTIONS)


def test_affinities_are_softmaxes_at_each_models_scale() -> None:
    view = affinity_view(Probe(7, CAPTIONS, STUDENT, TEACHER))
    assert view.student_PP.sum(axis=1) == pytest.approx([1, 1])
    assert view.student_PP[0, 0] == pytest.approx(1 / (1 + math.exp(-2 * 0.6)), rel=1e-3)
    assert view.teacher_PP is not None
    assert view.teacher_PP[1, 1] == pytest.approx(1 / (1 + math.exp(-5)))


def test_without_a_teacher_there_is_no_difference() -> None:
    view = affinity_view(Probe(7, CAPTIONS, STUDENT))
    assert view.teacher_PP is None
    assert view.difference_PP is None


def test_a_huge_scale_does_not_overflow() -> None:
    view = affinity_view(Probe(7, CAPTIONS, ProbeOutputs(STUDENT.image_PD, STUDENT.text_PD, 1e6)))
    assert np.isfinite(view.student_PP).all()
