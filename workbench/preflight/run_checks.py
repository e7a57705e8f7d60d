"""Checks of a run's settings and forecast: length, warm-up, weights, gradient shares, memory, disk and time."""

import math
from collections.abc import Iterator, Mapping

from workbench.config.run import RunConfig
from workbench.engine.checkpoint import remedy
from workbench.engine.cohort import Cohort
from workbench.engine.device import has_batch_norm
from workbench.engine.start_checks import Finding
from workbench.formatting import duration
from workbench.losses.base import REFERENCE_BATCH_SIZE, REFERENCE_WIDTH
from workbench.losses.objective import Objective
from workbench.preflight.cost import RunEstimate, RunForecast
from workbench.process import MUCH_OF_MEMORY

LEAST_WARMUP_STEPS = 2
SHORT = 10  # steps; a shorter run is a test
MOST_WARMUP = 0.2  # of the steps; 0.025 and 0.027 in the papers
MANY_EPOCHS = 100  # 25 to 32 in the papers
LEAST_SHARE, MOST_SHARE = 0.01, 0.9  # of the gradient
MUCH_WAITING = 0.3  # of a step
MANY_DAYS_S = 7 * 86_400.0
TOO_MANY_DAYS_S = 30 * 86_400.0
LONG_S = 60.0  # shorter times get no warning
FASTER = (
    "train where there is a GPU, or take smaller models, fewer steps (--set train.num_steps=N) or smaller batches "
    "(--set train.batch_size=N)"
)


def setting_findings(
    config: RunConfig, objective: Objective, *, num_pairs: int, width: int, precisions: tuple[str, ...]
) -> Iterator[Finding]:
    """Findings that need no training step.

    Args:
        width: embedding width of the teacher, or of the student without one.
        precisions: those that the device computes natively.
    """
    yield _length(config, num_pairs)
    yield _warmup(config)
    yield _precision(config, precisions)
    yield from _weights(config, objective, width)


def share_findings(shares: Mapping[str, float], objective: Objective) -> Iterator[Finding]:
    """Whether every loss has a share of the gradient at the start; one whose weight still ramps up may be small."""
    if not shares:
        return
    listed = ", ".join(f"{name} {share:.1%}" for name, share in shares.items())
    rising = {name for name, weight in objective.weights_at(0).items() if weight < objective.weights[name]}
    small = [name for name, share in shares.items() if share < LEAST_SHARE and name not in rising]
    large = [name for name, share in shares.items() if share > MOST_SHARE]
    if not small and not large:
        yield Finding("gradient", "ok", f"shares at the start: {listed}")
        return
    effect = f"{' and '.join(small)} almost no effect" if small else f"the others little effect next to {large[0]}"
    remedy = "train with --calibrate, or with weights that `workbench calibrate` proposes"
    yield Finding("gradient", "warning", f"shares at the start: {listed}, which leaves {effect}", remedy)


def _length(config: RunConfig, num_pairs: int) -> Finding:
    steps, batch = config.train.num_steps, config.train.batch_size
    epochs = steps * batch / num_pairs
    message = f"{steps:,} steps of {batch:,} show each of {num_pairs:,} pairs {epochs:,.1f} times"
    if epochs < 1:
        message = f"{steps:,} steps of {batch:,} cover only {epochs:.0%} of {num_pairs:,} pairs"
        return Finding("length", "warning", message, f"--set train.num_steps={-(-num_pairs // batch)} covers all once")
    remedy = "give more pairs, or fewer steps with --set train.num_steps=N (the papers: 25 to 32 times)"
    return Finding.warn_if(epochs > MANY_EPOCHS, "length", message, remedy)


def _warmup(config: RunConfig) -> Finding:
    if config.inheritance.stages:
        return Finding("warm-up", "ok", "the steps in which masks are learned, in every stage")
    steps, fraction = config.train.num_steps, config.optimizer.warmup_fraction
    warmup = round(fraction * steps)
    message = f"{warmup:,} of {steps:,} steps ({fraction:.1%}; the papers: 2.5%)"
    if warmup < LEAST_WARMUP_STEPS and steps >= SHORT:
        remedy = f"--set optimizer.warmup_fraction={max(0.025, math.ceil(1000 * LEAST_WARMUP_STEPS / steps) / 1000):g}"
        return Finding("warm-up", "warning", f"{message}: training starts at the peak rate", remedy)
    return Finding.warn_if(fraction > MOST_WARMUP, "warm-up", message, "--set optimizer.warmup_fraction=0.025")


def _precision(config: RunConfig, precisions: tuple[str, ...]) -> Finding:
    chosen = config.train.precision
    if chosen not in precisions:
        remedy = f"--set train.precision={precisions[-1]}"
        return Finding("precision", "warning", f"{chosen} is slow on this device", remedy)
    if chosen == "fp32" and precisions == ("fp32", "fp16"):  # tensor cores of a GPU before Ampere, without bfloat16
        message = "fp32 leaves this GPU's tensor cores idle"
        return Finding("precision", "warning", message, "--set train.precision=fp16, with a loss scale")
    return Finding("precision", "ok", chosen)


def _weights(config: RunConfig, objective: Objective, width: int) -> Iterator[Finding]:
    """Whether published weights are translated from the papers' batch size and width."""
    at = f"the papers' batch of {REFERENCE_BATCH_SIZE:,} and width {REFERENCE_WIDTH}"
    translated, misplaced = [], False
    for name, loss in objective.losses.items():
        weight = objective.terms[name].schedule.value
        if loss.translation(config.train.batch_size, width) == 1:
            continue
        if config.loss[name].weight_at == "published":
            translated.append(f"{name} {weight:g} to {objective.weights[name]:.4g}")
        elif weight == loss.published_weight.get(loss.convention):
            misplaced = True
            message = f"{name}'s {weight:g} is for {at}, and is not translated here"
            yield Finding("weights", "warning", message, f"--set loss.{name}.weight_at=published")
    if translated:
        yield Finding("weights", "ok", f"translated from {at}: {', '.join(translated)}")
    elif not misplaced:
        yield Finding("weights", "ok", "none depends on this run's batch or width")


def forecast_findings(forecast: RunForecast, cohort: Cohort, free_disk_mb: float) -> Iterator[Finding]:
    """Whether the run fits in memory and on the disk, and where its time goes."""
    yield _fits(forecast, cohort)
    yield _disk(forecast, cohort.members[0].config, free_disk_mb)
    yield _how_long(_time(forecast), forecast.total_s)
    if forecast.training_s > LONG_S and forecast.waiting_s > MUCH_WAITING * forecast.training_s:
        share = forecast.waiting_s / forecast.training_s
        workers = max(4, 2 * cohort.stream.num_workers)
        message = f"{share:.0%} of a step is spent waiting for data"
        yield Finding("data rate", "warning", message, f"--set data.num_workers={workers}")
    if forecast.evaluation_s > max(LONG_S, forecast.training_s):
        message = f"evaluation takes longer than training ({duration(forecast.evaluation_s)})"
        remedy = "--set evaluate.every_steps=N evaluates less often, --set data.num_validation_pairs=N fewer pairs"
        yield Finding("evaluation time", "warning", message, remedy)


def estimate_finding(estimate: RunEstimate, cohort: Cohort) -> Finding:
    """Whether a run whose trial steps were skipped is too long."""
    message = (
        f"this machine would need about {duration(estimate.total_s)} for {cohort.num_steps:,} steps of "
        f"{cohort.batch_size:,} pairs, estimated from a few pairs; a trial would take {duration(estimate.trial_s)}"
    )
    finding = _how_long(message, estimate.total_s)
    return finding if finding.remedy else Finding("time", "warning", message, f"--max-time 0 tries it; {FASTER}")


def _how_long(message: str, total_s: float) -> Finding:
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
    chunk_size = member.micro_batches.size or cohort.batch_size
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
