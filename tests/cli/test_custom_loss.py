"""The README's custom loss, trained from a recipe and a file in the working directory."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import tomli_w
import torch

from workbench.cli.app import loaded
from workbench.config.trust import VARIABLE

README = Path(__file__).parents[2] / "README.md"


def test_the_readmes_loss_trains_and_resumes_from_another_folder(workbench, tiny_table, tmp_path: Path) -> None:
    (code,) = (block for block in re.findall(r"```python\n(.*?)```", README.read_text(), re.S) if "(Loss)" in block)
    (recipe,) = (block for block in re.findall(r"```toml\n(.*?)```", README.read_text(), re.S) if "file =" in block)
    folder = tmp_path / "ideas"
    folder.mkdir()
    base = {key: value for key, value in tiny_table.items() if key != "recipe"}
    (folder / "tiny.toml").write_text(tomli_w.dumps(base))
    (folder / re.search(r'file = "(.*?)"', recipe)[1]).write_text(code)
    (folder / "mine.toml").write_text(re.sub(r'extends = ".*?"', 'extends = "tiny.toml"', recipe))
    trained = workbench("train", "--recipe", "ideas/mine.toml", "--name", "mine", "--json")
    assert trained.code == 0, trained.err
    assert json.loads(trained.out)["state"] == "finished"
    name = re.search(r"\[loss\.(\w+)\]", recipe)[1]
    events = [json.loads(line) for line in Path("runs/mine/events.jsonl").read_text().splitlines()]
    losses = [event["terms"][name] for event in events if event["event"] == "StepDone"]
    assert losses[-1] < losses[0]
    assert workbench("evaluate", "mine").code == 0


LOSS = """\
from workbench.losses import Loss


class Mine(Loss):
    def __init__(self, convention="paper"):
        super().__init__(convention)
        self.calls = 0

    def __call__(self, comparison):
        self.calls += 1
        value = (comparison.projected.image_BD - comparison.teacher.image_BD).square().sum(1)
        return {returned}
"""


@pytest.fixture
def mine(tiny_table, tmp_path: Path) -> Callable[[str], str]:
    """``mine("value")``: a recipe whose one loss returns this, in a file beside it."""

    def write(returned: str) -> str:
        (tmp_path / "mine.py").write_text(LOSS.format(returned=returned))
        table = {key: value for key, value in tiny_table.items() if key not in ("recipe", "loss")}
        (tmp_path / "mine.toml").write_text(tomli_w.dumps(table | {"loss": {"mine": {"file": "mine.py"}}}))
        return "mine.toml"

    return write


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        ("value", "end with .mean()"),
        ("value.meen()", "line 12: AttributeError"),
        ("0.0", "returns a float"),
        ("(value - value).log().mean()", "returns -inf, on random embeddings"),
        ("(value - value).sqrt().mean()", "its gradient is not finite"),
        ("exit(1)", "SystemExit: 1"),
    ],
)
@pytest.mark.parametrize("command", ["train", "doctor"])
def test_a_mistake_is_found_before_the_first_step(workbench, mine, command: str, returned: str, said: str) -> None:
    found = workbench(command, "--recipe", mine(returned))
    assert (found.code, len([line for line in found.err.splitlines() if line.startswith("workbench: ")])) == (2, 1)
    last = found.err.splitlines()[-1]
    assert last.startswith("workbench: loss.mine: ")
    assert "mine.py" in last
    assert said in last
    assert not list(Path("runs").glob("*"))


def test_a_mistake_that_shows_later_ends_the_run_in_one_line(workbench, mine) -> None:
    recipe = mine("value.mean() if self.calls < 3 else value.meen()")
    found = workbench("train", "--recipe", recipe, "--name", "late")
    assert found.code == 1
    assert "Traceback" not in found.err
    (line,) = (line for line in found.err.splitlines() if "late" in line and "failed" in line)
    assert re.search(r"loss\.mine: .*mine\.py, line 12: AttributeError: .*'meen'", line)
    events = [json.loads(line) for line in Path("runs/late/events.jsonl").read_text().splitlines()]
    assert events[-1]["event"] == "RunFinished"
    assert (events[-1]["state"], events[-1]["step"]) == ("failed", 2)  # trying the loss out was not counted


def test_trying_a_loss_out_changes_no_number(workbench, mine, monkeypatch: pytest.MonkeyPatch) -> None:
    from workbench.losses.objective import Objective

    recipe = mine("value.mean() * (1 + 0.1 * __import__('torch').rand(()))")
    torch.manual_seed(0)
    trained = json.loads(workbench("train", "--recipe", recipe, "--name", "one", "--json").out)
    monkeypatch.setattr(Objective, "try_users_losses", lambda *_: None)
    torch.manual_seed(0)
    untried = json.loads(workbench("train", "--recipe", recipe, "--name", "two", "--json").out)
    assert trained["weights_sha256"] == untried["weights_sha256"]


STRANGERS_LOSS = """
from pathlib import Path

from workbench.losses import Loss

Path({marker!r}).touch()


class Mine(Loss):
    def __init__(self, convention="paper"):
        super().__init__(convention)

    def __call__(self, comparison):
        return comparison.student.image_BD.square().mean()
"""


@pytest.fixture
def strangers(tiny_table, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe of somebody else's with a loss file beside it, outside the working directory."""
    folder = tmp_path_factory.mktemp("stranger")
    (folder / "loss.py").write_text(STRANGERS_LOSS.format(marker=str(folder / "ran")))
    table = {key: value for key, value in tiny_table.items() if key != "recipe"}
    table["loss"] = {"clip": {}, "mine": {"file": "loss.py", "weight": 1.0, "weight_at": "here"}}
    (folder / "recipe.toml").write_text(tomli_w.dumps(table))
    monkeypatch.setenv(VARIABLE, "")
    return folder


def test_a_strangers_loss_runs_only_with_trust(
    workbench, strangers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, marker = str(strangers / "recipe.toml"), strangers / "ran"

    def refused(*command: str) -> None:
        marker.unlink(missing_ok=True)
        monkeypatch.setenv(VARIABLE, "")
        said = workbench(*command)
        assert said.code == 2, said.err
        assert "loss.py is outside the working directory" in said.err.splitlines()[-1]
        assert "--trust" in said.err.splitlines()[-1]
        assert not marker.exists()

    refused("train", "--recipe", recipe, "--name", "one")
    assert not (tmp_path / "runs" / "one").exists()
    refused("doctor", "--recipe", recipe)
    refused("calibrate", "--recipe", recipe, "--out", "calibrated.toml")
    trained = workbench("train", "--recipe", recipe, "--name", "one", "--trust")
    assert trained.code == 0, trained.err
    assert marker.exists()
    refused("evaluate", "one")
    refused("runs", "fork", "one", "--steps", "20")
    (tmp_path / "runs" / "one" / "summary.json").unlink()
    log = tmp_path / "runs" / "one" / "events.jsonl"
    log.write_text("".join(line for line in log.read_text().splitlines(True) if "RunFinished" not in line))
    refused("runs", "resume", "one")
    assert workbench("evaluate", "one", "--trust").code == 0


@pytest.mark.parametrize(
    "path",
    [
        *("train", "doctor", "calibrate", "sweep", "evaluate", "tui", "notebook"),
        *("runs resume", "runs fork", "teacher train", "teacher cache", "bench step"),
    ],
)
def test_every_command_that_loads_a_loss_has_the_option(path: str) -> None:
    first, *rest = path.split()
    command = loaded(first)
    for name in rest:
        command = command.commands[name]
    (option,) = (param for param in command.params if "--trust" in param.opts)
    assert "in the working directory or below it" in option.help
