"""Worker processes of a sweep, and the table of its results: cells by metrics, with intervals and gains."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import IO, TYPE_CHECKING

from workbench.cli.output import indented, print_line, print_note, print_rows
from workbench.cli.progress import Interrupt
from workbench.config.cells import cell_name
from workbench.errors import visible
from workbench.process import usable_cores, visible_gpus
from workbench.results.export import grid
from workbench.results.table import SHOWN, best_first
from workbench.views.study import StudyTable

if TYPE_CHECKING:
    from workbench.sweeps.sweep import Sweep

POLL_S = 0.2


def gpus_for(device: str) -> list[str]:
    """The GPUs to distribute workers over, as CUDA_VISIBLE_DEVICES names them; empty if ``train.device`` is a CPU."""
    import torch

    from workbench.engine.device import resolve_device

    if resolve_device(device).type != "cuda":
        return []
    # Without nvidia-smi, as in some containers, torch still knows how many there are.
    return visible_gpus() or [str(index) for index in range(torch.cuda.device_count())]


def work_together(command: Sequence[str], num_workers: int, gpus: Sequence[str], interrupt: Interrupt) -> None:
    """Run ``workbench COMMAND`` in several processes until all have ended; their stderr is forwarded.

    Each gets its share of the cores, and one of ``gpus``, if there are any. A signal to this process makes every worker
    finish its step and save. A worker that dies is reported; the others take over its runs.
    """
    argv = [sys.executable, "-m", "workbench", *command]
    # Without it every worker would use all cores; the user's own value has priority.
    cores = str(max(1, usable_cores() // num_workers))
    environment = {"OMP_NUM_THREADS": cores, "WORKBENCH_CORES": cores} | os.environ
    if 0 < len(gpus) < num_workers:
        print_note(f"warning: {num_workers} workers share {len(gpus)} GPU(s); --workers auto starts one for each")
    workers = [
        subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=environment | ({"CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]} if gpus else {}),
            start_new_session=True,  # else Ctrl-C reaches it from the terminal too, and a second signal ends it at once
        )
        for number in range(num_workers)
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
            # Not the signal itself: at shutdown all processes get SIGTERM, and a second one would end a worker at once.
            _signal(workers, signal.SIGUSR1)
        for number, worker in list(alive.items()):
            code = worker.poll()
            if code is None:
                continue
            del alive[number]
            if code < 0:
                print_note(f"worker {number} was killed by signal {-code}: the others take over its runs")
        time.sleep(POLL_S)


def _signal(workers: Sequence[subprocess.Popen[str]], number: int) -> None:
    for worker in workers:
        if worker.poll() is None:
            worker.send_signal(number)


def _forward(number: int, lines: IO[str] | None) -> None:
    assert lines is not None
    for line in lines:
        print_note(f"{number}: {line.rstrip()}")


MOST_TRIALS = 15
COLUMNS = ("cell", "seeds", "mean", "95 %", "difference", "95 % of difference")


def print_results(sweep: "Sweep") -> None:
    """Print a table for each main metric: the objectives, recall and zero-shot; ``--json`` has all.

    A search has two parts: its trials, and the best of them against the baselines on held-out seeds.
    """
    from workbench.results.trials import trials_table

    trials = sweep.trials
    if not any(trial.outcomes for trial in trials):
        print_line("no run has finished yet")
        return
    table = trials_table(sweep, trials)
    labels = {metric.name: metric for metric in table.metrics}
    shown = best_first(sweep.study, table.cells)[: MOST_TRIALS if sweep.study.search else None]
    columns = (*COLUMNS, "verdict") if sweep.study.is_sequential else COLUMNS
    for name in dict.fromkeys((*(objective.metric for objective in sweep.study.objectives), *SHOWN)):
        if name in labels:
            print_rows(*grid(table, labels[name], shown, columns))
            print_line("")
    for trial in trials:
        if trial.shown_state not in ("finished", "dropped", "waiting"):
            reason = next((outcome.reason for outcome in trial.outcomes.values() if outcome.reason), "")
            print_line(f"{visible(trial.name)}: {trial.shown_state}{': ' + indented(reason) if reason else ''}")
    _print_legend(sweep, table)
    if confirmation := sweep.started_confirmation:
        _print_confirmed(sweep, confirmation)


def _print_confirmed(search: "Sweep", confirmation: "Sweep") -> None:
    """Print the best trials and the baselines on held-out seeds, and the answer in words."""
    from workbench.results.trials import answers

    seeds = ", ".join(map(str, confirmation.request.seeds))
    print_line(f"\nconfirmed on held-out seeds ({seeds})\n")
    print_results(confirmation)
    best = search.best
    for cell in confirmation.cells:
        if cell.values and cell.name not in best:
            print_line(f"{cell.name}: {cell_name(cell.values)}")
    print_line("")
    for recipe in search.unbeaten:
        print_line(f"on validation pairs no trial is better than '{recipe}', the first trial")
    for answer in answers(search.study, confirmation.trials, best):
        print_line(answer.text)


def _print_legend(sweep: "Sweep", table: StudyTable) -> None:
    means = [entry.mean for of in table.entries.values() for entry in of.values() if entry.mean]
    has_seeds = any(len(mean.per_seed) > 1 for mean in means)
    covers = "seeds and items" if any(mean.covers == "seeds and items" for mean in means) else "seeds"
    if has_seeds:
        print_line(f"{table.split} pairs; means with 95 % intervals over {covers}")
    else:
        print_line(f"{table.split} pairs; an interval over seeds needs several: --seeds 3 or more")
    if sweep.study.search:
        best = sweep.best
        chosen = ", ".join(f"{objective.direction} {objective.metric}" for objective in sweep.study.objectives)
        print_line(f"best on validation pairs ({chosen}): {', '.join(best) or 'none'}")
        for cell in table.cells:
            if cell.name in best:
                print_line(f"{cell.name}: {cell_name(cell.values)}")
    elif table.baseline:
        over_seeds = "; their intervals are over seeds" if has_seeds else ""
        print_line(f"differences to '{table.baseline}', paired by seed{over_seeds}")
