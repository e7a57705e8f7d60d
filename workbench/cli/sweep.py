"""``workbench sweep``: train a study's runs, on one or several workers."""

import math
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from workbench.cli.options import DEFAULT_RUNS, Json, Overrides, RunsDir, Trust
from workbench.cli.output import print_json, print_line, print_note, print_step
from workbench.cli.progress import Interrupt, interruptible, show
from workbench.cli.slurm import DEFAULT_TASKS, job_array
from workbench.cli.sweep_options import (
    AUTO,
    AsWorker,
    AtOnce,
    Confirm,
    DryRun,
    Grace,
    Margin,
    Name,
    NameOrFile,
    Quick,
    Resume,
    Retry,
    Seeds,
    Slurm,
    Steps,
    Storage,
    Timeout,
    Trials,
    Values,
    Workers,
)
from workbench.cli.workers import gpus_for, print_results, work_together
from workbench.config.cells import Changes, cells_of, example_cell, plain
from workbench.config.study import MOST_SEEDS, QUICK, Study
from workbench.formatting import duration
from workbench.preflight.precheck import check_config, check_objectives
from workbench.process import check_single_process
from workbench.results.facts import report_command
from workbench.runs.studies import find_trainable, stored_name
from workbench.sweeps.request import Request, check_by_hand

if TYPE_CHECKING:
    from workbench.sweeps.sweep import Sweep


def sweep(
    name_or_file: NameOrFile,
    seeds: Seeds = None,
    margin: Margin = None,
    steps: Steps = None,
    trials: Trials = None,
    timeout: Timeout = None,
    confirm: Confirm = None,
    workers: Workers = None,
    storage: Storage = "",
    quick: Quick = False,
    dry_run: DryRun = False,
    slurm: Slurm = False,
    resume: Resume = False,
    values: Values = None,
    retry: Retry = "",
    overrides: Overrides = None,
    name: Name = "",
    at_once: AtOnce = None,
    grace: Grace = 120,
    is_worker: AsWorker = False,
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
    found = find_trainable(name_or_file, runs)
    is_for_one = bool(slurm or values or retry)
    requests = [
        Request(
            study,
            Changes(tuple(overrides or ()), steps),
            runs,
            name=stored_name(study, own_name, quick=quick),
            storage=storage,
            grace_s=grace,
            at_once=at_once or 0,
            timeout_s=timeout or 0.0,
            resumes=resume or bool(values or retry),
        )
        for part, own_name in _parts(found, name, is_for_one)
        for study in (_configured(part, quick, seeds, margin, trials, confirm),)
    ]
    devices = {_check(request, values or (), retry) for request in requests}
    from workbench.sweeps.sweep import Sweep  # imports torch, so it waits until all checks have passed

    gpus = [] if is_for_one or is_worker else gpus_for(devices.pop())
    sweeps = [Sweep(replace(one, workers=workers or max(1, len(gpus)), gpus=len(gpus))) for one in requests]
    if values or retry:
        _queue(sweeps[0], values or [], retry, json)
    elif slurm:
        _print_job_array(sweeps[0], name_or_file, quick, workers, trust)
    elif dry_run:
        _print_forecasts(sweeps, found, json)
    elif is_worker:
        _work_alone(sweeps[0])
    else:
        _work_and_report(sweeps, found, name_or_file, quick, gpus, json)


def _parts(study: Study, name: str, is_for_one: bool) -> list[tuple[Study, str]]:
    """The sweeps of a study to run, each with the ``--name`` that it is stored under, if it is another than its own."""
    if not study.sweeps:
        return [(study, name)]
    parts = {part.name: part for part in study.parts()}
    if name and name not in parts:
        raise ValueError(f"study '{study.name}' has its own names: --name chooses one sweep of {', '.join(parts)}")
    if is_for_one and not name:
        raise ValueError(
            f"study '{study.name}' is {len(parts)} sweeps, and --slurm, --try and --retry are for one: choose it with "
            f"--name, of {', '.join(parts)}"
        )
    return [(part, "") for part in parts.values() if name in ("", part.name)]


def _check(request: Request, values: Sequence[str], retry: str) -> str:
    """Check everything that can be checked without torch; returns the device that the runs ask for."""
    cells = cells_of(request.study, request.changes)
    examples = cells or [example_cell(request.study, request.changes)]
    for cell in examples:
        check_config(cell.config, request.runs_dir)
    check_objectives(request.study, examples)
    if values or retry:
        check_by_hand(request.study, cells, values, retry)
    request.check_can_resume()
    return examples[0].config.train.device


def _work_alone(planned: "Sweep") -> None:
    """The process of one worker: it claims and trains runs until none are left."""
    with interruptible() as interrupt:
        planned.work(interrupt, show, print_step)
    raise typer.Exit(interrupt.exit_code)


def _work_and_report(
    sweeps: "Sequence[Sweep]", study: Study, name_or_file: str, quick: bool, gpus: Sequence[str], json: bool
) -> None:
    """Train the sweeps one after another; ``--budget`` is for all of them together."""
    from workbench.results.trials import sweep_document

    documents: list[dict[str, Any]] = []
    start_s, interrupt = time.monotonic(), Interrupt()
    for number, planned in enumerate(sweeps, 1):
        left_s = planned.request.timeout_s - (time.monotonic() - start_s)
        if interrupt.exit_code or (planned.request.timeout_s and left_s < 1):
            break
        planned.request = replace(planned.request, timeout_s=left_s if planned.request.timeout_s else 0.0)
        print_note(f"sweep {number} of {len(sweeps)}: {planned.request.study_name}" if study.sweeps else study.question)
        with interruptible() as interrupt:
            _work(planned, interrupt, gpus, partial(_worker_process, planned, name_or_file, quick))
        documents.append(sweep_document(planned) if json else {})
        if not json:
            _print_found(planned, name_or_file)
    if json:
        print_json({"study": study.name, "sweeps": documents} if study.sweeps else documents[0])
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


def _worker_process(planned: "Sweep", name_or_file: str, quick: bool) -> list[str]:
    """The command line of a process that works on this sweep; after the forecast, which decides on the cohorts."""
    return [*_worker_command(name_or_file, planned.request, quick), "--as-worker"]


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


def _print_forecasts(sweeps: "Sequence[Sweep]", study: Study, json: bool) -> None:
    """Print the cost of each sweep, and of all of them together."""
    found = [(one.request.study_name, one.forecast(print_step, trials=one.started_trials())) for one in sweeps]
    documents = [{"study": name, "forecast": forecast.to_json()} for name, forecast in found]
    if json:
        print_json({"study": study.name, "sweeps": documents} if study.sweeps else documents[0])
        return
    for name, forecast in found:
        print_line(f"{name}: {forecast}" if study.sweeps else f"{name}: {study.question}\n{forecast}")
    if study.sweeps:
        total_s = sum(forecast.total_s for _, forecast in found)
        print_line(f"{study.name}: {sum(one.num_runs for _, one in found)} runs, about {duration(total_s)}")


def _work(planned: "Sweep", interrupt: Interrupt, gpus: Sequence[str], worker_command: Callable[[], list[str]]) -> None:
    if planned.request.resumes:
        planned.retry()
    if planned.is_done:
        return
    print_step(str(planned.forecast(print_step, trials=planned.ledger.trials())))
    if planned.study.is_sequential:
        print_step(
            f"then more seeds for the cells whose comparison with '{planned.study.baseline}' is open, at most "
            f"{planned.study.most_seeds} in all (--seeds {planned.study.seeds} fixes the number)"
        )
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
