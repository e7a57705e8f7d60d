"""Whole runs on a GPU that is not there: they mix no devices, and compute what they compute on the CPU."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch

from workbench.config.run import RunConfig
from workbench.config.toml import merge, read_toml
from workbench.engine.build import build_cohort
from workbench.engine.launch import Launch, launch, relaunch
from workbench.events import EvalDone, RunFinished, StepDone
from workbench.runs.directory import RunDirectory, find_run
from workbench.runs.log import read_events

KINDS = (StepDone, EvalDone, RunFinished)
STAGE = {"sparsity": 0.3, "num_steps": 4, "mask_steps": 3, "ramp_steps": 2}
EVERY_LOSS = {
    name: {"weight": 1.0}
    for name in (
        *("clip", "crd", "fd", "mfd", "gd", "icl", "afd", "affinity"),
        *("single_modal", "cross_modal", "vrd", "xrd", "dark"),
    )
}
CLIPPED = {"optimizer": {"clip_norm": 0.1}, "train": {"max_skipped_steps": 2}}

# Operators cost much here, so that settings which do not meet share a run.
RUNS: dict[str, dict[str, Any]] = {
    "every loss": {"loss": EVERY_LOSS},
    "inner features": {"loss": {"intermediate": {"weight": 1.0, "student_blocks": [-1], "teacher_blocks": [-1]}}},
    "losses in blocks, TF32": {"loss": EVERY_LOSS, "train": {"loss_chunk_size": 7, "loss_precision": "tf32"}},
    "micro-batches, deterministic": {"loss": EVERY_LOSS, "train": {"micro_batch_size": 8, "deterministic": True}},
    "views remembered, clipped gradients": {
        **CLIPPED,
        # Two steps an epoch, so that the second half of the run reads what the first has stored.
        "data": {"num_pairs": 40, "views": 1},
        "teacher": {"cache": "off"},
    },
    "a cached teacher, worker processes": {"data": {"views": 2, "num_workers": 1}, "teacher": {"cache": "on"}},
    "all pairs as candidates": {
        "data": {"views": 2},
        "loss": {name: {"weight": 1.0, "candidates": "all"} for name in ("icl", "cross_modal")},
    },
    "several teachers": {
        "loss": {"dark": {"weight": 1.0}},
        "teacher": {"model": "sample:scenes*2 + sample:emoji", "combine": "affinities"},
    },
    "a curated batch": {"curation": {"method": "learnability", "drop_ratio": 0.5, "num_chunks": 4}},
    "gradients and masks": {
        "student": {"model": "inherited"},
        "inheritance": {"stages": [STAGE]},
        "log": {"diagnose_every_steps": 2},
    },
}


def run_on(device: str, configs: dict[str, RunConfig], runs_dir: Path) -> None:
    """Train a cohort to its end, and make sure where it did."""
    started = launch(configs, runs_dir)
    assert started.cohort.device.type == device
    list(started.events())


def steps_of(directory: RunDirectory) -> list[dict[str, float]]:
    """The loss of every step that was logged, term by term, and what was measured at the end."""
    events = read_events(directory.events_file, KINDS).events
    assert isinstance(events[-1], RunFinished)
    assert events[-1].state == "finished"
    assert sum(isinstance(event, EvalDone) for event in events)
    return [
        {"loss": event.loss, "grad_norm": event.grad_norm, **event.terms, **event.masks}
        for event in events
        if isinstance(event, StepDone)
    ]


@pytest.fixture
def on(tiny: Callable[..., RunConfig]) -> Callable[..., RunConfig]:
    """``on("cuda", changes)``: the tiny run there, in float32, each member by itself."""

    def make(device: str, changes: dict[str, Any]) -> RunConfig:
        train = {
            "train": {"num_steps": 4, "device": device, "precision": "fp32", "stacked": "off"},
            "log": {"every_steps": 2},
        }
        return tiny(**merge(train, changes))

    return make


def rows() -> list[Any]:
    slow = {"several teachers"}  # two of the samples' size
    return [pytest.param(RUNS[name], id=name, marks=[pytest.mark.slow] * (name in slow)) for name in RUNS]


@pytest.mark.parametrize("changes", rows())
def test_a_run_computes_on_the_gpu_what_it_does_on_the_cpu(gpu, on, tmp_path: Path, changes: dict[str, Any]) -> None:
    for device in ("cpu", gpu.type):
        run_on(device, {"run": on(device, changes)}, tmp_path / device)
    there, here = (steps_of(RunDirectory(tmp_path / device / "run")) for device in ("cuda", "cpu"))
    assert len(there) == len(here) >= 3
    for one, other in zip(there, here, strict=True):
        assert one == pytest.approx(
            other, rel=2e-3, abs=1e-5
        )  # attention is put together otherwise there, in the last bits


@pytest.mark.slow
def test_stacked_members_in_bfloat16_compute_what_they_do_on_the_cpu(gpu, on, tmp_path: Path) -> None:
    """What a GPU does by default."""

    def run(device: str, precision: str) -> list[list[dict[str, float]]]:
        runs_dir = tmp_path / f"{device} {precision}"
        settings = merge(RUNS["every loss"], {"train": {"precision": precision, "stacked": "on"}})
        run_on(device, {name: on(device, settings | {"seed": seed}) for seed, name in enumerate("ab")}, runs_dir)
        return [steps_of(RunDirectory(runs_dir / name)) for name in "ab"]

    there, here, whole = run(gpu.type, "bf16"), run("cpu", "bf16"), run(gpu.type, "fp32")
    for one, other, in_float32 in zip(there, here, whole, strict=True):
        assert one != in_float32
        for step, same in zip(one, other, strict=True):
            assert step == pytest.approx(same, rel=5e-2, abs=1e-2)


def test_float32_is_not_rounded_to_tf32_and_the_run_records_it(gpu, on, tmp_path: Path) -> None:
    assert torch.backends.cudnn.allow_tf32
    started = launch({"run": on(gpu.type, {})}, tmp_path)
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32
    assert read_toml(started.directories["run"].config_file)["machine"]["tf32"] is False


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_run_is_deterministic_on_the_gpu_if_it_says_so(gpu, on, device: str) -> None:
    del gpu
    for deterministic in (True, False):
        build_cohort({"run": on(device, {"train": {"deterministic": deterministic}})})
        assert torch.are_deterministic_algorithms_enabled() == (deterministic and device == "cuda")


def state_of(started: Launch) -> dict[str, torch.Tensor]:
    state = started.cohort.members[0].state
    return {**state.state_dict(), **state.optimizer_tensors()}


HALF = merge(RUNS["every loss"], {"train": {"precision": "fp16"}})


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param(RUNS["every loss"], id="every loss"),
        pytest.param(RUNS["gradients and masks"], id="masks", marks=pytest.mark.slow),
        pytest.param(HALF, id="float16", marks=pytest.mark.slow),
    ],
)
def test_a_run_resumed_on_the_gpu_ends_bit_identical(gpu, on, tmp_path: Path, changes: dict[str, Any]) -> None:
    config, calls = on(gpu.type, changes), iter(range(100))
    whole, broken = (launch({name: config}, tmp_path) for name in ("whole", "broken"))
    list(whole.events())
    list(broken.events(lambda: next(calls) == 1))
    resumed = relaunch(find_run(tmp_path, "broken"))
    assert resumed.cohort.start_step == 2
    assert {tensor.device for tensor in state_of(resumed).values()} == {gpu}
    list(resumed.events())
    expected = state_of(whole)
    for name, tensor in state_of(resumed).items():
        assert tensor.cpu().equal(expected[name].cpu()), name


def test_tensors_of_two_devices_do_not_meet(gpu) -> None:
    there, here, rows = torch.ones(3, device=gpu), torch.ones(3), torch.tensor([0, 2])
    mixtures: list[Callable[[], object]] = [
        lambda: there + here,
        lambda: here @ there,
        lambda: torch.cat([there, here]),
        lambda: there.add_(here),
        lambda: here[rows.to(gpu)],
        lambda: there.index_put_((rows,), here[rows]),
        lambda: torch.stack([there.sum(), here.sum()]),
        lambda: torch._foreach_add_([there], [here.sum()]),
        lambda: torch._fused_adamw_(
            *([there], [there], [there], [there], [], [here.sum()]),
            lr=0.1,
            beta1=0.9,
            beta2=0.9,
            weight_decay=0.0,
            eps=1e-6,
            amsgrad=False,
            maximize=False,
        ),
    ]
    for mix in mixtures:
        with pytest.raises(RuntimeError, match="tensors on two devices"):
            mix()
    with pytest.raises(TypeError, match="can't convert cuda"):
        there.numpy()
    assert (there + here.sum()).tolist() == [4, 4, 4]  # a number, as CUDA has it
    assert (there.cpu() + here).tolist() == (there + here.to(gpu)).tolist() == [2, 2, 2]


# A curated batch is known when its scores are: the one wait that remains.
@pytest.mark.parametrize("changes", [pytest.param(RUNS[name], id=name) for name in RUNS if name != "a curated batch"])
@pytest.mark.parametrize(("stacked", "precision"), [("off", "fp32"), ("on", "bf16")])
def test_a_step_does_not_wait_for_the_gpu(
    gpu, waited, tiny, changes: dict[str, Any], stacked: str, precision: str
) -> None:
    steps_without_waits(gpu, waited, tiny, changes, stacked, precision)


@pytest.mark.parametrize("stacked", ["off", "on"])
def test_a_step_in_float16_does_not_wait_for_the_gpu_either(gpu, waited, tiny, stacked: str) -> None:
    """Its loss scale, skipped steps and all of its counts stay on the device."""
    steps_without_waits(gpu, waited, tiny, CLIPPED, stacked, "fp16")


def steps_without_waits(
    gpu: Any, waited: list[str], tiny: Any, changes: dict[str, Any], stacked: str, precision: str
) -> None:
    train = {"train": {"num_steps": 4, "device": gpu.type, "precision": precision, "stacked": stacked}}
    cohort = build_cohort({name: tiny(**merge(train, changes), seed=seed) for seed, name in enumerate("ab")})
    with closing(cohort.batches()) as batches:
        for step, batch in batches:
            waited.clear()
            teacher_outputs = cohort.teacher_forward(batch, step)
            cohort.train_step(batch, teacher_outputs, step)
            assert waited == [], step


def test_waits_are_noticed(gpu, waited) -> None:
    there = torch.ones(3, device=gpu)
    waits: dict[str, Callable[[], object]] = {
        "_local_scalar_dense": lambda: float(there.sum()),
        "tolist": there.tolist,
        "_to_copy": there.cpu,
        "nonzero": there.nonzero,
        "index": lambda: there[there > 0],
        "copy_": lambda: torch.ones(3).copy_(there),
    }
    for name, wait in waits.items():
        waited.clear()
        wait()
        assert name in waited[0]
    waited.clear()
    quiet = torch.ones(3).pin_memory().to(gpu, non_blocking=True) + there
    quiet[torch.tensor([0]).pin_memory().to(gpu, non_blocking=True)] = 2
    assert waited == []
    torch.ones(3).to(gpu, non_blocking=True)
    assert "_to_copy" in waited[0]
