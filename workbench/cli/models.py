"""``workbench evaluate MODEL MODEL...``: several models on the same pairs, and their agreement with one teacher."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.cli.output import print_json, print_line, print_rows
from workbench.progress import phase
from workbench.views.models import ModelColumn, model_rows, nearer

if TYPE_CHECKING:
    from workbench.engine.compare_models import ModelsOnPairs


def evaluate_models(
    sources: list[str],
    data: str | None,
    teacher: str,
    num_pairs: int | None,
    block_size: int | None,
    runs: Path,
    *,
    json: bool,
) -> None:
    """Measure several models and print one table; differences are to the first.

    Raises:
        ValueError: there is no such model, or no pairs.
    """
    with phase("loading PyTorch"):
        from workbench.engine.compare_models import compare_models

    found = compare_models(sources, data, teacher=teacher, num_pairs=num_pairs, block_size=block_size, runs_dir=runs)
    columns = [ModelColumn(model.source, model.measured.metrics, model.gains) for model in found.models]
    if json:
        print_json(_document(found, columns, teacher))
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
