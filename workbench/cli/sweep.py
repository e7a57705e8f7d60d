"""``workbench sweep``: train a study's runs, on one or several workers."""

import math
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workbench.cli.completion import complete_study
from workbench.cli.options import DEFAULT_RUNS, Json, Overrides, RunsDir, Trust, finite_option
from workbench.cli.output import print_json, print_line, print_note, print_step
from workbench.cli.progress import Interrupt, interruptible, show
from workbench.cli.slurm import DEFAULT_TASKS, job_array
from workbench.cli.workers import gpus_for, print_results, work_together
from workbench.config.cells import Changes, cells_of, example_cell, plain
from workbench.config.study import QUICK, Study
from workbench.preflight.precheck import check_config, check_objectives
from workbench.process import check_single_process
from workbench.results.facts import report_command
from workbench.runs.studies import find_trainable, stored_name
from workbench.sweeps.request import Request, check_by_hand

if TYPE_CHECKING:
    from workbench.sweeps.sweep import Sweep

UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}
MOST_SEEDS = 30  # of --seeds auto: beyond this, a difference near the margin costs more than it is worth

NameOrFile = Annotated[
    str,
    typer.Option(
        "--study", metavar="NAME|FILE", help="A study; see `workbench studies`.", autocompletion=complete_study
    ),
]


def _seconds(value: str) -> float:
    """Parser of a duration: seconds, or a number with a unit, such as 90s, 30m or 2h."""
    number, factor = (value[:-1], UNITS[value[-1]]) if value[-1:] in UNITS else (value, 1.0)
    try:
        seconds = factor * float(number)
    except ValueError:
        seconds = math.nan
    if not 1 <= seconds < math.inf:
        raise typer.BadParameter(f"must be at least a second, such as 90s, 30m or 2h (got {value})")
    return seconds


Timeout = Annotated[
    float | None,
    typer.Option(
        *("--budget", "--timeout"),
        metavar="TIME",
        parser=_seconds,
        help="Start no more runs (trials of a search) after this time, e.g. 30m or 2h; a number is in seconds.",
    ),
]


AUTO = 0


def _number_or_auto(value: str) -> int:
    """Parser of ``--seeds`` and ``--workers``."""
    if value == "auto":
        return AUTO
    if not (value.isdecimal() and int(value)):
        raise typer.BadParameter(f"must be auto, or a number from 1 (got {value})")
    return int(value)


Seeds = Annotated[
    int | None,
    typer.Option(
        "--seeds",
        metavar="N|auto",
        parser=_number_or_auto,
        help="Seeds (replicates) of every cell; auto adds seeds until every comparison with the baseline is settled.",
    ),
]
Margin = Annotated[
    float | None,
    typer.Option(
        "--margin",
        min=0,
        metavar="POINTS",
        help="Smallest difference that matters, in percentage points (1): smaller ones are equivalent to none.",
        callback=finite_option,
    ),
]
Confirm = Annotated[
    int | None,
    typer.Option("--confirm", min=0, metavar="N", help="Held-out seeds for confirming the best trial of a search."),
]
Slurm = Annotated[
    bool, typer.Option("--slurm", help="Print an sbatch script that runs --workers (8) as a job array, and exit.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue a study and retry failed or stopped runs.")]
Values = Annotated[
    list[str] | None,
    typer.Option("--try", metavar="KEY=VALUE", help="Queue a trial with these values in a started search."),
]
Retry = Annotated[str, typer.Option("--retry", metavar="CELL", help="Queue the cell's failed and stopped runs again.")]
AtOnce = Annotated[
    int | None,
    typer.Option("--at-once", min=1, help="Maximum number of cells per cohort; if not given, all that fit."),
]


Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        metavar="N|auto",
        parser=_number_or_auto,
        help="Worker processes on this machine; auto, the default, is one a GPU, or one without a GPU.",
    ),
]
Grace = Annotated[
    float,
    typer.Option("--grace", min=1, metavar="S", help="Worker heartbeat timeout, in seconds.", callback=finite_option),
]


def sweep(
    name_or_file: NameOrFile,
    seeds: Seeds = None,
    margin: Margin = None,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Training steps of every run.")] = None,
    trials: Annotated[int | None, typer.Option("--trials", min=1, help="Number of trials of a search.")] = None,
    timeout: Timeout = None,
    confirm: Confirm = None,
    workers: Workers = None,
    storage: Annotated[str, typer.Option("--storage", metavar="URL", help="Database shared with other machines.")] = "",
    quick: Annotated[bool, typer.Option("--quick", help="Rehearse the study with few steps and two seeds.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Estimate time and memory, and exit.")] = False,
    slurm: Slurm = False,
    resume: Resume = False,
    values: Values = None,
    retry: Retry = "",
    overrides: Overrides = None,
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="Keep the results under another name.")] = "",
    at_once: AtOnce = None,
    grace: Grace = 120,
    is_worker: Annotated[bool, typer.Option("--as-worker", hidden=True)] = False,
    runs: RunsDir = DEFAULT_RUNS,
    trust: Trust = False,
    json: Json = False,
) -> None:
    """Run a study: every cell at several seeds, as a table with intervals.

    Run the same command again to continue an interrupted study, or several
    times at once to share the work (with --storage, on several machines): each
    run is trained once.

    Examples:

        workbench sweep --study icl_weight
        workbench sweep --study icl_weight --dry-run
        workbench sweep --study icl_weight --seeds auto --margin 1 --budget 2h
        workbench sweep --study clip_kd_search --trials 40 --workers 2
        workbench sweep --study clip_kd_search --storage postgresql://user@host/db
        workbench sweep --study icl_weight --workers 8 --slurm > icl_weight.sbatch
        workbench sweep --study clip_kd_search --try loss.icl.weight=2 --try loss.fd.weight=500
    """
    check_single_process()
    if slurm:
        _check_prints_only(
            {"--dry-run": dry_run, "--resume": resume, "--try": values, "--retry": retry, "--json": json}
        )
    study = _configured(find_trainable(name_or_file, runs), quick, seeds, margin, trials, confirm)
    changes = Changes(tuple(overrides or ()), steps)
    cells = cells_of(study, changes)
    examples = cells or [example_cell(study, changes)]
    for cell in examples:
        check_config(cell.config, runs)
    check_objectives(study, examples)
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
        resumes=resume or bool(values or retry),
    )
    request.check_can_resume()
    from workbench.sweeps.sweep import Sweep  # imports torch, so it waits until all checks have passed

    trains_here = not (values or retry or slurm or is_worker)
    gpus = gpus_for(examples[0].config.train.device) if trains_here else []
    planned = Sweep(replace(request, workers=workers or max(1, len(gpus)), gpus=len(gpus)))
    if values or retry:
        _queue(planned, values or [], retry, json)
    elif slurm:
        _print_job_array(planned, name_or_file, quick, workers, trust)
    elif dry_run:
        _print_forecast(planned, json)
    elif is_worker:
        _work_alone(planned)
    else:
        _work_and_report(planned, name_or_file, quick, gpus, json)


def _work_alone(planned: "Sweep") -> None:
    """The process of one worker: it claims and trains runs until none are left."""
    with interruptible() as interrupt:
        planned.work(interrupt, show, print_step)
    raise typer.Exit(interrupt.exit_code)


def _work_and_report(planned: "Sweep", name_or_file: str, quick: bool, gpus: Sequence[str], json: bool) -> None:
    from workbench.results.trials import sweep_document

    print_note(planned.study.question)
    with interruptible() as interrupt:
        _work(planned, interrupt, gpus, lambda: [*_worker_command(name_or_file, planned.request, quick), "--as-worker"])
    if json:
        print_json(sweep_document(planned))
    else:
        _print_found(planned, name_or_file)
    _end(planned, interrupt)


def _print_found(planned: "Sweep", name_or_file: str) -> None:
    """Print the table, and the command for the full report."""
    print_results(planned)
    request = planned.request
    where = "" if request.runs_dir == DEFAULT_RUNS else f" --runs {shlex.quote(str(request.runs_dir))}"
    command = report_command(request.study, name_or_file, request.study_name)
    print_line(f"\nfull report, with the paper's numbers: {command}{where}")


def _configured(
    study: Study, quick: bool, seeds: int | None, margin: float | None, trials: int | None, confirm: int | None
) -> Study:
    """The study with the numbers given on the command line."""
    if not study.search and any(option is not None for option in (trials, confirm)):
        raise ValueError(f"--trials and --confirm are for searches, and study '{study.name}' is a grid")
    if seeds == AUTO and not study.baseline:
        what = "is a search" if study.search else "has no baseline"
        raise ValueError(f"--seeds auto settles comparisons with a baseline, and study '{study.name}' {what}: name N")
    # After quick(), so that --seeds and --trials also apply to a rehearsal.
    chosen = study.quick() if quick else study
    most = max(study.most_seeds, MOST_SEEDS) if seeds == AUTO else 0 if seeds else None
    given = {"seeds": seeds or None, "most_seeds": most, "margin": margin, "trials": trials, "confirm_seeds": confirm}
    return chosen.model_copy(update={key: value for key, value in given.items() if value is not None})


def _worker_command(name_or_file: str, request: Request, quick: bool) -> list[str]:
    """The command line of one worker process, for ``workbench``."""
    study = request.study
    given = {
        "--study": name_or_file,
        "--name": request.study_name.removesuffix(QUICK) if quick else request.study_name,
        "--seeds": "auto" if study.is_sequential else study.seeds,
        "--margin": study.margin,
        "--steps": request.changes.steps,
        "--trials": study.trials or None,
        "--confirm": study.confirm_seeds if study.search else None,
        "--storage": request.storage or None,
        "--grace": request.grace_s,
        "--budget": request.timeout_s or None,
        "--at-once": request.at_once or None,
        "--workers": request.workers,
        "--runs": request.runs_dir,
    }
    options = [word for option, value in given.items() if value is not None for word in (option, str(value))]
    sets = [word for override in request.changes.overrides for word in ("--set", override)]
    return ["sweep", *options, *sets, *(["--quick"] if quick else [])]


def _check_prints_only(others: Mapping[str, object]) -> None:
    given = [option for option, value in others.items() if value]
    if given:
        raise ValueError(
            f"--slurm only prints a script, which starts or continues the study: drop {', '.join(given)}, or use it "
            f"without --slurm"
        )


def _print_job_array(planned: "Sweep", name_or_file: str, quick: bool, workers: int | None, trust: bool) -> None:
    """Print the sbatch script, and to stderr a warning if its tasks would share an SQLite file."""
    request, seeds = planned.request, planned.study.seeds
    num_runs = len(planned.cells) * seeds
    num_tasks = workers or min(DEFAULT_TASKS, num_runs or planned.study.trials)
    # As a forecast for several workers does: the cells of a seed are split, so that no task is left without a run.
    share = math.ceil(num_runs / num_tasks) or request.at_once
    path, is_file = request.storage.removeprefix("sqlite:///"), request.storage.startswith("sqlite:///")
    request = replace(
        request,
        workers=1,
        runs_dir=request.runs_dir.absolute(),
        storage=f"sqlite:///{Path(path).absolute()}" if is_file else request.storage,
        at_once=min(share, request.at_once or share),
    )
    study = str(Path(name_or_file).absolute()) if name_or_file.endswith(".toml") else name_or_file
    command = [*_worker_command(study, request, quick), *(["--trust"] if trust else [])]
    print(job_array(command, plain(request.study_name), num_tasks), end="")
    if not request.storage or is_file:
        print_note(
            "warning: these tasks share an SQLite file, which is not reliable on a network file system: name a server "
            "with --storage postgresql://USER@HOST/DATABASE"
        )


def _queue(planned: "Sweep", values: list[str], retry: str, json: bool) -> None:
    """Queue a trial or a retry; running workers take it, or the next sweep of the study."""
    queued = planned.queue_values(values) if values else planned.queue_again(retry)
    name = planned.request.study_name
    if json:
        print_json({"study": name, "queued": queued})
    else:
        print_line(f"queued for {name}: {queued}")


def _print_forecast(planned: "Sweep", json: bool) -> None:
    forecast = planned.forecast(print_step)
    if json:
        print_json({"study": planned.request.study_name, "forecast": forecast.to_json()})
        return
    print_line(f"{planned.request.study_name}: {planned.study.question}")
    print_line(str(forecast))


def _work(planned: "Sweep", interrupt: Interrupt, gpus: Sequence[str], worker_command: Callable[[], list[str]]) -> None:
    if planned.request.resumes:
        planned.retry()
    if planned.is_done:
        return
    print_step(str(planned.forecast(print_step, trials=planned.ledger.trials())))
    workers = planned.request.workers
    if workers == 1:
        planned.work(interrupt, show, print_step)
        return

    if gpus:
        import torch

        torch.cuda.empty_cache()  # the forecast's memory on the first GPU, where a worker needs it
    work_together(worker_command(), workers, gpus, interrupt)


def _end(planned: "Sweep", interrupt: Interrupt) -> None:
    """Print how to continue, and exit with the status of the sweep."""
    if interrupt.exit_code:
        print_note("stopped; run the same command again to continue")
        raise typer.Exit(interrupt.exit_code)
    # Exit status 1 only if nothing succeeded or runs are missing: a failed cell is a result of the study.
    outcomes = [outcome for trial in planned.trials for outcome in trial.outcomes.values()]
    if outcomes and all(outcome.state == "failed" for outcome in outcomes):
        print_note("every run failed; fix the cause, then retry with --resume")
        raise typer.Exit(1)
    if not planned.is_done and not planned.request.timeout_s:
        print_note("the study is incomplete; --resume continues it and retries failed runs")
        raise typer.Exit(1)
