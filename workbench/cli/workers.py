"""Worker processes of a sweep, and the table of its results: cells by metrics, with intervals and gains."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import IO, TYPE_CHECKING

from workbench.cli.output import errors, indented, print_line, print_rows
from workbench.cli.progress import Interrupt
from workbench.config.cells import cell_name
from workbench.errors import visible
from workbench.statistics.intervals import Estimate
from workbench.sweeps.results import CellResult
from workbench.views.metrics import MetricLabel, metric_label

if TYPE_CHECKING:
    from workbench.sweeps.sweep import Sweep

POLL_S = 0.2


def work_together(command: Sequence[str], num_workers: int, num_threads: int, interrupt: Interrupt) -> None:
    """Run ``workbench COMMAND`` in several processes until all have ended; their stderr is forwarded.

    A signal to this process is forwarded to every worker once. A worker that dies is reported; the others take over
    its runs.
    """
    argv = [sys.executable, "-m", "workbench", *command]
    # Without it every worker would use all cores; the user's own value has priority.
    environment = {"OMP_NUM_THREADS": str(num_threads)} | os.environ
    workers = [
        subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=environment,
            start_new_session=True,  # else Ctrl-C reaches it from the terminal too, and a second signal ends it at once
        )
        for _ in range(num_workers)
    ]
    readers = [
        threading.Thread(target=_forward, args=(number, worker.stderr), daemon=True)
        for number, worker in enumerate(workers, start=1)
    ]
    for reader in readers:
        reader.start()
    try:
        _wait(workers, interrupt)
    finally:
        _signal(workers, signal.SIGTERM)  # those still running if this process is ended at once
    for reader in readers:
        reader.join()


def _wait(workers: Sequence[subprocess.Popen[str]], interrupt: Interrupt) -> None:
    is_forwarded = False
    alive = dict(enumerate(workers, start=1))
    while alive:
        if interrupt() and not is_forwarded:
            is_forwarded = True
            _signal(workers, signal.SIGTERM)
        for number, worker in list(alive.items()):
            code = worker.poll()
            if code is None:
                continue
            del alive[number]
            if code < 0:
                errors.print(f"worker {number} was killed by signal {-code}: the others take over its runs")
        time.sleep(POLL_S)


def _signal(workers: Sequence[subprocess.Popen[str]], number: int) -> None:
    for worker in workers:
        if worker.poll() is None:
            worker.send_signal(number)


def _forward(number: int, lines: IO[str] | None) -> None:
    assert lines is not None
    for line in lines:
        errors.print(f"{number}: {line.rstrip()}", markup=False, soft_wrap=True)


SHOWN = ("image_to_text_r1", "text_to_image_r1", "zero_shot_top1")
MOST_TRIALS = 15


def print_results(sweep: "Sweep") -> None:
    """Print a table for each main metric: the objectives, recall and zero-shot; ``--json`` has all.

    A search has two parts: its trials, and the best of them against the baselines on held-out seeds.
    """
    results = sweep.results()
    if not any(result.outcomes for result in results):
        print_line("no run has finished yet")
        return
    names = [name for name in _metrics(sweep) if any(name in result.metrics for result in results)]
    shown = _best_first(sweep, results)[:MOST_TRIALS] if sweep.study.search else results
    for name in names:
        label = metric_label(name)
        columns, rows = ["", "seeds", label.title, "95 %", "difference", "95 %"], [_row(one, label) for one in shown]
        # Without a baseline there are no differences, and one seed has no interval: drop the empty columns.
        kept = [place for place in range(len(columns)) if place < 3 or any(row[place] for row in rows)]
        print_rows([columns[place] for place in kept], [[row[place] for place in kept] for row in rows])
        print_line("")
    for result in results:
        if result.state not in ("finished", "dropped", "waiting"):
            reason = next((outcome.reason for outcome in result.outcomes.values() if outcome.reason), "")
            print_line(f"{visible(result.name)}: {result.state}{': ' + indented(reason) if reason else ''}")
    _print_legend(sweep, results)
    if confirmation := sweep.started_confirmation:
        _print_confirmed(sweep, confirmation)


def _print_confirmed(search: "Sweep", confirmation: "Sweep") -> None:
    """Print the best trials and the baselines on held-out seeds, and the answer in words."""
    seeds = ", ".join(map(str, confirmation.request.seeds))
    print_line(f"\nconfirmed on held-out seeds ({seeds})\n")
    print_results(confirmation)
    for cell in confirmation.cells:
        if cell.values and cell.name not in search.best:
            print_line(f"{cell.name}: {cell_name(cell.values)}")
    print_line("")
    for recipe in search.unbeaten:
        print_line(f"on validation pairs no trial is better than '{recipe}', the first trial")
    for answer in search.answers(confirmation):
        print_line(answer.text)


def _metrics(sweep: "Sweep") -> list[str]:
    objectives = [objective.metric for objective in sweep.study.objectives]
    return list(dict.fromkeys((*objectives, *SHOWN)))


def _row(result: CellResult, label: MetricLabel) -> list[str]:
    found, gain = result.metrics.get(label.name), result.gains.get(label.name)
    num_seeds = len(found.per_seed) if found else 0
    return [result.name, str(num_seeds), *_interval(label, found), *(_interval(label, gain, signed=True))]


def _interval(label: MetricLabel, found: Estimate | None, *, signed: bool = False) -> list[str]:
    if found is None:
        return ["", ""] if signed else [label.number(None), ""]
    return [label.number(found.mean, signed=signed), label.interval(found.low, found.high, signed=signed)]


def _best_first(sweep: "Sweep", results: list[CellResult]) -> list[CellResult]:
    objective = sweep.study.objectives[0]
    sign = -1 if objective.direction == "maximize" else 1

    def rank(result: CellResult) -> tuple[int, float]:
        found = [outcome.value(objective.metric) for outcome in result.outcomes.values() if outcome.state == "finished"]
        values = [value for value in found if value is not None]
        # Trials with more finished seeds come first: a mean over one seed may be luck.
        return -len(values), sign * sum(values) / len(values) if values else 0.0

    return sorted(results, key=rank)


def _covered(results: list[CellResult]) -> str:
    covered = {found.covers for result in results for found in result.metrics.values()}
    return "seeds and items" if "seeds and items" in covered else "seeds"


def _print_legend(sweep: "Sweep", results: list[CellResult]) -> None:
    tested = any(outcome.test_metrics for result in results for outcome in result.outcomes.values())
    pairs = "test" if tested else "validation"
    has_seeds = any(len(found.per_seed) > 1 for result in results for found in result.metrics.values())
    if has_seeds:
        print_line(f"{pairs} pairs; means with 95 % intervals over {_covered(results)}")
    else:
        print_line(f"{pairs} pairs; an interval over seeds needs several: --seeds 3 or more")
    if sweep.study.search:
        best = sweep.best
        chosen = ", ".join(f"{objective.direction} {objective.metric}" for objective in sweep.study.objectives)
        print_line(f"best on validation pairs ({chosen}): {', '.join(best) or 'none'}")
        for result in results:
            if result.name in best:
                print_line(f"{result.name}: {cell_name(result.values)}")
    elif sweep.study.baseline:
        over_seeds = "; their intervals are over seeds" if has_seeds else ""
        print_line(f"differences to '{sweep.study.baseline}', paired by seed{over_seeds}")
