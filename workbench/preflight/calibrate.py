"""Loss weights that give each loss a chosen share of the gradient norm at the start of training."""

import math
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from workbench.config.base import Schedule
from workbench.config.run import LossConfig, RunConfig
from workbench.errors import unknown
from workbench.formatting import duration
from workbench.progress import phase

if TYPE_CHECKING:
    from workbench.engine.cohort import Cohort
    from workbench.losses.objective import Objective

NUM_BATCHES = 4
NUM_DIGITS = 4  # of a proposed weight; a mean over a few batches is no more precise
MAX_TIME_S = 3600.0
NEGLIGIBLE = 1e-9  # rounding error of decimal shares that add up to 1


@dataclass(frozen=True)
class WeightedShare:
    """A weight at this batch and width, and its share of the summed gradient norms."""

    weight: float
    share: float


@dataclass(frozen=True)
class CalibratedLoss:
    """The gradient norm of one loss, and its published, current and proposed weights.

    ``norm`` is taken at weight 1 with respect to all tower weights. ``published`` is None where the papers name no
    weight, and its share is among the losses that have one. The weight of a schedule is its largest.
    """

    name: str
    norm: float
    published: WeightedShare | None
    recipe: WeightedShare
    proposed: WeightedShare


@dataclass(frozen=True)
class Calibration:
    """The config with the proposed weights, and the measurement of each loss."""

    config: RunConfig
    losses: tuple[CalibratedLoss, ...]


def calibrate(
    config: RunConfig,
    shares: Mapping[str, float] | None = None,
    *,
    num_batches: int = NUM_BATCHES,
    runs_dir: Path = Path("runs"),
) -> Calibration:
    """Propose weights for a run from the losses' gradients on its first batches, before its first step.

    Args:
        shares: of the summed norms, by loss; all other losses share the rest equally.
        num_batches: batches over which the norms are averaged.

    Raises:
        ValueError: an invalid share, a loss without gradient, a single loss, or a setting that training would refuse.
    """
    from workbench.engine.build import build_cohort, make_objective

    shares = shares_of(config, shares or {})
    measured = _to_measure(config, num_batches)
    cohort = build_cohort({"calibration": measured}, runs_dir=runs_dir)
    # A loss that changes during training is measured at the start of a run of its true length.
    cohort.members[0].objective = make_objective(config.model_copy(update={"loss": measured.loss}), cohort.teacher)
    objective = make_objective(config, cohort.teacher)
    norms = measure_norms(cohort, _checked_time_s(cohort))
    given = {name: term.largest_weight for name, term in objective.terms.items()}
    proposed = balanced_weights(norms, given, shares)
    columns = [_weighed(norms, weights) for weights in (_published(objective, cohort), given, proposed)]
    losses = {name: _with_weight(loss, proposed.get(name)) for name, loss in config.loss.items()}
    return Calibration(
        config.model_copy(update={"loss": losses}),
        tuple(
            CalibratedLoss(name, norm, columns[0].get(name), columns[1][name], columns[2][name])
            for name, norm in norms.items()
        ),
    )


def shares_of(config: RunConfig, chosen: Mapping[str, float]) -> dict[str, float]:
    """The share of every loss of a run; does not import torch.

    Raises:
        ValueError: as :func:`complete_shares`, or the student starts equal to its teacher.
    """
    names = [name for name, loss in config.loss.items() if loss.schedule.is_ever_on]
    shares = complete_shares(names, chosen)
    if config.inheritance.stages:
        raise ValueError(
            "a student that learns masks starts as its teacher, and has no distillation gradient yet: calibrate a "
            "recipe of the same losses without [inheritance], such as affinity"
        )
    return shares


def complete_shares(losses: Sequence[str], chosen: Mapping[str, float]) -> dict[str, float]:
    """The chosen shares, and the rest divided equally among the other losses.

    Raises:
        ValueError: an unknown loss, a share outside (0, 1), shares that add up to more than 1 or leave nothing for
            the others, or less than 1 where there are no others; or a single loss.
    """
    if len(losses) < 2:
        raise ValueError(f"a single loss ({', '.join(losses)}) has all of the gradient: there is nothing to share")
    for name, share in chosen.items():
        if name not in losses:
            raise unknown("loss", name, losses)
        if not 0 < share < 1:
            raise ValueError(f"the share of {name} must be above 0 and below 1 (got {share:g})")
    others = [name for name in losses if name not in chosen]
    rest = 1 - sum(chosen.values())
    if rest < -NEGLIGIBLE:
        raise ValueError(f"the shares add up to {1 - rest:g}: lower them to at most 1 together")
    if others and rest < NEGLIGIBLE:
        raise ValueError(f"nothing is left for {', '.join(others)}: lower a share, or switch it off with weight 0")
    if not others and rest > NEGLIGIBLE:
        raise ValueError(f"the shares of all losses add up to {1 - rest:g}: leave one out, and it takes the rest")
    return {name: chosen.get(name, rest / len(others) if others else 0.0) for name in losses}


def balanced_weights(
    norms: Mapping[str, float], weights: Mapping[str, float], shares: Mapping[str, float]
) -> dict[str, float]:
    """Weights w with w · norm proportional to ``shares``, which add up to 1.

    They are scaled so that clip keeps the one of ``weights`` that it has there; without clip, so that the sum of the
    weighted norms stays what it was. All but clip's are rounded to four digits.

    Args:
        norms: of each loss's gradient at weight 1.

    Raises:
        ValueError: a norm is zero or not finite.
    """
    for name, norm in norms.items():
        if not 0 < norm < math.inf:
            raise ValueError(
                f"loss.{name} has a gradient of norm {norm:g} at the start of training, and no weight gives that a "
                f"share: leave it out with --set loss.{name}.weight=0"
            )
    if "clip" in norms:
        total = weights["clip"] * norms["clip"] / shares["clip"]
    else:
        total = sum(weights[name] * norm for name, norm in norms.items())
    exact = {name: shares[name] * total / norm for name, norm in norms.items()}
    return {name: weights[name] if name == "clip" else float(f"{w:.{NUM_DIGITS}g}") for name, w in exact.items()}


def measure_norms(cohort: "Cohort", expected_s: float = 0.0) -> dict[str, float]:
    """The norm of each loss's weighted gradient with respect to all tower weights, the mean over the batches.

    Args:
        expected_s: expected seconds, for progress; 0 if not known.
    """
    from workbench.engine.gradients import member_gradients

    (member,) = cohort.members
    norms = []
    doing = "measuring the gradients of batches" + (f", about {duration(expected_s)}" if expected_s else "")
    with closing(cohort.batches()) as batches, phase(doing, cohort.num_steps) as shown:
        for step, batch in batches:
            norms.append(member_gradients(member, batch, cohort.teacher_forward(batch, step), step).tower_norm_K)
            shown.advance()
    return dict(zip(member.objective.terms, np.mean(norms, axis=0).tolist(), strict=True))


def _checked_time_s(cohort: "Cohort") -> float:
    """Estimated seconds of the measurement.

    Raises:
        ValueError: it would take more than an hour on this machine.
    """
    from workbench.preflight.timing import FORWARD, time_pairs

    (member,) = cohort.members
    timing = time_pairs(cohort).timing(cohort.batch_size)
    backwards = len(member.objective.terms)
    learn_s = timing.learn_s[member.run] * (FORWARD + backwards * (1 - FORWARD))
    expected_s = cohort.num_steps * (timing.teacher_forward_s + learn_s)
    if expected_s > MAX_TIME_S:
        raise ValueError(
            f"the gradients of {cohort.num_steps} batches of {cohort.batch_size:,} pairs would take this machine about "
            f"{duration(expected_s)}: calibrate where there is a GPU, with `workbench calibrate --batches 1`, or with "
            "smaller batches (--set train.batch_size=N)"
        )
    return expected_s


def _to_measure(config: RunConfig, num_batches: int) -> RunConfig:
    """The config of the measurement: one step per batch, no evaluation, every loss that is ever on at weight 1."""
    losses = {
        name: loss.model_copy(update={"weight": 1.0, "weight_at": "here"}) if loss.schedule.is_ever_on else loss
        for name, loss in config.loss.items()
    }
    data = config.data.model_copy(update={"validation": "", "test": ""})
    train = config.train.model_copy(update={"num_steps": num_batches})
    return config.model_copy(update={"loss": losses, "data": data, "train": train})


def _published(objective: "Objective", cohort: "Cohort") -> dict[str, float]:
    """Published weights, translated to this batch and width; losses without one are left out."""
    width = cohort.teacher.width if cohort.teacher else 1
    weights = {}
    for name, loss in objective.losses.items():
        if loss.convention in loss.published_weight:
            factor = loss.translation(cohort.batch_size, width)
            weights[name] = loss.published_weight[loss.convention] * factor
    return weights


def _weighed(norms: Mapping[str, float], weights: Mapping[str, float]) -> dict[str, WeightedShare]:
    total = sum(weight * norms[name] for name, weight in weights.items())
    return {name: WeightedShare(weight, weight * norms[name] / total) for name, weight in weights.items()}


def _with_weight(loss: LossConfig, weight: float | None) -> LossConfig:
    """The loss with this weight, or with this as the largest of its schedule; None leaves it as it is."""
    if weight is None:
        return loss
    new: float | Schedule = weight
    if isinstance(loss.weight, Schedule):
        ratio = weight / loss.weight.largest
        ends = {name: getattr(loss.weight, name) * ratio for name in ("value", "initial")}
        new = loss.weight.model_copy(update={k: v for k, v in ends.items() if k in loss.weight.model_fields_set})
    return loss.model_copy(update={"weight": new, "weight_at": "here"})
