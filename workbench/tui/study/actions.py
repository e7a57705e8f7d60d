"""The keys that act on a study. Each shows its effect and asks for confirmation."""

import asyncio
from pathlib import Path
from typing import ClassVar

from textual.binding import Binding

from workbench.config.cells import about
from workbench.runs.directory import RunDirectory
from workbench.runs.liveness import TAKES_COMMANDS, run_status, send_command
from workbench.sweeps.storage import default_file
from workbench.tui.host import SEPARATELY, call
from workbench.tui.study.state import StudyState, overrides, read_study, typed
from workbench.tui.tabs import PanedScreen
from workbench.views.study import StudyCell

TO_RETRY = ("failed", "stopped")


class StudyActions(PanedScreen):
    """The actions on one study; a subclass knows the cell at the cursor."""

    KEYS: ClassVar[list[Binding]] = [
        Binding("R", "resume", "resume, retry"),
        Binding("A", "add_seeds", "more seeds"),
        Binding("T", "try_values", "add a trial to a search", show=False),
        Binding("O", "again", "retry the cell at the cursor", show=False),
        Binding("X", "cancel", "stop the run at the cursor", show=False),
    ]

    def __init__(self, name: str, runs_dir: Path) -> None:
        super().__init__()
        self.study_name, self.runs_dir = name, runs_dir
        self.study_state: StudyState | None = None

    def cells_at_cursor(self) -> tuple[list[StudyCell], list[str]]:
        """The cell at the cursor, if any, and the ids of its runs."""
        raise NotImplementedError

    def action_cancel(self) -> None:
        _, runs = self.cells_at_cursor()
        found = [RunDirectory(self.runs_dir.absolute() / run) for run in runs]
        live = [run for run in found if run.exists and run_status(run).state in TAKES_COMMANDS]
        if not live:
            raise ValueError("no run at the cursor is running")

        def stop() -> None:
            for run in live:
                send_command(run, "stop")
            self.app.show_notice(f"stop sent to {len(live)} run{'s' if len(live) > 1 else ''}, after the current step")

        effect = (
            "It finishes its step, saves a checkpoint and ends; the sweep records it as stopped and continues with the "
            "other runs. R resumes it later, or O this cell alone."
        )
        self.app.confirm(f"stop {', '.join(run.id for run in live)}?", effect, stop)

    def _resumable(self, *, while_live: bool = False) -> StudyState:
        """The study. Raises ValueError if its sweep cannot be resumed from here."""
        if (found := self.study_state) is None:
            why = "still loading"
        elif not found.source:
            why = "no study file of this name found: run the original sweep command with --resume"
        elif not default_file(self.runs_dir, self.study_name).exists():
            why = "its storage is not in this folder: run the original sweep command with --resume and --storage"
        elif found.num_live and not while_live:
            why = f"{found.num_live} of its runs are still running: wait until they end"
        else:
            return found
        raise ValueError(f"{self.study_name}: {why}")

    def action_resume(self) -> None:
        found = self._resumable()
        states = {one.state for cell in found.report.table.cells for one in cell.replicates}
        if states == {"finished"} and not found.report.study.search:
            self.app.show_notice("all runs have finished: press A to add seeds")
            return
        command = [*found.command, "--resume"]
        effect = "Trains the missing runs and retries failed and stopped ones"
        effect = f"{effect}, {SEPARATELY}:\n\nworkbench {' '.join(command)}"
        self.app.confirm(f"{self.study_name}: resume?", effect, lambda: self._start(command))

    def action_add_seeds(self) -> None:
        found = self._resumable()
        if found.report.study.search:
            raise ValueError("the number of seeds of a search cannot change")
        cells = found.report.table.cells
        now = max(len(cell.replicates) for cell in cells)

        def check(filled: dict[str, str]) -> str:
            num_seeds = filled["seeds"]
            if not num_seeds.isdecimal() or int(num_seeds) <= now:
                raise ValueError(f"the study has {now} seeds: enter a larger number")
            return f"Trains {(int(num_seeds) - now) * len(cells)} more runs, {SEPARATELY}."

        def start(filled: dict[str, str]) -> None:
            self._start(with_seeds(found.command, filled["seeds"]))

        fields = {"seeds": ("seeds per cell", str(now + 2))}
        self.app.fill_form(f"{self.study_name}: more seeds", fields, check, start)

    def action_try_values(self) -> None:
        """Add a trial: a form with the values of the trial at the cursor, or of the best one so far."""
        found = self._resumable(while_live=True)
        study = found.report.study
        if not study.search:
            raise ValueError("only a search can try other values; the cells of a grid are fixed, press A to add seeds")
        cells, _ = self.cells_at_cursor()
        best = [cell for cell in found.report.table.cells if cell.name == found.report.best]
        like = next(iter([*cells, *best]), None)

        def check(filled: dict[str, str]) -> str:
            overrides(study, filled)
            more = ", each baseline gets one more trial" if study.tuned else ""
            more += ", and the best trial is confirmed again" if study.confirm_seeds else ""
            before = f"The trial comes before those of the sampler, at {study.seeds} seeds"
            return f"{before}: {_trained_by(found)}{more}."

        def queue(filled: dict[str, str]) -> None:
            self._queue(found, [word for one in overrides(study, filled) for word in ("--try", one)])

        fields = {key: (f"{key}: {about(space)}", typed(like, key)) for key, space in study.search.items()}
        self.app.fill_form(f"{self.study_name}: add a trial", fields, check, queue)

    def action_again(self) -> None:
        found = self._resumable(while_live=True)
        if found.report.study.search:
            raise ValueError("press T to repeat a trial's values, or R to retry all failed trials")
        cells, _ = self.cells_at_cursor()
        name = cells[0].name if cells else ""
        seeds = ", ".join(str(one.seed) for cell in cells for one in cell.replicates if one.state in TO_RETRY)
        if not seeds:
            where = f"cell {name}" if name else "the cell at the cursor"
            raise ValueError(f"no run of {where} failed or was stopped")
        effect = f"Its runs at seed {seeds} resume from their last checkpoints, or restart without one"
        effect = f"{effect}: {_trained_by(found)}."
        title = f"{self.study_name}: retry {name}?"
        self.app.confirm(title, effect, lambda: self._queue(found, ["--retry", name]))

    def _queue(self, found: StudyState, more: list[str]) -> None:
        self.app.show_notice("adding to the queue; this takes a few seconds")
        self.run_worker(self._queue_and_resume(found, more), group="queue", exit_on_error=False)

    async def _queue_and_resume(self, found: StudyState, more: list[str]) -> None:
        try:
            output = await call([*found.command, *more, "--runs", str(self.runs_dir)])
            self.app.show_notice(output.strip())
            now = await asyncio.to_thread(read_study, self.study_name, self.runs_dir)
            # The workers may have ended in the meantime. If one starts at the same moment, the two share the queue.
            if not now.num_live:
                self._start(found.command)
        except (OSError, ValueError) as error:
            self.app.show_notice(f"{self.study_name}: {error}", is_error=True)

    def _start(self, command: list[str]) -> None:
        arguments = [*command, "--runs", str(self.runs_dir)]
        self.app.start_sweep(f"{self.study_name} resumed", arguments, self.runs_dir, self.study_name)


def _trained_by(found: StudyState) -> str:
    return "a running worker trains it" if found.num_live else f"the study resumes with it, {SEPARATELY}"


def with_seeds(command: list[str], seeds: str) -> list[str]:
    """The sweep's arguments with ``--seeds`` set to ``seeds``."""
    if "--seeds" in command:
        place = command.index("--seeds")
        return [*command[: place + 1], seeds, *command[place + 2 :]]
    return [*command, "--seeds", seeds]
