"""Students that train on the same batches and teacher outputs, so that decoding, augmentation and teacher run once."""

import os
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import cached_property, partial
from typing import Any, Protocol, TypeVar

import torch

from workbench.config.dense import count_steps
from workbench.data.batches import BatchStream
from workbench.data.detection.spec import DetectionData
from workbench.data.spec import Role
from workbench.data.unusable import BadImageCount
from workbench.embeddings import Batch
from workbench.engine import stages
from workbench.engine.copies import on_device
from workbench.engine.data_wait import DataWait
from workbench.engine.distributed import ALONE, Ranks
from workbench.engine.evaluate import Evaluator, Measured
from workbench.engine.member import Member
from workbench.engine.resume import Start
from workbench.engine.stack import Stacks
from workbench.engine.teacher_cache.candidates import CandidatePairs
from workbench.engine.teacher_cache.store import JoinedCaches, TeacherCache
from workbench.engine.teacher_outputs import TeacherForward, TeacherOutputs
from workbench.events import EvalStarted, Event, RunResumed, RunStarted, Warned
from workbench.models.clip import count_parameters
from workbench.models.teacher_group import TeacherGroup, Teachers
from workbench.process import this_host
from workbench.runs import liveness
from workbench.runs.liveness import Command, take_commands

LossValues = TypeVar("LossValues")


class TrainingGroup(Protocol[LossValues]):
    """One member, or several whose towers run stacked: what takes a training step."""

    def backward(self, batch: Batch, teacher_outputs: TeacherOutputs | None, step: int) -> LossValues:
        """Student forward, losses and backward; returns the values of the losses."""

    def update(self, values: LossValues, batch: Batch, step: int) -> None:
        """Clip the gradients and take the optimizer step."""


class Cohort:
    """One or more members in lockstep; a single run is a cohort of one.

    Args:
        members: with the same data, teacher, batch size, number of steps and device; ``build_cohort`` checks that.
        evaluators: one per evaluated split.
        caches: of each of the teacher's members, with its embeddings of every view; None if it runs live.
        start: the steps already taken.
        notes: warnings for the start of every run's log.
        ranks: the processes that train these members together.
        detection: images with boxes, on which a detector is trained behind the last step; None for none.
    """

    def __init__(
        self,
        members: list[Member],
        stream: BatchStream,
        teacher: Teachers | None,
        evaluators: dict[Role, Evaluator],
        *,
        caches: Sequence[TeacherCache | None] = (),
        start: Start,
        device: torch.device,
        notes: tuple[str, ...] = (),
        ranks: Ranks = ALONE,
        detection: DetectionData | None = None,
    ) -> None:
        self.ranks = ranks
        self.members = members
        self.active = list(members)
        self.paused: set[str] = set()  # run ids
        self.teacher = teacher
        self.evaluators = evaluators
        for member in members:
            member.held_out = {split: evaluator.pairs.fingerprint for split, evaluator in evaluators.items()}
        self.device = device
        self.start_step = start.step
        self.num_steps = members[0].config.train.num_steps
        self.detection = detection
        num_detector_steps = count_steps(members[0].config.dense, len(detection.train)) if detection else 0
        self.total_steps = self.num_steps + num_detector_steps
        self.batch_size = members[0].config.train.batch_size
        self.measured: dict[tuple[str, str], Measured] = {}  # the newest, by run id and split
        self.stream = stream
        self.caches = caches
        self._next_poll_s = 0.0  # when commands are read again, on the monotonic clock
        self._bad_images = BadImageCount()
        self._wait = DataWait()
        self._teacher_forward = (
            TeacherForward(teacher, members[0].config.data.views, len(stream.dataset), caches) if teacher else None
        )
        stacked = members[0].config.train.stacked
        is_stacked = stacked == "on" or (stacked == "auto" and device.type == "cuda" and ranks.size == 1)
        self._stacks = Stacks() if is_stacked else None
        self.is_resumed = start.is_resumed
        self.notes = (*notes, *start.notes)

    def announce(self) -> Iterator[Event]:
        """The first event of every member, and the warnings of its start."""
        for member in self.members:
            if self.is_resumed:
                yield RunResumed(run=member.run, step=self.start_step, host=this_host(), pid=os.getpid())
                for note in member.notes:
                    yield Warned(run=member.run, step=self.start_step, message=note)
                continue
            sizes = count_parameters(member.state.student)
            batch_size, num_pairs = self.batch_size, len(self.stream.dataset)
            if self.detection and not self.num_steps:  # all steps are the detector's
                batch_size, num_pairs = member.config.dense.batch_size, len(self.detection.train)
            yield RunStarted(
                run=member.run,
                step=self.start_step,
                num_steps=self.total_steps,
                batch_size=batch_size,
                num_pairs=num_pairs,
                num_parameters=sizes["total"],
                num_embedding_parameters=sizes["embeddings"],
                kept_fraction=member.kept_fraction,
                weights=member.objective.weights,
                host=this_host(),
                pid=os.getpid(),
            )
            for note in self.notes:
                yield Warned(run=member.run, step=self.start_step, message=note)
            if self.start_step == 0 and member.phase(0).stage is not None:
                yield stages.started(member, 0)
            if self.start_step == 0 and member.cadence.masks_due_at(0):
                yield from stages.save_masks(member, 0)
        if self.start_step == 0 and not self.is_resumed:
            yield from self.evaluate([one for one in self.members if one.inheritance_map is not None], 0)

    def batches(self) -> Generator[tuple[int, Batch], None, None]:
        """(step, batch on the device), steps counted from 0; closing it ends the loader.

        Raises:
            ValueError: too many bad images; see :class:`~workbench.data.unusable.BadImageCount`.
        """
        with closing(self.stream.batches(self.start_step, self.num_steps)) as batches:
            arriving = self._wait.timed(on_device(batches, self.device))
            for step, batch in enumerate(arriving, start=self.start_step):
                self._bad_images.add(
                    self.stream.batch_size, [bad for part in self.ranks.of_all(batch.replaced) for bad in part]
                )
                self._bad_images.check()
                yield step, batch

    def deleted(self) -> list[Member]:
        """The active members whose folders were deleted during training."""
        gone = self.ranks.of_first([member.run for member in self.active if member.folder_is_gone])
        return [member for member in self.active if member.run in gone]

    def take_commands(self) -> dict[str, list[Command]]:
        """The commands that other processes left for the active members, by run; the same on every rank."""
        found: dict[str, list[Command]] = {}
        if time.monotonic() >= self._next_poll_s:  # on a network disk, listing a folder may take longer than a step
            found = {member.run: take_commands(member.directory) for member in self.active if member.directory}
            self._next_poll_s = time.monotonic() + liveness.POLL_S
        return self.ranks.of_first(found)

    def is_interrupted(self, interrupted: Callable[[], bool]) -> bool:
        """Whether a signal has asked any rank to stop."""
        return any(self.ranks.of_all(interrupted()))

    def warn_of_data(self, step: int) -> Iterator[Event]:
        """Warn every active member of bad images since the last warning, and once of long waits for data."""
        images, waits = self._bad_images.news(final=step == self.num_steps), self._wait.news(self.stream.num_workers)
        for news in filter(None, (images, waits)):
            for member in self.active:
                yield Warned(run=member.run, step=step, message=news)

    def teacher_forward(self, batch: Batch, step: int) -> TeacherOutputs | None:
        """Teacher outputs for the batch; None where no loss of an active member needs them at this step."""
        loss_inputs = [member.objective.loss_inputs(step) for member in self.active]
        curates = self.members[0].config.curation.method != "off"
        if self._teacher_forward is None or not (curates or any(inputs.teacher for inputs in loss_inputs)):
            return None
        # In one order on every rank, since the features of all ranks are gathered in this order.
        features = sorted({key for inputs in loss_inputs for key in inputs.teacher_features})
        outputs = self._teacher_forward(batch, features).gathered(self.ranks)
        if not any(inputs.candidates for inputs in loss_inputs):
            return outputs
        parts = self.ranks.of_all((batch.indices, batch.views))
        indices, views = ([number for part in column for number in part] for column in zip(*parts, strict=True))
        return replace(outputs, candidates=self._candidates.of(indices, views))

    @property
    def cached(self) -> TeacherCache | JoinedCaches | None:
        """The teacher's embeddings of all training pairs, on disk; None if any of its members runs live."""
        found = [cache for cache in self.caches if cache]
        if self.teacher is None or len(found) < len(self.teacher.members):
            return None
        return JoinedCaches(found, self.teacher) if isinstance(self.teacher, TeacherGroup) else found[0]

    @cached_property
    def _candidates(self) -> CandidatePairs:
        """The teacher's embeddings of all training pairs."""
        cached = self.cached
        assert self.teacher is not None and cached is not None, "checked when the caches were opened"
        return CandidatePairs(cached, self.stream, self.teacher.scale)

    def groups(self, step: int) -> "Sequence[TrainingGroup[Any]]":
        """The active members at step ``step`` (from 0), those of one architecture stacked under ``train.stacked``."""
        return self._stacks.of(self.active, step) if self._stacks else list(self.active)

    def train_step(self, batch: Batch, teacher_outputs: TeacherOutputs | None, step: int) -> None:
        """Optimizer step ``step`` (from 0) of every active member, as the training loop takes it."""
        for group in self.groups(step):
            group.update(group.backward(batch, teacher_outputs, step), batch, step)

    def reports_at(self, step: int) -> bool:
        """Whether anything is due for any member after ``step`` steps."""
        return step == self.num_steps or any(member.cadence.reports_at(step) for member in self.active)

    def evaluate(self, members: Sequence[Member], step: int) -> Iterator[Event]:
        """Evaluate the members on validation, and at the last step on the other splits too.

        Every rank encodes a slice of the pairs; rank 0 alone has results.
        """
        if not members:
            return
        for split, evaluator in self.evaluators.items():
            if split != "validation" and step != self.num_steps:
                continue
            for member in members:
                yield EvalStarted(run=member.run, step=step, split=split, num_pairs=evaluator.pairs.num_images)
            results = evaluator.measure_together(
                [(member.state.student, member.state.learned, member.objective.losses) for member in members]
            )
            if not self.ranks.is_first:
                continue
            for member, measured in zip(members, results, strict=True):
                self.measured[member.run, split] = measured
                yield measured.event(member.run, step, split)
                if split == "validation" and measured.probe:
                    yield from member.save_snapshot(step, "probe pairs", partial(replace, measured.probe, step=step))
