"""The rules of the house, checked by the tools that know them: format, lint, types, and which floor imports which."""

import ast
import graphlib
import resource
import subprocess
import sys
import tokenize
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "workbench").rglob("*.py"))
TOP_LEVEL = {
    "workbench",
    "notebooks",
    "studies",
    "data_samples",
    "tests",
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
}


@pytest.mark.parametrize(
    "command",
    [["ruff", "format", "--check", "."], ["ruff", "check", "."], ["mypy"], ["lint-imports", "--no-cache"]],
    ids=["format", "lint", "types", "floors"],
)
def test_a_tool_finds_nothing(command: list[str]) -> None:
    program = Path(sys.executable).with_name(command[0])
    found = subprocess.run([program, *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph = grimp.build_graph("workbench", cache_dir=None)
    sorter = graphlib.TopologicalSorter(
        {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    )
    sorter.prepare()  # raises CycleError, which lists the modules of a cycle; imports for typing count


def test_functions_and_files_stay_short() -> None:
    nodes = [node for path in SOURCES for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))]
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    lengths = sorted((node.end_lineno or 0) - node.lineno + 1 for node in functions)
    assert lengths[int(0.99 * len(lengths))] <= 40
    assert max(len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES) <= 400


def test_a_comment_in_fifty_lines_of_code_states_why() -> None:
    num_lines = num_comments = 0
    for path in SOURCES:
        with path.open("rb") as file:
            tokens = list(tokenize.tokenize(file.readline))
        comments = [token.string for token in tokens if token.type == tokenize.COMMENT]
        num_comments += sum(not text.startswith(("# noqa", "# type:")) for text in comments)  # those are for tools
        num_lines += len({token.start[0] for token in tokens if token.string.strip()})
    assert num_comments >= num_lines / 50


def test_the_top_level_holds_what_was_agreed() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: what is tracked cannot be asked")
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    entries = {line.split("/")[0] for line in tracked.splitlines()}
    assert {entry for entry in entries if not entry.startswith(".")} <= TOP_LEVEL


def test_the_samples_stay_small() -> None:
    samples = ROOT / "data_samples"
    sizes = {path: path.stat().st_size for path in samples.rglob("*") if path.is_file()}
    assert sum(sizes.values()) < 20e6
    for teacher in samples.glob("*/teacher"):
        assert sum(size for path, size in sizes.items() if teacher in path.parents) < 3e6


def test_help_answers_at_once() -> None:
    times_s = []
    for _ in range(3):
        before_s = _children_s()
        subprocess.run([sys.executable, "-m", "workbench", "--help"], check=True, capture_output=True)
        times_s.append(_children_s() - before_s)
    assert min(times_s) < 0.5


def _children_s() -> float:
    """Seconds of a core that processes begun here took so far: unlike the clock's, others' work does not count."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_help_loads_no_torch() -> None:
    program = "import sys; from workbench.cli import app; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)
