import math

import pytest
import torch

from workbench.losses.learnt import LearntParts, LearntScale
from workbench.losses.registry import make_loss


def test_a_scale_stays_within_clips_range() -> None:
    scale = LearntScale()
    assert float(scale().detach()) == pytest.approx(1 / 0.07)
    for start, end in ((9.0, 100.0), (-3.0, 1.0)):
        with torch.no_grad():
            scale.logit_scale.fill_(start)
        scale.clamp_()
        assert float(scale().detach()) == pytest.approx(end)


def test_the_released_scale_is_the_parameter_itself_and_free() -> None:
    scale = LearntScale(exponential=False)
    assert float(scale().detach()) == pytest.approx(math.log(1 / 0.07))
    with torch.no_grad():
        scale.logit_scale.fill_(500.0)
    scale.clamp_()
    assert float(scale().detach()) == 500.0


@pytest.mark.parametrize(
    ("names", "teacher_width", "projects"),
    [(["clip", "fd"], 8, True), (["clip", "fd"], 4, False), (["clip"], 8, False), (["clip"], None, False)],
)
def test_projections_are_made_only_where_needed(names: list[str], teacher_width: int | None, projects: bool) -> None:
    learnt = LearntParts({name: make_loss(name) for name in names}, 4, teacher_width)
    assert bool(learnt.projections) == projects
    if projects:
        assert learnt.projections["image"].weight.shape == (8, 4)


def test_projected_embeddings_have_unit_length() -> None:
    learnt = LearntParts({"fd": make_loss("fd")}, 4, 8)
    projected = learnt.project(torch.randn(3, 4), torch.randn(3, 4), torch.tensor(10.0))
    assert torch.allclose(projected.image_BD.norm(dim=1), torch.ones(3))
    assert projected.text_BD.shape == (3, 8)
