"""Resources are searched in the working directory, then the package, then the source root."""

from pathlib import Path

import pytest

from workbench import resources
from workbench.resources import cache_dir, find_resource, list_resources, roots


@pytest.fixture
def places(tmp_path, monkeypatch):
    """A working directory, a package and its source root, all empty."""
    work, source = tmp_path / "work", tmp_path / "source"
    package = source / "workbench"
    for folder in (work, package):
        folder.mkdir(parents=True)
    monkeypatch.chdir(work)
    monkeypatch.setattr(resources, "PACKAGE", package)
    return work, package, source


def put(folder: Path, relative: str) -> Path:
    path = folder / relative
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")
    return path


def test_the_order_of_precedence(places):
    assert list(roots()) == list(places)
    work, package, source = places
    assert find_resource("recipes/a.toml") is None
    for folder in (source, package, work):
        expected = put(folder, "recipes/a.toml")
        assert find_resource("recipes/a.toml") == expected


def test_a_file_hides_only_files_of_the_same_name(places):
    work, package, source = places
    expected = {
        "a": put(work, "recipes/a.toml"),
        "b": put(package, "recipes/b.toml"),
        "c": put(source, "recipes/c.toml"),
    }
    put(package, "recipes/a.toml")
    put(source, "recipes/b.toml")
    put(work, "recipes/readme.md")
    assert list_resources("recipes", ".toml") == expected
    assert list_resources("studies", ".toml") == {}


def test_a_folder_is_a_resource_too(places):
    _, _, source = places
    put(source, "data_samples/scenes/00000.tar")
    assert find_resource("data_samples/scenes") == source / "data_samples" / "scenes"


def test_the_cache_folder_is_chosen_by_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.delenv("WORKBENCH_CACHE", raising=False)
    assert cache_dir() == tmp_path / ".cache" / "clip-distillation-workbench"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_dir() == tmp_path / "xdg" / "clip-distillation-workbench"
    monkeypatch.setenv("WORKBENCH_CACHE", "~/mine")
    assert cache_dir() == tmp_path / "mine"


def test_the_codes_hash_changes_with_a_file_a_name_or_a_byte(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(resources, "PACKAGE", tmp_path)

    def found() -> str:
        resources.code_sha256.cache_clear()
        return resources.code_sha256()

    (tmp_path / "a.py").write_text("x = 1\n")
    first = found()
    assert len(first) == 64
    assert found() == first
    (tmp_path / "notes.txt").write_text("no code")
    assert found() == first
    (tmp_path / "a.py").write_text("x = 2\n")
    changed = found()
    (tmp_path / "a.py").rename(tmp_path / "b.py")
    assert len({first, changed, found()}) == 3
    resources.code_sha256.cache_clear()
