"""The keys that act on a run. Each shows its effect and asks for confirmation."""

import json
from typing import ClassVar

from textual.binding import Binding

from workbench.events import Commanded
from workbench.runs.checkpoints import checkpoint_step, checkpoints
from workbench.runs.directory import RunDirectory
from workbench.runs.liveness import TAKES_COMMANDS
from workbench.tui import commands
from workbench.tui.host import Host
from workbench.tui.run.follow import RunFollower
from workbench.tui.tabs import PanedScreen

ENDED = ("stopped", "interrupted", "dead", "failed", "diverged")
MOST_CHECKPOINTS = 8  # listed in the form
FORK_FIELDS = {
    "changes": ("changes, such as loss.icl.weight=2 optimizer.learning_rate=1e-3", ""),
    "steps": ("last step, counted from the parent's start (empty: the parent's)", ""),
    "name": ("name (empty: generated)", ""),
}


class RunActions(PanedScreen):
    """The actions on one run; a subclass sets ``run_directory`` and ``follower``."""

    KEYS: ClassVar[list[Binding]] = [
        Binding("C", "save", "save a checkpoint now", show=False),
        Binding("S", "stop", "stop and save"),
        Binding("P", "pause", "pause or continue", show=False),
        Binding("W", "change", "change the learning rate or loss weights", show=False),
        Binding("F", "fork", "fork from a checkpoint, with changes", show=False),
        Binding("R", "resume", "resume a run that has ended", show=False),
    ]
    app: Host
    run_directory: RunDirectory
    follower: RunFollower

    @property
    def _state(self) -> str:
        return self.follower.status.state if self.follower.status else "unreadable"

    def _check_takes_commands(self) -> bool:
        """Whether the run takes commands; a notice says why not."""
        if self._state in TAKES_COMMANDS:
            return True
        hint = "; press R to resume it" if self._state in ENDED else ""
        self.app.show_notice(f"{self.run_directory.id} is not running (state: {self._state}){hint}", is_error=True)
        return False

    def _confirm(self, command: commands.Command) -> None:
        title = f"{self.run_directory.id}: {command.title}?"
        self.app.confirm(title, command.effect, lambda: self._send(command))

    def _send(self, command: commands.Command) -> None:
        command.send(self.run_directory)
        self.app.show_notice(f"{command.kind} sent to {self.run_directory.id}; it applies after the current step")

    def action_save(self) -> None:
        if self._check_takes_commands():
            self._confirm(commands.CHECKPOINT)

    def action_stop(self) -> None:
        if self._check_takes_commands():
            self._confirm(commands.STOP)

    def action_pause(self) -> None:
        if self._check_takes_commands():
            self._confirm(commands.CONTINUE if self._state == "paused" else commands.PAUSE)

    def action_change(self) -> None:
        if not self._check_takes_commands():
            return
        try:
            settings = self._settings()
        except ValueError as error:
            self.app.show_notice(str(error), is_error=True)
            return

        def command(filled: dict[str, str]) -> commands.Command:
            typed = dict(zip(settings, filled.values(), strict=True))
            changed = [f"{name}={typed[name]}" for name in settings if typed[name] != settings[name]]
            if not changed:
                raise ValueError("no value is changed yet")
            return commands.change_command(self.run_directory, " ".join(changed))

        def check(filled: dict[str, str]) -> str:
            found = command(filled)
            return f"{found.title}. {found.effect}"

        fields = {f"field-{place}": (name, settings[name]) for place, name in enumerate(settings)}
        title = f"{self.run_directory.id}: change settings"
        self.app.fill_form(title, fields, check, lambda filled: self._send(command(filled)))

    def _settings(self) -> dict[str, str]:
        """The changeable settings with their current values: the initial ones, updated by logged ``set`` commands."""
        settings = commands.changeable_settings(self.run_directory)
        for event in self.follower.history.notes:
            if isinstance(event, Commanded) and event.command == "set":
                settings |= {name: f"{value:g}" for name, value in event.arguments.items() if name in settings}
        return settings

    def action_fork(self) -> None:
        def check(filled: dict[str, str]) -> str:
            return commands.fork_summary(self.run_directory, filled)

        def fork(filled: dict[str, str]) -> None:
            self.app.show_notice(f"forking {self.run_directory.id}; the fork starts in a few seconds")
            self.run_worker(self._fork(filled), group="fork", exit_on_error=False)

        steps = ", ".join(
            f"{step}" for step in sorted(map(checkpoint_step, checkpoints(self.run_directory)))[-MOST_CHECKPOINTS:]
        )
        at = f"step of the checkpoint (empty: the newest checkpoint{f' of {steps}' if steps else ''})"
        fields = {"at": (at, ""), **FORK_FIELDS}
        self.app.fill_form(f"{self.run_directory.id}: fork", fields, check, fork)

    async def _fork(self, filled: dict[str, str]) -> None:
        try:
            answer = await commands.call(commands.fork_command(self.run_directory, filled))
            self.app.show_notice(f"fork {json.loads(answer)['id']} is training")
        except ValueError as error:
            self.app.show_notice(f"could not fork {self.run_directory.id}: {error}", is_error=True)

    def action_resume(self) -> None:
        if self._state not in ENDED:
            self.app.show_notice(
                f"{self.run_directory.id} cannot be resumed (state: {self._state}): it has not been interrupted",
                is_error=True,
            )
            return

        def resume() -> None:
            self.app.watch_process(f"resuming {self.run_directory.id}", commands.resume(self.run_directory))

        effect = (
            f"The run continues from its newest complete checkpoint, {commands.SEPARATELY}. "
            "Steps logged after that checkpoint are replaced."
        )
        self.app.confirm(f"{self.run_directory.id}: resume?", effect, resume)
