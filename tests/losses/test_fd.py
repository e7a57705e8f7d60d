import pytest

from workbench.losses import build_loss


def test_paper_sums_and_release_averages_over_the_width(embeddings, brute_force) -> None:
    student, teacher = embeddings(1), embeddings(2)
    expected = brute_force.fd(student, teacher)
    assert build_loss("fd")(student, teacher).item() == pytest.approx(expected, rel=1e-12)
    released = build_loss("fd", convention="released")(student, teacher)
    assert released.item() == pytest.approx(expected / 5, rel=1e-12)


@pytest.mark.parametrize(("weight", "published"), [(10, 0.079), (100, 0.794), (1000, 7.721), (2000, 15.880)])
def test_the_published_loss_at_scratch(embeddings, weight: float, published: float) -> None:
    # CLIP-KD, appendix, Table 1: λ times the loss of a student that knows nothing, at D = 512.
    student, teacher = embeddings(1, num_pairs=1024, width=512), embeddings(2, num_pairs=1024, width=512)
    found = weight * build_loss("fd", convention="released")(student, teacher).item()
    assert found == pytest.approx(published, rel=0.03)


def test_a_width_difference_goes_through_a_projection(embeddings, brute_force) -> None:
    student, teacher = embeddings(1, width=5), embeddings(2, width=8)
    loss = build_loss("fd")
    value = loss(student, teacher)
    value.backward()
    projected = brute_force.projected(student, loss)
    assert value.item() == pytest.approx(brute_force.fd(projected, teacher), rel=1e-10)
    assert loss.learned.projections["image"].weight.grad.abs().sum() > 0
