"""The built wheel, installed where nothing of this checkout can be seen, works in an empty folder."""

import ast
import importlib.metadata
import json
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
SHIPPED = ("workbench", "data_samples", "studies", "notebooks")
SMALL = {
    "data.num_pairs": "32",
    "data.num_validation_pairs": "16",
    "data.test": "",
    "train.batch_size": "8",
    "log.diagnose_every_steps": "0",
}


def run(*argv: object, **options: object) -> str:
    done = subprocess.run([*map(str, argv)], capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return str(done.stdout)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what a build reads: the checkout may change meanwhile, and must not be changed."""
    folder = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE", ".gitignore"):
        shutil.copy(ROOT / name, folder)
    for name in SHIPPED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, before = tmp_path_factory.mktemp("wheel"), files(source)
    run(sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--no-deps", "-q", source, "-w", folder)
    assert files(source) == before
    (built,) = folder.iterdir()
    return built


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel in it, and beneath it the packages of this one, but not its editable install."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python]
    run(*pip, "install", "--no-deps", "--no-index", "-q", wheel)
    site_packages = next((folder / "lib").glob("python*/site-packages"))
    (site_packages / "beneath.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder


@pytest.fixture
def workbench(environment: Path, tmp_path: Path):
    """``workbench(...)``: what the installed command prints in an empty folder."""
    folder, home = tmp_path / "empty", tmp_path / "home"
    folder.mkdir()
    variables = {
        "HOME": str(home),
        "PATH": f"{environment / 'bin'}:/usr/bin:/bin",
        "OMP_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "WORKBENCH_CACHE": str(home / "cache"),
    }
    return lambda *arguments: run(environment / "bin" / "workbench", *arguments, cwd=folder, env=variables)


@pytest.mark.slow
def test_all_that_is_tracked_travels_inside_and_nothing_else(source: Path, wheel: Path) -> None:
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    there = {name if name.startswith("workbench/") else f"workbench/{name}" for name in files(source) if "/" in name}
    assert held == there
    if (ROOT / ".git").exists():
        tracked = run("git", "ls-files", *SHIPPED, cwd=ROOT).split("\n")
        ignored = {name for name in tracked if (ROOT / name).is_file()} - files(source).keys()
        assert ignored == set()


@pytest.mark.slow
def test_recipes_losses_sizes_samples_and_words_come_from_inside(workbench, environment: Path, source: Path) -> None:
    recipes = {recipe["name"] for recipe in json.loads(workbench("recipes", "--json"))["recipes"]}
    assert recipes == {path.stem for path in (source / "workbench" / "recipes").glob("*.toml")}
    losses = {loss["name"] for loss in json.loads(workbench("losses", "--json"))["losses"]}
    assert losses >= {"clip", "crd", "fd", "gd", "icl"}
    program = """
import json, workbench
from workbench.resources import find_resource
names = ["recipes/fd.toml", "models/sizes/mini-w64.json", "data_samples/scenes/train/00000.tar"]
names += [f"data_samples/{name}/{file}" for name in ("scenes", "emoji") for file in ("words.txt", "teacher")]
print(json.dumps([workbench.__file__, *(str(find_resource(name)) for name in names)]))
"""
    found = json.loads(run(environment / "bin" / "python", "-c", program, cwd=environment))
    assert [place for place in found if not Path(place).is_relative_to(environment / "lib")] == []


@pytest.mark.slow
def test_a_run_trains_in_an_empty_folder_and_writes_nowhere_else(workbench, environment: Path, tmp_path: Path) -> None:
    before = files(environment)
    settings = [word for key, value in SMALL.items() for word in ("--set", f"{key}={value}")]
    document = json.loads(workbench("train", "--recipe", "fd", "--steps", "2", *settings, "--name", "one", "--json"))
    assert (document["state"], document["num_steps"]) == ("finished", 2)
    assert document["metrics"].keys() >= {"image_to_text_r1", "cka"}
    assert "one" in workbench("runs", "list")
    measured = json.loads(
        workbench("evaluate", "sample:emoji", "--data", "samples:emoji/test", "--pairs", "40", "--json")
    )
    assert measured["num_pairs"] == 40
    assert [path.name for path in (tmp_path / "empty").iterdir()] == ["runs"]
    assert files(environment) == before


@pytest.mark.slow
def test_a_study_runs_in_an_empty_folder(workbench, environment: Path, source: Path, tmp_path: Path) -> None:
    before = files(environment)
    listed = {study["name"] for study in json.loads(workbench("studies", "--json"))["studies"]}
    assert listed == {path.stem for path in (source / "studies").glob("*.toml")} >= {"icl_weight", "clip_kd_search"}
    document = json.loads(workbench("sweep", "--study", "icl_weight", "--quick", "--json"))
    assert {(cell["name"], cell["state"]) for cell in document["cells"]} == {
        (weight, "finished") for weight in ("0", "0.5", "1", "2", "10")
    }
    assert all(len(cell["runs"]) == 2 for cell in document["cells"])
    assert [path.name for path in (tmp_path / "empty").iterdir()] == ["runs"]
    assert files(environment) == before


def test_every_import_is_declared_or_comes_with_what_is() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    declared = [*project["dependencies"], *(line for name in extras if name != "dev" for line in extras[name])]
    known = set(_with_dependencies([Requirement(line) for line in declared], {}))
    distributions = importlib.metadata.packages_distributions()
    missing = {
        name
        for name in _imported() - set(sys.stdlib_module_names) - {"workbench"}
        if name in distributions and known.isdisjoint(map(canonicalize_name, distributions[name]))
    }
    assert missing == set()


def _with_dependencies(requirements: list[Requirement], seen: dict[str, set[str]]) -> Iterator[str]:
    for requirement in requirements:
        name = canonicalize_name(requirement.name)
        extras = {"", *requirement.extras}  # aiohttp comes with fsspec[http]
        if extras <= seen.setdefault(name, set()):
            continue
        seen[name] |= extras
        yield name
        try:
            further = [Requirement(line) for line in importlib.metadata.requires(name) or []]
        except importlib.metadata.PackageNotFoundError:  # an extra that is not installed here
            continue
        needed = [one for one in further if not one.marker or any(one.marker.evaluate({"extra": of}) for of in extras)]
        yield from _with_dependencies(needed, seen)


def _imported() -> set[str]:
    """The packages that any file of ours imports, by their first name."""
    names: set[str] = set()
    for file in (ROOT / "workbench").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.partition(".")[0])
    return names
