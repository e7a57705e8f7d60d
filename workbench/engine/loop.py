"""The training loop. START HERE.

:func:`take_steps` is the loop itself, and :func:`train` a generator of its events; its caller prints, plots or records
them. The members of a cohort train in lockstep on the same batches and the same teacher outputs."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing

import torch

from workbench.embeddings import Batch
from workbench.engine.checkpoint import save_checkpoint
from workbench.engine.cohort import Cohort
from workbench.engine.detector import detector_started, log_detector_step, measure_detector, start_detector
from workbench.engine.device import has_batch_norm, now_s, peak_memory_mb, reset_peak_memory
from workbench.engine.gradients import new_remarks, save_gradients
from workbench.engine.member import Member
from workbench.engine.stages import advance_stage, save_masks
from workbench.engine.teacher_outputs import TeacherOutputs
from workbench.events import Commanded, Event, RunFinished, RunState, Warned
from workbench.runs import liveness
from workbench.runs.checkpoints import newest_checkpoint
from workbench.runs.liveness import Command

CPU_MESSAGES = ("allocate memory", "not enough memory")  # in bare RuntimeErrors of PyTorch's CPU allocator


def train(cohort: Cohort, interrupted: Callable[[], bool] = lambda: False) -> Iterator[Event]:
    """Train every member of the cohort to its last step.

    Args:
        interrupted: called after every step; once true, a checkpoint is saved and the runs end, resumable.

    Yields:
        events, as they happen. A member that diverges or is stopped ends alone. An error ends all members, each with
        its own :class:`~workbench.events.RunFinished`, and is raised again.
    """
    reset_peak_memory(cohort.device)
    try:
        yield from cohort.announce()
        yield from take_steps(cohort, interrupted)
    except Exception as error:
        shown = out_of_memory_hint(error, cohort)
        for member in cohort.active:
            reason = f"{type(shown).__name__}: {shown}"
            yield RunFinished(
                run=member.run, step=member.step, state="failed", reason=reason, elapsed_s=member.elapsed_s
            )
        if shown is error:
            raise
        raise shown from error


def take_steps(cohort: Cohort, interrupted: Callable[[], bool]) -> Iterator[Event]:
    """Every step of every member, from the cohort's start to its end."""
    clock = StepClock(cohort.start_step, cohort.device)
    with closing(cohort.batches()) as batches:
        for step, batch in batches:
            teacher_outputs = cohort.teacher_forward(batch, step)  # frozen; None where no loss needs it
            for group in cohort.groups(step):  # one member, or members stacked as one
                values = group.backward(batch, teacher_outputs, step)  # student forward, losses, backward
                group.update(values, batch, step)  # clip, optimizer step; skipped on the device if not finite
            done = step + 1
            is_reported = cohort.reports_at(done)
            clock.tick(cohort.active, waits=is_reported)
            for member in cohort.deleted():
                yield from finish(cohort, member, done, "failed")  # the others continue
            if is_reported:
                step_time_s = clock.mean_step_s(done)
                yield from cohort.warn_of_data(done)
                for member in list(cohort.active):
                    yield from log_step(cohort, member, batch, teacher_outputs, done, step_time_s)  # reads only
                    if member.divergence.found():
                        yield from finish(cohort, member, done, "diverged")
                        continue
                    yield from advance_stage(member, done)  # prunes the student between two stages
                yield from measure_and_save(cohort, done)
            yield from between_steps(cohort, done, interrupted, clock)  # commands, pause, interruption
            if not cohort.active:
                return
            clock.leave_out()
    yield from end(cohort, interrupted)


def end(cohort: Cohort, interrupted: Callable[[], bool]) -> Iterator[Event]:
    """Save and measure every student after its last step, and train the detectors, if any."""
    # A member whose detector has taken steps has saved and measured its student before.
    trained = [member for member in cohort.active if member.step <= cohort.num_steps]
    for member in trained:
        yield from save(member, cohort.num_steps)
    yield from cohort.evaluate(trained, cohort.num_steps)
    for member in list(cohort.active):
        yield from take_detector_steps(cohort, member, interrupted)
        if member in cohort.active:  # not stopped by a command
            yield from finish(cohort, member, cohort.total_steps, "finished")


def take_detector_steps(cohort: Cohort, member: Member, interrupted: Callable[[], bool]) -> Iterator[Event]:
    """Train a detector's heads on the member's image tower, which is frozen, and measure them; if ``[dense]`` has data.

    Its steps follow those of the student, one member after another.
    """
    training = start_detector(cohort, member)
    if training is None:
        return
    if member.step <= cohort.num_steps:
        yield detector_started(cohort, member)
    clock = StepClock(member.step, cohort.device)
    with closing(training.batches(member.step - cohort.num_steps)) as batches:
        for step, batch in enumerate(batches, start=member.step):
            losses = training.train_step(batch, step - cohort.num_steps)
            member.step = done = step + 1
            saves, logs = member.cadence.saves_at(done), member.cadence.logs_at(done) or done == cohort.total_steps
            clock.tick([member], waits=saves or logs)
            if logs:
                yield from log_detector_step(member, losses, done, clock.mean_step_s(done))
            if saves and done < cohort.total_steps:
                yield from save(member, done)
            yield from between_steps(cohort, cohort.num_steps, interrupted, clock)
            if member not in cohort.active:
                return
            clock.leave_out()
    yield from save(member, cohort.total_steps)
    yield from measure_detector(member, cohort.total_steps)


def log_step(
    cohort: Cohort, member: Member, batch: Batch, teacher_outputs: TeacherOutputs | None, step: int, step_time_s: float
) -> Iterator[Event]:
    """Numbers, warnings and the gradient snapshot of the member's last step; changes no weight.

    For a member that has diverged, warnings about its losses only: the other numbers are not finite.
    """
    for remark in new_remarks(member, batch, teacher_outputs, step - 1):
        yield Warned(run=member.run, step=step, message=str(remark))
    if step == cohort.num_steps or member.cadence.reads_weights_at(step):
        member.divergence.inspect(member.state, step)
    if member.divergence.found():
        return
    done = member.step_done(step, cohort.batch_size, step_time_s, peak_memory_mb(cohort.device))
    yield done
    scale = member.loss_scale.new_warning() if member.loss_scale else ""
    sizes = member.micro_batches.new_warning()
    for warning in (member.spikes.new_warning(done), member.divergence.new_warning(), scale, sizes):
        if warning:
            yield Warned(run=member.run, step=step, message=warning)
    if member.cadence.diagnoses_at(step):
        yield from save_gradients(member, batch, teacher_outputs, step)


def measure_and_save(cohort: Cohort, step: int) -> Iterator[Event]:
    """The mask snapshots, evaluations and checkpoints that are due; those of the last step follow after the loop."""
    for member in cohort.active:
        if member.cadence.masks_due_at(step):
            yield from save_masks(member, step)
    if step == cohort.num_steps:
        return
    yield from cohort.evaluate([member for member in cohort.active if member.cadence.evaluates_at(step)], step)
    for member in cohort.active:
        if member.cadence.saves_at(step):
            yield from save(member, step)


def between_steps(cohort: Cohort, step: int, interrupted: Callable[[], bool], clock: "StepClock") -> Iterator[Event]:
    """Carry out commands, wait while paused, and end all members after an interruption."""
    yield from handle_commands(cohort, step)
    if cohort.paused:
        yield from wait(cohort, step, interrupted)
        clock.skip()
    if cohort.is_interrupted(interrupted):
        for member in list(cohort.active):
            yield from finish(cohort, member, max(step, member.step), "interrupted", "asked to stop by a signal")


def handle_commands(cohort: Cohort, step: int) -> Iterator[Event]:
    """Carry out the commands that other processes left in the runs' ``control/`` folders."""
    commands = cohort.take_commands()
    for member in list(cohort.active):  # one that trains a detector is ahead of the others
        yield from handle_commands_to(member, commands.get(member.run, ()), cohort, max(step, member.step))


def handle_commands_to(member: Member, commands: Iterable[Command], cohort: Cohort, step: int) -> Iterator[Event]:
    """Carry out the commands to one member."""
    for command in commands:
        if command.kind == "set":
            try:
                member.change(command.arguments)
            except ValueError as error:
                yield Warned(run=member.run, step=step, message=f"not changed: {error}")
                continue
        yield Commanded(run=member.run, step=step, command=command.kind, arguments=command.arguments)
        match command.kind:
            case "stop":
                yield from finish(cohort, member, step, "stopped", "asked to stop")
                return
            case "checkpoint":
                yield from save(member, step)
            case "pause":
                cohort.paused.add(member.run)
            case "continue":
                cohort.paused.discard(member.run)
            case "set":
                pass
            case _:
                yield Warned(run=member.run, step=step, message=f"unknown command: {command.kind}")


def wait(cohort: Cohort, step: int, interrupted: Callable[[], bool]) -> Iterator[Event]:
    """Block while any member is paused, since members train in lockstep; commands are still carried out."""
    while cohort.paused and not cohort.is_interrupted(interrupted):
        time.sleep(liveness.POLL_S)
        yield from handle_commands(cohort, step)


def finish(cohort: Cohort, member: Member, step: int, state: RunState, reason: str = "") -> Iterator[Event]:
    """Remove the member from the cohort and save its weights, unless it has diverged or its folder is gone.

    A run whose last weights cannot be saved has failed, however well it trained: there is nothing to use.
    """
    member.divergence.inspect(member.state, step)  # a command or a signal may end a run between two logged steps
    if member.directory and member.folder_is_gone:
        state = "failed"
        reason = f"its folder {member.directory.path} was deleted or moved during training; nothing more is saved there"
    elif (bad := member.divergence.found()) is not None:
        state = "diverged"
        last = newest_checkpoint(member.directory) if member.directory else None
        half = ", or --set train.precision=fp32" if member.loss_scale else ""
        reason = f"{bad}; last good checkpoint: {last or 'none'}; lower the learning rate or the term's weight{half}"
    else:
        yield from save(member, step)
    if state == "finished" and member.unsaved:
        state = "failed"
        reason = (
            f"its last weights are not saved: {member.unsaved}; then continue with: workbench runs resume {member.run}"
        )
    cohort.active.remove(member)
    member.detector = None
    cohort.paused.discard(member.run)
    yield RunFinished(run=member.run, step=step, state=state, reason=reason, elapsed_s=member.elapsed_s)


def save(member: Member, step: int) -> Iterator[Event]:
    """Save a checkpoint, unless this step has one; a failure is a warning, since training can continue."""
    if member.saved_step == step:
        return
    member.saved_step = step  # also after a failure, which is not repeated at the same step
    member.unsaved = ""
    try:
        saved = save_checkpoint(member, step)
    except (OSError, ValueError) as error:
        member.unsaved = str(error)
        yield Warned(run=member.run, step=step, message=f"checkpoint not saved: {error}")
        return
    if saved is not None:
        yield saved


def out_of_memory_hint(error: Exception, cohort: Cohort) -> Exception:
    """A MemoryError with the remedy in place of an out-of-memory error; any other error as it is."""
    if not is_out_of_memory(error):
        return error
    # The batch is never made smaller automatically: its size decides the negatives of the contrastive losses.
    ranks = cohort.ranks
    chunk_size = cohort.members[0].micro_batches.size or -(-cohort.batch_size // ranks.size)
    peak_mb = peak_memory_mb(cohort.device)
    if any(member.detector for member in cohort.members):
        half = max(1, cohort.members[0].config.dense.batch_size // 2)
        return MemoryError(
            f"out of memory on {cohort.device} while a detector was trained (peak {peak_mb:,.0f} MB): checkpoints are "
            f"kept; try --set dense.batch_size={half} or a smaller dense.image_size"
        )
    remedy = f"--set train.micro_batch_size={max(1, chunk_size // 2)}, which leaves the gradients as they are"
    if any(has_batch_norm(member.state.student) for member in cohort.members):  # neither micro-batches nor ranks
        remedy = "a smaller train.batch_size or student, since batch normalization allows no micro-batches"
    elif ranks.size > 1:
        remedy += f", or more than {ranks.size} ranks"
    return MemoryError(
        f"out of memory on {cohort.device} after step {cohort.members[0].step} (batch {cohort.batch_size}, "
        f"{chunk_size} at a time, peak {peak_mb:,.0f} MB): checkpoints are kept; try {remedy}"
    )


def is_out_of_memory(error: Exception) -> bool:
    """Whether the error means that memory ran out, on a GPU or a CPU."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and any(message in str(error) for message in CPU_MESSAGES)
    )


class StepClock:
    """Measures steps: elapsed time for the members, and the mean time of a step between two reports.

    A step's time is that of its batch, forward, backward and update. Elapsed time has what happens between steps too
    (evaluation, checkpoints, gradient snapshots), and neither has pauses.
    """

    def __init__(self, start_step: int, device: torch.device) -> None:
        self._device = device
        self._last_tick = self._last_report = time.perf_counter()
        self._step = start_step

    def tick(self, members: list[Member], *, waits: bool) -> None:
        """Add the time since the last tick to the members' elapsed time.

        Args:
            waits: for the device, whose queued steps would otherwise be counted as the report that waits for them.
        """
        now = now_s(self._device) if waits else time.perf_counter()
        for member in members:
            member.elapsed_s += now - self._last_tick
        self._last_tick = now

    def skip(self) -> None:
        """Leave out the time since the last tick, a pause, of elapsed time too."""
        self.leave_out()
        self._last_tick = time.perf_counter()

    def leave_out(self) -> None:
        """Leave out the time since the last tick, in which no step ran, of the steps' time."""
        self._last_report += time.perf_counter() - self._last_tick

    def mean_step_s(self, step: int) -> float:
        """Mean seconds per step from the last call to the last tick."""
        mean_s = (self._last_tick - self._last_report) / (step - self._step)
        self._last_report, self._step = self._last_tick, step
        return mean_s
