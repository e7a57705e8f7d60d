import os
import shutil
from pathlib import Path

import pytest

from workbench.runs.disk import free_bytes, is_writable, size_text


def test_a_folder_that_is_not_there_yet_is_judged_by_its_parent(tmp_path: Path) -> None:
    assert 0 < free_bytes(tmp_path / "a/b/c") <= shutil.disk_usage(tmp_path).total
    assert is_writable(tmp_path / "a/b/c")
    assert not (tmp_path / "a").exists()
    (tmp_path / "file").touch()
    assert not is_writable(tmp_path / "file/runs")


@pytest.mark.skipif(os.getuid() == 0, reason="root may write anywhere")
def test_a_folder_of_somebody_else_is_not_writable(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert not is_writable(tmp_path / "runs")


@pytest.mark.parametrize(
    ("num_bytes", "said"),
    [(0, "0.0 kB"), (99_999, "100.0 kB"), (100_000, "0.1 MB"), (3_000_000, "3.0 MB"), (1_234e9, "1,234.0 GB")],
)
def test_sizes_are_said_as_people_say_them(num_bytes: float, said: str) -> None:
    assert size_text(num_bytes) == said
