"""A study's report as lines of cells: its table, and its runs one by one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from workbench.report.markdown import best_first
from workbench.report.tables import interval
from workbench.runs.liveness import TAKES_COMMANDS
from workbench.terminal import visible
from workbench.tui.rows import GAP, SCROLLBAR, Cell, Line
from workbench.tui.study.studied import Studied
from workbench.tui.words import NOTHING, TONES
from workbench.views.metrics import MetricLabel
from workbench.views.names import shortened
from workbench.views.study import Replicate, StudyCell, paper_in_our_unit

SIGNS = {"finished": "●", "running": "▸", "new": "▸", "silent": "▸", "missing": "·", "dropped": "–"}
OTHER_SIGNS = {"stopped": "○", "interrupted": "○"}
BAD = "×"
LEGEND = "● finished  ▸ training  ○ stopped  × failed  – dropped  · to come  ★ best"
LEAST_NAME, MOST_NAME = 10, 40
TONE_OF_VERDICT = {"better": "success", "worse": "error"}

Tones = Callable[[str], str]  # a theme's colour by name


@dataclass(frozen=True)
class Heading:
    """A column's heading and width in cells."""

    text: str
    width: int


def sign(one: Replicate) -> str:
    """A replicate's state in one character."""
    return SIGNS.get(one.state) or OTHER_SIGNS.get(one.state, BAD)


def table_headings(found: Studied, metric: MetricLabel, width: int) -> list[Heading]:
    """What fits into ``width`` cells, the most important first to stay; a study without a paper has no such column."""
    table = found.report.table
    num_seeds = max((len(cell.replicates) for cell in table.cells), default=1)
    published = any(table.entry(cell, metric).paper is not None for cell in table.cells)
    differs = any(table.entry(cell, metric).gain for cell in table.cells)
    wanted = [
        Heading("seeds", max(5, min(12, num_seeds))),
        Heading("ours", 7),
        Heading("95 %", 16),
        *([Heading("paper", 6)] if published else []),
        *([Heading("differs", 8), Heading("95 % ", 16), Heading("verdict", 18)] if differs else []),
        *([Heading("paper's", 7)] if published and differs else []),
    ]
    names = [len(visible(cell.name)) + 2 for cell in table.cells]
    least = max(LEAST_NAME, min(MOST_NAME, max(names, default=0), width // 3))
    shown: list[Heading] = []
    room = width - least - GAP - 1 - SCROLLBAR
    for heading in wanted:
        room -= heading.width + GAP
        if room < 0:
            break
        shown.append(heading)
    return [Heading("cell", least), *shown]


def table_lines(found: Studied, metric: MetricLabel, headings: list[Heading], tones: Tones) -> dict[str, Line]:
    """A line a cell, by its name; of a search the best first."""
    return {
        cell.name: tuple(
            Cell(visible(text), heading.width, tones(tone) if tone else "")
            for heading in headings
            for text, tone in [_said(found, cell, metric)[heading.text]]
        )
        for cell in best_first(found.report)
    }


def _said(found: Studied, cell: StudyCell, metric: MetricLabel) -> Mapping[str, tuple[str, str]]:
    table = found.report.table
    entry = table.entry(cell, metric)
    star = "★ " if cell.name == found.report.best else "  "
    why = next((one.why.partition(":")[0].partition(" ")[0] for one in found.ended if one.cell == cell.name), "")
    state = why if why and cell.state not in TAKES_COMMANDS else cell.state
    paper = "" if entry.paper is None else paper_in_our_unit(metric, entry.paper)
    theirs = "" if entry.paper_gain is None else metric.number(entry.paper_gain / metric.factor, signed=True)
    is_baseline = cell.name == table.baseline
    return {
        "cell": (star + cell.name, "accent" if star.strip() else ""),
        "seeds": ("".join(map(sign, cell.replicates)), tone_of(cell.state)),
        "ours": (metric.number(entry.mean.mean) if entry.mean else NOTHING, ""),
        "95 %": (interval(metric, entry.mean) if entry.mean else state, "text-muted"),
        "paper": (paper, "text-muted"),
        "differs": (
            "baseline" if is_baseline else metric.number(entry.gain.mean, signed=True) if entry.gain else "",
            "",
        ),
        "95 % ": (interval(metric, entry.gain, signed=True) if entry.gain else "", "text-muted"),
        "verdict": (entry.verdict, TONE_OF_VERDICT.get(entry.verdict, "")),
        "paper's": (theirs, "text-muted"),
    }


def run_headings(found: Studied, metric: MetricLabel, width: int) -> list[Heading]:
    """The columns of the runs, as wide as they need to be."""
    label = metric.title if width >= 100 else metric.label
    cells = found.report.table.cells
    states = [len(one.state_text) for cell in cells for one in cell.replicates]
    fixed = [
        Heading("seed", 4),
        Heading("state", min(24, max(8, *states, 0))),
        Heading(label[:18], min(18, len(label))),
    ]
    room = width - sum(one.width + GAP for one in fixed) - 2 * GAP - 1 - SCROLLBAR
    name = max(LEAST_NAME, min(max((len(visible(cell.name)) for cell in cells), default=0), room // 2))
    return [Heading("cell", name), *fixed, Heading("run, or why not", max(LEAST_NAME, room - name))]


def run_lines(found: Studied, metric: MetricLabel, headings: list[Heading], tones: Tones) -> dict[str, Line]:
    """A line a run, by its id, those that are under way or in trouble first; without those to come."""
    why = {one.cell: one.why for one in found.ended}
    every = [(cell, one) for cell in found.report.table.cells for one in cell.replicates if one.run]
    lines = {}
    for cell, one in sorted(every, key=lambda pair: pair[1].is_finished):
        reason = one.reason or ("" if one.is_finished and cell.is_complete else why.get(cell.name, ""))
        texts = [
            (cell.name, ""),
            (str(one.seed), ""),
            (one.state_text, tone_of(one.state)),
            (metric.number(one.metrics.get(metric.name)), ""),
            (reason or shortened(one.run, headings[-1].width), "" if reason else "text-muted"),
        ]
        lines[one.run] = tuple(
            Cell(visible(text), heading.width, tones(tone) if tone else "")
            for (text, tone), heading in zip(texts, headings, strict=True)
        )
    return lines


def tone_of(state: str) -> str:
    """The theme's colour of a state; the usual one for what has ended well or is to come."""
    return "text-muted" if state in ("missing", "dropped") else TONES.get(state, "")


def heading_text(headings: list[Heading]) -> str:
    """The line above the lines."""
    return " " + "".join(heading.text[: heading.width].ljust(heading.width + GAP) for heading in headings)
