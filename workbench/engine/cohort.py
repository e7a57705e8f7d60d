"""Students that share their batches and their teacher's outputs: decode, augment and teacher are paid once."""

import os
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import replace

import torch

from workbench.data.batches import BatchStream
from workbench.data.spec import Role
from workbench.data.unusable import BadImageCount
from workbench.embeddings import Batch
from workbench.engine import stages
from workbench.engine.evaluate import Evaluator, Measured
from workbench.engine.member import Member
from workbench.engine.probe import save_probe
from workbench.engine.resume import Start
from workbench.engine.stack import Stacks
from workbench.engine.teacher_outputs import Kept, TeacherForward, TeacherOutputs
from workbench.events import EvalStarted, Event, RunResumed, RunStarted, Warned
from workbench.models.counting import count_parameters
from workbench.models.teacher import Teacher
from workbench.process import this_host


class Cohort:
    """One or more members in lockstep; a run alone is a cohort of one.

    Args:
        members: share data, teacher, batch size, number of steps and device; ``build_cohort`` sees to that.
        kept: what the teacher said of every view, where that is read from disk.
        num_pairs: training pairs.
        evaluators: one for every split that is measured while training and at the end.
        start: where the members are.
        notes: warnings to pass on at the start.
    """

    def __init__(
        self,
        members: list[Member],
        stream: BatchStream,
        teacher: Teacher | None,
        evaluators: dict[Role, Evaluator],
        *,
        kept: Kept | None = None,
        num_pairs: int,
        start: Start,
        device: torch.device,
        notes: tuple[str, ...] = (),
    ) -> None:
        self.members = members
        self.active = list(members)
        self.pausing: set[str] = set()  # runs that were told to
        self.teacher = teacher
        self.evaluators = evaluators
        self.device = device
        self.start_step = start.step
        self.num_steps = members[0].config.train.num_steps
        self.batch_size = members[0].config.train.batch_size
        self.measured: dict[tuple[str, str], Measured] = {}  # the newest, by run and split
        self.stream = stream
        self.kept = kept
        self._unusable = BadImageCount()
        self._teacher_forward = (
            TeacherForward(teacher, members[0].config.data.views, num_pairs, kept) if teacher else None
        )
        self._num_pairs = num_pairs
        stacked = members[0].config.train.stacked
        self._stacks = Stacks() if stacked == "on" or (stacked == "auto" and device.type == "cuda") else None
        self.is_resumed = start.is_resumed
        self.notes = (*notes, *start.notes)

    def announce(self) -> Iterator[Event]:
        """The first event of every member, and what is worth warning of."""
        for member in self.members:
            if self.is_resumed:
                yield RunResumed(run=member.run, step=self.start_step, host=this_host(), pid=os.getpid())
                continue
            sizes = count_parameters(member.state.student)
            yield RunStarted(
                run=member.run,
                step=self.start_step,
                num_steps=self.num_steps,
                batch_size=self.batch_size,
                num_pairs=self._num_pairs,
                num_parameters=sizes["total"],
                num_embedding_parameters=sizes["embeddings"],
                kept_fraction=member.kept_fraction,
                weights=member.objective.weights,
                host=this_host(),
                pid=os.getpid(),
            )
            for note in self.notes:
                yield Warned(run=member.run, step=self.start_step, message=note)
            if self.start_step == 0:
                yield from self._show_inherited(member)

    def _show_inherited(self, member: Member) -> Iterator[Event]:
        """What a student has of its source, and how good that is, before its first step."""
        if member.inheritance_map is None:
            return
        if member.phase(0).stage is not None:
            yield stages.started(member, 0)
        if member.keeps_masks_at(0):
            yield from stages.save_masks(member, 0)
        yield from self.evaluate(member, 0)

    def batches(self) -> Generator[tuple[int, Batch], None, None]:
        """(step, batch on the device), steps counted from 0; closing it ends the loader.

        Raises:
            ValueError: too many pictures cannot be used; see :class:`~workbench.data.unusable.Tally`.
        """
        with closing(self.stream.batches(self.start_step, self.num_steps)) as batches:
            for step, batch in enumerate(batches, start=self.start_step):
                self._unusable.add(len(batch), batch.replaced)
                self._unusable.check()
                yield step, batch.to(self.device)

    def warn(self, step: int) -> Iterator[Event]:
        """Tell every active member of pictures that could not be used since it was last told."""
        if news := self._unusable.news(final=step == self.num_steps):
            for member in self.active:
                yield Warned(run=member.run, step=step, message=news)

    def teacher_forward(self, batch: Batch, step: int) -> TeacherOutputs | None:
        """What the teacher says of the batch; None when no active member learns from it at this step."""
        loss_inputs = [member.objective.loss_inputs(step) for member in self.active]
        if self._teacher_forward is None or not any(inputs.teacher for inputs in loss_inputs):
            return None
        features = {key for inputs in loss_inputs for key in inputs.teacher_features}
        return self._teacher_forward(batch, tuple(features))

    def learn(self, batch: Batch, teacher_outputs: TeacherOutputs | None, step: int) -> None:
        """Every active member takes optimiser step ``step`` (from 0), those that are alike in one go if so set."""
        if not self._stacks:
            for member in self.active:
                member.learn(batch, teacher_outputs, step)
            return
        for one in self._stacks.of(self.active, step):
            if isinstance(one, Member):
                one.learn(batch, teacher_outputs, step)
                continue
            for member in one.members:
                member.begin(step)
            for member, values in zip(one.members, one.backward(batch, teacher_outputs, step), strict=True):
                member.update(values, batch, step)

    def reports_at(self, step: int) -> bool:
        """Whether any member has something to say after ``step`` steps."""
        return step == self.num_steps or any(member.reports_at(step) for member in self.active)

    def evaluate(self, member: Member, step: int) -> Iterator[Event]:
        """Measure the member on every split that is due: validation always, the others at the end."""
        for split, evaluator in self.evaluators.items():
            if split == "validation" or step == self.num_steps:
                yield EvalStarted(run=member.run, step=step, split=split, num_pairs=evaluator.pairs.num_images)
                measured = evaluator.measure(member.state.student, member.state.learnt, member.objective.losses)
                self.measured[member.run, split] = measured
                yield measured.event(member.run, step, split)
                if split == "validation" and measured.probe:
                    yield from save_probe(member, replace(measured.probe, step=step))
