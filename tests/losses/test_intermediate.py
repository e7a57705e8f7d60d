import re

import pytest
import torch
from torch import Tensor

from workbench.losses import build_loss
from workbench.losses.base import Widths
from workbench.losses.comparison import Features
from workbench.losses.registry import make_loss


def features(seed: int, *shapes: tuple[int, ...]) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_() for shape in shapes)


def squared_error_of_the_mapped(layer: torch.nn.Linear, ours: Tensor, theirs: Tensor) -> float:
    """Mean over everything of (W ours + b − theirs)², for maps of equal grids or pooled features, in loops."""
    weights, biases, errors = layer.weight.tolist(), layer.bias.tolist(), []
    channels_last = [(x if x.ndim == 2 else x.flatten(2).mT.flatten(0, 1)).tolist() for x in (ours, theirs)]
    for one, other in zip(*channels_last, strict=True):
        mapped = [sum(w * x for w, x in zip(row, one, strict=True)) + b for row, b in zip(weights, biases, strict=True)]
        errors += [(x - y) ** 2 for x, y in zip(mapped, other, strict=True)]
    return sum(errors) / len(errors)


def halved_to_two(map_BCHW: Tensor) -> Tensor:
    """Sides of four places become two, by the mean of neighbors; sides of two stay."""
    rows = map_BCHW if map_BCHW.shape[2] == 2 else (map_BCHW[:, :, ::2] + map_BCHW[:, :, 1::2]) / 2
    return rows if rows.shape[3] == 2 else (rows[..., ::2] + rows[..., 1::2]) / 2


def test_maps_are_compared_place_by_place(embeddings) -> None:
    (ours,), (theirs,) = features(1, (6, 2, 3, 3)), features(2, (6, 4, 3, 3))
    loss = build_loss("intermediate")
    found = loss(embeddings(1), embeddings(2), Features((ours,), (theirs,))).item()
    (layer,) = loss.learned.parts["intermediate"]
    assert found == pytest.approx(squared_error_of_the_mapped(layer, ours, theirs), rel=1e-12)


@pytest.mark.parametrize(("sides", "teacher_sides"), [((4, 4), (2, 2)), ((2, 2), (4, 4)), ((4, 2), (2, 4))])
def test_the_finer_grid_is_averaged_down_to_the_coarser(embeddings, sides, teacher_sides) -> None:
    (ours,), (theirs,) = features(1, (6, 2, *sides)), features(2, (6, 4, *teacher_sides))
    loss = build_loss("intermediate")
    found = loss(embeddings(1), embeddings(2), Features((ours,), (theirs,))).item()
    (layer,) = loss.learned.parts["intermediate"]
    expected = squared_error_of_the_mapped(layer, halved_to_two(ours), halved_to_two(theirs))
    assert found == pytest.approx(expected, rel=1e-12)


def test_several_pairs_of_blocks_are_averaged_each_with_a_map_of_its_own(embeddings) -> None:
    ours, theirs = features(1, (6, 2), (6, 3)), features(2, (6, 4), (6, 5))
    loss = build_loss("intermediate", form="pooled", student_blocks=[0, -1], teacher_blocks=[2, 5])
    found = loss(embeddings(1), embeddings(2), Features(ours, theirs)).item()
    layers = loss.learned.parts["intermediate"]
    assert [tuple(layer.weight.shape) for layer in layers] == [(4, 2), (5, 3)]
    errors = [squared_error_of_the_mapped(*triple) for triple in zip(layers, ours, theirs, strict=True)]
    assert found == pytest.approx(sum(errors) / 2, rel=1e-12)


def test_features_that_the_map_turns_into_the_teachers_cost_nothing(embeddings) -> None:
    ours = features(1, (6, 2, 3, 3))
    loss = build_loss("intermediate")
    loss(embeddings(1), embeddings(2), Features(ours, features(2, (6, 4, 3, 3))))
    (layer,) = loss.learned.parts["intermediate"]
    theirs = torch.einsum("cd,bdhw->bchw", layer.weight, ours[0]) + layer.bias[:, None, None]
    assert loss(embeddings(1), embeddings(2), Features(ours, (theirs.detach(),))).item() == pytest.approx(0, abs=1e-28)


def test_the_student_and_the_map_get_gradients_and_embeddings_do_not(embeddings) -> None:
    student, (ours,), (theirs,) = embeddings(1), features(1, (6, 2, 4, 4)), features(2, (6, 4, 2, 2))
    loss = build_loss("intermediate")
    loss(student, embeddings(2), Features((ours,), (theirs.detach(),))).backward()
    assert ours.grad.abs().min() > 0
    assert all(parameter.grad.abs().sum() > 0 for parameter in loss.learned.parts["intermediate"].parameters())
    assert student.image_BD.grad is None


def test_what_it_asks_of_the_towers() -> None:
    loss = make_loss("intermediate", student_blocks=[1, -1], teacher_blocks=[0, 3])
    assert [tuple(key) for key in loss.features.student] == [(1, "map"), (-1, "map")]
    assert [tuple(key) for key in loss.features.teacher] == [(0, "map"), (3, "map")]
    pooled = make_loss("intermediate", form="pooled")
    assert [tuple(key) for key in pooled.features.student] == [(-1, "pooled")]


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        ({"form": "token"}, "did you mean 'tokens'"),
        ({"student_blocks": [0, 1]}, "2 and 1"),
        ({"student_blocks": []}, "list of block numbers, such as [2, -1]"),
        ({"student_blocks": -1}, "list of block numbers, such as [2, -1]"),
        ({"teacher_blocks": [1.5]}, "list of block numbers, such as [2, -1]"),
        ({"teacher_blocks": [True]}, "list of block numbers, such as [2, -1]"),
        ({"teacher_blocks": "last"}, "list of block numbers, such as [2, -1]"),
    ],
)
def test_what_cannot_be_is_refused_with_the_remedy(options: dict[str, object], remedy: str) -> None:
    with pytest.raises(ValueError, match=re.escape(remedy)):
        build_loss("intermediate", **options)


def test_a_block_that_a_tower_lacks_is_refused_with_those_it_has() -> None:
    loss = make_loss("intermediate", student_blocks=[3], teacher_blocks=[0])
    with pytest.raises(ValueError, match="student's image tower has no block 3; its blocks: -2 to 1"):
        loss.learned(Widths(4, 8, {0: 16, 1: 16, -1: 16, -2: 16}, {0: 32}))


def test_missing_features_are_refused_with_the_remedy(embeddings) -> None:
    with pytest.raises(ValueError, match="features="):
        build_loss("intermediate")(embeddings(1), embeddings(2))
