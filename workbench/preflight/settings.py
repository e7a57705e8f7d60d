"""Checks of a run's settings: length, warm-up, precision, published weights, and gradient shares."""

import math
from collections.abc import Iterator, Mapping

from workbench.config.run import RunConfig
from workbench.engine.start_checks import Finding
from workbench.losses.base import REFERENCE_BATCH_SIZE, REFERENCE_WIDTH
from workbench.losses.objective import Objective

LEAST_WARMUP_STEPS = 2
SHORT = 10  # steps; a shorter run is a test
MOST_WARMUP = 0.2  # of the steps; 0.025 and 0.027 in the papers
MANY_EPOCHS = 100  # 25 to 32 in the papers
LEAST_SHARE, MOST_SHARE = 0.01, 0.9  # of the gradient


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
    if epochs > MANY_EPOCHS:
        remedy = "give more pairs, or fewer steps with --set train.num_steps=N (the papers: 25 to 32 times)"
        return Finding("length", "warning", message, remedy)
    return Finding("length", "ok", message)


def _warmup(config: RunConfig) -> Finding:
    if config.inheritance.stages:
        return Finding("warm-up", "ok", "the steps in which masks are learned, in every stage")
    steps, fraction = config.train.num_steps, config.optimizer.warmup_fraction
    warmup = round(fraction * steps)
    message = f"{warmup:,} of {steps:,} steps ({fraction:.1%}; the papers: 2.5%)"
    if warmup < LEAST_WARMUP_STEPS and steps >= SHORT:
        remedy = f"--set optimizer.warmup_fraction={max(0.025, math.ceil(1000 * LEAST_WARMUP_STEPS / steps) / 1000):g}"
        return Finding("warm-up", "warning", f"{message}: training starts at the peak rate", remedy)
    if fraction > MOST_WARMUP:
        return Finding("warm-up", "warning", message, "--set optimizer.warmup_fraction=0.025")
    return Finding("warm-up", "ok", message)


def _precision(config: RunConfig, precisions: tuple[str, ...]) -> Finding:
    chosen = config.train.precision
    if chosen not in precisions:
        return Finding("precision", "warning", f"{chosen} is slow on this device", "--set train.precision=fp32")
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
