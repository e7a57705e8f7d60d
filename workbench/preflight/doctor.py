"""``workbench doctor``: check the machine and a run on it before training. START HERE."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.config.run import RunConfig
from workbench.engine.build import build_cohort
from workbench.engine.cohort import Cohort
from workbench.engine.start_checks import Finding, teacher_finding
from workbench.evaluation.chance import mean_recall
from workbench.formatting import duration
from workbench.preflight.cost import Pace, RunEstimate, RunForecast, estimate_run, forecast_runs, room_mb
from workbench.preflight.data_checks import (
    affinity_finding,
    image_finding,
    input_findings,
    measure_affinities,
    reading_findings,
)
from workbench.preflight.machine import Machine, inspect_machine, machine_findings
from workbench.preflight.run_checks import (
    does_not_fit,
    estimate_finding,
    forecast_findings,
    setting_findings,
    share_findings,
)
from workbench.preflight.trial import EvaluationTrial, StepTrial, try_evaluation, try_steps

MAX_TIME_S = 120.0  # trial steps that would take longer are skipped
MOST_MEASURED = 2000  # held-out images; of more, only SOME_MEASURED are evaluated and the time is extrapolated
SOME_MEASURED = 1000
WORTH_REPORTING_S = 10.0

Report = Callable[[str], None]  # prints one line of progress


@dataclass(frozen=True)
class Diagnosis:
    """Findings; ``forecast`` is that of the run, if one was examined and fits.

    ``estimate`` is set instead if trial steps would have taken too long.
    """

    machine: Machine
    findings: tuple[Finding, ...]
    forecast: RunForecast | None = None
    estimate: RunEstimate | None = None

    @property
    def has_problem(self) -> bool:
        return any(finding.level == "problem" for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """The document of ``--json``."""
        return {
            "machine": self.machine.to_json(),
            "findings": [finding.to_json() for finding in self.findings],
            "forecast": self.forecast.to_json() if self.forecast else None,
            "estimate": self.estimate.to_json() if self.estimate else None,
        }


def examine_machine(runs_dir: Path = Path("runs")) -> Diagnosis:
    """Examine this machine."""
    machine = inspect_machine(runs_dir)
    return Diagnosis(machine, tuple(machine_findings(machine)))


def examine_run(
    config: RunConfig, runs_dir: Path = Path("runs"), report: Report = lambda _: None, max_time_s: float = MAX_TIME_S
) -> Diagnosis:
    """Examine the machine and a run: it is built as for training and takes a few steps; nothing is saved.

    Args:
        runs_dir: of its checkpoints, and of ``run:ID`` models.
        report: called with a line of progress.
        max_time_s: if steps and evaluations would take longer, they are skipped and the run's time is estimated; 0 for
            no limit.

    Raises:
        ValueError: settings that training would refuse, with the remedy.
    """
    machine = inspect_machine(runs_dir)
    free_mb = room_mb(config.train.device)  # before the models take memory
    report("building the run")
    teacher = config.teacher.model_copy(update={"cache": "off"})  # the teacher itself is examined, not its cache
    cohort = build_cohort({"doctor": config.model_copy(update={"teacher": teacher})}, runs_dir=runs_dir)
    findings = [*machine_findings(machine), *_before_training(cohort, machine, report)]
    expected = estimate_run(cohort, num_measured(cohort))
    if max_time_s and expected.trial_s > max_time_s:
        return Diagnosis(machine, (*findings, estimate_finding(expected, cohort)), estimate=expected)
    if expected.trial_s > WORTH_REPORTING_S:
        report(f"examining the run takes about {duration(expected.trial_s)}")
    if cohort.members[0].objective.needs_teacher:
        report("measuring the teacher's affinities")
        findings += map(affinity_finding, measure_affinities(cohort))
    report(f"taking a few steps with batches of {cohort.batch_size:,}")
    trial = try_steps(cohort)
    if trial is None:
        return Diagnosis(machine, (*findings, does_not_fit(cohort)))
    if cohort.evaluators:
        report(f"measuring on {num_measured(cohort):,} {next(iter(cohort.evaluators))} pairs")
    evaluation = try_evaluation(cohort, num_measured(cohort))
    forecast = forecast_runs(cohort, Pace.of(trial).with_evaluation(evaluation), free_mb)["doctor"]
    findings += forecast_findings(forecast, cohort, machine.storage["runs"].free_mb)
    findings += [image_finding(trial), *_of_trial(cohort, trial), *_of_evaluation(cohort, evaluation)]
    return Diagnosis(machine, tuple(findings), forecast)


def _before_training(cohort: Cohort, machine: Machine, report: Report) -> Iterator[Finding]:
    (member,) = cohort.members
    config, student, dataset = member.config, member.state.student, cohort.stream.dataset
    yield from setting_findings(
        config,
        member.objective,
        num_pairs=len(dataset),
        width=cohort.teacher.width if cohort.teacher else student.width,
        precisions=machine.precisions if cohort.device.type == machine.device else ("fp32",),
    )
    report("reading the captions")
    yield from input_findings(dataset, student, cohort.teacher, cohort.batch_size, config.student.model)


def _of_trial(cohort: Cohort, trial: StepTrial) -> Iterator[Finding]:
    """Findings about the losses, from the trial steps."""
    for remark in trial.remarks:
        yield Finding("contribution", "warning", remark.message, f"check {', '.join(remark.settings)}")
    if trial.divergence:
        term, step = trial.divergence.term, trial.divergence.step
        remedy = "lower optimizer.learning_rate or the term's weight"
        yield Finding("loss", "problem", f"{term} is not finite at step {step}", remedy)
        return
    if cohort.members[0].state.gates:  # the student still equals its teacher, so small gradients are expected
        return
    yield from share_findings(trial.shares, cohort.members[0].objective)


def _of_evaluation(cohort: Cohort, trial: EvaluationTrial | None) -> Iterator[Finding]:
    """Findings about the held-out pairs, and the teacher's recall on some."""
    if trial is None:
        remedy = "name held-out pairs with --set data.validation=SPEC"
        yield Finding("evaluation", "warning", "nothing is evaluated", remedy)
        return
    for split, evaluator in cohort.evaluators.items():
        if note := evaluator.pairs.note:
            yield Finding(f"{split} images", "warning", note, "`workbench data check SPEC --all` lists them")
    for split, evaluator in cohort.evaluators.items():
        yield from reading_findings(f"{split} data", evaluator.pairs.reading)
    if trial.teacher:
        recall, chance = mean_recall(trial.teacher.metrics), mean_recall(trial.teacher.chance)
        yield teacher_finding(recall, chance, trial.teacher.num_pairs, trial.split)


def num_measured(cohort: Cohort) -> int:
    """The number of held-out pairs that doctor evaluates."""
    number = next((evaluator.pairs.num_images for evaluator in cohort.evaluators.values()), 0)
    return number if number <= MOST_MEASURED else SOME_MEASURED
