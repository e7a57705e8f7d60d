"""Tab completion, requested as the shells do."""

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from workbench.cli.completion import _joined
from workbench.runs.directory import create_run
from workbench.runs.studies import copy_of

PROGRAM = Path(sys.executable).with_name("workbench")
SHELLS = ("bash", "zsh", "fish")
STUDY = 'question = "Which?"\n[grid]\nloss.fd.weight = [0, 1]\n'


@pytest.fixture
def ask(workbench, monkeypatch: pytest.MonkeyPatch):
    """``ask(shell, "workbench tr")``: the candidates, in a folder with two runs, a study and the copy of another."""
    create_run(Path("runs"), "one", "")
    create_run(Path("runs"), "two", '[sweep]\nstudy = "swept"\ncell = "a"\nseed = 0\ntrial = 0\n')
    Path("own.toml").write_text(STUDY)
    copy_of("copied", Path("runs")).parent.mkdir()
    copy_of("copied", Path("runs")).write_text(STUDY)

    def answer(shell: str, line: str) -> list[str]:
        words = split_as_bash(line)
        for name, value in {
            "_WORKBENCH_COMPLETE": f"complete_{shell}",
            "COMP_WORDS": "\n".join(words),
            "COMP_CWORD": str(len(words) - 1),
            "_TYPER_COMPLETE_ARGS": line,
            "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        }.items():
            monkeypatch.setenv(name, value)
        result = workbench()
        assert result.err == ""
        return {"bash": str.splitlines, "zsh": from_zsh, "fish": from_fish}[shell](result.out)

    return answer


def split_as_bash(line: str) -> list[str]:
    """At : and = too; the cursor stands at the end."""
    words = line.replace(":", " : ").replace("=", " = ").split(" ")
    words = [word for word in words[:-1] if word] + [words[-1]]
    if len(words) > 1 and not words[-1] and words[-2] in (":", "="):
        words.pop()  # the cursor stands right behind the sign
    return words


def from_zsh(said: str) -> list[str]:
    found = said.partition("((")[2].rpartition("))")[0].splitlines()
    return [entry.split('"')[1].replace(r"\\:", ":") for entry in found]


def from_fish(said: str) -> list[str]:
    return [entry.partition("\t")[0] for entry in said.splitlines()]


def run(argv: list[str], **environment: str) -> str:
    path = f"{PROGRAM.parent}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": path} | environment
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("workbench tr", {"train"}),
        ("workbench train --ste", {"--steps"}),
        ("workbench train --recipe clip", {"clip-kd"}),
        ("workbench runs show o", {"one"}),
        ("workbench train --set train.device", {"train.device=auto", "train.device=cpu", "train.device=cuda"}),
        ("workbench train --recipe baseline --set optimizer.eps", {"optimizer.eps=1e-06"}),
        ("workbench train --set loss.icl.wei", {"loss.icl.weight=1.0", "loss.icl.weight_at=published"}),
        ("workbench evaluate sample", {"sample:scenes", "sample:emoji"}),
        ("workbench evaluate mini-w6", {"mini-w64"}),
        ("workbench runs export one --to t", {"tensorboard", "trackio"}),
        ("workbench train --log-to ", {"tensorboard", "trackio", "wandb"}),
        ("workbench train --set loss.mfd.mask_r", {"loss.mfd.mask_ratio=0.25"}),
        ("workbench train --set loss.intermediate.s", {"loss.intermediate.student_blocks=[-1]"}),
        ("workbench train --set loss.fd.conv", {"loss.fd.convention=paper", "loss.fd.convention=released"}),
        ("workbench sweep --study ow", {"own"}),
        ("workbench report co", {"copied", "conventions"}),
        ("workbench tui o", {"one"}),
        ("workbench tui sw", {"swept"}),
        ("workbench report sw", {"swept"}),
    ],
)
def test_each_shell_is_offered_what_fits(ask, shell: str, line: str, expected: set[str]) -> None:
    found = ask(shell, line)
    start = line.rpartition(" ")[2]
    assert set(found) >= expected
    assert all(candidate.startswith(start) for candidate in found)


# bash ends a word at : and =, and puts what it gets behind the last of them.
@pytest.mark.parametrize(
    ("line", "rest", "word"),
    [
        ("workbench evaluate one --data samples:sc", "scenes", "samples:scenes"),
        ("workbench evaluate one --data samples:", "emoji", "samples:emoji"),
        ("workbench evaluate run:", "one", "run:one"),
        ("workbench train --set train.device=c", "cpu", "train.device=cpu"),
        ("workbench train --set teacher.model=sample:e", "emoji", "teacher.model=sample:emoji"),
        ("workbench train --set train.device=cpu --recipe clip", "clip-kd", "clip-kd"),
    ],
)
def test_a_word_that_bash_splits_is_joined_for_all_options(ask, line: str, rest: str, word: str) -> None:
    assert rest in ask("bash", line)
    assert word in ask("zsh", line)
    assert word in ask("fish", line)


@pytest.mark.parametrize(
    ("words", "whole", "kept"),
    [
        (["workbench", "a"], ["workbench", "a"], ""),
        (["workbench", "run", ":"], ["workbench", "run:"], "run:"),
        (["workbench", "run", ":", "o"], ["workbench", "run:o"], "run:"),
        (["workbench", "run", ":", ""], ["workbench", "run:", ""], ""),
        (["workbench", "--set", "a", "=", "b", ":", "c"], ["workbench", "--set", "a=b:c"], "a=b:"),
        (["workbench", "--set", "a", "=", "--json"], ["workbench", "--set", "a=", "--json"], ""),
        (["workbench", "a", "=", "b", "c"], ["workbench", "a=b", "c"], ""),
        (["workbench", "m", "@", "t"], ["workbench", "m@t"], "m@"),
        (["workbench", "run:o"], ["workbench", "run:o"], ""),
    ],
)
def test_words_are_joined_as_typed(words: list[str], whole: list[str], kept: str) -> None:
    assert _joined(words) == (whole, kept)


def test_a_broken_recipe_of_one_s_own_is_no_hindrance(ask) -> None:
    Path("recipes").mkdir()
    Path("recipes/broken.toml").write_text("no = toml = here")
    assert "broken" in ask("bash", "workbench train --recipe br")
    assert "train.device=cpu" in ask("zsh", "workbench train --recipe broken --set train.dev")


def test_runs_are_searched_in_the_commands_runs_folder(ask) -> None:
    create_run(Path("others"), "two", "")
    assert ask("zsh", "workbench runs show --runs others ") == ["two"]


def test_bash_itself_is_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lines = {
        "workbench train --recipe intermed": "intermediate",
        "workbench train --set train.device=cu": "cuda",
        "workbench train --set optimizer.be": "optimizer.betas=[0.9,0.98]",
    }
    script = 'eval "$(_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION=1 workbench --show-completion bash)"\n'
    for line in lines:
        words = split_as_bash(line)
        script += f"COMP_WORDS=({' '.join(words)}) COMP_CWORD={len(words) - 1}\n"
        script += '_workbench_completion workbench; echo "${COMPREPLY[*]}"\n'
    assert run(["bash", "--norc", "-c", script]).splitlines() == list(lines.values())


def test_fish_itself_is_answered() -> None:
    if not (fish := shutil.which("fish")):
        pytest.skip("fish is not installed")
    script = "workbench --show-completion fish | source; complete -C 'workbench train --recipe clip-kd'"
    said = run([fish, "--no-config", "-c", script], _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert "clip-kd\tWhat does CLIP-KD\N{RIGHT SINGLE QUOTATION MARK}s" in said


def test_completion_is_fast_and_loads_no_torch() -> None:
    program = "import sys; from workbench.cli.app import app\ntry: app(prog_name='workbench')\n"
    program += "finally: assert 'torch' not in sys.modules"
    for line, offered in {"workbench evaluate ": "sample", "workbench train --set loss.": "loss.icl.weight"}.items():
        begun_s = _children_s()
        words = {"_WORKBENCH_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": line}
        assert offered in run([sys.executable, "-c", program], **words)
        assert _children_s() - begun_s < 1


def _children_s() -> float:
    """Time on a processor, which a busy machine stretches less."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def test_installing_completion_prints_its_path(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    said = run([str(PROGRAM), "--install-completion", "bash"], **home)
    assert "bash completion installed in" in said
    assert "source" in (tmp_path / ".bashrc").read_text()
