"""The keys that act on a study: each says what will happen, and asks, before it does."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding

from workbench.config.cells import about
from workbench.runs.directory import RunDirectory
from workbench.runs.liveness import TAKES_COMMANDS, run_status
from workbench.sweeps.storage import default_file
from workbench.tui import steer
from workbench.tui.dialogs import Ask, Form
from workbench.tui.tabs import PanedScreen
from workbench.tui.study import followed
from workbench.tui.study.state import StudyState, read_study
from workbench.views.study import StudyCell

if TYPE_CHECKING:
    from workbench.tui.app import Workbench

TO_RETRY = ("failed", "stopped")
APART = "in a process of its own that outlives this screen"


class StudySteering(PanedScreen):
    """What a screen of one study can ask of it; the screen knows what is at the cursor."""

    KEYS: ClassVar[list[Binding]] = [
        Binding("R", "resume", "go on, retry"),
        Binding("A", "add_seeds", "more seeds"),
        Binding("T", "try_values", "try values: add a trial to a search", show=False),
        Binding("O", "again", "once more: retry the cell at the cursor alone", show=False),
        Binding("X", "cancel", "stop the run at the cursor", show=False),
    ]
    app: "Workbench"
    study_name: str
    runs_dir: Path
    studied: StudyState | None

    def cells_at_cursor(self) -> tuple[list[StudyCell], list[str]]:
        """The cell at the cursor, if there is one, and its runs; of the pane of runs that run alone."""
        raise NotImplementedError

    def action_cancel(self) -> None:
        _, runs = self.cells_at_cursor()
        live = [RunDirectory(self.runs_dir.absolute() / run) for run in runs]
        live = [run for run in live if run.exists and run_status(run).state in TAKES_COMMANDS]
        if not live:
            self.app.say("no run at the cursor is under way", is_wrong=True)
            return

        def do() -> None:
            for run in live:
                steer.STOP.send(run)
            self.app.say(f"asked {len(live)} run{'s' if len(live) > 1 else ''} to stop after the current step")

        what = (
            "It finishes its step, saves a checkpoint and ends; the sweep records it as stopped and goes on with the "
            "others. R, or O for this cell alone, takes it up again from there."
        )
        self._ask(f"stop {', '.join(run.id for run in live)}?", what, do)

    def _can_go_on(self, *, while_live: bool = False) -> StudyState | None:
        """The study, if a command of it can be given here; says why not."""
        found, why = self.studied, ""
        if found is None:
            why = "it has not been read yet"
        elif not found.source:
            why = "no study file of this name is known here: give the sweep's own command, with --resume"
        elif not default_file(self.runs_dir, self.study_name).exists():
            why = "its storage is not in this folder: give the sweep's own command, with --resume and --storage"
        elif found.num_live and not while_live:
            why = f"{found.num_live} of its runs are under way: wait until they have ended"
        if why:
            self.app.say(f"{self.study_name}: {why}", is_wrong=True)
            return None
        return found

    def action_resume(self) -> None:
        if found := self._can_go_on():
            states = {one.state for cell in found.report.table.cells for one in cell.replicates}
            if states == {"finished"} and not found.report.study.search:
                self.app.say("everything has finished: A gives it more seeds")
                return
            command = [*found.command, "--resume"]
            what = f"What is missing is trained, and what failed or was stopped is tried again, {APART}"
            said = f"{what}:\n\nworkbench {' '.join(command)}"
            self._ask(f"{self.study_name}: go on?", said, lambda: self._start(command))

    def action_add_seeds(self) -> None:
        found = self._can_go_on()
        if found is None:
            return
        if found.report.study.search:
            self.app.say("the trials of a search keep the seeds that they began with", is_wrong=True)
            return
        now = max(len(cell.replicates) for cell in found.report.table.cells)

        def check(filled: dict[str, str]) -> str:
            num_seeds = filled["seeds"]
            if not num_seeds.isdecimal() or int(num_seeds) <= now:
                raise ValueError(f"it has {now} seeds: ask for more")
            more = (int(num_seeds) - now) * len(found.report.table.cells)
            return f"{more} runs more are trained, {APART}."

        def answered(filled: dict[str, str] | None) -> None:
            if filled is not None:
                self._guarded(lambda: self._start(with_seeds(found.command, filled["seeds"])))

        fields = {"seeds": ("replicates of every cell", str(now + 2))}
        self.app.push_screen(Form(f"{self.study_name}: more seeds", fields, check), answered)

    def action_try_values(self) -> None:
        """A trial more: the values of the trial at the cursor, or of the best so far, to be typed over."""
        found = self._can_go_on(while_live=True)
        if found is None:
            return
        study = found.report.study
        if not study.search:
            self.app.say(
                "only a search tries other values; a grid has the cells of its file, which A gives more seeds",
                is_wrong=True,
            )
            return
        cells, _ = self.cells_at_cursor()
        best = [cell for cell in found.report.table.cells if cell.name == found.report.best]
        like = next(iter([*cells, *best]), None)
        keys = list(study.search)

        def given(filled: dict[str, str]) -> list[str]:
            return followed.overrides(study, dict(zip(keys, filled.values(), strict=True)))

        def check(filled: dict[str, str]) -> str:
            given(filled)
            then = f"the study goes on with it, {APART}" if not found.num_live else "a worker takes it up"
            more = ", its rivals get a trial more each" if study.tuned else ""
            more += ", and its best is confirmed anew" if study.confirm_seeds else ""
            return f"It is tried before what the sampler chooses, at {study.seeds} seeds: {then}{more}."

        def answered(filled: dict[str, str] | None) -> None:
            if filled is not None:
                self._queue(found, [word for one in given(filled) for word in ("--try", one)])

        fields = {
            f"field-{place}": (f"{key}: {about(study.search[key])}", followed.typed(like, key))
            for place, key in enumerate(keys)
        }
        self.app.push_screen(Form(f"{self.study_name}: try these values", fields, check), answered)

    def action_again(self) -> None:
        found = self._can_go_on(while_live=True)
        if found is None:
            return
        cells, _ = self.cells_at_cursor()
        cell = next(iter(cells), None)
        if found.report.study.search:
            self.app.say("T tries a trial's values once more; R retries every trial that failed", is_wrong=True)
        elif cell is None or not [one for one in cell.replicates if one.state in TO_RETRY]:
            name = f"cell {cell.name}" if cell else "the cell at the cursor"
            self.app.say(f"no run of {name} failed or was stopped: there is nothing to try again", is_wrong=True)
        else:
            seeds = ", ".join(str(one.seed) for one in cell.replicates if one.state in TO_RETRY)
            then = "a worker takes it up" if found.num_live else f"the study goes on with it, {APART}"
            what = f"Its runs at seed {seeds} go on from their last checkpoints, or begin anew without any: {then}."
            self._ask(
                f"{self.study_name}: {cell.name} once more?", what, lambda: self._queue(found, ["--retry", cell.name])
            )

    def _queue(self, found: StudyState, more: list[str]) -> None:
        self.app.say("queueing it; this takes a few seconds")
        self.run_worker(self._call_and_go_on(found, more), group="queue", exit_on_error=False)

    async def _call_and_go_on(self, found: StudyState, more: list[str]) -> None:
        try:
            said = await steer.call([*found.command, *more, "--runs", str(self.runs_dir)])
            self.app.say(said.strip())
            now = await asyncio.to_thread(read_study, self.study_name, self.runs_dir)
            if not now.num_live:  # whoever was at work may have ended meanwhile; two share the work
                self._start(found.command)
        except (OSError, ValueError) as error:
            self.app.say(f"{self.study_name}: {error}", is_wrong=True)

    def _ask(self, title: str, what: str, do: Callable[[], None]) -> None:
        def answered(yes: bool | None) -> None:
            if yes:
                self._guarded(do)

        self.app.push_screen(Ask(title, what), answered)

    def _guarded(self, do: Callable[[], None]) -> None:
        try:
            do()
        except ValueError as error:
            self.app.say(str(error), is_wrong=True)

    def _start(self, command: list[str]) -> None:
        apart = steer.start_sweep([*command, "--runs", str(self.runs_dir)], self.runs_dir, self.study_name)
        self.app.has_started(f"{self.study_name} goes on", apart)


def with_seeds(command: list[str], seeds: str) -> list[str]:
    """The sweep's arguments with another number of seeds."""
    if "--seeds" in command:
        place = command.index("--seeds")
        return [*command[: place + 1], seeds, *command[place + 2 :]]
    return [*command, "--seeds", seeds]
