"""Several teachers as one, against the mean over them in float64."""

import math

import pytest
import torch

from workbench.embeddings import Embeddings
from workbench.losses.learned import build_loss
from workbench.models.teacher import Teacher
from workbench.models.teacher_group import TeacherGroup, joined_embeddings

WEIGHTS, SCALES, WIDTHS = (2.0, 1.0, 0.5), (100.0, 14.3, 50.0), (5, 8, 3)
SHARES = [weight / sum(WEIGHTS) for weight in WEIGHTS]


class Fixed:
    """A teacher of some width and scale, of which a group needs no more to combine embeddings."""

    def __init__(self, width: int, scale: float) -> None:
        self.width, self.scale = width, torch.tensor(scale)


@pytest.fixture
def parts() -> list[Embeddings]:
    generator = torch.Generator().manual_seed(0)
    return [
        Embeddings.from_raw(*torch.randn(2, 6, width, generator=generator), torch.tensor(scale))
        for width, scale in zip(WIDTHS, SCALES, strict=True)
    ]


def group_of(parts: list[Embeddings], combine: str = "logits", scales: tuple[float, ...] = ()) -> TeacherGroup:
    members = [Fixed(part.width, float(part.scale)) for part in parts]
    return TeacherGroup(members, WEIGHTS, scales, combine)


def cosines(part: Embeddings) -> torch.Tensor:
    return part.image_BD.double() @ part.text_BD.double().T


@pytest.mark.parametrize("scales", [(), (30.0, 40.0, 1.0)])
def test_logits_are_the_weighted_mean_of_the_teachers_logits(parts, scales) -> None:
    joined = joined_embeddings(group_of(parts, scales=scales), parts)
    expected = sum(w * s * cosines(part) for w, s, part in zip(SHARES, scales or SCALES, parts, strict=True))
    torch.testing.assert_close(float(joined.scale) * cosines(joined), expected, atol=1e-4, rtol=1e-6)
    for rows in (joined.image_BD, joined.text_BD):
        torch.testing.assert_close(rows.norm(dim=1), torch.ones(6))
    assert joined.width == sum(WIDTHS)


def test_embeddings_have_the_weighted_mean_of_the_teachers_cosines(parts) -> None:
    joined = joined_embeddings(group_of(parts, "embeddings"), parts)
    expected = sum(share * cosines(part) for share, part in zip(SHARES, parts, strict=True))
    torch.testing.assert_close(cosines(joined), expected, atol=1e-6, rtol=1e-6)
    assert math.isclose(float(joined.scale), sum(w * s for w, s in zip(SHARES, SCALES, strict=True)), rel_tol=1e-6)


@pytest.mark.parametrize("chunk_size", [0, 4])
def test_losses_compare_with_the_mean(parts, chunk_size) -> None:
    """CRD and affinity against softmaxes of the mean logits, dense and in blocks of rows."""
    generator = torch.Generator().manual_seed(1)
    student = Embeddings.from_raw(*torch.randn(2, 6, 4, generator=generator), torch.tensor(20.0))
    joined, own = joined_embeddings(group_of(parts), parts), 20 * cosines(student)
    mean = sum(w * s * cosines(part) for w, s, part in zip(SHARES, SCALES, parts, strict=True))
    divergence = sum(
        (target.softmax(1) * (target.log_softmax(1) - one.log_softmax(1))).sum(1).mean()
        for target, one in ((mean, own), (mean.T, own.T))
    )
    found = build_loss("crd", chunk_size=chunk_size)(student, joined).double()
    torch.testing.assert_close(found, divergence, rtol=1e-4, atol=1e-6)
    found = build_loss("affinity", chunk_size=chunk_size, scale="student", teacher_scale="teacher")(student, joined)
    entropy = sum(-(mean_.softmax(1) * mean_.log_softmax(1)).sum(1).mean() for mean_ in (mean, mean.T))
    torch.testing.assert_close(found.double(), divergence + entropy, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("chunk_size", [0, 4])
@pytest.mark.parametrize("scales", [(), (30.0, 40.0, 1.0)])
def test_affinities_are_the_weighted_mean_of_the_teachers_softmaxes(parts, chunk_size, scales) -> None:
    """Values and gradients of every loss with a softmax as its target, against float64 autograd."""
    generator = torch.Generator().manual_seed(1)
    image_BD, text_BD = torch.randn(2, 6, 4, generator=generator)
    joined = joined_embeddings(group_of(parts, "affinities", scales), parts)
    targets = [s * cosines(part) for s, part in zip(scales or SCALES, parts, strict=True)]

    def mean(softmaxes) -> torch.Tensor:
        return sum(share * softmax for share, softmax in zip(SHARES, softmaxes, strict=True))

    def reference(name: str, image: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        own = 20 * torch.nn.functional.normalize(image, dim=1) @ torch.nn.functional.normalize(text, dim=1).T
        total = 0.0
        for target, one in ((targets, own), ([part.T for part in targets], own.T)):
            softmax_BB, log_BB = mean([part.softmax(1) for part in target]), one.log_softmax(1)
            entropies = mean([(part.softmax(1) * part.log_softmax(1)).sum(1).mean() for part in target])
            weights_BB = {"dark": 2.0 - torch.eye(6, dtype=torch.float64)}.get(name, 1.0)  # its β at the first step
            total = total - (weights_BB * softmax_BB * log_BB).sum(1).mean() + (entropies if name == "crd" else 0)
        return total / 2 if name == "dark" else total

    own_scale = {"scale": "student", "teacher_scale": "teacher"}
    for name in ("crd", "affinity", "dark"):
        raw = [part.clone().requires_grad_() for part in (image_BD, text_BD)]
        exact = [part.double().requires_grad_() for part in (image_BD, text_BD)]
        value = build_loss(name, chunk_size=chunk_size, **own_scale)(
            Embeddings.from_raw(*raw, torch.tensor(20.0)), joined
        )
        expected = reference(name, *exact)
        torch.testing.assert_close(value.double(), expected, rtol=1e-4, atol=1e-5)
        for found, wanted in zip(torch.autograd.grad(value, raw), torch.autograd.grad(expected, exact), strict=True):
            torch.testing.assert_close(found.double(), wanted, rtol=1e-3, atol=1e-5)


def test_affinities_within_a_modality_are_averaged_too(parts) -> None:
    generator = torch.Generator().manual_seed(1)
    student = Embeddings.from_raw(*torch.randn(2, 6, 4, generator=generator), torch.tensor(20.0))
    joined = joined_embeddings(group_of(parts, "affinities"), parts)
    found = build_loss("single_modal", keep_diagonal=False)(student, joined)  # both at the fixed scale 50
    expected, hidden = 0.0, torch.full((6, 6), 0.0, dtype=torch.float64).fill_diagonal_(-torch.inf)
    for side in ("image_BD", "text_BD"):
        softmaxes = [
            (50 * getattr(part, side).double() @ getattr(part, side).double().T + hidden).softmax(1) for part in parts
        ]
        own = 50 * getattr(student, side).double() @ getattr(student, side).double().T + hidden
        target_BB = sum(share * softmax for share, softmax in zip(SHARES, softmaxes, strict=True))
        expected = expected - (target_BB * own.log_softmax(1)).nan_to_num().sum(1).mean()
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)


def test_fd_is_the_weighted_mean_over_projections_to_each_teacher(parts) -> None:
    """With combine = "embeddings", and a student whose projection meets each teacher up to a rotation of its own."""
    joined = joined_embeddings(group_of(parts, "embeddings"), parts)
    generator = torch.Generator().manual_seed(2)
    others = [
        Embeddings.from_raw(*torch.randn(2, 6, width, generator=generator), part.scale)
        for width, part in zip(WIDTHS, parts, strict=True)
    ]
    student = joined_embeddings(group_of(parts, "embeddings"), others)  # as projected
    expected = sum(
        share * ((one.image_BD - part.image_BD).square().sum(1) + (one.text_BD - part.text_BD).square().sum(1)).mean()
        for share, one, part in zip(SHARES, others, parts, strict=True)
    )
    torch.testing.assert_close(build_loss("fd")(student, joined), expected)


def test_a_fingerprint_is_of_all_that_decides_the_embeddings(make_clip) -> None:
    one, two = Teacher(make_clip(1)), Teacher(make_clip(2))
    groups = [
        TeacherGroup([one, two], [1, 1]),
        TeacherGroup([two, one], [1, 1]),
        TeacherGroup([one, two], [2, 1]),
        TeacherGroup([one, two], [1, 1], [50, 60]),
        TeacherGroup([one, two], [1, 1], combine="embeddings"),
    ]
    assert len({group.fingerprint() for group in groups}) == len(groups)
    assert TeacherGroup([one, two], [3, 3]).fingerprint() == groups[0].fingerprint()
    facts = groups[0].facts()
    assert [member["weights_sha256"] for member in facts["members"]] == [one.fingerprint(), two.fingerprint()]
    assert groups[0].num_parameters["total"] == one.num_parameters["total"] + two.num_parameters["total"]
    assert {member.chunk_size for member in groups[0].in_chunks_of(3).members} == {3}
    assert groups[0].chunk_size == 256
    with pytest.raises(ValueError, match=r"loss\.intermediate\.weight=0"):
        _ = groups[0].block_widths
