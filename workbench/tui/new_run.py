"""The screen that starts a run: the settings of a recipe, edited and checked one by one; and the form of a sweep."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, get_origin

from pydantic import BaseModel
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widgets import Input, Static

from workbench.config.cells import Changes, as_text, cells_of
from workbench.config.run import LossConfig, RunConfig
from workbench.config.study import flat
from workbench.config.toml import at_length, load_recipe
from workbench.errors import visible
from workbench.runs.directory import check_can_create
from workbench.runs.studies import find_trainable
from workbench.tui.dialogs import KeyFooter
from workbench.tui.host import SEPARATELY, Host
from workbench.tui.rows import GAP, Cell, Column, Line, Rows

COMMAND_OPTIONS = {
    "recipe": "a recipe's name or file: see `workbench recipes`",
    "name": "the run's name; empty for one made of the recipe, the seed and the time",
    "steps": "the last step; every phase and ramp scales with it. Empty keeps the recipe's",
    "seed": "seed of the weights, and of the data's order and crops; empty keeps the recipe's",
}
OF_A_LOSS = "a setting of this loss: see `workbench losses`"
HIDDEN = ("recipe", "question", "seed", "data.seed", "train.num_steps")  # set by the command's options instead
FIRST_RECIPE = "clip-kd"
LEAST_NAME, MOST_NAME = 16, 40
GROUP = "group/"  # prefix of the key of a group's row; names of settings contain no slash
FIRST_GROUP, INDENT = "run", "  "
GROUPS = {
    FIRST_GROUP: "what is trained, how long, and under which name",
    "data": "the pairs to train on, to select by and to report",
    "student": "the architecture and the tokenizer",
    "teacher": "the model that is distilled",
    "inheritance": "how the student starts from the teacher's weights, and what is pruned on the way",
    "loss": "the losses with their weights and settings",
    "optimizer": "learning rate, its schedule, and regularization",
    "train": "length, batch size and precision",
    "curation": "which pairs of a larger batch are trained on",
    "evaluate": "when and on what the student is evaluated",
    "log": "what is logged and kept, and how often",
}


@dataclass
class Draft:
    """The edits: options of ``workbench train``, and settings by dotted name. What is not edited keeps its default."""

    runs_dir: Path
    options: dict[str, str] = field(default_factory=lambda: {"recipe": FIRST_RECIPE})
    settings: dict[str, str] = field(default_factory=dict)

    def config(self) -> RunConfig:
        """The run's config with the edits. Raises ValueError if one is invalid."""
        config = load_recipe(self.options.get("recipe") or FIRST_RECIPE, self.overrides)
        for option in ("steps", "seed"):
            if (text := self.options.get(option, "")) and not text.isdecimal():
                raise ValueError(f"{option} must be a whole number (got {text!r})")
        if seed := self.options.get("seed"):
            config = config.with_seed(int(seed))
        if steps := self.options.get("steps"):
            config = at_length(config, int(steps), self.overrides)
        if name := self.options.get("name"):
            check_can_create(self.runs_dir, name)
        return config

    @property
    def overrides(self) -> list[str]:
        """The edited settings as arguments of ``--set``."""
        return [f"{name}={text}" for name, text in self.settings.items()]

    def rows(self) -> dict[str, str]:
        """The value of every option and setting, as text by name. Raises ValueError if the recipe is invalid."""
        recipe = load_recipe(self.options.get("recipe") or FIRST_RECIPE)
        table = flat(recipe.model_dump(mode="json"))
        own = {option: self.options.get(option, "") for option in COMMAND_OPTIONS}
        return own | {name: written(value) for name, value in table.items() if name not in HIDDEN} | self.settings

    def change(self, name: str, text: str) -> None:
        """Set a setting to ``text``; empty text restores the default."""
        of = self.options if name in COMMAND_OPTIONS else self.settings
        if text.strip():
            of[name] = text.strip()
        else:
            of.pop(name, None)

    def is_changed(self, name: str) -> bool:
        return name in self.settings or bool(self.options.get(name) and name != "recipe")

    def command(self) -> list[str]:
        """The ``workbench`` arguments that start the run in a separate process."""
        options = [word for name, text in self.options.items() for word in (f"--{name}", text)]
        sets = [word for override in self.overrides for word in ("--set", override)]
        return ["train", *options, *sets, "--runs", str(self.runs_dir), "--detach", "--json"]

    def summary(self) -> str:
        """The run in one line. Raises ValueError as :meth:`config`."""
        config = self.config()
        size = f"{config.train.num_steps:,} steps of {config.train.batch_size} pairs of {config.data.train}"
        return f"{size}; losses: {', '.join(config.loss) or 'none'}; seed {config.seed}"


def written(value: Any) -> str:
    """A value as text, as after ``=`` in ``--set``."""
    return json.dumps(value) if isinstance(value, list | dict) else "" if value is None else as_text(value)


def group_of(name: str) -> str:
    """The group of an option or setting: its table in a recipe."""
    return FIRST_GROUP if name in COMMAND_OPTIONS or "." not in name else name.partition(".")[0]


def setting_help(name: str) -> str:
    """Help on a setting, from its docstring."""
    if name in COMMAND_OPTIONS:
        return COMMAND_OPTIONS[name]
    if not name.startswith("loss."):
        return dict(_fields(RunConfig)).get(name, "")
    return dict(_fields(LossConfig, f"loss.{name.split('.')[1]}.")).get(name, OF_A_LOSS)


def _fields(config: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str]]:
    """The dotted name and docstring of every setting."""
    for name, one in config.model_fields.items():
        kind = one.annotation
        if isinstance(kind, type) and get_origin(kind) is None and issubclass(kind, BaseModel):
            yield from _fields(kind, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", " ".join((one.description or "").split())


class NewRunScreen(Screen[None]):
    """A table of settings; an edit is checked after every key."""

    DEFAULT_CSS = """
    NewRunScreen #verdict { height: 2; padding: 0 1; background: $panel; }
    NewRunScreen #verdict.-wrong { color: $error; }
    NewRunScreen #about { height: 2; padding: 0 1; color: $text-muted; }
    NewRunScreen Input { display: none; border: none; height: 1; padding: 0 1; background: $surface; }
    NewRunScreen.-typing #value { display: block; }
    NewRunScreen.-filtering #filter { display: block; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "back", "back", key_display="esc"),
        Binding("slash", "filter", "filter", key_display="/"),
        Binding("ctrl+s,S", "start", "start", key_display="S"),
    ]
    app: Host

    def __init__(self, runs_dir: Path) -> None:
        super().__init__()
        self.draft = Draft(runs_dir)
        self._error = ""
        self._words = ""  # of the filter
        self._open = {FIRST_GROUP}
        self._shown_rows: dict[str, str] = {}

    def compose(self) -> ComposeResult:
        yield Static("", id="verdict", markup=False)
        yield Rows(id="settings")
        yield Static("", id="about", markup=False)
        yield Input(id="value", compact=True, select_on_focus=True)
        yield Input(id="filter", compact=True, placeholder="words in the setting's name")
        yield KeyFooter()

    def on_mount(self) -> None:
        self.query_one(Rows).focus()
        self.draw()

    def on_resize(self) -> None:
        self.draw()

    def draw(self) -> None:
        """Update the table and the summary."""
        try:
            self._shown_rows = self.draft.rows()
        except ValueError:
            self._shown_rows = {"recipe": self.draft.options.get("recipe", "")}  # the summary shows the error
        names = self._names()
        longest = max((len(name) for name in names if not name.startswith(GROUP)), default=0)
        width = max(LEAST_NAME, min(MOST_NAME, longest + len(INDENT), self.size.width // 2))
        columns = [Column("name", "", width), Column("value", "", max(8, self.size.width - width - 2 * GAP - 1))]
        self.query_one(Rows).show(columns, {name: self._line(name) for name in names})
        self._check()
        self._draw_about()

    def _names(self) -> list[str]:
        """The keys of the rows: groups, each followed by its settings if it is open; with a filter, what matches."""
        if words := self._words.lower().split():
            return [name for name in self._shown_rows if all(word in name.lower() for word in words)]
        groups: dict[str, list[str]] = {}
        for name in self._shown_rows:
            groups.setdefault(group_of(name), []).append(name)
        return [
            row
            for group, names in groups.items()
            for row in (GROUP + group, *(names if group in self._open or any(map(self._is_new, names)) else ()))
        ]

    def _is_new(self, name: str) -> bool:
        """Whether the setting was edited: its group stays open."""
        return name not in COMMAND_OPTIONS and self.draft.is_changed(name)

    def _line(self, key: str) -> Line:
        if not key.startswith(GROUP):
            color = "accent" if self.draft.is_changed(key) else ""
            indent = "" if self._words else INDENT
            return Cell(indent + key, color), Cell(self._shown_rows[key], color)
        group = key.removeprefix(GROUP)
        own = {name: text for name, text in self._shown_rows.items() if group_of(name) == group}
        is_open = group in self._open or any(map(self._is_new, own))
        some = ", ".join(f"{name.removeprefix(f'{group}.')}={text}" for name, text in own.items() if text)
        return Cell(f"{'▾' if is_open else '▸'} {group}", "primary"), Cell("" if is_open else some, "text-muted")

    def _check(self) -> None:
        try:
            text, self._error = self.draft.summary(), ""
        except ValueError as error:
            text = self._error = str(error)
        verdict = self.query_one("#verdict", Static)
        verdict.set_class(bool(self._error), "-wrong")
        verdict.update(Text.assemble(("start a run  ", "bold"), visible(text)))

    def _draw_about(self) -> None:
        key = self.query_one(Rows).key
        if key is None:
            text = "no setting matches; esc clears the filter"
        elif key.startswith(GROUP):
            text = f"{GROUPS.get(key.removeprefix(GROUP), '')}; enter opens or closes it".removeprefix("; ")
        else:
            text = setting_help(key)
        self.query_one("#about", Static).update(Text(text))

    def on_rows_moved(self) -> None:
        self._draw_about()

    def on_rows_chosen(self) -> None:
        """Edit the setting at the cursor, or open or close the group."""
        key = self.query_one(Rows).key
        if key is not None and key.startswith(GROUP):
            self._open ^= {key.removeprefix(GROUP)}
            self.draw()
        elif key is not None:
            field = self.query_one("#value", Input)
            self.add_class("-typing")
            with field.prevent(Input.Changed):
                field.value = self._shown_rows[key]
            field.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        if event.input.id == "filter":
            self._words = event.value
            self.query_one(Rows).move_to(0)
        elif (key := self.query_one(Rows).key) is not None:
            self.draft.change(key, event.value)
        self.draw()

    def on_input_submitted(self) -> None:
        self._to_rows()

    def _to_rows(self) -> None:
        self.remove_class("-typing", "-filtering")
        self.query_one(Rows).focus()

    def action_filter(self) -> None:
        self.add_class("-filtering")
        self.query_one("#filter", Input).focus()

    def action_back(self) -> None:
        if self.has_class("-typing") or self.has_class("-filtering"):
            self._to_rows()
        elif self._words:
            self.query_one("#filter", Input).value = ""
        else:
            self.app.pop_screen()

    def action_start(self) -> None:
        if self._error:
            raise ValueError(self._error)
        command = self.draft.command()

        def start() -> None:
            self.app.show_notice("starting; this takes a few seconds")
            self.app.run_command(command, self._started, "not started: ")

        effect = f"{self.draft.summary()}, {SEPARATELY}:\n\nworkbench {' '.join(command)}"
        self.app.confirm("start this run?", effect, start)

    def _started(self, answer: str) -> None:
        self.app.show_notice(f"{json.loads(answer)['id']} is training")
        if self.app.screen is self:
            self.app.pop_screen()


SWEEP_FIELDS = {
    "study": ("study: a name (see `workbench studies`) or a file", ""),
    "seeds": ("seeds per cell (empty: the study's)", ""),
    "steps": ("steps per run (empty: the study's)", ""),
    "changes": ("changes to every run, such as train.batch_size=64", ""),
}


def sweep_command(filled: dict[str, str], runs_dir: Path) -> list[str]:
    """The ``workbench`` arguments of a sweep, from the fields of a form. Raises ValueError if one is invalid."""
    if not filled["study"]:
        raise ValueError("enter a study's name; list them with: workbench studies")
    study = find_trainable(filled["study"], runs_dir)
    for name in ("seeds", "steps"):
        if filled[name] and (not filled[name].isdecimal() or not int(filled[name])):
            raise ValueError(f"{name} must be a whole number above 0 (got {filled[name]!r})")
    changes = filled["changes"].split()
    cells_of(study, Changes(tuple(changes), int(filled["steps"]) if filled["steps"] else None))
    numbers = [word for name in ("seeds", "steps") if filled[name] for word in (f"--{name}", filled[name])]
    sets = [word for change in changes for word in ("--set", change)]
    return ["sweep", "--study", filled["study"], *numbers, *sets, "--runs", str(runs_dir)]


def sweep_summary(filled: dict[str, str], runs_dir: Path) -> str:
    """The sweep in one line: its question, the number of runs and the cost. Raises as :func:`sweep_command`."""
    sweep_command(filled, runs_dir)
    study = find_trainable(filled["study"], runs_dir)
    num_runs = study.num_runs * int(filled["seeds"] or study.seeds) // study.seeds
    cost = f" ({study.cost})" if study.cost and not filled["steps"] and not filled["seeds"] else ""
    return f"{study.question} {num_runs} runs{cost}, {SEPARATELY}."
