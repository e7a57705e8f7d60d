"""Losses without effect are reported with their settings; weak but working ones are not."""

from pathlib import Path

import pytest

from workbench.engine.build import build_cohort
from workbench.engine.contributions import MIN_SHARE
from workbench.engine.gradients import output_norms
from workbench.engine.loop import train
from workbench.engine.steering import change
from workbench.events import StepDone, Warned
from workbench.models.weights import weights_sha256
from workbench.preflight.doctor import examine_run


def warned(config) -> list[tuple[int, str]]:
    """The steps and messages of a run's remarks on its losses."""
    events = train(build_cohort({"run": config}))
    return [(e.step, e.message) for e in events if isinstance(e, Warned) and "; check " in e.message]


def alone(tiny, loss: str, **settings: object):
    """The run with one loss."""
    config = tiny()
    return config.model_copy(update={"loss": {loss: config.loss[loss].model_copy(update=settings)}})


def test_a_shipped_recipe_has_no_warnings(tiny) -> None:
    assert warned(tiny()) == []


def test_a_loss_at_a_scale_of_nothing_is_named_with_its_scale_at_the_first_report(tiny) -> None:
    ((step, message),) = warned(tiny(loss={"icl": {"scale": 1e-30}}))
    assert step == 1
    assert "loss.icl (" in message
    assert message.count("contributes nothing") == 1
    assert "check loss.icl.scale=1e-30, loss.icl.weight=1, " in message


@pytest.mark.parametrize("weight", [1e12, 1e20])  # at 1e20 the norm of the gradient overflows, and the run diverges
def test_a_loss_with_everything_is_named_with_its_weight(tiny, weight: float) -> None:
    ((step, message),) = warned(tiny(loss={"fd": {"weight": weight}}))
    assert step == 1
    assert all(f"loss.{name} (" in message for name in ("clip", "crd", "icl"))
    assert "contribute nothing, loss.fd nearly all" in message
    assert message.endswith(f"loss.fd.weight={weight:g}")


def test_a_loss_of_too_small_a_weight_is_named(tiny) -> None:
    ((_, message),) = warned(tiny(loss={"crd": {"weight": 1e-12}}))
    assert "loss.crd.weight=1e-12" in message


@pytest.mark.parametrize("weight", [1e-3, 1e3])
def test_a_loss_that_is_merely_small_or_large_is_not_named(tiny, weight: float) -> None:
    assert warned(tiny(loss={"fd": {"weight": weight}})) == []


def test_a_single_loss_whose_gradient_adamw_does_not_feel_is_named(tiny) -> None:
    config = tiny()
    icl = type(config.loss["icl"]).parse({"weight": 1.0, "scale": 1e-30})
    ((step, message),) = warned(config.model_copy(update={"loss": {"icl": icl}}))
    assert (step, "nothing is learned" in message) == (1, True)
    assert "check loss.icl.scale=1e-30, loss.icl.weight=1, optimizer.eps=1e-06" in message
    assert warned(alone(tiny, "fd")) == []
    assert warned(alone(tiny, "fd", weight=1e20)) == []  # AdamW takes the same step at any weight


def test_a_gradient_that_is_clipped_to_nothing_is_named(tiny) -> None:
    ((_, message),) = warned(tiny(optimizer={"clip_norm": 1e-30}))
    assert message.endswith("optimizer.clip_norm=1e-30")
    assert warned(tiny(optimizer={"clip_norm": 0.01})) == []


@pytest.mark.parametrize(
    "schedule",
    [
        {"value": 5.0, "ramp_steps": 10},
        {"value": 5.0, "ramp_steps": 10, "initial": 1e-12},
        {"value": 0.0, "ramp_steps": 10, "initial": 5.0},
        {"value": 5.0, "on_step": 5},
        {"value": 5.0, "off_step": 5},
    ],
)
def test_a_loss_that_comes_or_goes_is_judged_by_its_largest_weight(tiny, schedule: dict[str, float]) -> None:
    assert warned(tiny(loss={"fd": {"weight": schedule}})) == []
    only = alone(tiny, "fd")
    fd = type(only.loss["fd"]).parse({"weight": schedule})
    assert warned(only.model_copy(update={"loss": {"fd": fd}})) == []


def test_a_loss_that_comes_later_is_judged_when_it_comes(tiny) -> None:
    ((step, message),) = warned(tiny(loss={"fd": {"weight": {"value": 1e12, "on_step": 5}}}))
    assert (step, "loss.fd nearly all" in message) == (6, True)


def test_a_weight_that_is_changed_under_way_is_judged_again(tiny) -> None:
    cohort = build_cohort({"run": tiny()})
    (member,) = cohort.members
    messages = []
    for event in train(cohort):
        if isinstance(event, StepDone) and event.step == 3:
            change(member, {"loss.fd.weight": 1e12})
        if isinstance(event, Warned):
            messages.append((event.step, event.message))
    ((step, message),) = [(step, message) for step, message in messages if "; check " in message]
    assert step > 3
    assert "loss.fd.weight=" in message


def test_norms_are_those_of_the_outputs_and_nothing_is_changed(tiny) -> None:
    cohort = build_cohort({"run": tiny()})
    (member,) = cohort.members
    _, batch = next(cohort.batches())
    teacher_outputs = cohort.teacher_forward(batch, 0)
    before = weights_sha256(member.state.student.towers)
    full = output_norms(member.state, batch, teacher_outputs, member.objective, 0)
    parts = output_norms(member.state, batch, teacher_outputs, member.objective, 0, micro_batch_size=7)
    assert full == pytest.approx(parts, rel=1e-4)
    doubled = member.objective.reweighed("fd", 10.0)
    assert output_norms(member.state, batch, teacher_outputs, doubled, 0) == pytest.approx(full)
    assert weights_sha256(member.state.student.towers) == before
    assert all(parameter.grad is None for parameter in member.state.parameters())
    total = sum(member.objective.weights[name] * norm for name, norm in full.items())
    assert all(member.objective.weights[name] * norm > MIN_SHARE * total for name, norm in full.items())


@pytest.mark.parametrize(
    ("loss", "setting"),
    [({"icl": {"scale": 1e-30}}, "loss.icl.scale=1e-30"), ({"fd": {"weight": 1e20}}, "weight=1e+20")],
)
def test_doctor_reports_it_too(tiny, tmp_path: Path, loss: dict[str, object], setting: str) -> None:
    found = [one for one in examine_run(tiny(loss=loss), tmp_path).findings if one.check == "contribution"]
    assert [one.level for one in found] == ["warning"]
    assert setting in found[0].remedy
    assert [one for one in examine_run(tiny(), tmp_path).findings if one.check == "contribution"] == []
