"""``workbench inherit``: a smaller model with its teacher's weights, by a plan."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench.cli.completion import complete_model
from workbench.cli.options import DEFAULT_RUNS, Json, RunsDir

if TYPE_CHECKING:
    from workbench.config.inheritance import Plan
    from workbench.config.shape import Tower
    from workbench.inheritance.report import TowerReport

TOWERS: tuple["Tower", ...] = ("image", "text")
AMOUNT = "How many, or which share (0.5), of both towers."


def inherit(
    teacher: Annotated[
        str, typer.Option("--teacher", metavar="SPEC", help="Whose weights.", autocompletion=complete_model)
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the smaller model goes.")],
    depth: Annotated[str, typer.Option("--depth", metavar="AMOUNT", help=f"Layers. {AMOUNT}")] = "",
    width: Annotated[str, typer.Option("--width", metavar="AMOUNT", help=f"Embedding channels. {AMOUNT}")] = "",
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="One tower's plan, e.g. image.depth=[0,2,3]. Repeatable."),
    ] = None,
    runs: RunsDir = DEFAULT_RUNS,
    json: Json = False,
) -> None:
    """Make a smaller model from some of a teacher's layers, heads and channels (TinyCLIP's manual inheritance).

    A plan has image.* and text.* of depth, depth_rule (even, released_stride, first, last, importance), width, heads,
    channels and width_rule (leading, magnitude).

    Examples:

        workbench inherit --teacher sample:scenes --depth 0.5 --out half

        workbench inherit --teacher sample:scenes --set image.width=64 --set image.width_rule=magnitude --out narrow

        workbench evaluate half --data samples:scenes/test

        workbench train --recipe clip-kd --set student.model=half
    """
    from workbench.cli.output import print_json, print_line
    from workbench.inheritance import inherit as take_over
    from workbench.inheritance.report import describe
    from workbench.models.folder import save_folder
    from workbench.models.spec import load_model

    plan = _plan(depth, width, overrides or [])
    if out.exists() and any(out.iterdir() if out.is_dir() else [out]):
        raise ValueError(f"{out} is there already: name another folder with --out")
    before = load_model(teacher, runs_dir=runs)
    after = take_over(before, plan)
    save_folder(after, out)
    reports = describe(before), describe(after)
    if json:
        print_json({"dir": str(out), "plan": plan.model_dump(mode="json")} | _document(*reports))
        return
    _print_reports(*reports)
    print_line(f"measure it: workbench evaluate {out} --data SPEC; train it: --set student.model={out}")


def _plan(depth: str, width: str, overrides: list[str]) -> "Plan":
    from workbench.config.inheritance import Plan
    from workbench.config.toml import merge, parse_override

    amounts = {"depth": depth, "width": width}
    both = [f"{tower}.{name}={amount}" for name, amount in amounts.items() if amount for tower in TOWERS]
    table: dict[str, Any] = {}
    for override in [*both, *overrides]:
        table = merge(table, parse_override(override))
    if not table:
        raise ValueError("nothing is left out: say what to keep, e.g. --depth 0.5, or --set image.width=64")
    return Plan.parse(table)


def _document(before: "dict[Tower, TowerReport]", after: "dict[Tower, TowerReport]") -> dict[str, Any]:
    from dataclasses import asdict

    def plain(report: "TowerReport") -> dict[str, Any]:
        return asdict(report) | {"shape": report.shape.model_dump(mode="json") if report.shape else None}

    return {
        name: {tower: plain(report) for tower, report in side.items()}
        for name, side in (("teacher", before), ("student", after))
    }


def _print_reports(before: "dict[Tower, TowerReport]", after: "dict[Tower, TowerReport]") -> None:
    from workbench.cli.output import print_rows

    rows = [
        [f"{tower} tower", name, *_numbers(side[tower])]
        for tower in TOWERS
        for name, side in (("teacher", before), ("student", after))
    ]
    print_rows(["", "", "layers", "width", "heads", "FFN", "weights", "embeddings", "M mult-adds"], rows, num_words=2)


def _numbers(report: "TowerReport") -> list[str]:
    from workbench.views.architecture import means

    shape = ["-"] * 4
    if report.shape:
        found = means(report.shape)
        shape = [str(report.shape.num_layers), str(found.width), f"{found.heads:g}", f"{found.channels:g}"]
    cost = "-" if report.multiply_accumulates is None else f"{report.multiply_accumulates / 1e6:,.1f}"
    return [*shape, f"{report.block_parameters:,}", f"{report.embedding_parameters:,}", cost]
