from pathlib import Path


def test_help_has_examples(workbench) -> None:
    done = workbench("notebook", "--help")
    assert done.code == 0
    assert "workbench notebook --copy" in done.out


def test_a_file_in_the_way_is_one_line(workbench, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    done = workbench("notebook", "--copy", "taken")
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert "taken" in done.err
