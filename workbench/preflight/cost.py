"""Forecast the time, memory and disk space of a run from a few of its steps."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from workbench.config.run import RunConfig
from workbench.engine.checkpoint import checkpoints_bytes, remedy
from workbench.engine.cohort import Cohort
from workbench.engine.device import has_batch_norm
from workbench.engine.start_checks import Finding
from workbench.formatting import duration
from workbench.preflight.trial import StepTrial
from workbench.process import MIB, MUCH_OF_MEMORY

MUCH_WAITING = 0.3  # of a step
MANY_DAYS_S = 7 * 86_400.0
TOO_MANY_DAYS_S = 30 * 86_400.0
FASTER = (
    "train where there is a GPU, or take smaller models, fewer steps (--set train.num_steps=N) or smaller batches "
    "(--set train.batch_size=N)"
)
LONG_S = 60.0  # shorter times get no warning


@dataclass(frozen=True)
class Evaluations:
    """Seconds of a run's evaluations: the teacher once per split, the student as often as it is due."""

    num_validations: int
    student_s: float
    teacher_s: float
    test_student_s: float = 0.0
    test_teacher_s: float = 0.0

    @property
    def total_s(self) -> float:
        once_s = self.teacher_s + self.test_teacher_s + self.test_student_s
        return once_s + self.num_validations * self.student_s


def all_evaluations(cohort: Cohort, student_s: float, teacher_s: float) -> Evaluations:
    """The evaluations of a whole run.

    Args:
        student_s, teacher_s: seconds per pair.
    """
    sizes = {name: one.pairs.num_images for name, one in cohort.evaluators.items()}
    num_validation, num_test = sizes.get("validation", 0), sizes.get("test", 0)
    return Evaluations(
        num_validations=num_validations(cohort.members[0].config) if num_validation else 0,
        student_s=num_validation * student_s,
        teacher_s=num_validation * teacher_s,
        test_student_s=num_test * student_s,
        test_teacher_s=num_test * teacher_s,
    )


@dataclass(frozen=True)
class RunForecast:
    """Seconds, MiB and pairs per second of a whole run; ``room_mb`` is the memory available to it.

    ``waiting_s`` is the part of ``training_s`` that waits for data.
    """

    num_steps: int
    pairs_per_s: float
    waiting_s: float
    training_s: float
    evaluation_s: float
    num_evaluations: int
    peak_mb: float
    room_mb: float
    checkpoints_mb: float

    @property
    def total_s(self) -> float:
        return self.training_s + self.evaluation_s

    def to_json(self) -> dict[str, Any]:
        """The ``forecast`` of ``--json``."""
        return {"total_s": self.total_s, **asdict(self)}


def num_validations(config: RunConfig) -> int:
    """The number of validations of a run, the last one included."""
    steps, every = config.train.num_steps, config.evaluate.every_steps
    return 1 + ((steps - 1) // every if every else 0)


def num_new_steps(cohort: Cohort) -> int:
    """Steps with views that the teacher has not embedded yet; if embeddings are stored, only these run the teacher."""
    num_steps, views = cohort.num_steps, cohort.members[0].config.data.views
    steps_per_view = max(1, len(cohort.stream.dataset) // cohort.batch_size)
    return min(num_steps, views * steps_per_view) if views else num_steps


def make_forecast(cohort: Cohort, trial: StepTrial, evaluations: Evaluations, room_mb: float) -> RunForecast:
    """The whole run at the speed of the trial steps."""
    (member,) = cohort.members
    num_steps, new_steps = cohort.num_steps, num_new_steps(cohort)
    teacher_s = new_steps * trial.timing.teacher_forward_s + (num_steps - new_steps) * min(
        trial.teacher_again_s, trial.timing.teacher_forward_s
    )
    training_s = num_steps * (trial.timing.step_s - trial.timing.teacher_forward_s) + teacher_s
    return RunForecast(
        num_steps=num_steps,
        pairs_per_s=num_steps * cohort.batch_size / training_s,
        waiting_s=num_steps * trial.timing.wait_s,
        training_s=training_s,
        evaluation_s=evaluations.total_s,
        num_evaluations=evaluations.num_validations,
        peak_mb=trial.peak_mb,
        room_mb=room_mb,
        checkpoints_mb=checkpoints_bytes(member) / MIB,
    )


def forecast_findings(forecast: RunForecast, cohort: Cohort, free_disk_mb: float) -> Iterator[Finding]:
    """Whether the run fits in memory and on the disk, and where its time goes."""
    yield _fits(forecast, cohort)
    yield _disk(forecast, cohort.members[0].config, free_disk_mb)
    yield time_finding(_time(forecast), forecast.total_s)
    if forecast.training_s > LONG_S and forecast.waiting_s > MUCH_WAITING * forecast.training_s:
        share = forecast.waiting_s / forecast.training_s
        workers = max(4, 2 * cohort.members[0].config.data.num_workers)
        yield Finding(
            "data rate",
            "warning",
            f"{share:.0%} of a step is spent waiting for data",
            f"--set data.num_workers={workers}",
        )
    if forecast.evaluation_s > max(LONG_S, forecast.training_s):
        yield Finding(
            "evaluation time",
            "warning",
            f"evaluation takes longer than training ({duration(forecast.evaluation_s)})",
            "--set evaluate.every_steps=N evaluates less often, --set data.num_validation_pairs=N fewer pairs",
        )


def time_finding(message: str, total_s: float) -> Finding:
    """Whether a run of ``total_s`` seconds is too long."""
    if total_s <= MANY_DAYS_S:
        return Finding("time", "ok", message)
    return Finding("time", "problem" if total_s > TOO_MANY_DAYS_S else "warning", message, FASTER)


def does_not_fit(cohort: Cohort) -> Finding:
    """The finding if memory runs out in one of the trial steps."""
    where = "the GPU's memory" if cohort.device.type == "cuda" else "this machine's memory"
    return Finding("memory", "problem", f"a batch of {cohort.batch_size:,} does not fit in {where}", _smaller(cohort))


def _fits(forecast: RunForecast, cohort: Cohort) -> Finding:
    where = "of the GPU's" if cohort.device.type == "cuda" else "of"
    needed, there = _size(forecast.peak_mb), _size(forecast.room_mb)
    message = f"{needed} {where} {there} at the peak, with batches of {cohort.batch_size:,}"
    if forecast.peak_mb > forecast.room_mb:
        return Finding("memory", "problem", message, _smaller(cohort))
    if forecast.peak_mb > MUCH_OF_MEMORY * forecast.room_mb:
        return Finding("memory", "warning", f"{message}, which leaves little", _smaller(cohort))
    return Finding("memory", "ok", message)


def _smaller(cohort: Cohort) -> str:
    (member,) = cohort.members
    if has_batch_norm(member.state.student):
        return f"--set train.batch_size={max(2, cohort.batch_size // 4)}"
    chunk_size = member.config.train.micro_batch_size or cohort.batch_size
    return (
        f"--set train.micro_batch_size={max(1, chunk_size // 4)} holds fewer pairs at once; the gradient stays the same"
    )


def _disk(forecast: RunForecast, config: RunConfig, free_disk_mb: float) -> Finding:
    message = f"checkpoints take up to {_size(forecast.checkpoints_mb)} of {_size(free_disk_mb)} that are free"
    if forecast.checkpoints_mb > free_disk_mb:
        return Finding("disk", "problem", message, remedy(config))
    return Finding("disk", "ok", message)


def _time(forecast: RunForecast) -> str:
    training = f"{forecast.num_steps:,} steps in {duration(forecast.training_s)} at {forecast.pairs_per_s:,.0f} pairs/s"
    if not forecast.num_evaluations:
        return training
    return (
        f"{training}, {forecast.num_evaluations:,} evaluations in {duration(forecast.evaluation_s)}: "
        f"{duration(forecast.total_s)} in all"
    )


def _size(size_mb: float) -> str:
    return f"{size_mb / 2**10:,.1f} GB" if size_mb >= 2**10 else f"{size_mb:,.0f} MB"
