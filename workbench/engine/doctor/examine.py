"""Looking into a machine, and into a run on it, before a night is spent. START HERE."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.config.run import RunConfig
from workbench.data.spec import evaluated_splits
from workbench.engine.build import build_cohort, make_evaluator
from workbench.engine.cohort import Cohort
from workbench.engine.device import peak_memory_mb, resolve_device
from workbench.engine.doctor.checks import (
    affinity_finding,
    chance_recall,
    image_finding,
    input_findings,
    look_at_affinities,
    reading_findings,
    recall_finding,
)
from workbench.engine.doctor.estimate import RunEstimate, estimate_run
from workbench.engine.doctor.forecast import (
    Evaluations,
    Forecast,
    all_evaluations,
    does_not_fit,
    forecast_findings,
    make_forecast,
)
from workbench.engine.doctor.machine import Finding, Machine, look_at_machine, machine_findings
from workbench.engine.doctor.settings import setting_findings, share_findings
from workbench.engine.doctor.trial import Trial, try_steps
from workbench.engine.evaluate import Evaluator
from workbench.formatting import duration

MAX_TIME_S = 120.0  # a trial that would take longer is left out
MOST_MEASURED = 2000  # held-out pictures; of more, some are measured and the time of all is reckoned
SOME_MEASURED = 1000
WORTH_SAYING_S = 10.0

Say = Callable[[str], None]


@dataclass(frozen=True)
class Diagnosis:
    """What was found; ``forecast`` is of the run, where one was looked into and fits.

    ``estimate`` is that of a run that would have taken too long to try.
    """

    machine: Machine
    findings: tuple[Finding, ...]
    forecast: Forecast | None = None
    estimate: RunEstimate | None = None

    @property
    def has_problem(self) -> bool:
        return any(finding.level == "problem" for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """The whole, as ``--json`` prints it."""
        return {
            "machine": self.machine.to_json(),
            "findings": [finding.to_json() for finding in self.findings],
            "forecast": self.forecast.to_json() if self.forecast else None,
            "estimate": self.estimate.to_json() if self.estimate else None,
        }


def examine_machine(runs_dir: Path = Path("runs")) -> Diagnosis:
    """What this machine can do, and what is wrong with it."""
    machine = look_at_machine(runs_dir)
    return Diagnosis(machine, tuple(machine_findings(machine)))


def examine_run(
    config: RunConfig, runs_dir: Path = Path("runs"), say: Say = lambda _: None, max_time_s: float = MAX_TIME_S
) -> Diagnosis:
    """The machine, and a run on it: built as for training, a few of its steps taken, and nothing kept.

    Args:
        runs_dir: where its checkpoints would go, and where ``run:ID`` models are looked up.
        say: told what is being done.
        max_time_s: where the steps and measurements are expected to take longer, they are left out, and the findings
            say what the run would take; 0 for no bound.

    Raises:
        ValueError: settings that training would refuse, with the remedy.
    """
    machine = look_at_machine(runs_dir)
    room_mb = memory_room_mb(machine, resolve_device(config.train.device).type)
    say("building the run")
    teacher = config.teacher.model_copy(update={"cache": "off"})  # what the teacher itself says is examined
    cohort = build_cohort({"doctor": config.model_copy(update={"teacher": teacher})}, runs_dir=runs_dir)
    found = [*machine_findings(machine), *_before_training(cohort, machine, say)]
    expected = estimate_run(cohort, num_measured(cohort))
    if max_time_s and expected.trial_s > max_time_s:
        return Diagnosis(machine, (*found, expected.finding(cohort)), estimate=expected)
    if expected.trial_s > WORTH_SAYING_S:
        say(f"looking into it takes about {duration(expected.trial_s)}")
    if cohort.members[0].objective.needs_teacher:
        say("looking at the teacher's affinities")
        found += map(affinity_finding, look_at_affinities(cohort))
    say(f"taking a few steps with batches of {cohort.batch_size:,}")
    trial = try_steps(cohort)
    if trial is None:
        return Diagnosis(machine, (*found, does_not_fit(cohort)))
    measured, evaluations = _measure(cohort, say)
    forecast = make_forecast(cohort, trial, evaluations, room_mb)
    found += [
        *forecast_findings(forecast, cohort, machine.storage["runs"].free_mb),
        image_finding(trial),
        *_of_trial(cohort, trial),
        *measured,
    ]
    return Diagnosis(machine, tuple(found), forecast)


def memory_room_mb(machine: Machine, device: str) -> float:
    """What a run could take on this device: what is free there, and what this process has by now."""
    if device == "cuda":
        assert machine.gpu is not None
        return machine.gpu.free_mb
    return min(machine.memory_mb, machine.free_memory_mb + peak_memory_mb(resolve_device("cpu")))


def _before_training(cohort: Cohort, machine: Machine, say: Say) -> Iterator[Finding]:
    (member,) = cohort.members
    config, student, dataset = member.config, member.state.student, cohort.stream.dataset
    yield from setting_findings(
        config,
        member.objective,
        num_pairs=len(dataset),
        width=cohort.teacher.width if cohort.teacher else student.width,
        precisions=machine.precisions if cohort.device.type == machine.device else ("fp32",),
    )
    say("reading the captions")
    yield from input_findings(dataset, student, cohort.teacher, cohort.batch_size, config.student.model)


def _of_trial(cohort: Cohort, trial: Trial) -> Iterator[Finding]:
    """What the steps showed of the losses."""
    for remark in trial.remarks:
        yield Finding("contribution", "warning", remark.message, f"check {', '.join(remark.settings)}")
    if trial.divergence:
        term, step = trial.divergence.term, trial.divergence.step
        remedy = "lower optimizer.learning_rate or the term's weight"
        yield Finding("loss", "problem", f"{term} is not finite at step {step}", remedy)
        return
    if cohort.members[0].state.gates:  # as its teacher, which it still is, it has nothing to learn from it
        return
    yield from share_findings(trial.shares, cohort.members[0].objective)


def _measure(cohort: Cohort, say: Say) -> tuple[list[Finding], Evaluations]:
    """The teacher's recall, and what it takes to measure the student as often as the run does."""
    (member,) = cohort.members
    config = member.config
    if not cohort.evaluators:
        remedy = "name held-out pairs with --set data.validation=SPEC"
        return [Finding("evaluation", "warning", "nothing is evaluated", remedy)], Evaluations(0, 0.0, 0.0)
    split, evaluator = next(iter(cohort.evaluators.items()))
    few = _few(cohort, evaluator)
    say(f"measuring on {few.pairs.num_images:,} {split} pairs")
    remedy = "`workbench data check SPEC --all` lists them"
    notes = {name: one.pairs.note for name, one in cohort.evaluators.items() if one.pairs.note}
    findings = [Finding(f"{name} pictures", "warning", note, remedy) for name, note in notes.items()]
    for name, one in cohort.evaluators.items():
        findings += reading_findings(f"{name} data", one.pairs.reading)
    teacher_s = 0.0
    if cohort.teacher:
        measured = few.measure_teacher()
        teacher_s = measured.elapsed_s / measured.num_pairs
        findings.append(recall_finding(measured, chance_recall(few.pairs, config.evaluate.block_size), split))
    student = few.measure(member.state.student, member.state.learnt, member.objective.losses)
    student_s = student.elapsed_s / student.num_pairs
    return findings, all_evaluations(cohort, student_s, teacher_s)


def num_measured(cohort: Cohort) -> int:
    """How many held-out pairs are measured."""
    number = next((evaluator.pairs.num_images for evaluator in cohort.evaluators.values()), 0)
    return number if number <= MOST_MEASURED else SOME_MEASURED


def _few(cohort: Cohort, evaluator: Evaluator) -> Evaluator:
    """The evaluator, or one of the first pairs where they are many."""
    if evaluator.pairs.num_images <= MOST_MEASURED:
        return evaluator
    config = cohort.members[0].config
    split, spec, _ = evaluated_splits(config.data)[0]
    block_size, bad_shards = config.evaluate.block_size, config.data.bad_shards
    return make_evaluator(spec, split, SOME_MEASURED, cohort.teacher, block_size, cohort.device, bad_shards=bad_shards)
