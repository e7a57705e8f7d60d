"""The forecast of a run: its time, memory and disk. ``doctor`` shows one, and a sweep's ``--dry-run`` sums several."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch

from workbench.config.run import RunConfig
from workbench.dense.evaluation import metric_names
from workbench.engine.checkpoint import checkpoints_bytes
from workbench.engine.cohort import Cohort
from workbench.engine.detector import start_detector
from workbench.engine.device import now_s, peak_memory_mb, resolve_device
from workbench.engine.teacher_outputs import fits_in_memory
from workbench.formatting import duration
from workbench.preflight.data_checks import NUM_PAIRS as NUM_AFFINITY_PAIRS
from workbench.preflight.timing import FORWARD, PairCost, StepTiming, time_pairs
from workbench.preflight.trial import LEAST_STEPS, EvaluationTrial, StepTrial, take_steps, try_evaluation
from workbench.process import MIB, memory_mb

MAX_TIME_S = 120.0  # if trial steps and an evaluation would take longer, the run is estimated from a few pairs
SOME_PAIRS = 200  # held-out pairs on which a sweep's cells are timed
FEW_PAIRS = 8  # for slow models
STATE_COPIES = 4  # weights, gradients and Adam's two moments persist; activations do not


@dataclass(frozen=True)
class RunForecast:
    """Time, memory and disk of one whole run. All members of its cohort share what ``shared_s`` adds up.

    Attributes:
        learn_s: seconds of the student's steps; ``waiting_s`` for data, ``teacher_s`` of the teacher's forwards.
        num_evaluations: on the validation pairs.
        student_evaluation_s, teacher_evaluation_s: of all evaluations, the test included.
        detector_s: of training and measuring a detector behind the last step, if ``[dense]`` has data.
        state_mb: MiB that the student holds between steps, of ``peak_mb`` in all; ``room_mb`` are available.
        metrics: names of what its evaluations measure.
    """

    num_steps: int
    batch_size: int
    learn_s: float
    waiting_s: float
    teacher_s: float
    num_evaluations: int
    student_evaluation_s: float
    teacher_evaluation_s: float
    state_mb: float
    peak_mb: float
    room_mb: float
    checkpoints_mb: float
    metrics: frozenset[str] = field(default=frozenset(), repr=False)
    detector_s: float = 0.0

    @property
    def own_s(self) -> float:
        """Seconds that each member of a cohort adds."""
        return self.learn_s + self.student_evaluation_s + self.detector_s

    @property
    def shared_s(self) -> float:
        """Seconds that a cohort takes once."""
        return self.waiting_s + self.teacher_s + self.teacher_evaluation_s

    @property
    def training_s(self) -> float:
        return self.waiting_s + self.teacher_s + self.learn_s

    @property
    def evaluation_s(self) -> float:
        return self.student_evaluation_s + self.teacher_evaluation_s

    @property
    def total_s(self) -> float:
        return self.own_s + self.shared_s

    @property
    def pairs_per_s(self) -> float:
        return self.num_steps * self.batch_size / self.training_s if self.num_steps else 0.0

    def at(self, num_steps: int) -> "RunForecast":
        """The forecast of the same run with another number of steps, and as many evaluations.

        A run without steps (``train.num_steps=0``) has shown no pace: its training still counts as none.
        """
        ratio = num_steps / self.num_steps if self.num_steps else 0.0
        seconds = {name: ratio * getattr(self, name) for name in ("learn_s", "waiting_s", "teacher_s")}
        return replace(self, num_steps=num_steps, **seconds)

    def to_json(self) -> dict[str, Any]:
        """The ``forecast`` of ``doctor --json``."""
        times = ("total_s", "num_steps", "pairs_per_s", "waiting_s", "training_s", "evaluation_s", "num_evaluations")
        return {name: getattr(self, name) for name in (*times, "peak_mb", "room_mb", "checkpoints_mb")}


@dataclass(frozen=True)
class Pace:
    """What was measured of a cohort: a step, an evaluation per pair, and MiB.

    Attributes:
        teacher_again_s: teacher forward on a batch seen before; 0 if its outputs are stored.
        student_s, teacher_s: seconds per held-out pair.
        peak_mb: of the whole cohort.
    """

    step: StepTiming
    teacher_again_s: float
    peak_mb: float
    student_s: float = 0.0
    teacher_s: float = 0.0
    metrics: frozenset[str] = frozenset()
    detector_s: float = 0.0

    @staticmethod
    def of(trial: StepTrial) -> "Pace":
        """The pace of the trial steps, without evaluations."""
        return Pace(trial.timing, trial.teacher_again_s, trial.peak_mb)

    def with_evaluation(self, evaluation: EvaluationTrial | None) -> "Pace":
        """This pace with that of an evaluation; unchanged if nothing is evaluated."""
        if evaluation is None:
            return self
        metrics = frozenset(evaluation.student.metrics)
        return replace(self, student_s=evaluation.student_s, teacher_s=evaluation.teacher_s, metrics=metrics)


def forecast_runs(cohort: Cohort, pace: Pace, room_mb: float) -> dict[str, RunForecast]:
    """The whole run of each member of a cohort at this pace, by run id."""
    num_steps, new_steps, step = cohort.num_steps, num_new_steps(cohort), pace.step
    sizes = {split: evaluator.pairs.num_images for split, evaluator in cohort.evaluators.items()}
    num_validation, num_test = sizes.get("validation", 0), sizes.get("test", 0)
    again_s = min(pace.teacher_again_s, step.teacher_forward_s)
    states_mb = {
        member.run: STATE_COPIES * sum(p.numel() * p.element_size() for p in member.state.parameters()) / MIB
        for member in cohort.members
    }
    forecasts = {}
    for member in cohort.members:
        # The student is evaluated whenever it is due, the teacher once per split.
        num_evaluations = num_validations(member.config) if num_validation else 0
        forecasts[member.run] = RunForecast(
            num_steps=num_steps,
            batch_size=cohort.batch_size,
            learn_s=num_steps * step.learn_s[member.run],
            waiting_s=num_steps * step.wait_s,
            teacher_s=new_steps * step.teacher_forward_s + (num_steps - new_steps) * again_s,
            num_evaluations=num_evaluations,
            student_evaluation_s=(num_evaluations * num_validation + num_test) * pace.student_s,
            teacher_evaluation_s=(num_validation + num_test) * pace.teacher_s,
            state_mb=states_mb[member.run],
            peak_mb=pace.peak_mb - sum(states_mb.values()) + states_mb[member.run],
            room_mb=room_mb,
            checkpoints_mb=checkpoints_bytes(member) / MIB,
            metrics=pace.metrics,
            detector_s=pace.detector_s,
        )
    return forecasts


def num_validations(config: RunConfig) -> int:
    """The number of validations of a run, the last one included."""
    steps, every = config.train.num_steps, config.evaluate.every_steps
    return 1 + ((steps - 1) // every if every else 0)


def num_new_steps(cohort: Cohort) -> int:
    """Steps with views that the teacher has not embedded yet; if embeddings are stored, only these run the teacher."""
    num_steps, views = cohort.num_steps, cohort.members[0].config.data.views
    steps_per_view = max(1, len(cohort.stream.dataset) // cohort.stream.batch_size)
    return min(num_steps, views * steps_per_view) if views else num_steps


def measure_runs(cohort: Cohort, notify: Callable[[str], None]) -> dict[str, RunForecast]:
    """Forecast the runs of a cohort, by id, from three steps and an evaluation; slow ones from a few pairs."""
    pace = replace(_student_pace(cohort, notify), detector_s=detector_s(cohort))
    if cohort.detection:
        names = metric_names(with_masks=not cohort.members[0].config.dense.boxes_only)
        pace = replace(pace, metrics=pace.metrics | names)
    return forecast_runs(cohort, pace, room_mb(cohort.device.type))


def _student_pace(cohort: Cohort, notify: Callable[[str], None]) -> Pace:
    """The pace of the students' steps and evaluations."""
    if not cohort.num_steps:
        nothing = StepTiming(0.0, 0.0, {member.run: 0.0 for member in cohort.members})
        pace = Pace(nothing, 0.0, peak_memory_mb(cohort.device))
        return pace.with_evaluation(try_evaluation(cohort, SOME_PAIRS))
    pairs = time_pairs(cohort)
    step_s = pairs.timing(cohort.batch_size).step_s
    expected_s = LEAST_STEPS * step_s + pairs.teacher_s(SOME_PAIRS) + SOME_PAIRS * pairs.student_s()
    if expected_s > MAX_TIME_S:
        notify(f"a step takes about {duration(step_s)}: estimated from a few pairs instead of measured")
        return estimated_pace(cohort, pairs).with_evaluation(try_evaluation(cohort, FEW_PAIRS))
    trial, _ = take_steps(cohort, LEAST_STEPS)
    return Pace.of(trial).with_evaluation(try_evaluation(cohort, SOME_PAIRS))


def detector_s(cohort: Cohort) -> float:
    """Seconds of a detector's training and measurement, from two steps; 0 if the cohort has none."""
    member = cohort.members[0]
    training = start_detector(cohort, member)
    if training is None or cohort.detection is None:
        return 0.0
    taken_s = []
    for step in range(2):  # the first is a warm-up
        start_s = now_s(cohort.device)
        training.train_step(training.batch(step), step)
        taken_s.append(now_s(cohort.device) - start_s)
    member.detector = None
    # An image to measure on takes less than its share of a step, which has a backward.
    num_images = training.num_steps * member.config.dense.batch_size + len(cohort.detection.held_out)
    return num_images * taken_s[-1] / member.config.dense.batch_size


def estimated_pace(cohort: Cohort, pairs: PairCost) -> Pace:
    """The pace of a cohort of which only a few pairs were timed."""
    step = pairs.timing(cohort.batch_size)
    views, width = cohort.members[0].config.data.views, cohort.teacher.width if cohort.teacher else 1
    is_stored = fits_in_memory(views * len(cohort.stream.dataset), width)
    peak_mb = peak_memory_mb(cohort.device) + cohort.batch_size * pairs.grown_mb
    again_s = 0.0 if is_stored else step.teacher_forward_s
    return Pace(step, again_s, peak_mb, pairs.student_s(), pairs.teacher_forward_s)


@dataclass(frozen=True)
class RunEstimate:
    """Estimated seconds of one step, of the whole run, and of doctor's trial steps and evaluations."""

    step_s: float
    total_s: float
    trial_s: float

    def to_json(self) -> dict[str, Any]:
        """The ``estimate`` of ``--json``."""
        return asdict(self)


def estimate_run(cohort: Cohort, num_measured: int) -> RunEstimate:
    """Estimate the run of a cohort of one from a forward and backward on a few pairs.

    Args:
        num_measured: held-out pairs that doctor would evaluate.
    """
    (member,) = cohort.members
    pairs = time_pairs(cohort)
    step = pairs.timing(cohort.batch_size)
    affinities_s = (1 + bool(cohort.evaluators)) * pairs.teacher_s(NUM_AFFINITY_PAIRS)
    num_losses = len(member.objective.weights_at(0))
    shares_s = (FORWARD + num_losses * (1 - FORWARD)) * step.learn_s[member.run] if num_losses > 1 else 0.0
    measuring_s = pairs.teacher_s(num_measured) + num_measured * pairs.student_s()
    forecast = forecast_runs(cohort, estimated_pace(cohort, pairs), 0.0)[member.run]
    return RunEstimate(
        step_s=step.step_s,
        total_s=forecast.total_s,
        # One more teacher forward, on a batch seen before.
        trial_s=affinities_s + LEAST_STEPS * step.step_s + step.teacher_forward_s + shares_s + measuring_s,
    )


def room_mb(device: str) -> float:
    """MiB available to a cohort on its device: free memory plus what this process holds already."""
    chosen = resolve_device(device)
    if chosen.type == "cuda":
        return torch.cuda.mem_get_info(chosen)[0] / MIB + peak_memory_mb(chosen)
    total_mb, free_mb = memory_mb()
    return min(total_mb, free_mb + peak_memory_mb(chosen))
