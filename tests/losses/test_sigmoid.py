"""SigLIP's sigmoid loss against loops over numbers, and against open_clip's."""

from dataclasses import replace

import open_clip
import pytest
import torch
from open_clip.loss import SigLipLoss
from safetensors.torch import save_file

from workbench.config.run import RunConfig
from workbench.embeddings import Embeddings
from workbench.engine.build import build_cohort
from workbench.engine.fork import plan_fork
from workbench.engine.launch import launch
from workbench.engine.loop import train
from workbench.events import StepDone
from workbench.losses import build_loss
from workbench.models.export import export_model
from workbench.models.folder import load_folder
from workbench.models.spec import load_model
from workbench.runs.directory import find_run


def biased(embeddings, bias: float = -10.0, **options) -> Embeddings:
    student = embeddings(1, **options)
    return replace(student, bias=torch.tensor(bias, dtype=student.image_BD.dtype, requires_grad=True))


@pytest.mark.parametrize(("scale", "bias"), [(10.0, -10.0), (117.0, -12.9), (1.0, 0.0)])
def test_it_is_the_papers_equation(embeddings, brute_force, scale: float, bias: float) -> None:
    student = biased(embeddings, bias, num_pairs=9, scale=scale)
    assert build_loss("sigmoid")(student).item() == pytest.approx(brute_force.sigmoid(student, scale, bias), rel=1e-12)
    fixed = build_loss("sigmoid", scale=scale, bias=bias)(embeddings(1, num_pairs=9))
    assert fixed.item() == pytest.approx(brute_force.sigmoid(student, scale, bias), rel=1e-12)


@pytest.mark.parametrize("chunk_size", [0, 1, 4, 8])
def test_value_and_gradients_are_those_of_open_clip(embeddings, chunk_size: int) -> None:
    student = biased(embeddings, num_pairs=9, scale=10.0)
    leaves = (student.image_BD, student.text_BD, student.scale, student.bias)
    found = build_loss("sigmoid", chunk_size=chunk_size)(student)
    expected = SigLipLoss()(student.image_BD, student.text_BD, student.scale, student.bias)
    assert found.item() == pytest.approx(expected.item(), rel=1e-13)
    for own, theirs in zip(torch.autograd.grad(found, leaves), torch.autograd.grad(expected, leaves), strict=True):
        torch.testing.assert_close(own, theirs, rtol=1e-11, atol=1e-13)


def test_large_logits_do_not_overflow(embeddings) -> None:
    for chunk_size in (0, 2):
        student = biased(embeddings, 60.0, num_pairs=5, scale=100.0, dtype=torch.float32)
        loss = build_loss("sigmoid", chunk_size=chunk_size)(student)
        gradients = torch.autograd.grad(loss, (student.image_BD, student.bias))
        assert all(tensor.isfinite().all() for tensor in (loss, *gradients))


def test_a_student_without_a_bias_or_a_bias_that_is_none_is_refused(embeddings) -> None:
    with pytest.raises(ValueError, match="bias="):
        build_loss("sigmoid")(embeddings(1))
    for wrong in ("own", True, None):
        with pytest.raises(ValueError, match="bias is a number"):
            build_loss("sigmoid", bias=wrong)


def config(**changes) -> RunConfig:
    data = {"train": "samples:scenes", "num_pairs": 32, "validation": "", "test": ""}
    train_settings = {"num_steps": 3, "batch_size": 8}
    losses = {"clip": {"weight": 0}, "sigmoid": {}}
    return RunConfig.model_validate(
        {"data": data, "student": {"model": "mini-w64"}, "loss": losses, "train": train_settings} | changes
    )


def trained(settings: RunConfig):
    cohort = build_cohort({"run": settings})
    events = [event for event in train(cohort) if isinstance(event, StepDone)]
    return cohort.members[0].state.student, events


def test_a_new_student_starts_at_the_papers_scale_and_bias() -> None:
    student = build_cohort({"run": config()}).members[0].state.student
    assert (student.scale.item(), student.bias.item()) == (pytest.approx(10.0), -10.0)
    assert build_cohort({"run": config(loss={"sigmoid": {"bias": -8}})}).members[0].state.student.bias is None


def test_bias_and_scale_learn_and_are_logged_saved_and_exported(tmp_path) -> None:
    student, events = trained(config(log={"every_steps": 1}))
    assert student.bias.item() == pytest.approx(events[-1].bias)
    assert events[-1].bias not in (-10.0, events[0].bias)
    student.eval()
    for name in ("native", "open_clip"):
        export_model(student, tmp_path / name, name)
        again = load_folder(tmp_path / name)
        assert (again.bias.item(), again.scale.item()) == (student.bias.item(), student.scale.item())
    theirs = open_clip.create_model(f"local-dir:{tmp_path / 'open_clip'}")
    assert theirs.logit_bias.item() == student.bias.item()
    with pytest.raises(ValueError, match="bias of the logits"):
        export_model(student, tmp_path / "transformers", "transformers")


def test_training_goes_on_from_a_bias_that_is_there(tmp_path) -> None:
    student, _ = trained(config())
    export_model(student.eval(), tmp_path / "one", "native")
    again = build_cohort({"run": config(student={"model": str(tmp_path / "one")})}).members[0].state.student
    assert again.bias.item() == student.bias.item()
    assert again.scale.item() == student.scale.item()


def test_a_fork_may_add_it(tmp_path) -> None:
    plain = config(loss={"clip": {}}, log={"checkpoint_every_steps": 2})
    for _ in launch({"parent": plain}, tmp_path).events():
        pass
    child = plan_fork(find_run(tmp_path, "parent"), at=2, overrides=["loss.sigmoid.weight=1"]).launch("child")
    (member,) = child.cohort.members
    assert (member.state.student.bias.item(), member.state.student.scale.item()) == (-10, pytest.approx(10))
    for _ in child.events():
        pass
    assert member.state.student.bias.item() != -10


def test_weights_of_open_clips_siglip_option_load_for_any_architecture(tmp_path) -> None:
    student, _ = trained(config())
    save_file(student.towers.state_dict(), tmp_path / "w.safetensors")
    loaded = load_model(f"open_clip:mini-w64@{tmp_path / 'w.safetensors'}")
    assert loaded.bias.item() == student.bias.item()
    assert loaded.config["init_logit_bias"] == -10
