"""The keys that act on a run: each says what will happen, and asks, before it does."""

import json
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding

from workbench.events import Commanded
from workbench.runs.checkpoints import checkpoint_step, checkpoints
from workbench.runs.directory import RunDirectory
from workbench.runs.liveness import TAKES_COMMANDS
from workbench.tui import steer
from workbench.tui.dialogs import Ask, Form
from workbench.tui.tabs import PanedScreen
from workbench.tui.run.follow import RunFollower

if TYPE_CHECKING:
    from workbench.tui.app import Workbench

ENDED = ("stopped", "interrupted", "dead", "failed", "diverged")
MOST = 8  # checkpoints that are named
FORK_FIELDS = {
    "changes": ("changes, such as loss.icl.weight=2 optimizer.learning_rate=1e-3", ""),
    "steps": ("its last step, counted from the parent's start (empty: the parent's)", ""),
    "name": ("its name (empty: made up)", ""),
}


class Steering(PanedScreen):
    """What a screen of one run can ask of it; the screen has ``run_directory`` and ``feed``."""

    KEYS: ClassVar[list[Binding]] = [
        Binding("C", "save", "save a checkpoint now", show=False),
        Binding("S", "stop", "stop and save"),
        Binding("P", "pause", "pause or continue", show=False),
        Binding("W", "change", "change the learning rate or loss weights", show=False),
        Binding("F", "fork", "fork from a checkpoint, with changes", show=False),
        Binding("R", "resume", "resume a run that has ended", show=False),
    ]
    app: "Workbench"
    run_directory: RunDirectory
    feed: RunFollower

    @property
    def _state(self) -> str:
        return self.feed.status.state if self.feed.status else "unreadable"

    def _takes_commands(self) -> bool:
        """Says why not, where it does not."""
        if self._state in TAKES_COMMANDS:
            return True
        name = "died" if self._state == "dead" else self._state
        hint = "; R goes on with it" if self._state in ENDED else ""
        self.app.say(f"{self.run_directory.id} is {name}: nobody is there to be asked{hint}", is_wrong=True)
        return False

    def _ask(self, command: steer.Command) -> None:
        def answered(yes: bool | None) -> None:
            if yes:
                self._send(command)

        self.app.push_screen(Ask(f"{self.run_directory.id}: {command.title}?", command.what_happens), answered)

    def _send(self, command: steer.Command) -> None:
        try:
            command.send(self.run_directory)
            self.app.say(f"asked {self.run_directory.id} to {command.kind}; it answers after its current step")
        except ValueError as error:
            self.app.say(str(error), is_wrong=True)

    def action_save(self) -> None:
        if self._takes_commands():
            self._ask(steer.CHECKPOINT)

    def action_stop(self) -> None:
        if self._takes_commands():
            self._ask(steer.STOP)

    def action_pause(self) -> None:
        if self._takes_commands():
            self._ask(steer.CONTINUE if self._state == "paused" else steer.PAUSE)

    def action_change(self) -> None:
        if not self._takes_commands():
            return
        try:
            settings = self._settings()
        except ValueError as error:
            self.app.say(str(error), is_wrong=True)
            return

        def command(filled: dict[str, str]) -> steer.Command:
            typed = dict(zip(settings, filled.values(), strict=True))
            changed = [f"{name}={typed[name]}" for name in settings if typed[name] != settings[name]]
            if not changed:
                raise ValueError("nothing is changed yet")
            return steer.changing(self.run_directory, " ".join(changed))

        def check(filled: dict[str, str]) -> str:
            found = command(filled)
            return f"{found.title}. {found.what_happens}"

        def answered(filled: dict[str, str] | None) -> None:
            if filled is not None:
                self._send(command(filled))

        fields = {f"field-{place}": (name, settings[name]) for place, name in enumerate(settings)}
        self.app.push_screen(Form(f"{self.run_directory.id}: change under way", fields, check), answered)

    def _settings(self) -> dict[str, str]:
        """What can be changed, and what it is now: as it began, or as it was told since."""
        settings = steer.settings_of(self.run_directory)
        for event in self.feed.story.notes:
            if isinstance(event, Commanded) and event.command == "set":
                settings |= {name: f"{value:g}" for name, value in event.arguments.items() if name in settings}
        return settings

    def action_fork(self) -> None:
        def check(filled: dict[str, str]) -> str:
            return steer.fork_said(self.run_directory, filled)

        def answered(filled: dict[str, str] | None) -> None:
            if filled is not None:
                self.app.say(f"forking {self.run_directory.id}; it takes some seconds until the fork has begun")
                self.run_worker(self._fork(filled), group="fork", exit_on_error=False)

        steps = ", ".join(f"{step}" for step in sorted(map(checkpoint_step, checkpoints(self.run_directory)))[-MOST:])
        at = f"after which step (empty: the newest checkpoint{f' of {steps}' if steps else ''})"
        fields = {"at": (at, ""), **FORK_FIELDS}
        self.app.push_screen(Form(f"{self.run_directory.id}: fork", fields, check), answered)

    async def _fork(self, filled: dict[str, str]) -> None:
        try:
            answer = await steer.call(steer.fork_command(self.run_directory, filled))
            self.app.say(f"fork {json.loads(answer)['id']} is training")
        except ValueError as error:
            self.app.say(f"no fork of {self.run_directory.id}: {error}", is_wrong=True)

    def action_resume(self) -> None:
        if self._state not in ENDED:
            self.app.say(f"{self.run_directory.id} is {self._state}: there is nothing to resume", is_wrong=True)
            return

        def answered(yes: bool | None) -> None:
            if not yes:
                return
            try:
                self.app.has_started(f"resuming {self.run_directory.id}", steer.resume(self.run_directory))
            except ValueError as error:
                self.app.say(str(error), is_wrong=True)

        what = (
            "The run goes on from its newest whole checkpoint, in a process of its own that outlives this screen. "
            "What it logged beyond that checkpoint is superseded."
        )
        self.app.push_screen(Ask(f"{self.run_directory.id}: resume?", what), answered)
