"""Costs of a teacher and its student: parameters, multiply-accumulates and latency, per tower."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.config.inheritance import TOWERS, Tower
from workbench.config.toml import load_run_config
from workbench.runs.directory import RunDirectory

if TYPE_CHECKING:
    from workbench.inheritance.report import Latency, TowerReport
    from workbench.models.clip import Clip

SIDES = ("teacher", "student")


@dataclass(frozen=True)
class Costs:
    """Reports and latencies of teacher and student, by side and tower."""

    reports: "dict[str, dict[Tower, TowerReport]]"
    latencies: "dict[str, dict[Tower, Latency]]"

    def rows(self, tower: Tower) -> list[list[str]]:
        """Rows of one tower's costs: teacher, student, and the student's share."""
        teacher, student = (self.reports[side][tower] for side in SIDES)
        rows = [
            comparison_row("block params", teacher.block_parameters, student.block_parameters),
            comparison_row("table params", teacher.embedding_parameters, student.embedding_parameters),
        ]
        if teacher.multiply_accumulates is not None and student.multiply_accumulates is not None:
            costs = teacher.multiply_accumulates / 1e6, student.multiply_accumulates / 1e6
            rows.append(comparison_row("M mult-adds", *costs, digits=1))
        if self.latencies:
            teacher_time, student_time = (self.latencies[side][tower] for side in SIDES)
            rows.append(comparison_row("ms for one", teacher_time.median_ms, student_time.median_ms, digits=2))
            rows.append(["middle half", _middle(teacher_time), _middle(student_time), ""])
        return rows

    def to_json(self) -> dict[str, Any]:
        """By side and tower, with ``latency`` if measured."""
        return {
            side: {
                tower: _plain(report) | ({"latency": asdict(self.latencies[side][tower])} if self.latencies else {})
                for tower, report in self.reports[side].items()
            }
            for side in SIDES
        }


def describe_both(teacher: "Clip", student: "Clip") -> Costs:
    """Computed costs of both, without latency."""
    from workbench.inheritance.report import describe

    return Costs({"teacher": describe(teacher), "student": describe(student)}, {})


def measure_costs(teacher: "Clip", student: "Clip") -> Costs:
    """Costs of both, with the latency of a single image and text measured on this machine."""
    from workbench.inheritance.report import measure_latency

    timed = {tower: dict(zip(SIDES, measure_latency([teacher, student], tower), strict=True)) for tower in TOWERS}
    latencies = {side: {tower: timed[tower][side] for tower in TOWERS} for side in SIDES}
    return Costs(describe_both(teacher, student).reports, latencies)


def load_source(run: RunDirectory, runs_dir: Path) -> "Clip":
    """The model that a run's student inherits from.

    Raises:
        ValueError: the model no longer exists.
    """
    from workbench.models.spec import load_model

    config = load_run_config(run.config_file)
    return load_model(config.inheritance.source or config.teacher.model, runs_dir=runs_dir)


def comparison_row(name: str, teacher: float, student: float, digits: int = 0) -> list[str]:
    """A row: name, teacher, student, and the student's share."""
    return [name, f"{teacher:,.{digits}f}", f"{student:,.{digits}f}", f"{student / teacher:.0%}" if teacher else ""]


def _plain(report: "TowerReport") -> dict[str, Any]:
    return asdict(report) | {"shape": report.shape.model_dump(mode="json") if report.shape else None}


def _middle(latency: "Latency") -> str:
    return f"{latency.low_ms:.3g}-{latency.high_ms:.3g}"
