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
    return member, batch, cohort.teach(batch, 0)


def gradients(state) -> dict[str, torch.Tensor]:
    found = {name: parameter.grad.clone() for name, parameter in state.named_parameters()}
    state.zero_grad(set_to_none=True)
    return found


@pytest.mark.parametrize("micro_batch_size", [1, 7, 10, 19])
def test_micro_batches_have_the_whole_batchs_gradient(parts, micro_batch_size: int) -> None:
    member, batch, lesson = parts
    whole = backward(member.state, batch, lesson, member.objective, 0)
    expected = gradients(member.state)
    micro = backward(member.state, batch, lesson, member.objective, 0, micro_batch_size=micro_batch_size)
    found = gradients(member.state)
    assert micro.total.item() == pytest.approx(whole.total.item(), rel=1e-6)
    for name, gradient in expected.items():
        assert (found[name] - gradient).norm() <= 1e-5 * max(float(gradient.norm()), 1e-4), name


def test_everything_that_learns_gets_a_gradient(parts) -> None:
    member, batch, lesson = parts
    backward(member.state, batch, lesson, member.objective, 0)
    silent = [name for name, gradient in gradients(member.state).items() if not gradient.any()]
    assert silent == []


def test_a_teacherless_objective_ignores_the_teacher(tiny) -> None:
    cohort = build_cohort({"run": tiny(loss={"crd": {"weight": 0}, "fd": {"weight": 0}, "icl": {"weight": 0}})})
    _, batch = next(cohort.batches())
    assert cohort.teach(batch, 0) is None
    assert batch.teacher_image_BCHW is None


def test_bf16_towers_keep_float32_losses(parts) -> None:
    member, batch, lesson = parts
    exact = backward(member.state, batch, lesson, member.objective, 0)
    member.state.zero_grad()
    rough = backward(member.state, batch, lesson, member.objective, 0, precision="bf16")
    assert rough.total.dtype == torch.float32
    assert rough.total.item() == pytest.approx(exact.total.item(), rel=0.02)
    assert rough.total.item() != exact.total.item()


def test_a_batch_moves_with_its_shared_tensors_shared() -> None:
    image, text = torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.zeros(2, 5, dtype=torch.int64)
    moved = Batch(("a", "b"), image, text, image, text).to(torch.device("cpu"))
    assert moved.student_image_BCHW is moved.teacher_image_BCHW


MASKED = {"mfd": {"weight": 5.0, "mask_ratio": 0.5}, "fd": {"weight": 0}}
INNER = {"intermediate": {"weight": 1.0}, "fd": {"weight": 0}}


@pytest.mark.parametrize(
    "loss",
    [
        MASKED,
        {**MASKED, "mfd": MASKED["mfd"] | {"mask_feeds": "mfd"}},
        INNER,
        INNER | {"intermediate": {"form": "pooled"}},
    ],
    ids=["masked", "masked apart", "tokens", "pooled"],
)
def test_micro_batches_carry_masks_and_inner_features(tiny, loss) -> None:
    cohort = build_cohort({"run": tiny(loss=loss)})
    _, batch = next(cohort.batches())
    (member,) = cohort.members
    batch, lesson = member.masked(batch, 0), cohort.teach(batch, 0)
    backward(member.state, batch, lesson, member.objective, 0)
    expected = gradients(member.state)
    backward(member.state, batch, lesson, member.objective, 0, micro_batch_size=7)
    found = gradients(member.state)
    for name, gradient in expected.items():
        assert (found[name] - gradient).norm() <= 1e-5 * max(float(gradient.norm()), 1e-4), name


def test_a_mask_feeds_every_loss_or_one_alone(tiny) -> None:
    def terms(**mfd: object) -> dict[str, float]:
        cohort = build_cohort({"run": tiny(loss={**MASKED, "mfd": {"weight": 5.0, **mfd}})})
        _, batch = next(cohort.batches())
        (member,) = cohort.members
        values = backward(member.state, member.masked(batch, 0), cohort.teach(batch, 0), member.objective, 0)
        return {name: float(value) for name, value in values.terms.items()}

    whole = terms(mask_ratio=0)
    everywhere, alone = terms(mask_ratio=0.5), terms(mask_ratio=0.5, mask_feeds="mfd")
    assert everywhere["mfd"] == pytest.approx(alone["mfd"], rel=1e-6) != whole["mfd"]
    for name in ("clip", "crd", "icl"):
        assert alone[name] == whole[name] != everywhere[name]


def test_the_teacher_sees_the_whole_picture(tiny) -> None:
    plain, masked = build_cohort({"run": tiny()}), build_cohort({"run": tiny(loss=MASKED)})
    lessons = []
    for cohort in (plain, masked):
        _, batch = next(cohort.batches())
        lessons.append(cohort.teach(cohort.members[0].masked(batch, 0), 0))
    assert torch.equal(lessons[0].embeddings.image_BD, lessons[1].embeddings.image_BD)


def test_what_a_mask_leaves_forms_no_grid_to_compare(tiny) -> None:
    with pytest.raises(ValueError, match=r"loss\.intermediate\.form=pooled"):
        build_cohort({"run": tiny(loss=MASKED | INNER | {"mfd": MASKED["mfd"]})})


def test_a_block_that_is_not_there_is_refused_before_training(tiny) -> None:
    with pytest.raises(ValueError, match="the teacher's image tower has no block 3; its blocks: -1 to 0"):
        build_cohort({"run": tiny(loss={"intermediate": {"teacher_blocks": [3]}})})
