"""The training loop. START HERE.

``train`` is a generator of events: whoever iterates it prints, plots, prunes or records. It trains the members of a
cohort in lockstep on the same batches and the same teacher outputs."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing

import torch

from workbench.embeddings import Batch
from workbench.engine.checkpoint import save_checkpoint
from workbench.engine.cohort import Cohort
from workbench.engine.contributions import new_remarks
from workbench.engine.device import peak_memory_mb
from workbench.engine.gradients import save_gradients
from workbench.engine.member import Member
from workbench.engine.stages import save_masks, turn
from workbench.engine.steering import change
from workbench.engine.teacher_outputs import TeacherOutputs
from workbench.events import Commanded, Event, RunFinished, RunState, Warned
from workbench.runs.checkpoints import newest_checkpoint
from workbench.runs.control import take_commands

# Running out of memory, said in one line with what to do; PyTorch's own errors have three types and many lines.

CPU_MESSAGES = ("allocate memory", "not enough memory")  # in bare RuntimeErrors of PyTorch's allocator


def explained(error: Exception, cohort: Cohort) -> Exception:
    """The error itself, or for one that means too little memory a MemoryError with the remedy.

    The batch is never made smaller unasked: it decides the negatives of the contrastive losses. Micro-batches keep
    their gradients exact.
    """
    if not is_out_of_memory(error):
        return error
    held = cohort.members[0].config.train.micro_batch_size or cohort.batch_size
    peak_mb = peak_memory_mb(cohort.device)
    return MemoryError(
        f"out of memory on {cohort.device} after step {cohort.members[0].step} (batch {cohort.batch_size}, "
        f"{held} at a time, peak {peak_mb:,.0f} MB): checkpoints are kept; "
        f"try --set train.micro_batch_size={max(1, held // 2)}, which leaves the gradients as they are"
    )


def is_out_of_memory(error: Exception) -> bool:
    """Whether the error means that memory ran out, on a GPU or a CPU."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and any(said in str(error) for said in CPU_MESSAGES)
    )


POLL_S = 0.2  # between two looks for commands while paused


def train(cohort: Cohort, interrupted: Callable[[], bool] = lambda: False) -> Iterator[Event]:
    """Train every member of the cohort to its last step.

    Args:
        interrupted: asked after every step; once true, the step's weights are saved and the runs end, resumable.

    Yields:
        what happens, as it happens. A member that diverges, or is told to stop, ends alone; an error ends all, and is
        raised again after they have said so.
    """
    try:
        yield from cohort.announce()
        yield from take_steps(cohort, interrupted)
    except Exception as error:
        told = explained(error, cohort)
        for member in cohort.active:
            reason = f"{type(told).__name__}: {told}"
            yield RunFinished(
                run=member.run, step=member.step, state="failed", reason=reason, elapsed_s=member.elapsed_s
            )
        if told is error:
            raise
        raise told from error


def take_steps(cohort: Cohort, interrupted: Callable[[], bool]) -> Iterator[Event]:
    """Every step of every member, from the cohort's start to its end."""
    clock = StepClock(cohort.start_step)
    with closing(cohort.batches()) as batches:
        for step, batch in batches:
            teacher_outputs = cohort.teacher_forward(batch, step)
            cohort.learn(batch, teacher_outputs, step)
            done = step + 1
            clock.tick(cohort.active)
            yield from dismiss(cohort, done)
            if cohort.reports_at(done):
                step_time_s = clock.lap(done)
                yield from cohort.warn(done)
                for member in list(cohort.active):
                    yield from report(cohort, member, batch, teacher_outputs, done, step_time_s)
            for member in list(cohort.active):
                yield from handle_commands(cohort, member, done)
            if cohort.pausing:
                yield from wait(cohort, done, interrupted)
                clock.skip()
            if interrupted():
                for member in list(cohort.active):
                    yield from finish(cohort, member, done, "interrupted", "asked to stop by a signal")
            if not cohort.active:
                return
    for member in list(cohort.active):
        yield from save(member, cohort.num_steps)
        yield from cohort.evaluate(member, cohort.num_steps)
        yield from finish(cohort, member, cohort.num_steps, "finished")


def dismiss(cohort: Cohort, step: int) -> Iterator[Event]:
    """End the members whose folders were deleted while they train; the others go on."""
    for member in [one for one in cohort.active if one.is_homeless]:
        yield from finish(cohort, member, step, "failed")


def report(
    cohort: Cohort, member: Member, batch: Batch, teacher_outputs: TeacherOutputs | None, step: int, step_time_s: float
) -> Iterator[Event]:
    """The member's last step in numbers, then the diagnosis, the evaluation and the checkpoint that are due."""
    for remark in new_remarks(member, batch, teacher_outputs, step - 1):
        yield Warned(run=member.run, step=step, message=str(remark))
    is_looked_at = step == cohort.num_steps or member.looks_at_weights(step)
    if member.watch.first() is not None or (is_looked_at and not member.watch.inspect(member.state, step)):
        yield from finish(cohort, member, step, "diverged")
        return
    done = member.step_done(step, cohort.batch_size, step_time_s, peak_memory_mb(cohort.device))
    yield done
    if news := member.spikes.news(done):
        yield Warned(run=member.run, step=step, message=news)
    if news := member.watch.news():
        yield Warned(run=member.run, step=step, message=news)
    if member.diagnoses_at(step):
        yield from save_gradients(member, batch, teacher_outputs, step)
    yield from turn(member, step)
    if member.keeps_masks_at(step):
        yield from save_masks(member, step)
    if step == cohort.num_steps:
        return
    if member.evaluates_at(step):
        yield from cohort.evaluate(member, step)
    if member.saves_at(step):
        yield from save(member, step)


def handle_commands(cohort: Cohort, member: Member, step: int) -> Iterator[Event]:
    """Carry out the commands that wait in the run's ``control/`` folder."""
    for command in take_commands(member.directory) if member.directory else ():
        if command.kind == "set":
            try:
                change(member, command.arguments)
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
                cohort.pausing.add(member.run)
            case "continue":
                cohort.pausing.discard(member.run)
            case "set":
                pass
            case _:
                yield Warned(run=member.run, step=step, message=f"command not understood: {command.kind}")


def wait(cohort: Cohort, step: int, interrupted: Callable[[], bool]) -> Iterator[Event]:
    """While a member is paused all members wait, for they train in lockstep; commands are obeyed all the same."""
    while cohort.pausing and not interrupted():
        time.sleep(POLL_S)
        for member in list(cohort.active):
            yield from handle_commands(cohort, member, step)


def finish(cohort: Cohort, member: Member, step: int, state: RunState, reason: str = "") -> Iterator[Event]:
    """Take the member out of the cohort, its weights saved unless a step or they themselves were not finite.

    A run whose last weights cannot be saved has failed, however well it trained: there is nothing to use.
    """
    member.watch.inspect(member.state, step)
    if member.directory and member.is_homeless:
        state = "failed"
        reason = (
            f"its folder {member.directory.path} was deleted or moved while it trained, and nothing of it is left there"
        )
    elif (bad := member.watch.first()) is not None:
        state = "diverged"
        last = newest_checkpoint(member.directory) if member.directory else None
        reason = f"{bad}; last good checkpoint: {last or 'none'}; lower the learning rate or the term's weight"
    else:
        yield from save(member, step)
    if state == "finished" and member.unsaved:
        state = "failed"
        reason = (
            f"its last weights are not saved: {member.unsaved}; then go on with: workbench runs resume {member.run}"
        )
    cohort.active.remove(member)
    cohort.pausing.discard(member.run)
    yield RunFinished(run=member.run, step=step, state=state, reason=reason, elapsed_s=member.elapsed_s)


def save(member: Member, step: int) -> Iterator[Event]:
    """Write a checkpoint, unless this step has one; failing to is a warning, for the run itself is sound."""
    if member.saved_step == step:
        return
    member.saved_step = step
    member.unsaved = ""
    try:
        saved = save_checkpoint(member, step)
    except (OSError, ValueError) as error:
        member.unsaved = str(error)
        yield Warned(run=member.run, step=step, message=f"checkpoint not saved: {error}")
        return
    if saved is not None:
        yield saved


class StepClock:
    """Where the time goes: seconds of every step to the members, and their mean between two reports."""

    def __init__(self, start_step: int) -> None:
        self._ticked = self._lapped = time.perf_counter()
        self._step = start_step

    def tick(self, members: list[Member]) -> None:
        """Add the time since the last tick to the members' own."""
        now = time.perf_counter()
        for member in members:
            member.elapsed_s += now - self._ticked
        self._ticked = now

    def skip(self) -> None:
        """Leave out the time since the last tick: no step took it."""
        now = time.perf_counter()
        self._lapped += now - self._ticked
        self._ticked = now

    def lap(self, step: int) -> float:
        """Mean seconds a step since the last lap."""
        now = time.perf_counter()
        mean_s = (now - self._lapped) / (step - self._step)
        self._lapped, self._step = now, step
        return mean_s
