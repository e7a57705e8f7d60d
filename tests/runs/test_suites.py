"""Results of suites on disk."""

from pathlib import Path

from workbench.runs.suites import SuiteResult, find_result, identity_of, keep_result, modified_ns, read_results


def result(suite: str = "papers", name: str = "ImageNet", identity: str = "a", top1: float = 0.25) -> SuiteResult:
    return SuiteResult(
        suite=suite,
        name=name,
        task="zero-shot",
        data="folder:x",
        identity=identity,
        weights_sha256="w",
        num_images=100,
        metrics={"zero_shot_top1": top1},
        errors={"zero_shot_top1": 0.04},
    )


def test_a_result_is_found_by_its_identity_alone(tmp_path: Path) -> None:
    folder = tmp_path / "suites"
    assert find_result(folder, "papers", "ImageNet", "a") is None
    assert read_results(folder) == []
    keep_result(folder, result())
    assert find_result(folder, "papers", "ImageNet", "a") == result()
    assert find_result(folder, "papers", "ImageNet", "b") is None
    assert find_result(folder, "mine", "ImageNet", "a") is None


def test_a_new_result_replaces_the_earlier_one_and_no_other(tmp_path: Path) -> None:
    for one in (result(), result(name="a/b"), result("mine"), result(identity="b", top1=0.5)):
        keep_result(tmp_path, one)
    assert read_results(tmp_path) == [result("mine"), result(name="a/b"), result(identity="b", top1=0.5)]


def test_a_folder_is_newer_after_every_result(tmp_path: Path) -> None:
    folder = tmp_path / "suites"
    stamps = [modified_ns(folder)]
    for top1 in (0.25, 0.5):
        keep_result(folder, result(top1=top1))
        stamps.append(modified_ns(folder))
    assert stamps[0] == 0 < stamps[1] < stamps[2]


def test_damaged_and_foreign_files_are_left_out(tmp_path: Path) -> None:
    keep_result(tmp_path, result())
    (file,) = tmp_path.iterdir()
    (tmp_path / "other.json").write_text('{"a": 1}')
    (tmp_path / "folder.json").mkdir()
    assert read_results(tmp_path) == [result()]
    file.write_text(file.read_text()[:40])
    assert read_results(tmp_path) == []
    assert find_result(tmp_path, "papers", "ImageNet", "a") is None


def test_an_identity_changes_with_every_part() -> None:
    same = identity_of({"a": [1, (2, 3)], "b": "x"})
    assert identity_of({"b": "x", "a": [1, [2, 3]]}) == same
    assert identity_of({"a": [1, [2, 4]], "b": "x"}) != same
