"""Inherited parts, found again from the weights alone."""

from collections.abc import Callable

import pytest
import torch

from workbench.config.inheritance import TOWERS
from workbench.inheritance.inheritance_map import InheritanceMap
from workbench.inheritance.manual import overlaps_with_rule
from workbench.inheritance.recovery import recover
from workbench.inheritance.selection import TowerSelection, full_selection
from workbench.inheritance.slicing import slice_towers
from workbench.models.clip import Clip
from workbench.models.configs import tower_shape

MakeTeacher = Callable[..., Clip]
IMAGE = TowerSelection(
    layers=(0, 2, 3),
    embedding=(1, 2, 5, 7, 8, 11, 12, 14, 17, 19, 20, 22, 23, 26, 28, 30, 31),
    heads=((0, 2, 3), (1,), (0, 3)),
    channels=(tuple(range(0, 128, 3)), (5, 6, 90), tuple(range(40, 100))),
)
TEXT = TowerSelection(
    layers=(0, 1, 2),
    embedding=tuple(range(3, 24, 2)),
    heads=((2,), (), (0, 1, 3)),
    channels=((1, 50, 95), tuple(range(80)), ()),
)


def moved(model: Clip, share: float, seed: int = 0) -> Clip:
    """The model with noise on every weight, as large as this share of the weights."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in model.towers.parameters():
            noise = torch.randn(tensor.shape, generator=generator)
            tensor.add_(share * noise * tensor.std(correction=0) if tensor.ndim else 0)
    return model


@pytest.mark.parametrize(("share", "least"), [(0.0, 0.9999), (0.5, 0.8)])
def test_a_pruned_students_parts_are_found_again_after_training(
    make_teacher: MakeTeacher, share: float, least: float
) -> None:
    teacher = make_teacher()
    student = moved(slice_towers(teacher, {"image": IMAGE, "text": TEXT}), share)
    found = recover(student, teacher)
    shapes = {tower: tower_shape(teacher.config, tower) for tower in TOWERS}
    expected = InheritanceMap(shapes, {"image": IMAGE, "text": TEXT}).snapshot(0, 0)
    assert found.unlike == []
    assert found.snapshot.sparsity == expected.sparsity
    for tower, mask in found.snapshot.towers.items():
        assert mask.kept == expected.towers[tower].kept
        assert mask.teacher == shapes[tower]
        assert all(least < match.cosine <= 1.0001 for match in found.matches[tower].values())
        assert all(match.chance < 0.7 for match in found.matches[tower].values())
    # What a run's masks can be asked, they can be asked too.
    assert overlaps_with_rule(teacher, found.snapshot, "leading")["image"]["channels"].shared < 1


def test_a_layer_with_nothing_left_takes_the_place_between_its_neighbors(make_teacher: MakeTeacher) -> None:
    teacher = make_teacher()
    bare = IMAGE.model_copy(update={"heads": ((0, 2, 3), (), (0, 3)), "channels": ((0, 1), (), (7, 8))})
    student = slice_towers(teacher, {"image": bare, "text": full_selection(tower_shape(teacher.config, "text"))})
    kept = recover(student, teacher).snapshot.towers["image"].kept
    assert (kept.heads[0], kept.heads[3]) == ((0, 2, 3), (0, 3))
    assert sum(map(len, kept.heads[1:3])) == sum(map(len, kept.channels[1:3])) == 0


def test_an_unrelated_model_resembles_nothing(make_teacher: MakeTeacher) -> None:
    teacher, other = make_teacher(), make_teacher()
    assert recover(other, teacher).unlike == []
    with torch.no_grad():
        for tensor in other.towers.parameters():
            tensor.copy_(torch.randn(tensor.shape, generator=torch.Generator().manual_seed(tensor.numel())))
    found = recover(other, teacher)
    assert found.unlike == ["image", "text"]
    assert not found.to_json()["image"]["channels"]["is_clear"]


def test_what_cannot_be_compared_is_refused_with_the_reason(make_teacher: MakeTeacher, resnet: Clip) -> None:
    teacher = make_teacher()
    small = slice_towers(teacher, {"image": IMAGE, "text": TEXT})
    with pytest.raises(ValueError, match=r"^nothing to compare: [^\n]*more than the teacher's[^\n]*more than"):
        recover(teacher, small)
    # One tower that can be compared is enough.
    assert recover(make_teacher(patch_size=4), teacher).matches.keys() == {"text"}
    assert recover(resnet, teacher).matches.keys() == {"text"}
    assert recover(make_teacher(head_width=16), teacher).matches.keys() == {"text"}
