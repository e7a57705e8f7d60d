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
