"""The loss scale of float16: torch.amp.GradScaler's arithmetic, one for each member, saved and resumed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor, nn

from workbench.config.run import RunConfig
from workbench.engine import loss_scale as module
from workbench.engine.build import build_cohort, load_teacher
from workbench.engine.checkpoint import LOSS_SCALE, TRAINING
from workbench.engine.cohort import Cohort
from workbench.engine.gradients import diagnose
from workbench.engine.launch import Launch, launch, relaunch
from workbench.engine.loop import train
from workbench.engine.loss_scale import LossScale
from workbench.events import RunFinished, StepDone, Warned
from workbench.models.precision import DTYPES, autocast
from workbench.runs.checkpoints import newest_checkpoint
from workbench.runs.directory import find_run

CPU = torch.device("cpu")
Tiny = Callable[..., RunConfig]


@pytest.fixture
def half(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> Callable[..., RunConfig]:
    """``half(seed=...)``: the tiny run in float16, each step logged, from a scale that does not overflow at once."""
    monkeypatch.setattr(module, "INITIAL", 64.0)

    def make(**changes: Any) -> RunConfig:
        train = {"precision": "fp16"} | changes.pop("train", {})
        return tiny(train=train, log={"every_steps": 1, "checkpoint_every_steps": 3}, **changes)

    return make


@settings(deadline=None, max_examples=40)
@given(st.lists(st.sampled_from([1.0, 0.5, float("inf"), float("nan")]), min_size=1, max_size=30), st.integers(1, 4))
def test_it_is_torchs_grad_scaler(gradients: list[float], interval: int) -> None:
    """Scale, skipped steps, weights and AdamW's own count of steps, after any sequence of gradients."""
    theirs = torch.amp.GradScaler("cpu", growth_interval=interval)
    ours, weights, optimizers = LossScale(CPU), [], []
    for _ in range(2):
        weights.append(nn.Parameter(torch.tensor([1.0, -2.0])))
        optimizers.append(torch.optim.AdamW([weights[-1]], lr=0.1, fused=True))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "INTERVAL", interval)
        for gradient in gradients:
            direction = torch.tensor([gradient, 0.25])
            for weight, optimizer in zip(weights, optimizers, strict=True):
                optimizer.zero_grad()
                total = (weight * direction).sum()
                (ours.scaled(total) if weight is weights[0] else theirs.scale(total)).backward()
            theirs.unscale_(optimizers[1])
            ours.unscale_([weights[0]])
            is_bad = ~weights[0].grad.isfinite().all()
            ours.update_(is_bad, is_bad)
            optimizers[0].found_inf = is_bad.float()
            optimizers[0].step()
            theirs.step(optimizers[1])
            theirs.update()
            assert float(ours.tensors()["scale"]) == theirs.get_scale()
            assert torch.equal(weights[0], weights[1])
    taken = sum(gradient in (1.0, 0.5) for gradient in gradients)
    for optimizer, weight in zip(optimizers, weights, strict=True):  # GradScaler makes no state before a good step
        assert float(optimizer.state[weight].get("step", 0.0)) == taken
    assert int(ours.tensors()["skipped"]) == len(gradients) - taken


def test_an_overflow_is_one_of_the_scale_only_while_it_can_fall_and_the_loss_is_finite() -> None:
    bad, good, loss = torch.tensor(True), torch.tensor(False), torch.tensor(3.0)
    scale = LossScale(CPU)
    assert scale.is_overflow(bad, loss)
    assert not scale.is_overflow(good, loss)
    assert not scale.is_overflow(bad, torch.tensor(float("nan")))
    for _ in range(16):
        scale.update_(bad, bad)
    assert float(scale.tensors()["scale"]) == module.LEAST
    assert not scale.is_overflow(bad, loss)


def steps_of(cohort: Cohort, run: str = "run") -> tuple[list[StepDone], list[str], str]:
    """Logged steps, warnings and the final state of a run."""
    events = [event for event in train(cohort) if event.run == run]
    (end,) = (event for event in events if isinstance(event, RunFinished))
    warnings = [event.message for event in events if isinstance(event, Warned)]
    return [event for event in events if isinstance(event, StepDone)], warnings, end.state


def test_it_trains_as_float32_does(half: Tiny, tiny: Tiny) -> None:
    found, _, state = steps_of(build_cohort({"run": half()}))
    exact, _, _ = steps_of(build_cohort({"run": tiny(log={"every_steps": 1})}))
    assert state == "finished"
    for one, other in zip(found, exact, strict=True):
        assert one.loss == pytest.approx(other.loss, rel=0.02)
        assert one.grad_norm == pytest.approx(other.grad_norm, rel=0.1)
        assert one.learning_rate == other.learning_rate


def overflowing(member: Any, at: int) -> None:
    """Make a member's gradients overflow at one step, as too large a scale does."""
    real, scale = member.backward, member.loss_scale

    def backward(batch: Any, outputs: Any, step: int) -> Any:
        if step == at:
            scale.load(scale.tensors() | {"scale": torch.tensor(2.0**40)})
        return real(batch, outputs, step)

    member.backward = backward


def test_a_skipped_step_moves_neither_the_schedule_nor_adamws_count(half: Tiny) -> None:
    usual, _, _ = steps_of(build_cohort({"run": half()}))
    cohort = build_cohort({"run": half()})
    (member,) = cohort.members
    overflowing(member, at=4)
    found, warnings, state = steps_of(cohort)
    assert state == "finished"
    assert [step.learning_rate for step in found] == [step.learning_rate for step in usual]
    assert [step.step for step in found] == [step.step for step in usual]
    assert found[4].loss == usual[4].loss  # the batch of the step is its own
    assert found[5].loss != usual[5].loss
    # From 2^40 the scale halves at every step from 4 on, each skipped.
    skipped = int(member.loss_scale.tensors()["skipped"])
    counts = {float(value) for name, value in member.state.optimizer_tensors().items() if name.endswith("/step")}
    assert skipped >= 1
    assert counts == {len(found) - skipped}
    assert any("1 step skipped" in warning for warning in warnings)


def test_an_overflow_of_one_member_is_not_one_of_the_others(half: Tiny) -> None:
    """Stacked: one backward pass, one scale for each."""
    configs = {name: half(seed=seed, train={"stacked": "on"}) for seed, name in enumerate("ab")}
    alone = build_cohort({"b": configs["b"]})
    cohort = build_cohort(configs)
    first, second = cohort.members
    first.loss_scale.load(first.loss_scale.tensors() | {"scale": torch.tensor(2.0**40)})
    second.loss_scale.load(second.loss_scale.tensors() | {"scale": torch.tensor(32.0)})
    found, _, _ = steps_of(cohort, "b")
    expected, _, _ = steps_of(alone, "b")
    for one, other in zip(found, expected, strict=True):
        assert one.loss == pytest.approx(other.loss, rel=0.02)
        assert one.grad_norm == pytest.approx(other.grad_norm, rel=0.1)
    assert int(second.loss_scale.tensors()["skipped"]) == 0
    assert int(first.loss_scale.tensors()["skipped"]) >= 10


def state_of(started: Launch) -> dict[str, Tensor]:
    (member,) = started.cohort.members
    return {**member.state.state_dict(), **member.state.optimizer_tensors(), **member.loss_scale.tensors()}


def test_a_resumed_run_ends_bit_identical_with_its_scale(half: Tiny, tmp_path: Path, monkeypatch) -> None:
    # The scale falls and grows during 12 steps.
    monkeypatch.setattr(module, "INITIAL", 2.0**13)
    monkeypatch.setattr(module, "INTERVAL", 2)
    calls = iter(range(100))
    whole, broken = (launch({name: half()}, tmp_path) for name in ("whole", "broken"))
    list(whole.events())
    list(broken.events(lambda: next(calls) == 5))
    checkpoint = newest_checkpoint(find_run(tmp_path, "broken"))
    saved = load_file(checkpoint / TRAINING)
    for name, tensor in state_of(broken).items():
        assert name not in ("scale", "steps", "skipped") or torch.equal(saved[LOSS_SCALE + name], tensor)
    assert float(saved[LOSS_SCALE + "scale"]) != module.INITIAL
    assert 0 < int(saved[LOSS_SCALE + "skipped"]) < 6
    resumed = relaunch(find_run(tmp_path, "broken"))
    list(resumed.events())
    expected = state_of(whole)
    for name, tensor in state_of(resumed).items():
        assert torch.equal(tensor, expected[name]), name


def test_gradients_that_float16_cannot_hold_are_scaled_for_their_snapshot(half: Tiny) -> None:
    cohort = build_cohort({"run": half()})
    (member,), (_, batch) = cohort.members, next(cohort.batches())
    objective = member.objective.reweighed("clip", 1e-6)
    outputs = cohort.teacher_forward(batch, 0)
    exact, rough = (diagnose(member.state, batch, outputs, objective, 0, of) for of in ("fp32", "fp16"))
    row = exact.losses.index("clip")
    for place in ("image_tower", "text_tower"):
        assert rough.products[place][row, row] == pytest.approx(exact.products[place][row, row], rel=0.05)


@pytest.mark.parametrize("who", ["student", "teacher"])
def test_what_cannot_run_in_float16_is_refused_with_a_remedy(half: Tiny, monkeypatch, who: str) -> None:
    def missing(self: nn.Conv2d, pixels: Tensor) -> Tensor:
        if torch.is_autocast_enabled("cpu") and (self.out_channels == 16) == (who == "student"):
            raise RuntimeError("\"convolution\" not implemented for 'Half'")
        return real(self, pixels)

    real = nn.Conv2d.forward
    monkeypatch.setattr(nn.Conv2d, "forward", missing)
    config = half(student={"model": "mini-w64"}) if who == "teacher" else half()
    with pytest.raises(ValueError, match=r"train\.precision=fp16 .*not implemented.*train\.precision=bf16.*fp32"):
        build_cohort({"run": config})


def test_embeddings_beyond_float16_are_refused(half: Tiny, monkeypatch) -> None:
    monkeypatch.setattr("workbench.engine.build.load_model", lambda *args, **options: huge(load(*args, **options)))
    from workbench.models.spec import load_model as load

    def huge(model: Any) -> Any:
        with torch.no_grad():
            model.towers.visual.proj.mul_(1e6)
        return model

    with pytest.raises(ValueError, match=r"overflow; set train\.precision"):
        build_cohort({"run": half()})


def test_a_teacher_in_float16_embeds_as_in_float32(half: Tiny) -> None:
    cohort = build_cohort({"run": half()})
    _, batch = next(cohort.batches())
    assert cohort.teacher is not None
    assert cohort.teacher.precision == "fp16"
    exact = load_teacher(half(train={"precision": "fp32"}), CPU, Path("runs"))
    assert exact is not None
    assert cohort.teacher.fingerprint() == exact.fingerprint()
    (inputs,) = batch.teachers
    rough = cohort.teacher.embed(*inputs).image_BD
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough, exact.embed(*inputs).image_BD, atol=5e-3, rtol=0)
    assert not torch.equal(rough, exact.embed(*inputs).image_BD)


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), *DTYPES.items()])
def test_autocast_computes_in_the_precision_of_the_setting(precision: str, dtype: torch.dtype) -> None:
    matrix = torch.ones(2, 2)
    with autocast(CPU, precision):
        assert (matrix @ matrix).dtype == dtype
