"""The keys that act on a run: commands to it, forks and resuming. Each shows its effect and asks for confirmation."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from textual.binding import ActiveBinding, Binding

from workbench.config.toml import at_length, changeable, check_changes, load_run_config, split_override, with_overrides
from workbench.events import Commanded
from workbench.runs.checkpoints import checkpoint_step, checkpoints
from workbench.runs.directory import RunDirectory
from workbench.runs.liveness import TAKES_COMMANDS, send_command
from workbench.tui.dialogs import Fields
from workbench.tui.follow import RunFollower
from workbench.tui.host import SEPARATELY
from workbench.tui.tabs import PanedScreen
from workbench.tui.text import number

ENDED = ("stopped", "interrupted", "dead", "failed", "diverged")
MOST_CHECKPOINTS = 8  # listed in the form
FORK_FIELDS = {
    "changes": ("changes, such as loss.icl.weight=2 optimizer.learning_rate=1e-3", ""),
    "steps": ("last step, counted from the parent's start (empty: the parent's)", ""),
    "name": ("name (empty: generated)", ""),
}


@dataclass(frozen=True)
class Command:
    """A command to a live run: its kind, its effect in words, and its arguments."""

    kind: str
    title: str
    effect: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


CHECKPOINT = Command(
    "checkpoint",
    "save a checkpoint now",
    "The run finishes its step, saves a checkpoint and continues. Only the newest log.keep_checkpoints "
    "checkpoints are kept, so the oldest may be deleted.",
)
STOP = Command(
    "stop",
    "stop and save",
    "The run finishes its step, saves a checkpoint and ends its process, without an evaluation. "
    "R resumes it from there.",
)
PAUSE = Command(
    "pause",
    "pause",
    "The run finishes its step and waits for the command to continue. It keeps its CPU and GPU memory. "
    "Runs that train in lockstep with it wait too.",
)
CONTINUE = Command("continue", "continue", "The run continues with its next step. Its results do not change.")


def changeable_settings(run: RunDirectory) -> dict[str, str]:
    """The settings that can change during training, with their initial values as text."""
    config = load_run_config(run.config_file)
    values = {"optimizer.learning_rate": config.optimizer.learning_rate}
    values |= {f"loss.{name}.weight": loss.schedule.value for name, loss in config.loss.items()}
    return {name: f"{values[name]:g}" for name in changeable(config)}


def change_command(run: RunDirectory, overrides: list[str]) -> Command:
    """The command that changes settings (``name=value``) from the next step on. Raises ValueError if one is invalid."""
    changes = dict(map(split_override, overrides))
    check_changes(load_run_config(run.config_file), changes)
    values = {name: number(value) if isinstance(value, float) else value for name, value in changes.items()}
    new = ", ".join(f"{name} = {value}" for name, value in values.items())
    effect = "The change is logged, marked on the curves, and still applies after a resume."
    return Command("set", f"from the next step on: {new}", effect, changes)


def fork_command(run: RunDirectory, filled: Mapping[str, str]) -> list[str]:
    """The command line of a fork, from the fields of a form. Raises ValueError if one is invalid."""
    steps = sorted(map(checkpoint_step, checkpoints(run)))
    if not steps:
        raise ValueError("this run has no checkpoint yet: press C to save one")
    if filled["at"] and (not filled["at"].isdecimal() or int(filled["at"]) not in steps):
        raise ValueError(f"no checkpoint after step {filled['at']}; choose one of {', '.join(map(str, steps))}")
    changes = filled["changes"].split()
    config = with_overrides(load_run_config(run.config_file), changes)
    if filled["steps"]:
        if not filled["steps"].isdecimal():
            raise ValueError(f"steps must be a number (got {filled['steps']!r})")
        config = at_length(config, int(filled["steps"]), changes)
    at = int(filled["at"] or steps[-1])
    if at >= config.train.num_steps:
        raise ValueError(
            f"the fork starts after step {at}, but its last step is {config.train.num_steps}: increase the last step"
        )
    return [
        *("runs", "fork", str(run.path), "--runs", str(run.path.parent), "--detach", "--json"),
        # Without --at the command takes the newest checkpoint: a live run may delete today's newest before it starts.
        *(word for name in ("at", "steps", "name") if filled[name] for word in (f"--{name}", filled[name])),
        *(word for change in changes for word in ("--set", change)),
    ]


def fork_fields(run: RunDirectory) -> Fields:
    """The fields of the form of a fork, filled in so that they are valid.

    Raises:
        ValueError: the run has no checkpoint yet, or its settings cannot be read.
    """
    steps = sorted(map(checkpoint_step, checkpoints(run)))
    if not steps:
        raise ValueError("this run has no checkpoint yet: press C to save one")
    last = load_run_config(run.config_file).train.num_steps
    listed = ", ".join(map(str, steps[-MOST_CHECKPOINTS:]))
    before_end = [step for step in steps if step < last]
    # Nothing is left to train after the checkpoint of the last step: an earlier one, or as many steps once more.
    at = "" if before_end[-1:] == steps[-1:] else str(before_end[-1]) if before_end else ""
    more = "" if before_end else str(2 * last)
    fields = {"at": (f"step of the checkpoint (empty: the newest of {listed})", at), **FORK_FIELDS}
    return fields | {"steps": (FORK_FIELDS["steps"][0], more)}


def fork_summary(run: RunDirectory, filled: Mapping[str, str]) -> str:
    """The fork in words. Raises ValueError as :func:`fork_command`."""
    fork_command(run, filled)
    at = f"after step {filled['at']}" if filled["at"] else "after its newest checkpoint"
    changes = filled["changes"] or "the same settings"
    return f"Starts a new run from {run.id} {at}, with {changes}, in a separate process. {run.id} does not change."


class RunActions(PanedScreen):
    """The actions on one run."""

    KEYS: ClassVar[list[Binding]] = [
        Binding("C", "save", "save a checkpoint now", show=False),
        Binding("S", "stop", "stop and save", show=False),
        Binding("P", "pause", "pause or continue", show=False),
        Binding("W", "change", "change the learning rate or loss weights", show=False),
        Binding("F", "fork", "fork, with changes", show=False),
        Binding("R", "resume", "resume", show=False),
    ]

    def __init__(self, run: RunDirectory) -> None:
        super().__init__()
        self.run_directory = run
        self.follower = RunFollower(run)

    @property
    def active_bindings(self) -> dict[str, ActiveBinding]:
        """Textual's, of which the footer shows those that apply to the run's state; the others say why they do not."""
        applies = {"stop": self._state in TAKES_COMMANDS, "resume": self._state in ENDED}
        applies["fork"] = not applies["stop"]
        return {
            key: one._replace(binding=replace(one.binding, show=True)) if applies.get(one.binding.action) else one
            for key, one in super().active_bindings.items()
        }

    @property
    def _state(self) -> str:
        return self.follower.status.state if self.follower.status else "unreadable"

    def _check_takes_commands(self) -> None:
        if self._state not in TAKES_COMMANDS:
            hint = "; press R to resume it" if self._state in ENDED else ""
            raise ValueError(f"{self.run_directory.id} is not running (state: {self._state}){hint}")

    def _confirm(self, command: Command) -> None:
        self._check_takes_commands()
        title = f"{self.run_directory.id}: {command.title}?"
        self.app.confirm(title, command.effect, lambda: self._send(command))

    def _send(self, command: Command) -> None:
        send_command(self.run_directory, command.kind, **command.arguments)
        self.app.show_notice(f"{command.kind} sent to {self.run_directory.id}; it applies after the current step")

    def action_save(self) -> None:
        self._confirm(CHECKPOINT)

    def action_stop(self) -> None:
        self._confirm(STOP)

    def action_pause(self) -> None:
        self._confirm(CONTINUE if self._state == "paused" else PAUSE)

    def action_change(self) -> None:
        self._check_takes_commands()
        settings = self._settings()

        def command(filled: dict[str, str]) -> Command:
            changed = [f"{name}={text}" for name, text in filled.items() if text != settings[name]]
            if not changed:
                raise ValueError("no value is changed yet")
            return change_command(self.run_directory, changed)

        def check(filled: dict[str, str]) -> str:
            found = command(filled)
            return f"{found.title}. {found.effect}"

        fields = {name: (name, text) for name, text in settings.items()}
        title = f"{self.run_directory.id}: change settings"
        self.app.fill_form(title, fields, check, lambda filled: self._send(command(filled)))

    def _settings(self) -> dict[str, str]:
        """The changeable settings with their current values: the initial ones, updated by logged ``set`` commands."""
        settings = changeable_settings(self.run_directory)
        for event in self.follower.history.notes:
            if isinstance(event, Commanded) and event.command == "set":
                settings |= {name: f"{value:g}" for name, value in event.arguments.items() if name in settings}
        return settings

    def action_fork(self) -> None:
        run = self.run_directory

        def fork(filled: dict[str, str]) -> None:
            self.app.show_notice(f"forking {run.id}; the fork starts in a few seconds")
            self.app.run_command(
                fork_command(run, filled),
                lambda answer: self.app.show_notice(f"fork {json.loads(answer)['id']} is training"),
                f"could not fork {run.id}: ",
            )

        self.app.fill_form(f"{run.id}: fork", fork_fields(run), lambda filled: fork_summary(run, filled), fork)

    def action_resume(self) -> None:
        run = self.run_directory
        if self._state not in ENDED:
            raise ValueError(f"{run.id} cannot be resumed (state: {self._state}): it has not been interrupted")

        def resume() -> None:
            self.app.start_process(f"resuming {run.id}", ["runs", "resume", str(run.path)], run.output_file)

        effect = (
            f"The run continues from its newest complete checkpoint, {SEPARATELY}. "
            "Steps logged after that checkpoint are replaced."
        )
        self.app.confirm(f"{run.id}: resume?", effect, resume)
