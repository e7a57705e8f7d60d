from pathlib import Path

import pytest

from workbench.cache.entries import EntryKind
from workbench.engine.teacher_cache.manifest import CACHES


@pytest.fixture(autouse=True)
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A test's own folder of teacher caches; drawn samples are shared with the other tests."""
    folder = tmp_path / "teacher"
    honest = EntryKind.home.fget
    home = property(lambda kind: folder if kind is CACHES else honest(kind))
    monkeypatch.setattr(EntryKind, "home", home)
    return folder
