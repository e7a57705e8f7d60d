"""``workbench runs fork``."""

from typing import Annotated

import typer

from workbench.cli.copies import LogTo, check_tools
from workbench.cli.options import DEFAULT_RUNS, Json, Name, Overrides, Run, RunsDir, Trust


def fork(
    run: Run,
    at: Annotated[
        int | None, typer.Option("--at", metavar="STEP", help="Of which checkpoint; the newest if not given.")
    ] = None,
    overrides: Overrides = None,
    steps: Annotated[
        int | None,
        typer.Option("--steps", help="The fork's last step, counted from its parent's start; cadences scale with it."),
    ] = None,
    name: Name = None,
    runs: RunsDir = DEFAULT_RUNS,
    _trust: Trust = False,
    detach: Annotated[bool, typer.Option("--detach", help="Train in a process of its own, and return.")] = False,
    log_to: LogTo = None,
    json: Json = False,
) -> None:
    """Start a new run from a checkpoint of another, with changes.

    It has its parent's weights, optimiser and place in the data, and shares its
    history. The student stays the same; everything else may change.

    Examples:

        workbench runs fork clip-kd-s0-1122-1405 --at 40 --set loss.fd.weight=500

        workbench runs fork clip-kd-s0-1122-1405 --steps 160 --name longer
    """
    from workbench.cli.train import follow, start_detached_run
    from workbench.engine.fork import plan_fork
    from workbench.engine.precheck import check_config
    from workbench.process import check_alone
    from workbench.runs.directory import check_can_create, find_run

    check_alone()
    check_tools(log_to)
    planned = plan_fork(find_run(runs, run), at=at, overrides=overrides, num_steps=steps)
    run_id = name or planned.new_id()
    check_can_create(planned.parent.path.parent, run_id)
    check_config(planned.config, planned.parent.path.parent)
    if detach:
        start_detached_run(planned.create(run_id), json, log_to)
        return
    follow(planned.launch(run_id), json, log_to)
