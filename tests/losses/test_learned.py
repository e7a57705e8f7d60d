import pytest
import torch

from workbench.losses.base import Widths
from workbench.losses.learned import LearnedParts
from workbench.losses.registry import make_loss


@pytest.mark.parametrize(
    ("names", "teacher_width", "projects"),
    [
        (["clip", "fd"], 8, True),
        (["clip", "fd"], 4, False),
        (["clip"], 8, False),
        (["clip"], None, False),
        (["mfd"], 8, True),
        (["gd"], 8, True),
        (["icl"], 8, True),
        (["cross_modal"], 8, True),
        (["vrd"], 8, True),
        (["xrd"], 8, True),
        (
            ["clip", "crd", "afd", "affinity", "single_modal", "dark"],
            8,
            False,
        ),  # these compare at their own width
    ],
)
def test_projections_are_made_only_where_needed(names: list[str], teacher_width: int | None, projects: bool) -> None:
    learned = LearnedParts({name: make_loss(name) for name in names}, Widths(4, teacher_width))
    assert bool(learned.projections) == projects
    if projects:
        assert learned.projections["image"].weight.shape == (8, 4)


def test_projected_embeddings_have_unit_length() -> None:
    learned = LearnedParts({"fd": make_loss("fd")}, Widths(4, 8))
    projected = learned.project(torch.randn(3, 4), torch.randn(3, 4), torch.tensor(10.0))
    assert torch.allclose(projected.image_BD.norm(dim=1), torch.ones(3))
    assert projected.text_BD.shape == (3, 8)


def test_every_scale_is_found_clamped_and_reported_also_inside_a_fusion() -> None:
    losses = {
        "icl": make_loss("icl"),
        "afd": make_loss("afd"),
        "crd": make_loss("crd", scale="own"),
        "affinity": make_loss("affinity"),
        "vrd": make_loss("vrd"),
    }
    learned = LearnedParts(losses, Widths(4, 8))
    own = {"icl", "afd", "crd", "vrd image", "vrd text"}  # one for each modality
    assert set(learned.scales()) == own
    for name, parameter in learned.named_parameters():
        if name.endswith("logit_scale"):
            parameter.data.fill_(9.0)
    learned.clamp_()
    assert {name: scale.item() for name, scale in learned.scales().items()} == pytest.approx(dict.fromkeys(own, 100.0))
