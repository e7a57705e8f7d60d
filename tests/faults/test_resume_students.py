"""Every kind of student ends bit-identical, weights and optimizer, whether it was interrupted, forked or neither."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.conftest import TINY
from workbench.config.run import RunConfig
from workbench.engine.build import build_cohort
from workbench.engine.fork import plan_fork
from workbench.engine.launch import launch, relaunch
from workbench.engine.loop import train
from workbench.engine.member import Member
from workbench.models.folder import save_folder
from workbench.models.spec import load_model
from workbench.runs.directory import find_run

RESNET = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "head_width": 16}
HEADS = {"vision_cfg": {**TINY["vision_cfg"], "layers": 2}, "text_cfg": {**TINY["text_cfg"], "layers": 2}}
GATES = {"ramp_steps": 3, "learning_rate": 2.0}
MASKS = [{"sparsity": 0.3, "num_steps": 12, "mask_steps": 10, **GATES}]
STAGES = [
    {"sparsity": 0.3, "num_steps": 6, "mask_steps": 4, **GATES},
    {"sparsity": 0.6, "num_steps": 6, "mask_steps": 4, **GATES},
]
INHERITED = {"model": "inherited"}
STUDENTS = [
    *("vit", "resnet", "projected vit", "projected resnet"),
    *("gated", "multi-stage", "inherited resnet", "staged resnet"),
]
STOP_AFTER = 5  # with 4 steps to a checkpoint: the resumed run starts at 5, the fork at 4


@pytest.fixture
def config_of(tiny: Callable[..., RunConfig], tmp_path: Path) -> Callable[[str], RunConfig]:
    """``config_of("resnet")``: the tiny run with that kind of student."""

    def model(name: str, **changes: object) -> str:
        file = tmp_path / f"{name}.json"
        file.write_text(json.dumps(TINY | changes))
        return f"config:{file}"

    def teacher(name: str, **changes: object) -> dict[str, object]:
        folder = tmp_path / f"{name}-teacher"
        if not folder.exists():
            save_folder(load_model(model(name, **changes), seed=99), folder)
        return {"teacher": {"model": str(folder)}}

    def make(kind: str) -> RunConfig:
        resnet = {"student": {"model": model("resnet", vision_cfg=RESNET)}}
        changes: dict[str, dict[str, object]] = {
            "vit": teacher("same"),
            "resnet": resnet | teacher("same"),
            "projected vit": {},
            "projected resnet": resnet,
            "gated": {"student": INHERITED, "inheritance": {"stages": MASKS}} | teacher("deep", **HEADS),
            "multi-stage": {"student": INHERITED, "inheritance": {"stages": STAGES}} | teacher("deep", **HEADS),
            "inherited resnet": {"student": INHERITED, "inheritance": {"text": {"depth": 1}}}
            | teacher("deep-resnet", **HEADS | {"vision_cfg": RESNET}),
            "staged resnet": {"student": INHERITED, "inheritance": {"frozen": "image", "stages": STAGES}}
            | teacher("deep-resnet", **HEADS | {"vision_cfg": RESNET}),
        }
        return tiny(log={"keep_checkpoints": 5}, **changes[kind])

    return make


def assert_same(one: Member, other: Member) -> None:
    """Weights, buffers and the optimizer's state agree to the bit, and lie in memory in the same order."""
    states = [member.state.state_dict(keep_vars=True) | member.state.optimizer_tensors() for member in (one, other)]
    assert states[0].keys() == states[1].keys()
    for name, tensor in states[0].items():
        twin = states[1][name]
        assert (tensor.dtype, tensor.device, tensor.stride()) == (twin.dtype, twin.device, twin.stride()), name
        assert torch.equal(tensor, twin), name


def undisturbed(config: RunConfig) -> Member:
    cohort = build_cohort({"run": config})
    for _ in train(cohort):
        pass
    return cohort.members[0]


@pytest.mark.parametrize("kind", STUDENTS)
def test_a_resumed_student_ends_bit_identical(config_of, tmp_path: Path, kind: str) -> None:
    config, calls = config_of(kind), iter(range(100))
    *_, end = launch({"run": config}, tmp_path / "runs").events(lambda: next(calls) + 1 == STOP_AFTER)
    assert (end.state, end.step) == ("interrupted", STOP_AFTER)
    resumed = relaunch(find_run(tmp_path / "runs", "run"))
    for _ in resumed.events():
        pass
    assert_same(resumed.cohort.members[0], undisturbed(config))


@pytest.mark.parametrize("kind", STUDENTS)
def test_a_forked_student_ends_bit_identical(config_of, tmp_path: Path, kind: str) -> None:
    parent = launch({"run": config_of(kind)}, tmp_path / "runs")
    for _ in parent.events():
        pass
    fork = plan_fork(find_run(tmp_path / "runs", "run"), at=4).launch("fork")
    assert fork.cohort.start_step == 4
    for _ in fork.events():
        pass
    assert_same(fork.cohort.members[0], parent.cohort.members[0])
