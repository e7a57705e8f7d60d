"""``workbench evaluate MODEL MODEL...``: several models on the same pairs, and their agreement with one teacher."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.cli.output import print_json, print_line, print_rows
from workbench.progress import phase
from workbench.views.models import ModelColumn, model_rows, nearer

if TYPE_CHECKING:
    from workbench.engine.compare_models import ModelsOnPairs
    from workbench.runs.snapshots import Probe


@dataclass(frozen=True)
class Request:
    """What ``evaluate`` measures models on, and how it reports.

    Attributes:
        data: SPEC of the pairs; None for a run's own.
        teacher: SPEC of the model to agree with; empty for a run's own.
        num_pairs: the first ones, 0 for all; None for as many as the run measures.
        block_size: retrieval gallery size; None for the run's.
        figure: where affinities are drawn; None for nowhere.
        runs: the runs folder.
        json: whether to print one JSON document.
    """

    data: str | None
    teacher: str
    num_pairs: int | None
    block_size: int | None
    figure: Path | None
    runs: Path
    json: bool


def write_affinities(probes: "Mapping[str, Probe | None]", figure: Path) -> None:
    """Draw the affinities of the first pairs by the teacher and by models, by name, and their differences.

    Raises:
        ValueError: the figure cannot be written.
    """
    from workbench.cli.options import write_figure
    from workbench.figures.affinity import affinity_figure, model_panels, probe_order
    from workbench.models.names import folder_name
    from workbench.views.affinity import affinity_view

    found = {folder_name(name): probe for name, probe in probes.items() if probe is not None}
    shown = list(found.values())
    views = [affinity_view(probe) for probe in shown]
    panels = model_panels(list(found), shown, views, probe_order(shown[0], "cluster"))
    write_figure(affinity_figure(panels, "affinity"), figure)


def evaluate_models(sources: list[str], request: Request) -> None:
    """Measure several models and print one table; differences are to the first.

    Raises:
        ValueError: there is no such model, or no pairs.
    """
    with phase("loading PyTorch"):
        from workbench.engine.compare_models import compare_models

    found = compare_models(
        sources,
        request.data,
        teacher=request.teacher,
        num_pairs=request.num_pairs,
        block_size=request.block_size,
        runs_dir=request.runs,
    )
    if request.figure:
        write_affinities({model.source: model.measured.probe for model in found.models}, request.figure)
    columns = [ModelColumn(model.source, model.measured.metrics, model.gains) for model in found.models]
    if request.json:
        print_json(_document(found, columns, request.teacher))
        return
    letters = [chr(ord("A") + number) for number in range(len(columns))]
    for letter, model in zip(letters, found.models, strict=True):
        print_line(f"{letter}  {model.source}: {model.num_parameters / 1e6:.1f} M parameters")
    first = found.models[0].measured
    rows = [row.cells() for row in model_rows(columns, first.teacher)]
    others = [heading for one in letters[1:] for heading in (one, f"{one} \N{MINUS SIGN} A", "95 % over pairs")]
    headings = ["metric", "teacher", "A", *others]
    if not any(row[1] for row in rows):  # no teacher
        rows, headings = [[row[0], *row[2:]] for row in rows], [headings[0], *headings[2:]]
    print_rows(headings, rows, f"{found.num_pairs:,} pairs")
    for letter, column in zip(letters[1:], columns[1:], strict=True):
        if sentence := nearer(columns[0], column).sentence("A", letter):
            print_line(sentence)
    for note in found.notes:
        print_line(note)
    if request.figure:
        print_line(f"figure: {request.figure}")


def _document(found: "ModelsOnPairs", columns: list[ModelColumn], teacher: str) -> dict[str, Any]:
    first = found.models[0].measured
    return {
        "num_pairs": found.num_pairs,
        "teacher": teacher,
        "models": [
            {
                "source": model.source,
                "num_parameters": model.num_parameters,
                "metrics": model.measured.metrics,
                "errors": model.measured.errors,
                "differences": {name: gain.to_json() for name, gain in model.gains.items()},
                "nearer": nearer(columns[0], column).to_json() if column is not columns[0] else None,
            }
            for model, column in zip(found.models, columns, strict=True)
        ],
        "chance": first.chance,
        "teacher_metrics": first.teacher,
        "notes": list(found.notes),
    }
