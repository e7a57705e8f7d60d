"""``workbench sweep``."""

import shlex
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from workbench.cli.completion import complete_study
from workbench.cli.options import DEFAULT_RUNS, Json, Overrides, RunsDir, Trust, finite_option

if TYPE_CHECKING:
    from workbench.cli.progress import Interrupt
    from workbench.config.study import Study
    from workbench.events import Event
    from workbench.sweeps.request import Request
    from workbench.sweeps.sweep import Sweep


def sweep(
    name_or_file: Annotated[
        str,
        typer.Option(
            "--study", metavar="NAME|FILE", help="What to ask: see `workbench studies`.", autocompletion=complete_study
        ),
    ],
    seeds: Annotated[int | None, typer.Option("--seeds", min=1, help="Replicates of every cell.")] = None,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Steps of every run.")] = None,
    trials: Annotated[int | None, typer.Option("--trials", min=1, help="Configurations that a search tries.")] = None,
    timeout: Annotated[
        float | None,
        typer.Option(
            "--timeout", min=1, metavar="S", help="Seconds after which a search asks no more.", callback=finite_option
        ),
    ] = None,
    confirm: Annotated[
        int | None,
        typer.Option("--confirm", min=0, metavar="N", help="Fresh seeds at which a search's best is confirmed."),
    ] = None,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes on this machine.")] = 1,
    storage: Annotated[
        str, typer.Option("--storage", metavar="URL", help="A database that other machines reach, too.")
    ] = "",
    quick: Annotated[bool, typer.Option("--quick", help="A rehearsal: a few steps, two seeds, the same path.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would take, and stop.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a study, and try again what failed or was stopped.")
    ] = False,
    values: Annotated[
        list[str] | None,
        typer.Option("--try", metavar="KEY=VALUE", help="Have a search that has begun try this next, and return."),
    ] = None,
    retry: Annotated[
        str, typer.Option("--retry", metavar="CELL", help="Have its failed and stopped runs tried again, and return.")
    ] = "",
    overrides: Overrides = None,
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="Keep it apart under another name.")] = "",
    at_once: Annotated[
        int | None,
        typer.Option("--at-once", min=1, help="Most cells that train together; if not given, all that fit."),
    ] = None,
    grace: Annotated[
        float,
        typer.Option(
            "--grace", min=1, metavar="S", help="Silence after which a worker counts as dead.", callback=finite_option
        ),
    ] = 120,
    is_worker: Annotated[bool, typer.Option("--as-worker", hidden=True)] = False,
    runs: RunsDir = DEFAULT_RUNS,
    _trust: Trust = False,
    json: Json = False,
) -> None:
    """Answer a question with runs at several seeds: a table with intervals.

    The same command goes on with what was interrupted, and may be given
    several times at once, here or, with --storage, on several machines: every
    run is trained once.

    Examples:

        workbench sweep --study icl_weight

        workbench sweep --study icl_weight --dry-run

        workbench sweep --study clip_kd_search --trials 40 --workers 2

        workbench sweep --study clip_kd_search --storage postgresql://user@host/db

        workbench sweep --study clip_kd_search --try loss.icl.weight=2 --try loss.fd.weight=500
    """
    from workbench.cli.output import errors, print_json
    from workbench.cli.progress import listening
    from workbench.config.cells import Changes, cells_of, example_cell
    from workbench.config.study import stored_name
    from workbench.engine.precheck import check_configs, check_objectives
    from workbench.process import check_alone
    from workbench.runs.summary import find_trainable
    from workbench.sweeps.by_hand import check_by_hand
    from workbench.sweeps.request import Request

    check_alone()
    study = _asked(find_trainable(name_or_file, runs), quick, seeds, trials, timeout, confirm)
    changes = Changes(tuple(overrides or ()), steps)
    check_objectives(study)
    cells = cells_of(study, changes)
    check_configs([cell.config for cell in cells or [example_cell(study, changes)]], runs)
    if values or retry:
        check_by_hand(study, cells, values or (), retry)
    request = Request(
        study,
        changes,
        runs,
        name=stored_name(study, name, quick=quick),
        storage=storage,
        grace_s=grace,
        at_once=at_once or 0,
        timeout_s=timeout or 0.0,
        workers=workers,
        resumes=resume or bool(values or retry),
    )
    request.check_can_resume()
    from workbench.sweeps.sweep import Sweep  # brings torch, which what is refused so far need not wait for

    planned = Sweep(request)
    if values or retry:
        _queue(planned, values or [], retry, json)
        return
    if dry_run:
        _print_forecast(planned, json)
        return
    with listening() as interrupt:
        if is_worker:
            planned.work(interrupt, _show, _say)
            raise typer.Exit(interrupt.exit_code)
        errors.print(study.question, markup=False, soft_wrap=True)
        _work(planned, interrupt, lambda: _worker_command(name_or_file, planned.request, quick))
    if json:
        print_json(planned.to_json())
    else:
        _print_found(planned, name_or_file)
    _end(planned, interrupt)


def _print_found(planned: "Sweep", name_or_file: str) -> None:
    """The table, and where the rest is."""
    from workbench.cli.output import print_line
    from workbench.cli.workers import print_results
    from workbench.report.facts import report_command

    print_results(planned)
    request = planned.request
    where = "" if request.runs_dir == DEFAULT_RUNS else f" --runs {shlex.quote(str(request.runs_dir))}"
    said = report_command(request.study, name_or_file, request.study_name)
    print_line(f"\nall of it, beside the paper's figures: {said}{where}")


def _asked(
    study: "Study",
    quick: bool,
    seeds: int | None,
    trials: int | None,
    timeout: float | None,
    confirm: int | None,
) -> "Study":
    """The study with what the command line changes of it."""
    if not study.search and any(given is not None for given in (trials, timeout, confirm)):
        raise ValueError(
            f"--trials, --timeout and --confirm are for searches, and study '{study.name}' takes every cell once"
        )
    chosen = study.quick() if quick else study
    asked = {"seeds": seeds, "trials": trials, "confirm_seeds": confirm}
    return chosen.model_copy(update={key: value for key, value in asked.items() if value is not None})


def _worker_command(name_or_file: str, request: "Request", quick: bool) -> list[str]:
    """The command of one process of a team; at most so many cells together as the team's forecast says."""
    from workbench.config.study import QUICK

    study = request.study
    given = {
        "--study": name_or_file,
        "--name": request.study_name.removesuffix(QUICK) if quick else request.study_name,
        "--seeds": study.seeds,
        "--steps": request.changes.steps,
        "--trials": study.trials or None,
        "--confirm": study.confirm_seeds if study.search else None,
        "--storage": request.storage or None,
        "--grace": request.grace_s,
        "--timeout": request.timeout_s or None,
        "--at-once": request.at_once,
        "--workers": request.workers,
        "--runs": request.runs_dir,
    }
    options = [word for option, value in given.items() if value is not None for word in (option, str(value))]
    sets = [word for override in request.changes.overrides for word in ("--set", override)]
    return ["sweep", *options, *sets, *(["--quick"] if quick else []), "--as-worker"]


def _queue(planned: "Sweep", values: list[str], retry: str, json: bool) -> None:
    """What a person adds to a study; its workers take it up, or the same command without these options."""
    from workbench.cli.output import print_json, print_line
    from workbench.sweeps.by_hand import queue_again, queue_values

    queued = queue_values(planned, values) if values else queue_again(planned, retry)
    name = planned.request.study_name
    if json:
        print_json({"study": name, "queued": queued})
    else:
        print_line(f"queued for {name}: {queued}")


def _print_forecast(planned: "Sweep", json: bool) -> None:
    from workbench.cli.output import print_json, print_line

    forecast = planned.forecast(_say)
    if json:
        print_json({"study": planned.request.study_name, "forecast": forecast.to_json()})
        return
    print_line(f"{planned.request.study_name}: {planned.study.question}")
    print_line(str(forecast))


def _work(planned: "Sweep", interrupt: "Interrupt", worker_command: Callable[[], list[str]]) -> None:
    if planned.request.resumes:
        planned.retry()
    if planned.is_done:
        return
    _say(str(planned.forecast(_say, trials=planned.ledger.trials())))
    workers = planned.request.workers
    if workers == 1:
        planned.work(interrupt, _show, _say)
        return
    from workbench.cli.workers import work_together
    from workbench.limits import usable_cores

    work_together(worker_command(), workers, max(1, usable_cores() // workers), interrupt)


def _end(planned: "Sweep", interrupt: "Interrupt") -> None:
    """How a person goes on, and the exit status."""
    from workbench.cli.output import errors

    if interrupt.exit_code:
        errors.print("stopped; the same command goes on where this left off")
        raise typer.Exit(interrupt.exit_code)
    outcomes = [outcome for trial in planned.trials for outcome in trial.outcomes.values()]
    if outcomes and all(outcome.state == "failed" for outcome in outcomes):
        errors.print("every run has failed; --resume tries them again once the cause is gone")
        raise typer.Exit(1)
    if not planned.is_done and not planned.request.timeout_s:
        errors.print("not everything has ended; --resume goes on, and tries again what failed")
        raise typer.Exit(1)


def _show(events: "Iterator[Event]", num_steps: int) -> "Iterator[Event]":
    from workbench.cli.progress import show

    return show(events, num_steps)


def _say(doing: str) -> None:
    from workbench.cli.output import errors

    errors.print(doing, style="dim", markup=False, soft_wrap=True)
