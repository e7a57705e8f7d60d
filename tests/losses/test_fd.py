import pytest
import torch

from workbench.losses import LOSSES, build_loss


def test_paper_sums_and_release_averages_over_the_width(embeddings, brute_force) -> None:
    student, teacher = embeddings(1), embeddings(2)
    expected = brute_force.squared_distance(student.image_BD, teacher.image_BD)
    expected += brute_force.squared_distance(student.text_BD, teacher.text_BD)
    assert float(build_loss("fd")(student, teacher)) == pytest.approx(expected, rel=1e-12)
    released = build_loss("fd", convention="released")(student, teacher)
    assert float(released) == pytest.approx(expected / 5, rel=1e-12)


def test_equal_embeddings_cost_nothing_and_pull_nowhere(embeddings) -> None:
    teacher, student = embeddings(1), embeddings(1)
    loss = build_loss("fd")(student, teacher)
    loss.backward()
    assert float(loss) == 0
    assert not student.image_BD.grad.any()


@pytest.mark.parametrize(("weight", "published"), [(10, 0.079), (100, 0.794), (1000, 7.721), (2000, 15.880)])
def test_the_published_loss_at_scratch(embeddings, weight: float, published: float) -> None:
    # CLIP-KD, appendix, Table 1: λ times the loss of a student that knows nothing, at D = 512.
    student, teacher = embeddings(1, num_pairs=1024, width=512), embeddings(2, num_pairs=1024, width=512)
    found = weight * float(build_loss("fd", convention="released")(student, teacher))
    assert found == pytest.approx(published, rel=0.03)


def test_a_width_difference_goes_through_a_projection(embeddings) -> None:
    student, teacher = embeddings(1, width=5), embeddings(2, width=8)
    loss = build_loss("fd")
    value = loss(student, teacher)
    value.backward()
    assert loss.learnt is not None
    image_BD = student.image_BD @ loss.learnt.projections["image"].weight.T + loss.learnt.projections["image"].bias
    text_BD = student.text_BD @ loss.learnt.projections["text"].weight.T + loss.learnt.projections["text"].bias
    image_BD, text_BD = (x / x.norm(dim=1, keepdim=True) for x in (image_BD, text_BD))
    cosines = (image_BD * teacher.image_BD).sum(1) + (text_BD * teacher.text_BD).sum(1)
    assert float(value.detach()) == pytest.approx(float((4 - 2 * cosines).mean()), rel=1e-10)
    assert loss.learnt.projections["image"].weight.grad.abs().sum() > 0


@pytest.mark.parametrize("width", [64, 128, 512])
def test_the_translated_weight_keeps_the_share(embeddings, width: int) -> None:
    fd = LOSSES["fd"]("released")
    student, teacher = embeddings(1, num_pairs=512, width=width), embeddings(2, num_pairs=512, width=width)
    share = 2000 * fd.translation(512, width) * float(build_loss("fd", convention="released")(student, teacher))
    assert share == pytest.approx(15.6, rel=0.05)
    assert torch.tensor(fd.translation(512, width)) == width / 512
