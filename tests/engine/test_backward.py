import pytest
import torch

from workbench.embeddings import Batch
from workbench.engine.backward import backward
from workbench.engine.build import build_cohort


@pytest.fixture
def parts(tiny):
    cohort = build_cohort({"run": tiny()})
    _, batch = next(cohort.batches())
    (member,) = cohort.members
    return member, batch, cohort.teach(batch)


def gradients(state) -> dict[str, torch.Tensor]:
    found = {name: parameter.grad.clone() for name, parameter in state.named_parameters()}
    state.zero_grad(set_to_none=True)
    return found


@pytest.mark.parametrize("micro_batch_size", [1, 7, 10, 19])
def test_micro_batches_have_the_whole_batchs_gradient(parts, micro_batch_size: int) -> None:
    member, batch, teacher = parts
    whole = backward(member.state, batch, teacher, member.objective)
    expected = gradients(member.state)
    micro = backward(member.state, batch, teacher, member.objective, micro_batch_size=micro_batch_size)
    found = gradients(member.state)
    assert micro.total.item() == pytest.approx(whole.total.item(), rel=1e-6)
    for name, gradient in expected.items():
        assert (found[name] - gradient).norm() <= 1e-5 * max(float(gradient.norm()), 1e-4), name


def test_everything_that_learns_gets_a_gradient(parts) -> None:
    member, batch, teacher = parts
    backward(member.state, batch, teacher, member.objective)
    silent = [name for name, gradient in gradients(member.state).items() if not gradient.any()]
    assert silent == []


def test_a_teacherless_objective_ignores_the_teacher(tiny) -> None:
    cohort = build_cohort({"run": tiny(loss={"crd": {"weight": 0}, "fd": {"weight": 0}, "icl": {"weight": 0}})})
    _, batch = next(cohort.batches())
    assert cohort.teach(batch) is None
    assert batch.teacher_image_BCHW is None


def test_bf16_towers_keep_float32_losses(parts) -> None:
    member, batch, teacher = parts
    exact = backward(member.state, batch, teacher, member.objective)
    member.state.zero_grad()
    rough = backward(member.state, batch, teacher, member.objective, precision="bf16")
    assert rough.total.dtype == torch.float32
    assert rough.total.item() == pytest.approx(exact.total.item(), rel=0.02)
    assert rough.total.item() != exact.total.item()


def test_a_batch_moves_with_its_shared_tensors_shared() -> None:
    image, text = torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.zeros(2, 5, dtype=torch.int64)
    moved = Batch(("a", "b"), image, text, image, text).to(torch.device("cpu"))
    assert moved.student_image_BCHW is moved.teacher_image_BCHW
