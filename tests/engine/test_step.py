"""Steps that are not finite are counted and located on the device, and a stated number of them may be skipped."""

import math

import pytest
import torch
from torch import nn

from workbench.embeddings import Batch, ModelInputs
from workbench.engine.build import build_cohort
from workbench.engine.step import DivergenceMonitor, SpikeMonitor, backward
from workbench.events import StepDone, Warned
from workbench.losses.logits import Logits


@pytest.fixture
def parts(tiny):
    cohort = build_cohort({"run": tiny()})
    _, batch = next(cohort.batches())
    (member,) = cohort.members
    return member, batch, cohort.teacher_forward(batch, 0)


def gradients(state) -> dict[str, torch.Tensor]:
    found = {name: parameter.grad.clone() for name, parameter in state.named_parameters()}
    state.zero_grad(set_to_none=True)
    return found


@pytest.mark.parametrize("micro_batch_size", [1, 7, 10, 19])
def test_micro_batches_have_the_gradient_of_the_batch(parts, micro_batch_size: int) -> None:
    member, batch, teacher_outputs = parts
    full = backward(member.state, batch, teacher_outputs, member.objective, 0)
    expected = gradients(member.state)
    micro = backward(member.state, batch, teacher_outputs, member.objective, 0, micro_batch_size=micro_batch_size)
    found = gradients(member.state)
    assert micro.total.item() == pytest.approx(full.total.item(), rel=1e-6)
    for name, gradient in expected.items():
        assert (found[name] - gradient).norm() <= 1e-5 * max(float(gradient.norm()), 1e-4), name


def test_everything_that_learns_gets_a_gradient(parts) -> None:
    member, batch, teacher_outputs = parts
    backward(member.state, batch, teacher_outputs, member.objective, 0)
    silent = [name for name, gradient in gradients(member.state).items() if not gradient.any()]
    assert silent == []


def test_a_teacherless_objective_ignores_the_teacher(tiny) -> None:
    cohort = build_cohort({"run": tiny(loss={"crd": {"weight": 0}, "fd": {"weight": 0}, "icl": {"weight": 0}})})
    _, batch = next(cohort.batches())
    assert cohort.teacher_forward(batch, 0) is None
    assert batch.teachers == ()


@pytest.mark.parametrize("micro_batch_size", [0, 7])
def test_losses_in_tf32_leave_the_towers_products_in_float32(
    tiny, parts, monkeypatch: pytest.MonkeyPatch, micro_batch_size: int
) -> None:
    """On a CPU the switch does nothing, so that the gradient shows the rounding of the embeddings alone."""
    exact_member, batch, teacher_outputs = parts
    exact = backward(exact_member.state, batch, teacher_outputs, exact_member.objective, 0)
    expected = gradients(exact_member.state)
    (member,) = build_cohort({"run": tiny(train={"loss_precision": "tf32"})}).members
    is_on: dict[str, set[bool]] = {"towers": set(), "losses": set()}

    def watch(where: str) -> None:
        is_on[where].add(torch.backends.cuda.matmul.allow_tf32)

    towers = member.state.student.towers.transformer
    towers.register_forward_hook(lambda *_: watch("towers"))
    towers.register_full_backward_hook(lambda *_: watch("towers"))
    honest = Logits.log_sums.func
    monkeypatch.setattr(Logits, "log_sums", property(lambda self: watch("losses") or honest(self)))
    member.state.student.logit_parameters[0].register_hook(lambda _: watch("losses"))
    options = {"micro_batch_size": micro_batch_size}
    rounded = backward(member.state, batch, teacher_outputs, member.objective, 0, **options)
    assert is_on == {"towers": {False}, "losses": {True}}
    assert rounded.total.item() == pytest.approx(exact.total.item(), rel=1e-3)
    assert rounded.total.item() != exact.total.item()
    for name, gradient in gradients(member.state).items():
        assert (gradient - expected[name]).norm() <= 0.02 * float(expected[name].norm()) + 1e-5, name


def test_bf16_towers_keep_float32_losses(parts) -> None:
    member, batch, teacher_outputs = parts
    exact = backward(member.state, batch, teacher_outputs, member.objective, 0)
    member.state.zero_grad()
    rough = backward(member.state, batch, teacher_outputs, member.objective, 0, precision="bf16")
    assert rough.total.dtype == torch.float32
    assert rough.total.item() == pytest.approx(exact.total.item(), rel=0.02)
    assert rough.total.item() != exact.total.item()


def test_a_batch_moves_with_its_shared_tensors_shared() -> None:
    image, text = torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.zeros(2, 5, dtype=torch.int64)
    moved = Batch(("a", "b"), image, text, (ModelInputs(image, text),)).to(torch.device("cpu"))
    assert moved.student_image_BCHW is moved.teachers[0].image_BCHW


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
    batch, teacher_outputs = member.masked(batch, 0), cohort.teacher_forward(batch, 0)
    backward(member.state, batch, teacher_outputs, member.objective, 0)
    expected = gradients(member.state)
    backward(member.state, batch, teacher_outputs, member.objective, 0, micro_batch_size=7)
    found = gradients(member.state)
    for name, gradient in expected.items():
        assert (found[name] - gradient).norm() <= 1e-5 * max(float(gradient.norm()), 1e-4), name


def test_a_mask_feeds_every_loss_or_one_alone(tiny) -> None:
    def terms(**mfd: object) -> dict[str, float]:
        cohort = build_cohort({"run": tiny(loss={**MASKED, "mfd": {"weight": 5.0, **mfd}})})
        _, batch = next(cohort.batches())
        (member,) = cohort.members
        values = backward(member.state, member.masked(batch, 0), cohort.teacher_forward(batch, 0), member.objective, 0)
        return {name: float(value) for name, value in values.terms.items()}

    full = terms(mask_ratio=0)
    everywhere, alone = terms(mask_ratio=0.5), terms(mask_ratio=0.5, mask_feeds="mfd")
    assert everywhere["mfd"] == pytest.approx(alone["mfd"], rel=1e-6) != full["mfd"]
    for name in ("clip", "crd", "icl"):
        assert alone[name] == full[name] != everywhere[name]


def test_the_teacher_sees_unmasked_images(tiny) -> None:
    plain, masked = build_cohort({"run": tiny()}), build_cohort({"run": tiny(loss=MASKED)})
    outputs = []
    for cohort in (plain, masked):
        _, batch = next(cohort.batches())
        outputs.append(cohort.teacher_forward(cohort.members[0].masked(batch, 0), 0))
    assert torch.equal(outputs[0].embeddings.image_BD, outputs[1].embeddings.image_BD)


def test_what_a_mask_leaves_forms_no_grid_to_compare(tiny) -> None:
    with pytest.raises(ValueError, match=r"loss\.intermediate\.form=pooled"):
        build_cohort({"run": tiny(loss=MASKED | INNER | {"mfd": MASKED["mfd"]})})


def test_a_block_that_is_not_there_is_refused_before_training(tiny) -> None:
    with pytest.raises(ValueError, match="the teacher's image tower has no block 3; its blocks: -1 to 0"):
        build_cohort({"run": tiny(loss={"intermediate": {"teacher_blocks": [3]}})})


FINE, BAD = torch.tensor(False), torch.tensor(True)


def watch(max_skipped: int = 0) -> DivergenceMonitor:
    return DivergenceMonitor(("clip", "fd"), max_skipped, torch.device("cpu"))


def test_the_first_bad_step_and_its_loss_are_recorded():
    found = watch()
    found.record(1, FINE, torch.tensor([1.0, 2.0]))
    assert found.found() is None
    found.record(2, BAD, torch.tensor([1.0, math.inf]))
    found.record(3, BAD, torch.tensor([math.nan, 2.0]))
    assert (found.found().step, found.found().term) == (2, "fd")


def test_an_infinite_gradient_is_traced_to_its_parameter_and_pairs():
    module = nn.Linear(2, 1)
    module.weight.grad, module.bias.grad = torch.zeros(1, 2), torch.tensor([math.inf])
    found = watch()
    found.locate(module, torch.tensor(True), ("a", "b", "c", "d"))
    found.record(1, BAD, torch.tensor([1.0, 2.0]))
    assert str(found.found()) == (
        "gradient norm was not finite at step 1 (first in the gradient of bias; pairs a, b, c, ...)"
    )


@pytest.mark.parametrize("num_bad", [0, 1, 2, 3, 4])
def test_max_skipped_steps_are_skipped_and_not_one_more(num_bad):
    found = watch(max_skipped=3)
    for step in range(1, num_bad + 1):
        found.record(step, BAD, torch.tensor([math.nan, 1.0]))
    assert (found.found() is None) == (num_bad <= 3)
    if num_bad in (1, 2, 3):
        assert found.new_warning().startswith(
            f"{num_bad} step{'s' * (num_bad > 1)} skipped (train.max_skipped_steps=3): clip was not"
        )
        assert found.new_warning() == ""
    else:
        assert found.new_warning() == ""


@pytest.fixture
def step():
    fields = {
        "run": "run",
        "step": 1,
        "scales": {},
        "learning_rate": 0.1,
        "grad_norm": 1.0,
        "step_time_s": 0.1,
        "pairs_per_s": 10.0,
        "elapsed_s": 1.0,
        "peak_mb": 1.0,
    }

    def make(*losses: float) -> StepDone:
        terms = dict(zip(("clip", "fd"), losses, strict=False))
        return StepDone(**fields, loss=sum(losses), terms=terms, weighted=terms)

    return make


def test_a_spike_is_reported_once_until_it_is_over(step) -> None:
    spikes = SpikeMonitor()
    losses = [(2.0, 0.1)] * 6 + [(2.0, 30.0)] * 3 + [(2.0, 0.1), (30.0, 0.1)]
    news = [spikes.new_warning(step(*loss)) for loss in losses]
    assert [number for number, line in enumerate(news) if line] == [6, 10]
    assert "32, recent median 2.1, mostly from fd" in news[6]
    assert "mostly from clip" in news[10]


def test_a_start_a_slow_rise_and_a_loss_of_zero_are_no_spikes(step) -> None:
    for losses in ([100.0, 1.0, 50.0], [1.5**count for count in range(30)], [0.0] * 20 + [1.0], [-1.0] * 20 + [5.0]):
        spikes = SpikeMonitor()
        assert not any(spikes.new_warning(step(loss)) for loss in losses)


def test_a_loss_that_is_switched_on_is_no_spike(step) -> None:
    spikes = SpikeMonitor()
    for _ in range(10):
        assert not spikes.new_warning(step(1.0))
    assert not any(spikes.new_warning(step(1.0, 100.0)) for _ in range(10))


def test_a_run_whose_loss_spikes_continues(tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    from workbench.engine.build import build_cohort
    from workbench.engine.loop import train
    from workbench.losses.crd import CrdLoss

    honest, calls = CrdLoss.__call__, []

    def spiking(self, comparison):
        calls.append(1)
        return honest(self, comparison) * (1e4 if len(calls) == 9 else 1)

    monkeypatch.setattr("workbench.engine.loop.new_remarks", lambda *_: [])  # which computes every loss once more
    monkeypatch.setattr(CrdLoss, "__call__", spiking)
    events = list(train(build_cohort({"run": tiny(log={"every_steps": 1})})))
    (warned,) = [event for event in events if isinstance(event, Warned) and "loss spike" in event.message]
    assert warned.step == 9
    assert events[-1].state == "finished"
