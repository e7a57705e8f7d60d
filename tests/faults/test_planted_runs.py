"""Run folders from elsewhere: damaged ones among intact ones, and names with control characters."""

import asyncio
import json
import math
import os
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w

from workbench.config.toml import load_recipe
from workbench.events import CheckpointSaved, EvalDone, Event, Forked, RunFinished, RunStarted, StepDone, Warned
from workbench.process import this_host
from workbench.runs.directory import RunDirectory, create_run
from workbench.runs.log import EventLog
from workbench.runs.snapshots import PLACES, Gradients, Probe, ProbeOutputs, write_snapshot

STUDY = "one_loss"
# Window title, clear screen, C1's CSI, writing direction, delete, line ends, Rich's markup, a formula, table bars.
HOSTILE = "=1+1 \x1b]0;pwned\x07\x1b[2J\x9b31m\u202e\u2066\x7f\x08\x0b\r\n[red]x[/b]|\\end{tabular}"
HOSTILE_ID = "hostile \x1b[2J\x9b31m\u202e\x7f\r\n[red]x[b]"
STYLE = re.compile(r"\x1b\[[\d;]*m")  # what a terminal is sent for colors


def events_of(run: str, step: int = 80) -> list[Event]:
    at = {"run": run, "step": step}
    measured = {"num_pairs": 1000, "metrics": {"image_to_text_r1": 0.3, "cka": 0.5}, "elapsed_s": 1.0}
    return [
        RunStarted(run=run, step=0, num_steps=80, batch_size=100, num_pairs=1000, num_parameters=9,
                   num_embedding_parameters=1, host=this_host(), pid=2**22 + 1),
        StepDone(**at, loss=4.0, terms={"clip": 3.0}, weighted={"clip": 3.0}, scales={}, learning_rate=1e-3,
                 grad_norm=1.0, step_time_s=0.1, pairs_per_s=1000.0, elapsed_s=8.0, peak_mb=100.0),
        EvalDone(**at, split="validation", **measured),
        EvalDone(**at, split="test", **measured),
        RunFinished(**at, state="finished", elapsed_s=8.0),
    ]  # fmt: skip


def plant(
    runs: Path, name: str, events: list[Event] | None = None, *, cell: str = "baseline", seed: int = 0, **settings: Any
) -> RunDirectory:
    """A finished run of a study, with these settings and events in the place of usual ones."""
    table = load_recipe("baseline", seed=seed).model_dump(mode="json") | settings
    origin = {"study": STUDY, "cell": cell, "values": {"recipe": "baseline"}, "seed": seed, "trial": 0}
    made = create_run(runs, "made", tomli_w.dumps(table | {"machine": {"host": "here"}, "sweep": origin}))
    run = RunDirectory(made.path.rename(runs / name))
    with EventLog(run.events_file) as log:
        for event in events or events_of(name):
            log.append(event)
    return run


def replaced(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink(missing_ok=True)
    make(path)


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**40)


def listening(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # a socket's path is short
    try:
        socket.socket(socket.AF_UNIX).bind(path.name)
    finally:
        os.chdir(here)


DEEP_TOML = "a = " + "[" * 100_000 + "]" * 100_000 + "\n"
DEEP_JSON = "[" * 100_000
INFINITE = {"cka": math.inf, "image_to_text_r1": -math.inf, "new": math.nan}


def written(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


def appended(run: RunDirectory, line: str) -> None:
    with run.events_file.open("a") as file:
        file.write(line + "\n")


def infinite(run: RunDirectory) -> None:
    event = EvalDone(
        run=run.id, step=80, split="validation", num_pairs=9, metrics=INFINITE, errors=INFINITE, elapsed_s=math.inf
    )
    appended(run, event.to_line())


def far_step(run: RunDirectory) -> None:
    appended(run, events_of(run.id)[3].to_line().replace('"step":80', f'"step":{10**400}'))


def forked(run: RunDirectory, parent: str) -> None:
    first = Forked(run=run.id, step=1, time_s=5.0, parent=parent, parent_step=1, parent_began_s=5.0)
    written(run.events_file, "".join(event.to_line() + "\n" for event in [first, *events_of(run.id)]))


def manifest(run: RunDirectory) -> Path:
    return run.checkpoints / "step-00000001" / "manifest.json"


def of_another_version(run: RunDirectory) -> None:
    written(run.config_file, f'[sweep]\nstudy = "{STUDY}"\ncell = "odd"\nseed = 0\ntrial = 1\n[train]\nno_such = 1\n')


# Files that make a run unreadable.
BREAKS: dict[str, Callable[[RunDirectory], object]] = {
    "events-folder": lambda run: replaced(run.events_file, Path.mkdir),
    "events-pipe": lambda run: replaced(run.events_file, os.mkfifo),
    "events-socket": lambda run: replaced(run.events_file, listening),
    "events-device": lambda run: replaced(run.events_file, lambda path: path.symlink_to("/dev/zero")),
    "events-sparse": lambda run: replaced(run.events_file, sparse),
    "toml-folder": lambda run: replaced(run.config_file, Path.mkdir),
    "toml-pipe": lambda run: replaced(run.config_file, os.mkfifo),
    "events-one-line": lambda run: run.events_file.write_bytes(b"x" * 5_000_000),
}
# Files without which a run can still be read.
SPOILS: dict[str, Callable[[RunDirectory], object]] = {
    "toml-deep": lambda run: written(run.config_file, DEEP_TOML),
    "toml-deep-keys": lambda run: written(run.config_file, ".".join("a" * 100_000) + " = 1\n"),
    "toml-huge": lambda run: sparse(run.config_file),
    "toml-digits": lambda run: written(run.config_file, f"seed = {'9' * 6000}\n"),
    "toml-of-another-version": of_another_version,
    "summary-folder": lambda run: replaced(run.summary_file, Path.mkdir),
    "summary-pipe": lambda run: replaced(run.summary_file, os.mkfifo),
    "summary-deep": lambda run: written(run.summary_file, DEEP_JSON),
    "summary-list": lambda run: written(run.summary_file, "[1, 2]"),
    "summary-sparse": lambda run: sparse(run.summary_file),
    "owner-folder": lambda run: run.owner_file.mkdir(),
    "owner-pipe": lambda run: os.mkfifo(run.owner_file),
    "snapshot-folder": lambda run: (run.snapshots / "gradients-00000001.safetensors").mkdir(),
    "snapshot-pipe": lambda run: os.mkfifo(run.snapshots / "probe-00000001.safetensors"),
    "snapshot-sparse": lambda run: sparse(run.snapshots / "masks-00000001.safetensors"),
    "snapshots-file": lambda run: (run.snapshots.rmdir(), written(run.snapshots, "")),
    "checkpoint-odd": lambda run: (run.checkpoints / "step-12ab").mkdir(),
    "manifest-odd": lambda run: written(manifest(run), '{"sha256": [1]}'),
    "manifest-pipe": lambda run: (manifest(run).parent.mkdir(), os.mkfifo(manifest(run))),
    "manifest-outside": lambda run: written(manifest(run), '{"sha256": {"/dev/zero": ""}}'),
    "events-deep": lambda run: appended(run, '{"event": ' + DEEP_JSON),
    "events-large-step": far_step,
    "events-infinite": infinite,
    "fork-of-itself": lambda run: forked(run, run.id),
    "fork-of-a-broken-one": lambda run: forked(run, "events-pipe"),
}


UNREAD = ("toml-deep", "toml-deep-keys", "toml-huge", "toml-digits")  # run.toml is no table


@pytest.fixture
def damaged(command_line: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """``damaged("events-pipe")``: the command line, two intact runs and these, or one of each kind."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def make(*names: str) -> Callable[..., Any]:
        for seed, name in enumerate(("whole", "sound")):
            plant(tmp_path / "runs", name, seed=seed)
        for seed, name in enumerate(names or BREAKS | SPOILS):
            (BREAKS | SPOILS)[name](plant(tmp_path / "runs", name, cell=name, seed=seed % 3))
        return command_line

    return make


def broken_file(name: str) -> str:
    return "run.toml" if name.startswith("toml-") else "events.jsonl"


def test_list_show_and_dashboard_agree_about_the_state(damaged) -> None:
    workbench = damaged()
    for name in ("whole", "sound"):
        path = Path("runs") / name
        assert workbench("runs", "show", name, "--json").code == 0
        (path / "events.jsonl").write_text("")  # the summary still says that the run is finished
    listed = {run["id"]: run["state"] for run in strictly(workbench("runs", "list", "--json").out)["runs"]}
    watched = {run["id"]: run["state"] for run in strictly(workbench("tui", "--once", "--json").out)["runs"]}
    assert listed == watched
    assert listed["whole"] == "new"
    for name, state in listed.items():
        shown = workbench("runs", "show", name, "--json")
        assert (strictly(shown.out)["state"] if shown.code == 0 else "unreadable") == state, name


def test_a_folder_whose_name_is_not_utf8_is_listed_and_refused(damaged) -> None:
    workbench = damaged("toml-deep")
    odd = os.fsdecode(b"odd-\xff")
    (Path("runs") / "whole").rename(Path("runs") / odd)
    for command in (("runs", "list"), ("tui", "--once")):
        assert workbench(*command).code == 0
        assert odd in {run["id"] for run in strictly(workbench(*command, "--json").out)["runs"]}
        assert "odd-\\udcff" in workbench(*command, "--json").out
    done = workbench("runs", "show", odd)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "not UTF-8" in done.err
    assert "control characters" not in done.err


def test_a_link_to_itself_is_refused_in_one_line(damaged) -> None:
    workbench = damaged("toml-deep")
    for path in (Path("runs") / "loop", Path("loop"), Path("loop.toml")):
        path.symlink_to(path.name)
    Path("child.toml").write_text('extends = "loop.toml"\n')
    Path("lossy.toml").write_text('extends = "baseline"\n[loss.odd]\nweight = 1.0\nfile = "loop.py"\n')
    Path("loop.py").symlink_to("loop.py")
    for command in (
        ("runs", "show", "loop"),
        ("runs", "resume", "runs/loop"),
        ("evaluate", "run:loop"),
        ("train", "--recipe", "loop.toml"),
        ("train", "--recipe", "child.toml"),
        ("train", "--recipe", "lossy.toml"),
        ("report", "child.toml"),
    ):
        done = workbench(*command)
        assert (done.code, done.err.count("\n")) == (2, 1), (command, done.err)
        assert "Traceback" not in done.err


def strictly(text: str) -> Any:
    def refuse(token: str) -> None:
        raise AssertionError(f"{token} is not JSON")

    return json.loads(text, parse_constant=refuse)


def test_every_run_is_listed_with_the_reason_if_it_cannot_be_read(damaged) -> None:
    workbench = damaged()
    done = workbench("runs", "list")
    assert (done.code, done.err) == (0, "")
    listed = {run["id"]: run for run in strictly(workbench("runs", "list", "--json").out)["runs"]}
    assert listed.keys() == {"whole", "sound"} | BREAKS.keys() | SPOILS.keys()
    for name in BREAKS:
        assert listed[name]["state"] == "unreadable", name
        assert f"{name}/{broken_file(name)}: " in listed[name]["reason"]
        assert f"{name}: cannot read" in done.out
    assert {run["state"] for name, run in listed.items() if name not in BREAKS} == {"finished"}
    assert listed["whole"]["metrics"]["image_to_text_r1"] == 0.3
    assert listed["events-infinite"]["metrics"] == {"cka": "Infinity", "image_to_text_r1": "-Infinity", "new": "NaN"}


@pytest.mark.parametrize("name", [*BREAKS, *SPOILS])
def test_a_damaged_run_is_shown_or_refused_in_one_line(damaged, name: str) -> None:
    workbench = damaged(name)
    for options in ((), ("--json",), ("--gradients",), ("--departures",)):
        done = workbench("runs", "show", name, *options)
        assert "Traceback" not in done.err
        assert done.code in (0, 2)
        assert done.err.count("\n") == (1 if done.code else 0)
        if name in BREAKS or not options:
            assert done.code == (2 if name in BREAKS else 0)
        if options == ("--json",) and not done.code:
            assert strictly(done.out)["id"] == name


@pytest.mark.parametrize("name", [*BREAKS, *SPOILS])
def test_a_comparison_leaves_out_what_it_cannot_read(damaged, name: str) -> None:
    workbench = damaged(name)
    document = strictly(workbench("runs", "compare", "whole", name, "sound", "--json").out)
    assert {"whole", "sound"} <= {run["id"] for run in document["runs"]}
    assert set(document["unreadable"]) == ({name} if name in BREAKS or name in UNREAD else set())
    assert workbench("runs", "compare", "whole", name, "sound").code == 0
    assert (workbench("runs", "compare", "whole", name).code == 2) == (name in document["unreadable"])


def test_the_dashboard_lists_what_it_cannot_read(damaged) -> None:
    workbench = damaged()
    done = workbench("tui", "--once")
    assert (done.code, done.err) == (0, "")
    found = {run["id"]: run for run in strictly(workbench("tui", "--once", "--json").out)["runs"]}
    assert found.keys() == {"whole", "sound"} | BREAKS.keys() | SPOILS.keys()
    for name in BREAKS:
        assert f"{broken_file(name)}: " in found[name]["problem"], name
        assert f"{name}: " in done.out
    assert not any(found[name]["problem"] for name in SPOILS if not name.startswith("toml"))


def test_a_study_is_reported_without_what_cannot_be_read(damaged) -> None:
    workbench = damaged()
    done = workbench("report", STUDY, "--format", "md", "--out", "reports")
    assert done.code == 0, done.err
    for name in BREAKS:
        if broken_file(name) == "run.toml":  # which names the study
            continue
        assert re.search(rf"- {name}, seed \d: unreadable: cannot read", done.out), name
    strictly(workbench("report", STUDY, "--json").out)
    assert workbench("studies").code == 0


@pytest.mark.slow
def test_the_dashboards_screens_open_on_every_damaged_run(damaged) -> None:
    from workbench.tui.app import Workbench
    from workbench.tui.run.screen import PANES

    damaged()

    async def look(name: str) -> None:
        run = RunDirectory(Path("runs").absolute() / name)
        app = Workbench(Path("runs"), run)
        async with app.run_test(size=(100, 30)) as pilot:
            await pilot.pause(0.2)
            for place in range(len(PANES)):
                await pilot.press(str(place + 1))
                await pilot.pause()
            await pilot.press("escape")
            await pilot.pause(0.1)
            assert app.return_code is None

    for name in ("events-pipe", "events-infinite", "toml-deep", "fork-of-itself"):
        asyncio.run(look(name))


@pytest.fixture
def hostile(command_line: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """The command line, an intact run and one whose every name, caption and message is hostile."""
    monkeypatch.chdir(tmp_path)
    runs = tmp_path / "runs"
    for seed, name in enumerate(("whole", "sound")):
        plant(runs, name, seed=seed)
    events = events_of(HOSTILE)
    measured = {"num_pairs": 1000, "metrics": {"image_to_text_r1": 0.3, HOSTILE: 0.5}, "elapsed_s": 1.0}
    events[2:4] = [
        *(EvalDone(run=HOSTILE, step=80, split=split, **measured) for split in ("validation", "test", HOSTILE)),
        Warned(run=HOSTILE, step=80, message=HOSTILE),
        CheckpointSaved(run=HOSTILE, step=80, path=HOSTILE, weights_sha256=HOSTILE),
    ]
    events[-1] = RunFinished(run=HOSTILE, step=80, state="failed", reason=HOSTILE, elapsed_s=8.0)
    data = load_recipe("baseline").model_dump(mode="json")["data"] | {"train": HOSTILE}
    products_KK = np.array([[4.0, -1.0], [-1.0, 1.0]])
    outputs = ProbeOutputs(np.eye(2, dtype=np.float16), np.eye(2, dtype=np.float16), 10.0)
    for seed, name in enumerate(("planted", HOSTILE_ID)):
        run = plant(runs, name, events, cell=HOSTILE, seed=seed, recipe=HOSTILE, question=HOSTILE, data=data)
        write_snapshot(run, Gradients(80, (HOSTILE, "fd"), dict.fromkeys(PLACES, products_KK)))
        write_snapshot(run, Probe(80, (HOSTILE, "plain"), outputs))
    plant(runs, "odd", events, **{HOSTILE: {HOSTILE: HOSTILE}})
    unreadable = plant(runs, HOSTILE_ID + "2", cell=HOSTILE, seed=2)
    replaced(unreadable.events_file, Path.mkdir)
    return command_line


PRINTING = [  # what holds hostile text
    ("runs", "list"),
    ("runs", "show", "planted"),
    ("runs", "show", "planted", "--gradients"),
    ("runs", "show", "planted", "--departures"),
    ("runs", "compare", "whole", "planted"),
    ("runs", "compare", "whole", "planted", "odd", "--all"),
    ("runs", "compare", "whole", "planted", "odd", "sound", "--all"),
    ("tui", "--once"),
    ("report", STUDY),
]
REFUSING = [
    ("runs", "show", "odd", "--departures"),
    ("runs", "show", HOSTILE_ID),
    ("runs", "show", HOSTILE_ID + "2"),
    ("runs", "show", HOSTILE_ID[:-3]),
    ("runs", "compare", "whole", HOSTILE_ID),
    ("runs", "stop", "planted"),
    ("runs", "resume", "planted"),
    ("runs", "fork", "planted"),
    ("tui", HOSTILE),
    ("evaluate", "planted"),
    ("evaluate", HOSTILE_ID[:-3]),
]


def steering(text: str) -> Iterator[str]:
    """Every character that a terminal would interpret instead of showing it, but for line ends and styles."""
    return (one for one in STYLE.sub("", text) if not one.isprintable() and one != "\n")


@pytest.mark.parametrize("width", ["60", "200"])
@pytest.mark.parametrize("command", PRINTING, ids=" ".join)
def test_no_name_of_a_file_steers_the_terminal(hostile, command, width: str, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", width)
    done = hostile(*command)
    assert done.code == 0, done.err
    assert r"\x1b" in "".join(done.out.split())
    assert not list(steering(done.out + done.err))
    assert not [line for line in done.out.splitlines() if width == "200" and line.startswith("[red]x")]
    document = hostile(*command, "--json")
    assert not list(steering(document.out))
    strictly(document.out)


@pytest.mark.parametrize("command", REFUSING, ids=lambda command: ascii(" ".join(command)))
def test_no_name_of_a_file_steers_the_terminal_in_an_error(hostile, command) -> None:
    done = hostile(*command)
    assert done.code in (1, 2)
    assert done.err.startswith("workbench: ")
    assert "Traceback" not in done.err
    assert not list(steering(done.out + done.err))


def test_control_characters_are_shown(hostile) -> None:
    listed = hostile("runs", "list").out
    assert r"\x1b[2J\x9b31m\u202e\x7f\r\n[red]x[b]" in listed
    assert HOSTILE_ID in {run["id"] for run in strictly(hostile("runs", "list", "--json").out)["runs"]}


@pytest.mark.slow
@pytest.mark.usefixtures("hostile")
def test_no_name_of_a_file_steers_the_dashboard() -> None:
    from workbench.tui.app import Workbench
    from workbench.tui.run.screen import PANES

    async def look(run: str, study: str) -> list[str]:
        seen = []
        found = RunDirectory(Path("runs").absolute() / run) if run else None
        app = Workbench(Path("runs"), found, study)
        async with app.run_test(size=(100, 30)) as pilot:
            await pilot.pause(0.3)
            for key in (*map(str, range(1, len(PANES) + 1)), "escape", "v", "enter"):
                await pilot.press(key)
                await pilot.pause(0.1)
                seen += ["".join(segment.text for segment in line) for line in app.screen._compositor.render_strips()]
        return seen

    for run, study in ((HOSTILE_ID, ""), ("planted", ""), ("", STUDY), ("", "")):
        lines = asyncio.run(look(run, study))
        assert lines
        assert not [one for line in lines for one in steering(line)]
