"""Performance goals of the workbench, and the row of the tables that each refers to."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from workbench.bench import peer, step, training
from workbench.bench.contest import Row

Column = Literal["ratio", "of the floor", "floor_ratio"]


@dataclass(frozen=True)
class Goal:
    """A performance goal.

    Args:
        name: what is compared.
        bench: the benchmark with the row.
        case: suffix of the row's case.
        column: the figure; "of the floor" is 1 / ``floor_ratio``, the fraction of the possible speed.
        wanted: lower limit of the figure; upper limit with ``at_most``.
    """

    name: str
    bench: str
    case: str
    column: Column
    wanted: float
    at_most: bool = False


@dataclass(frozen=True)
class Reached:
    """A goal and the measured figure."""

    name: str
    wanted: float
    at_most: bool
    measured: float
    is_reached: bool

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


GOALS = (
    Goal("with the teacher cached, against open_clip's program", "peer", peer.CACHED, "ratio", 3.5),
    Goal("with the teacher live, against open_clip's program", "peer", peer.PREPARED, "ratio", 1.3),
    Goal("8 members, of what sharing allows", "cohort", f"members, {training.TOGETHER}", "of the floor", 0.9),
    Goal(
        "8 members stacked, in steps of one", "cohort", f"members, {training.STACKED}", "floor_ratio", 2.0, at_most=True
    ),
    Goal("ViT-B-16 cached, of what no teacher allows", "cache", f"real, {training.CACHED}", "of the floor", 0.9),
    Goal("pictures of 48 px, against decoding", "data", "samples, pictures, pixels", "ratio", 10.0),
    Goal("batches of 48 px views, against decoding", "data", "samples, batches, views", "ratio", 12.0),
    Goal("photographs at 256 px, against decoding", "data", "photographs-256, pictures, pixels", "ratio", 10.0),
    Goal("the engine's step, in bare loops", "step", step.BARE, "ratio", 1.03, at_most=True),
)


def reached(tables: Mapping[str, Sequence[Row]]) -> list[Reached]:
    """The goals with a measured row; some rows, such as a stacked cohort's, exist on a GPU only."""
    found = []
    for goal in GOALS:
        for row in tables.get(goal.bench, ()):
            measured = _figure(row, goal.column)
            # A row's case begins with its size or its data, which the goal leaves open.
            if row.case.endswith(goal.case) and measured is not None:
                is_reached = measured <= goal.wanted if goal.at_most else measured >= goal.wanted
                found.append(Reached(goal.name, goal.wanted, goal.at_most, measured, is_reached))
    return found


def _figure(row: Row, column: Column) -> float | None:
    if column == "ratio":
        return row.ratio
    if row.floor_ratio is None:
        return None
    return row.floor_ratio if column == "floor_ratio" else 1 / row.floor_ratio
