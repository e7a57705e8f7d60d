"""The fingerprint of the code."""

from pathlib import Path

from workbench.runs import record


def test_it_changes_with_a_file_a_name_or_a_byte(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(record, "PACKAGE", tmp_path)

    def found() -> str:
        record.code_sha256.cache_clear()
        return record.code_sha256()

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
    record.code_sha256.cache_clear()
