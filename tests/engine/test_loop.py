import math
import os
import threading
import time
from pathlib import Path

import pytest
import torch

from workbench.engine import loop, member
from workbench.engine.build import build_cohort
from workbench.engine.distributed import Ranks
from workbench.engine.launch import launch
from workbench.engine.loop import train
from workbench.events import EvalDone, RunFinished, RunStarted, StepDone
from workbench.models.image_tower import kept_patches
from workbench.models.weights import weights_sha256
from workbench.runs.checkpoints import newest_checkpoint
from workbench.runs.summary import read_summary


def weights(cohort, run: str) -> str:
    return next(weights_sha256(member.state) for member in cohort.members if member.run == run)


def test_events_come_in_order(tiny) -> None:
    events = list(train(build_cohort({"run": tiny(evaluate={"every_steps": 6})})))
    assert isinstance(events[0], RunStarted)
    assert [event.step for event in events if isinstance(event, StepDone)] == [1, 3, 4, 6, 8, 9, 12]
    assert [event.step for event in events if isinstance(event, EvalDone)] == [6, 12]
    assert isinstance(events[-1], RunFinished)
    assert events[-1].state == "finished"


def test_the_loss_falls(tiny) -> None:
    config = tiny(train={"num_steps": 60}, optimizer={"learning_rate": 3e-3})
    losses = [event.loss for event in train(build_cohort({"run": config})) if isinstance(event, StepDone)]
    assert losses[-1] < 0.8 * losses[0]


def test_members_of_a_cohort_end_as_they_do_alone(tiny) -> None:
    configs = {f"run{number}": tiny(loss={"fd": {"weight": float(number)}}) for number in range(4)}
    cohort = build_cohort(configs)
    for _ in train(cohort):
        pass
    found = {run: weights(cohort, run) for run in configs}
    assert len(set(found.values())) == 4
    for run, config in configs.items():
        alone = build_cohort({run: config})
        for _ in train(alone):
            pass
        assert weights(alone, run) == found[run]


def test_a_member_that_diverges_ends_alone_with_step_and_term(tiny) -> None:
    configs = {"good": tiny(), "bad": tiny(optimizer={"learning_rate": 1e20})}
    cohort = build_cohort(configs)
    ends = {event.run: event for event in train(cohort) if isinstance(event, RunFinished)}
    assert ends["good"].state == "finished"
    assert ends["bad"].state == "diverged"
    assert "not finite at step" in ends["bad"].reason
    alone = build_cohort({"good": tiny()})
    for _ in train(alone):
        pass
    assert weights(cohort, "good") == weights(alone, "good")


def test_a_step_that_is_not_finite_leaves_the_weights_finite(tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    from workbench.losses.crd import CrdLoss

    honest, calls = CrdLoss.__call__, []

    def broken(self, comparison):
        calls.append(None)
        return honest(self, comparison) * (math.nan if len(calls) == 5 else 1)

    monkeypatch.setattr("workbench.engine.loop.new_remarks", lambda *_: [])  # which computes every loss once more
    monkeypatch.setattr(CrdLoss, "__call__", broken)
    cohort = build_cohort({"run": tiny()})
    (end,) = [event for event in train(cohort) if isinstance(event, RunFinished)]
    assert end.state == "diverged"
    assert "crd was not finite at step 5" in end.reason
    assert all(parameter.isfinite().all() for parameter in cohort.members[0].state.parameters())


def test_an_interrupt_ends_after_the_step_that_is_under_way(tiny) -> None:
    asked = iter([False, False, True])
    cohort = build_cohort({"run": tiny()})
    *_, end = train(cohort, lambda: next(asked))
    assert isinstance(end, RunFinished)
    assert (end.state, end.step) == ("interrupted", 3)


def test_an_error_ends_every_run_before_it_is_raised(tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    cohort = build_cohort({"a": tiny(), "b": tiny()})
    monkeypatch.setattr(cohort, "teacher_forward", lambda *_: 1 / 0)
    events = []
    with pytest.raises(ZeroDivisionError):
        events.extend(train(cohort))
    assert [(event.run, event.state) for event in events if isinstance(event, RunFinished)] == [
        ("a", "failed"),
        ("b", "failed"),
    ]


def test_seeds_decide_weights_and_order(tiny) -> None:
    def end(config) -> str:
        cohort = build_cohort({"run": config})
        for _ in train(cohort):
            pass
        return weights(cohort, "run")

    same, again = end(tiny()), end(tiny())
    assert same == again
    assert len({same, end(tiny(seed=1)), end(tiny(data={"seed": 1})), end(tiny().with_seed(1))}) == 4


def test_global_random_state_does_not_matter(tiny) -> None:
    ends = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        cohort = build_cohort({"run": tiny()})
        for _ in train(cohort):
            torch.rand(3)
        ends.append(weights(cohort, "run"))
    assert ends[0] == ends[1]


def run_alone(config) -> tuple[list[StepDone], str]:
    cohort = build_cohort({"run": config})
    steps = [event for event in train(cohort) if isinstance(event, StepDone)]
    return steps, weights(cohort, "run")


def test_a_mask_ratio_of_0_is_feature_distillation_to_the_bit(tiny) -> None:
    off = {"crd": {"weight": 0}, "icl": {"weight": 0}}
    _, fd = run_alone(tiny(loss=off))
    _, mfd = run_alone(tiny(loss=off | {"fd": {"weight": 0}, "mfd": {"weight": 5.0, "mask_ratio": 0}}))
    _, masked = run_alone(tiny(loss=off | {"fd": {"weight": 0}, "mfd": {"weight": 5.0, "mask_ratio": 0.5}}))
    assert fd == mfd != masked


@pytest.mark.parametrize("num_workers", [0, 1])
def test_masks_of_every_ratio_are_made_with_the_batch(tiny, monkeypatch, num_workers: int) -> None:
    made_here = []  # on the thread that trains, which a GPU waits for

    def recorded(*arguments):
        if threading.current_thread() is threading.main_thread() and os.getpid() == parent:
            made_here.append(arguments)
        return kept_patches(*arguments)

    parent = os.getpid()
    monkeypatch.setattr(member, "kept_patches", recorded)
    configs = {
        str(ratio): tiny(data={"num_workers": num_workers}, loss={"mfd": {"weight": 5.0, "mask_ratio": ratio}})
        for ratio in (0.5, 0.75)
    }
    cohort = build_cohort(configs)
    assert {len(kept_BK[0]) for kept_BK in cohort.stream.batch(0).masks.values()} == {1, 2}
    made_here.clear()
    assert [event.state for event in train(cohort) if isinstance(event, RunFinished)] == ["finished"] * 2
    assert made_here == []
    for run, config in configs.items():
        assert run_alone(config)[1] == weights(cohort, run)


def test_the_masks_are_the_seeds(tiny) -> None:
    def end(seed: int, global_seed: int) -> str:
        torch.manual_seed(global_seed)
        return run_alone(tiny(seed=seed, loss={"mfd": {"weight": 5.0, "mask_ratio": 0.5}}))[1]

    assert end(0, 1) == end(0, 2) != end(1, 1)


def test_a_loss_is_computed_only_while_its_weight_is_above_0(tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    from workbench.losses.crd import CrdLoss

    honest, calls = CrdLoss.__call__, []
    monkeypatch.setattr("workbench.engine.loop.new_remarks", lambda *_: [])  # which computes every loss once more
    monkeypatch.setattr(CrdLoss, "__call__", lambda self, comparison: calls.append(1) or honest(self, comparison))
    weight = {"value": 2.0, "ramp_steps": 4, "on_step": 3, "off_step": 9}
    steps, _ = run_alone(tiny(log={"every_steps": 1}, loss={"crd": {"weight": weight, "weight_at": "here"}}))
    assert len(calls) == 5  # steps 4 to 8, from 0: at step 3 the ramp starts at 0
    found = {event.step - 1: event.weighted["crd"] / event.terms["crd"] for event in steps if "crd" in event.terms}
    assert found == pytest.approx({4: 0.5, 5: 1.0, 6: 1.5, 7: 2.0, 8: 2.0})


def test_no_step_runs_a_teacher_that_no_loss_needs_yet(tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    late = {"weight": {"value": 1.0, "on_step": 10}}
    cohort = build_cohort({"run": tiny(loss={"crd": late, "fd": {"weight": 0}, "icl": {"weight": 0}})})
    honest, asked = cohort.teacher.embed, []
    monkeypatch.setattr(cohort.teacher, "embed", lambda *batch: asked.append(1) or honest(*batch))
    for _ in train(cohort):
        pass
    assert len(asked) == 2


def test_the_bounds_on_mutual_information_are_reported_while_icl_is_on(tiny) -> None:
    for weight, expected in ((1.0, True), (0.0, False)):
        cohort = build_cohort({"run": tiny(loss={"icl": {"weight": weight}})})
        (measured,) = [event for event in train(cohort) if isinstance(event, EvalDone)]
        assert ("mutual_information_image" in measured.metrics) == expected


def test_chunked_losses_train_as_unchunked_ones(tiny) -> None:
    dense, _ = run_alone(tiny(train={"loss_chunk_size": 0}))
    chunked, _ = run_alone(tiny(train={"loss_chunk_size": 6}))
    assert [event.loss for event in chunked] == pytest.approx([event.loss for event in dense], rel=1e-4)


def test_diagnoses_leave_snapshots_and_no_other_trace(tiny, tmp_path) -> None:
    from workbench.engine.launch import launch
    from workbench.runs.snapshots import Gradients, read_snapshots

    ends = []
    for name, every_steps in (("watched", 6), ("unwatched", 0)):
        started = launch({name: tiny(log={"diagnose_every_steps": every_steps})}, tmp_path)
        for _ in started.events():
            pass
        ends.append(weights(started.cohort, name))
        steps = [gradients.step for gradients in read_snapshots(started.directories[name], Gradients).snapshots]
        assert steps == ([1, 6, 12] if every_steps else [])
    assert ends[0] == ends[1]


def test_the_first_parameter_and_the_pairs_of_a_bad_step_are_named(tiny) -> None:
    cohort = build_cohort({"run": tiny(optimizer={"clip_norm": 1.0}, train={"batch_size": 20})})
    (member,) = cohort.members
    weight = member.state.student.towers.text_projection
    weight.register_hook(lambda gradient: gradient * math.nan)
    keys = next(cohort.batches())[1].keys
    (end,) = [event for event in train(cohort) if isinstance(event, RunFinished)]
    assert end.state == "diverged"
    expected = "gradient norm was not finite at step 1 (first in the gradient of student.towers.text_projection; "
    assert end.reason.startswith(expected + f"pairs {', '.join(keys[:3])}, ...)")


CPU = "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate"
ERRORS = [torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate"), MemoryError(), RuntimeError(CPU)]


@pytest.mark.parametrize("error", ERRORS, ids=["gpu", "python", "cpu"])
def test_too_little_memory_is_one_line_with_the_remedy(
    tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    started = launch({"run": tiny()}, tmp_path)
    cohort, run = started.cohort, started.directories["run"]
    honest = cohort.teacher_forward

    def teacher_forward(batch, step):
        if step == 6:
            raise error
        return honest(batch, step)

    monkeypatch.setattr(cohort, "teacher_forward", teacher_forward)
    with pytest.raises(
        MemoryError, match=r"^out of memory on cpu after step 6 \(batch 20, 20 at a time, [^\n]*$"
    ) as refused:
        list(started.events())
    assert "--set train.micro_batch_size=10" in str(refused.value)
    summary = read_summary(run)
    assert (summary.state, summary.reason) == ("failed", f"MemoryError: {refused.value}")
    assert newest_checkpoint(run) == run.checkpoints / "step-00000004"
    assert cohort.batch_size == 20


def test_the_remedy_fits_the_model_and_the_ranks(tiny) -> None:
    cohort = build_cohort({"run": tiny()})
    cohort.ranks = Ranks(size=3)
    assert str(loop.out_of_memory_hint(MemoryError(), cohort)).endswith(
        "try --set train.micro_batch_size=3, which leaves the gradients as they are, or more than 3 ranks"
    )
    cohort.members[0].state.student.towers.visual.norm = torch.nn.BatchNorm2d(1)
    assert str(loop.out_of_memory_hint(MemoryError(), cohort)).endswith(
        "try a smaller train.batch_size or student, since batch normalization allows no micro-batches"
    )


def test_evaluations_checkpoints_and_snapshots_are_no_part_of_a_step(tiny, tmp_path: Path, monkeypatch) -> None:
    slow_s = 0.3
    config = tiny(evaluate={"every_steps": 6}, log={"every_steps": 1, "checkpoint_every_steps": 6})
    started = launch({"run": config}, tmp_path)
    evaluator = started.cohort.evaluators["validation"]
    for owner, name in ((evaluator, "measure_together"), (loop, "save_checkpoint"), (loop, "save_gradients")):
        honest = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *given, honest=honest: time.sleep(slow_s) or honest(*given))
    steps = {event.step: event for event in started.events() if isinstance(event, StepDone)}
    assert steps[7].step_time_s < slow_s
    assert steps[7].elapsed_s - steps[6].elapsed_s > 2 * slow_s


def test_other_errors_are_raised_as_they_are(tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = launch({"run": tiny()}, tmp_path)
    monkeypatch.setattr(started.cohort, "teacher_forward", lambda *_: torch.zeros(2) @ torch.zeros(3))
    with pytest.raises(RuntimeError, match="size"):
        list(started.events())
