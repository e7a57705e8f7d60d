"""``workbench inherit``: a smaller model with weights of its teacher, by a plan or by learned masks."""

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from workbench.cli.architecture import describe_both, print_architecture
from workbench.cli.completion import complete_model
from workbench.cli.options import DEFAULT_RUNS, Json, RunsDir, check_free, write_figure, writing
from workbench.cli.output import print_json, print_line
from workbench.cli.progress import show
from workbench.config.inheritance import TOWERS, Plan
from workbench.config.run import RunConfig
from workbench.config.toml import merge, parse_override
from workbench.documents import Table
from workbench.engine.learn_masks import MaskLearning, masks_config
from workbench.figures.architecture import architecture_figure
from workbench.figures.style import check_suffix
from workbench.files import new_folder
from workbench.models.names import check_model
from workbench.preflight.precheck import check_config
from workbench.views.architecture import architecture

if TYPE_CHECKING:
    from workbench.inheritance.inheritance_map import InheritanceMap
    from workbench.models.clip import Clip

STEPS = 80  # as in the mask phase of the recipe tinyclip-auto
AMOUNT = "A number or a fraction (0.5), for both towers."


Teacher = Annotated[
    str, typer.Option("--teacher", metavar="SPEC", help="The model to inherit from.", autocompletion=complete_model)
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Plan of one tower, e.g. 'image.depth=[0,2,3]'; with --auto also training settings, e.g. "
        "train.batch_size=32. Repeatable.",
    ),
]
Auto = Annotated[
    float | None,
    typer.Option("--auto", metavar="SHARE", help="Target sparsity of attention and FFN weights for learned masks."),
]
Data = Annotated[str | None, typer.Option("--data", metavar="SPEC", help="With --auto: training pairs for the masks.")]
Steps = Annotated[int | None, typer.Option("--steps", help=f"With --auto: training steps; {STEPS} if not given.")]
Figure = Annotated[
    Path | None, typer.Option("--figure", metavar="FILE", help="Draw what each layer keeps (png, svg or pdf).")
]


def inherit(
    teacher: Teacher,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Output folder of the smaller model.")],
    depth: Annotated[str, typer.Option("--depth", metavar="AMOUNT", help=f"Layers to keep. {AMOUNT}")] = "",
    width: Annotated[str, typer.Option("--width", metavar="AMOUNT", help=f"Embedding channels to keep. {AMOUNT}")] = "",
    overrides: Overrides = None,
    auto: Auto = None,
    data: Data = None,
    steps: Steps = None,
    figure: Figure = None,
    runs: RunsDir = DEFAULT_RUNS,
    json: Json = False,
) -> None:
    """Make a smaller model from a teacher's layers, heads and channels (TinyCLIP's weight inheritance).

    A manual plan sets, for image.* and text.*: depth, depth_rule (even, released_stride, first, last, importance),
    width, heads, channels and width_rule (leading, magnitude).

    With --auto, masks over heads, FFN and embedding channels are learned as in the recipe tinyclip-auto.

    Examples:

        workbench inherit --teacher sample:scenes --depth 0.5 --out half
        workbench inherit --teacher sample:scenes --set image.width=64 --set image.width_rule=magnitude --out narrow
        workbench inherit --teacher sample:scenes --auto 0.5 --data samples:scenes --out learned
        workbench evaluate half --data samples:scenes/test
        workbench train --recipe clip-kd --set student.model=half
    """
    plan, settings = _plan(depth, width, overrides or [], is_auto=auto is not None)
    check_free(out)
    if figure:
        check_suffix(figure)
    check_model(teacher, runs, needs_weights=True)
    config = _masks_config(teacher, data, auto, steps, plan, settings, runs)
    from workbench.models.folder import save_folder
    from workbench.models.spec import load_model

    before = load_model(teacher, runs_dir=runs)
    after, inheritance_map = _learned(config, runs) if config else _planned(before, plan)
    view = architecture(inheritance_map.snapshot(step=0, stage=0))
    if figure:
        write_figure(architecture_figure(view), figure)
    with writing(out), new_folder(out) as building:
        save_folder(after, building)
    costs = describe_both(before, after)
    if json:
        plain = {"dir": str(out), "plan": plan.model_dump(mode="json"), "architecture": view.to_json()}
        print_json(plain | costs.to_json())
        return
    print_architecture(view, costs)
    if figure:
        print_line(f"figure: {figure}")
    name = quote(str(out))
    print_line(f"evaluate: workbench evaluate {name} --data SPEC; train: --set student.model={name}")


def _planned(before: "Clip", plan: Plan) -> "tuple[Clip, InheritanceMap]":
    """The model that a plan makes of another, and what it keeps."""
    from workbench.inheritance import inherit
    from workbench.inheritance.inheritance_map import planned_map

    return inherit(before, plan), planned_map(before, plan)


def _learned(config: RunConfig, runs: Path) -> "tuple[Clip, InheritanceMap]":
    """The model that learned masks leave, and what they keep; shows progress."""
    learning = MaskLearning(config, runs)
    for _ in show(learning, learning.num_steps):
        pass
    return learning.student, learning.inheritance_map


def _masks_config(
    teacher: str, data: str | None, auto: float | None, steps: int | None, plan: Plan, settings: Table, runs: Path
) -> RunConfig | None:
    """The config of the run that learns the masks of ``--auto``, checked; None without ``--auto``."""
    if auto is None:
        if data is not None or steps is not None:
            raise ValueError("--data and --steps need --auto: give a target sparsity, e.g. --auto 0.5")
        return None
    if data is None:
        raise ValueError("--auto needs training pairs: add --data SPEC, e.g. --data samples:scenes")
    if steps is not None and steps < 1:
        raise ValueError(f"--steps must be at least 1 (got {steps})")
    if not 0 < auto < 1:
        raise ValueError(f"--auto must be above 0 and below 1 (got {auto:g}): it is the target sparsity")
    try:
        config = masks_config(teacher, data, auto, steps or STEPS, plan.model_dump(mode="json"), settings)
        check_config(config, runs)
    except ValueError as error:
        # The remedy must name the option of this command.
        raise ValueError(str(error).replace("--set data.train=SPEC", "--data SPEC")) from None
    return config


def _plan(depth: str, width: str, overrides: list[str], *, is_auto: bool) -> tuple[Plan, Table]:
    """The plan of both towers, and the ``--set`` overrides for the training of masks."""
    amounts = {"depth": depth, "width": width}
    both = [f"{tower}.{name}={amount}" for name, amount in amounts.items() if amount for tower in TOWERS]
    table: Table = {}
    for override in [*both, *overrides]:
        table = merge(table, parse_override(override))
    # --set takes both kinds: keys of a run's config are training settings, the rest is the plan.
    of_run = [key for key in table if is_auto and key in RunConfig.model_fields]
    settings = {key: table.pop(key) for key in of_run}
    if not table and not is_auto:
        raise ValueError("nothing to remove: choose what to keep, e.g. --depth 0.5, or --auto 0.5")
    return Plan.parse(table), settings
