from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A test's own folder of teacher caches; drawn samples are shared with the other tests."""
    folder = tmp_path / "teacher"
    for module in ("store", "choice", "held_out"):
        monkeypatch.setattr(f"workbench.engine.teacher_cache.{module}.home", lambda: folder)
    return folder
