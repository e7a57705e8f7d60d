import copy
import errno
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from workbench.engine.build import build_cohort
from workbench.engine.gradients import MIN_SHARE, diagnose, output_norms, save_gradients
from workbench.engine.loop import train
from workbench.engine.step import backward
from workbench.events import StepDone, Warned
from workbench.losses.crd import CrdLoss
from workbench.models.weights import weights_sha256
from workbench.preflight.doctor import examine_run
from workbench.runs.directory import create_run
from workbench.runs.snapshots import PLACES, Gradients, read_snapshots

RESNET = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "head_width": 16}


def prepare(config):
    """A member, a batch as it sees it, and its teacher outputs."""
    cohort = build_cohort({"run": config})
    (member,) = cohort.members
    _, batch = next(cohort.batches())
    return member, member.masked(batch, 0), cohort.teacher_forward(batch, 0)


def measure(config, **options):
    member, batch, teacher_outputs = prepare(config)
    return diagnose(member.state, batch, teacher_outputs, member.objective, 0, **options)


@pytest.fixture
def resnet(tiny, tiny_models):
    """A config whose student has batch normalization in its image tower."""
    sizes = json.loads(Path(tiny_models["student"].removeprefix("config:")).read_text())
    file = Path(tiny_models["student"].removeprefix("config:")).with_name("resnet.json")
    file.write_text(json.dumps(sizes | {"vision_cfg": RESNET}))
    return tiny(student={"model": f"config:{file}"})


def test_gradients_are_those_of_each_loss_by_hand_in_float64(tiny) -> None:
    member, batch, teacher_outputs = prepare(tiny())
    found = diagnose(member.state, batch, teacher_outputs, member.objective, 0)
    state = copy.deepcopy(member.state).double()
    student, towers = state.student, state.student.towers
    mean, std = (torch.tensor(values).double().view(1, 3, 1, 1) * 255 for values in (student.mean, student.std))
    raw = towers.encode_image((batch.student_image_BCHW - mean) / std), towers.encode_text(batch.student_text_BL)
    v, s = (F.normalize(raw_BD, dim=1) for raw_BD in raw)
    pv, ps = (F.normalize(state.learned.projections[n](r), dim=1) for n, r in zip(("image", "text"), raw, strict=True))
    tv, ts = teacher_outputs.embeddings.image_BD.double(), teacher_outputs.embeddings.text_BD.double()
    scale, teacher_scale = towers.logit_scale.exp(), teacher_outputs.embeddings.scale.double()
    own_scale = state.learned.parts["icl"]()
    target, own = torch.arange(len(batch)), scale * v @ s.T
    wanted = teacher_scale * tv @ ts.T

    def kl(wanted_BB, ours_BB):
        difference_BB = wanted_BB.log_softmax(1) - ours_BB.log_softmax(1)
        return (wanted_BB.softmax(1) * difference_BB).sum(1).mean()

    weighted = {
        "clip": 1.0 * (F.cross_entropy(own, target) + F.cross_entropy(own.T, target)) / 2,
        "crd": 1.0 * (kl(wanted, own) + kl(wanted.T, own.T)),
        "fd": 5.0 * ((pv - tv).square().sum(1) + (ps - ts).square().sum(1)).mean(),
        "icl": 1.0
        * (F.cross_entropy(own_scale * pv @ ts.T, target) + F.cross_entropy(own_scale * ps @ tv.T, target))
        / 2,
    }
    parameters = dict(towers.named_parameters())
    inputs = {
        "image": [raw[0]],
        "text": [raw[1]],
        "image_tower": [p for name, p in parameters.items() if name.startswith("visual.")],
        "text_tower": [p for n, p in parameters.items() if not n.startswith("visual.") and n != "logit_scale"],
    }
    assert found.losses == tuple(weighted)
    for place, tensors in inputs.items():
        gradients = [torch.autograd.grad(value, tensors, retain_graph=True) for value in weighted.values()]
        vectors_KP = torch.stack([torch.cat([g.flatten() for g in gradient]) for gradient in gradients])
        norm_K = vectors_KP.norm(dim=1)
        assert found.norm_K(place) == pytest.approx(norm_K.numpy(), rel=1e-4)
        bound_KK = np.outer(norm_K, norm_K)
        assert found.products[place] / bound_KK == pytest.approx(
            (vectors_KP @ vectors_KP.T).numpy() / bound_KK, abs=1e-4
        )


@pytest.mark.parametrize("micro_batch_size", [0, 7])
def test_the_gradients_add_up_to_that_of_the_objective(tiny, micro_batch_size: int) -> None:
    member, batch, teacher_outputs = prepare(tiny())
    options = {"micro_batch_size": micro_batch_size}
    found = diagnose(member.state, batch, teacher_outputs, member.objective, 0, **options)
    backward(member.state, batch, teacher_outputs, member.objective, 0, **options)
    towers = member.state.student.towers
    image = sum(p.grad.double().square().sum() for p in towers.visual.parameters())
    everything = sum(p.grad.double().square().sum() for p in towers.parameters())
    text = everything - image - towers.logit_scale.grad.double().square()
    assert found.products["image_tower"].sum() == pytest.approx(image.item(), rel=1e-4)
    assert found.products["text_tower"].sum() == pytest.approx(text.item(), rel=1e-4)


@pytest.mark.parametrize("chunk_size", [0, 8])
def test_micro_batches_and_chunked_losses_change_nothing(tiny, chunk_size: int) -> None:
    full = measure(tiny())
    found = measure(tiny(train={"loss_chunk_size": chunk_size}), micro_batch_size=9)
    for place in PLACES:
        assert found.products[place] == pytest.approx(full.products[place], rel=1e-3, abs=1e-5)


def test_cosines_are_cosines_and_shares_are_shares(tiny) -> None:
    found = measure(tiny())
    for cosine_KK in (found.tower_cosine_KK, found.embedding_cosine_KK):
        assert np.abs(cosine_KK).max() <= 1
        assert np.diag(cosine_KK) == pytest.approx(1)
        assert cosine_KK == pytest.approx(cosine_KK.T)
    assert found.share_K.sum() == pytest.approx(1)
    assert (found.share_K > 0).all()


def test_one_loss_has_it_all(tiny) -> None:
    found = measure(tiny(loss={"crd": {"weight": 0}, "fd": {"weight": 0}, "icl": {"weight": 0}}))
    assert found.losses == ("clip",)
    assert found.share_K.tolist() == [1]
    assert found.tower_cosine_KK.tolist() == [[1]]


def test_weights_count(tiny) -> None:
    found = measure(tiny(loss={"fd": {"weight": 10.0}}))
    norm_K = measure(tiny()).tower_norm_K
    assert found.tower_norm_K == pytest.approx(norm_K * [1, 1, 2, 1], rel=1e-5)


def test_a_loss_that_reaches_nothing_has_zeros(tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CrdLoss, "__call__", lambda *_: torch.tensor(3.0))
    found = measure(tiny())
    assert found.share_K[1] == 0
    assert found.tower_cosine_KK[1].tolist() == [0, 0, 0, 0]


def test_a_frozen_tower_has_zeros(tiny) -> None:
    member, batch, teacher_outputs = prepare(tiny())
    for parameter in member.state.student.towers.visual.parameters():
        parameter.requires_grad_(False)
    found = diagnose(member.state, batch, teacher_outputs, member.objective, 0)
    assert not found.products["image_tower"].any()
    assert found.products["text_tower"].any()


def test_intermediate_features_have_gradients_at_their_tower_and_masked_images_at_the_embeddings(tiny) -> None:
    losses = {"crd": {"weight": 0}, "icl": {"weight": 0}, "fd": {"weight": 0}, "intermediate": {"weight": 1.0}}
    found = measure(tiny(loss=losses | {"mfd": {"weight": 1.0, "mask_ratio": 0.5, "mask_feeds": "mfd"}}))
    place = dict(zip(found.losses, range(3), strict=True))
    image_K, text_K = found.norm_K("image"), found.norm_K("text")
    assert image_K[place["intermediate"]] == text_K[place["intermediate"]] == 0
    assert found.norm_K("image_tower")[place["intermediate"]] > 0
    assert found.norm_K("text_tower")[place["intermediate"]] == 0
    assert image_K[place["mfd"]] > 0


def test_nothing_is_changed(resnet) -> None:
    member, batch, teacher_outputs = prepare(resnet)
    state = member.state
    state.student.eval()
    before, numbers = copy.deepcopy(state.state_dict()), torch.get_rng_state()
    assert any("running_mean" in name for name in before)
    diagnose(state, batch, teacher_outputs, member.objective, 0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in state.state_dict().items())
    assert torch.equal(torch.get_rng_state(), numbers)
    assert not state.student.training
    assert all(parameter.grad is None for parameter in state.parameters())
    backward(state, batch, teacher_outputs, member.objective, 0)
    gradients = [parameter.grad.clone() for parameter in state.parameters()]
    diagnose(state, batch, teacher_outputs, member.objective, 0)
    assert all(torch.equal(p.grad, gradient) for p, gradient in zip(state.parameters(), gradients, strict=True))


def test_a_run_ends_with_the_same_weights_with_and_without(resnet, tmp_path: Path) -> None:
    ends = []
    for diagnosed in (True, False):
        cohort = build_cohort({"run": resnet}, {"run": create_run(tmp_path, f"run-{diagnosed}", "")})
        (member,) = cohort.members
        for step, batch in cohort.batches():
            teacher_outputs = cohort.teacher_forward(batch, step)
            member.train_step(batch, teacher_outputs, step)
            if diagnosed:
                assert list(save_gradients(member, batch, teacher_outputs, step + 1)) == []
        ends.append(weights_sha256(member.state))
        assert len(read_snapshots(member.directory, Gradients).snapshots) == (12 if diagnosed else 0)
    assert ends[0] == ends[1]


def test_a_full_disk_is_a_warning(tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("workbench.engine.member.write_snapshot", full)
    member, batch, teacher_outputs = prepare(tiny())
    member.directory = create_run(tmp_path, "run", "")
    (warned,) = save_gradients(member, batch, teacher_outputs, 1)
    assert isinstance(warned, Warned)
    assert (warned.step, warned.message) == (1, "gradients not saved: [Errno 28] No space left on device")


def test_a_gradient_that_is_not_finite_is_a_warning(tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = CrdLoss.__call__
    monkeypatch.setattr(CrdLoss, "__call__", lambda self, comparison: honest(self, comparison) * math.inf)
    member, batch, teacher_outputs = prepare(tiny())
    member.directory = create_run(tmp_path, "run", "")
    (warned,) = save_gradients(member, batch, teacher_outputs, 1)
    assert "non-finite" in warned.message
    assert read_snapshots(member.directory, Gradients).snapshots == []


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
            member.change({"loss.fd.weight": 1e12})
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
