"""Stacked members get the gradients and end where they would one by one, but for the order of summation."""

from contextlib import closing

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from workbench.config.toml import load_recipe
from workbench.engine.build import build_cohort
from workbench.engine.loop import train
from workbench.engine.stack import Stack, Stacks
from workbench.events import RunFinished

MASKED = {"loss": {"fd": {"weight": 0.0}, "mfd": {"weight": 5.0, "mask_ratio": 0.5, "convention": "paper"}}}


def cohort_of(configs):
    return build_cohort({f"run-{number}": config for number, config in enumerate(configs)})


def variants(tiny, **common):
    """Members of one architecture: other weights at the start, other losses, rates and clipping."""
    changes = (
        {"seed": 1},
        {"seed": 2, "loss": {"gd": {"weight": 1.0, "convention": "paper"}}},
        {"seed": 3, "loss": {"afd": {"weight": 1.0}, "fd": {"weight": 0.0}}, "optimizer": {"clip_norm": 0.5}},
    )
    return [tiny(**common, **change) for change in changes]


def gradients(member):
    return {name: p.grad.clone() for name, p in member.state.named_parameters() if p.grad is not None}


def weighed(tiny, **options):
    """Members that differ in nothing but their start and the weights of their losses, which are all there are."""
    names = ("clip", "crd", "fd", "gd", "icl", "afd", "affinity", "single_modal", "cross_modal")
    names += ("vrd", "xrd", "dark")
    losses = {name: {"weight": 1.0, **options} for name in names}
    return [tiny(seed=n, loss=losses | {"fd": {"weight": n + 1.0, **options}}) for n in range(3)]


MEMBERS = {
    "other losses": variants,
    "masked": lambda tiny: [tiny(seed=n, **MASKED) for n in range(3)],
    "other weights": weighed,
    "other weights, released": lambda tiny: weighed(tiny, convention="released"),
    "two alike, one not": lambda tiny: [*weighed(tiny)[:2], tiny(seed=5)],
    "sigmoid": lambda tiny: [
        tiny(seed=n, loss={"clip": {"weight": 0.0}, "sigmoid": {"weight": 1.0}}) for n in range(2)
    ],
    "in blocks": lambda tiny: [tiny(seed=n, train={"loss_chunk_size": 7}) for n in range(2)],
}


@pytest.mark.parametrize("members", MEMBERS.values(), ids=MEMBERS.keys())
def test_gradients_are_those_of_members_one_by_one(tiny, members) -> None:
    configs = members(tiny)
    alone, together = cohort_of(configs), cohort_of(configs)
    _, batch = next(alone.batches())
    teacher_outputs = alone.teacher_forward(batch, 0)
    for member in alone.members:
        member.train_step(batch, teacher_outputs, 0)
    stack = Stack(together.members)
    stack.update(stack.backward(batch, teacher_outputs, 0), batch, 0)
    for one, other in zip(alone.members, together.members, strict=True):
        own, expected = gradients(other), gradients(one)
        assert own.keys() == expected.keys()
        norm = torch.stack([g.norm() for g in expected.values()]).norm()
        difference = torch.stack([(own[name] - expected[name]).norm() for name in own]).norm()
        assert difference < 1e-5 * norm
        assert one._terms.tolist() == pytest.approx(other._terms.tolist(), rel=1e-5)


class Launches(TorchDispatchMode):
    """Counts operators, but those that only look at a tensor otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self.number = 0

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        self.number += not (operator.is_view or operator.name().startswith(("aten::_unsafe_view", "profiler")))
        return operator(*args, **(kwargs or {}))


def test_eight_members_launch_less_than_twice_what_one_does() -> None:
    """Launches are what a small model's step takes its time for on a GPU; a CPU's own attention is not stacked."""
    overrides = ["train.device=cpu", "train.batch_size=8", "data.num_pairs=16", "data.validation=", "data.test="]
    number = {}
    for size in (1, 8):
        changes = [[*overrides, "train.stacked=on", f"loss.fd.weight={weight}"] for weight in range(1, size + 1)]
        cohort = cohort_of([load_recipe("clip-kd", change, steps=2) for change in changes])
        with closing(cohort.batches()) as batches, sdpa_kernel(SDPBackend.MATH):
            for step, batch in batches:
                teacher_outputs = cohort.teacher_forward(batch, step)
                with Launches() as launches:
                    cohort.train_step(batch, teacher_outputs, step)
                number[size] = launches.number  # of the last step: the first makes the stack
    assert number[8] < 1.85 * number[1]


def test_a_stacked_cohort_ends_near_the_unstacked_one(tiny) -> None:
    ends = {}
    for stacked in ("off", "on"):
        cohort = cohort_of(variants(tiny, train={"stacked": stacked}))
        events = list(train(cohort))
        assert all(event.state == "finished" for event in events if isinstance(event, RunFinished))
        ends[stacked] = [torch.cat([p.detach().flatten() for p in m.state.parameters()]) for m in cohort.members]
    for one, other in zip(ends["off"], ends["on"], strict=True):
        assert 0 < (one - other).norm() < 0.02 * one.norm()


def test_a_member_that_diverges_leaves_the_others_as_they_were(tiny) -> None:
    good, better = tiny(seed=1, train={"stacked": "on"}), tiny(seed=2, train={"stacked": "on"})
    bad = tiny(seed=3, train={"stacked": "on"}, optimizer={"learning_rate": 1e20}, log={"every_steps": 1})
    three, two = cohort_of([good, better, bad]), cohort_of([good, better])
    states = [event.state for event in train(three) if isinstance(event, RunFinished)]
    assert sorted(states) == ["diverged", "finished", "finished"]
    for _ in train(two):
        pass
    for one, other in zip(three.members[:2], two.members, strict=True):
        for mine, theirs in zip(one.state.parameters(), other.state.parameters(), strict=True):
            assert mine.isfinite().all()
            torch.testing.assert_close(mine, theirs, rtol=0, atol=2e-2)


def test_only_what_is_alike_is_stacked(tiny) -> None:
    gated = tiny(
        student={"model": "inherited"},
        inheritance={"stages": [{"sparsity": 0.3, "num_steps": 12, "mask_steps": 4, "ramp_steps": 2}]},
    )
    masked = [tiny(seed=n, **MASKED) for n in range(2)]
    inner = tiny(loss={"intermediate": {"weight": 1.0, "student_blocks": [-1], "teacher_blocks": [-1]}})
    cohort = cohort_of([tiny(seed=1), gated, masked[0], tiny(seed=2), inner, masked[1]])
    stacks = Stacks()
    found = list(stacks.of(cohort.members, 0))
    names = [[m.run for m in one.members] if isinstance(one, Stack) else one.run for one in found]
    assert names == [["run-0", "run-3"], "run-1", ["run-2", "run-5"], "run-4"]
    again = list(stacks.of(cohort.members, 1))
    assert [one is other for one, other in zip(found, again, strict=True)] == [True] * 4
