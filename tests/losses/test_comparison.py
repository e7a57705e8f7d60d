"""Losses share the matrices of a comparison, and get the gradients that each would get separately."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from workbench.losses.base import Widths
from workbench.losses.comparison import Comparison, Features
from workbench.losses.learned import LearnedParts
from workbench.losses.registry import make_loss

# Settings under which several losses ask for the same matrices at the same scale.
MIXTURE = {
    "clip": {"scale": 50},
    "crd": {},
    "fd": {},
    "mfd": {"mask_ratio": 0.5},
    "gd": {},
    "icl": {"scale": 50},
    "afd": {"scale": "student"},
    "affinity": {"scale": 50, "teacher_scale": "teacher"},
    "cross_modal": {"teacher_scale": "teacher"},
    "single_modal": {},
    "intermediate": {},
    "vrd": {},
    "xrd": {"scale": 50},
    "dark": {"teacher_scale": "teacher"},
}


class Products(TorchDispatchMode):
    """Counts matrix products."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        del types
        self.count += function in (torch.ops.aten.mm.default, torch.ops.aten.addmm.default, torch.ops.aten.bmm.default)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("backwards", [False, True], ids=["in order", "in reverse"])
@pytest.mark.parametrize("chunk_size", [0, 4])
@pytest.mark.parametrize("teacher_width", [3, 5])
def test_losses_that_share_a_comparison_move_the_student_as_each_alone(
    arguments, teacher_width: int, chunk_size: int, backwards: bool
) -> None:
    student, teacher, features = arguments("intermediate", 6, 3, teacher_width)
    masked, _, _ = arguments("mfd", 6, teacher_width)
    losses = {name: make_loss(name, **options) for name, options in MIXTURE.items()}
    learned = LearnedParts(losses, Widths(3, teacher_width, {-1: 2}, {-1: 3})).double()
    leaves = [student.image_BD, student.text_BD, student.scale, *features.student, *learned.parameters()]
    leaves += [masked.image_BD, masked.text_BD]

    def comparison() -> Comparison:
        projected = learned.project(student.image_BD, student.text_BD, student.scale) or student
        given = {"intermediate": features}
        return Comparison(student, teacher, projected, learned.parts, masked, given, chunk_size)

    def gradients(value: torch.Tensor) -> list[torch.Tensor]:
        return list(torch.autograd.grad(value, leaves, allow_unused=True, materialize_grads=True))

    names = list(reversed(losses) if backwards else losses)
    shared = comparison()
    together = gradients(torch.stack([losses[name](shared) for name in names]).sum())
    alone = [gradients(losses[name](comparison())) for name in names]
    for found, apart in zip(together, zip(*alone, strict=True), strict=True):
        torch.testing.assert_close(found, sum(apart), rtol=1e-9, atol=1e-9)


def test_cosines_are_computed_once_however_many_losses_use_them(embeddings) -> None:
    student, teacher = embeddings(1), embeddings(2)
    shared = Comparison(student, teacher, student)
    with Products() as products:
        for name, options in (("clip", {}), ("crd", {}), ("affinity", {"scale": 20}), ("affinity", {})):
            make_loss(name, **options)(shared)
    assert products.count == 2  # the student's images with its texts, and the teacher's


def test_the_transpose_is_no_second_product(embeddings) -> None:
    student, teacher = embeddings(1), embeddings(2)
    shared = Comparison(student, teacher, student)
    with Products() as products:
        by_texts = shared.logits(("teacher", "text"), ("projected", "image"), 2.0)
        by_images = shared.logits(("projected", "image"), ("teacher", "text"), 2.0)
        assert torch.equal(by_texts.matrix_BB.T, by_images.matrix_BB)
    assert products.count == 1


@pytest.mark.parametrize("chunk_size", [0, 4])
def test_every_side_is_itself(embeddings, chunk_size: int) -> None:
    sides = {"student": embeddings(1, width=4)}
    sides |= {name: embeddings(seed) for seed, name in enumerate(("teacher", "projected", "masked"), 2)}
    comparison = Comparison(**sides, chunk_size=chunk_size)
    for name, side in sides.items():
        assert comparison.embeddings(name) is side
        expected = side.scale * side.image_BD @ side.text_BD.T
        found = comparison.logits((name, "image"), (name, "text"), side.scale).matrix_BB
        torch.testing.assert_close(found, expected)
    crossed = comparison.logits(("projected", "text"), ("teacher", "image"), 3.0).matrix_BB
    torch.testing.assert_close(crossed, 3 * sides["projected"].text_BD @ sides["teacher"].image_BD.T)


def test_equal_rows_at_another_scale_are_another_matrix(embeddings) -> None:
    student = embeddings(1)
    comparison = Comparison(student, None, student)
    rows = ("student", "image"), ("student", "text")
    one, other = (comparison.logits(*rows, scale).matrix_BB for scale in (2.0, 3.0))
    torch.testing.assert_close(other, 1.5 * one)
    learned = [comparison.logits(*rows, torch.tensor(scale, dtype=torch.float64)).matrix_BB for scale in (2.0, 3.0)]
    assert torch.equal(learned[0], one)
    assert torch.equal(learned[1], other)


def test_without_masking_the_masked_student_is_the_projected(embeddings) -> None:
    student, projected = embeddings(1, width=4), embeddings(2)
    assert Comparison(student, None, projected).embeddings("masked") is projected


def test_a_teacher_that_is_not_there_is_asked_for(embeddings) -> None:
    with pytest.raises(ValueError, match=r"--set teacher\.model"):
        Comparison(embeddings(1), None, embeddings(1)).embeddings("teacher")


def test_features_are_found_under_the_name_of_the_loss_that_asked(arguments) -> None:
    student, teacher, features = arguments("intermediate", 6, 3, 3)
    other = Features(tuple(2 * x for x in features.student), features.teacher)
    loss = make_loss("intermediate")
    parts = LearnedParts({"intermediate": loss}, Widths(3, 3, {-1: 2}, {-1: 3})).double().parts
    both = Comparison(student, teacher, student, parts, features={"intermediate": features, "another": other})
    alone = Comparison(student, teacher, student, parts, features={"intermediate": features})
    assert torch.equal(loss(both), loss(alone))
