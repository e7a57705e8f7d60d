"""Suite files: what they may hold, and the messages for those that hold something else."""

from collections.abc import Callable
from pathlib import Path

import pytest

from workbench.config.suite import load_suite, suites

PROBE = """
root = "/data"
[[evaluations]]
name = "probe"
task = "linear-probe"
train = "folder:{root}/train"
data = "folder:{root}/val"
shots = [1, 16, 16, "all"]
[[evaluations]]
name = "shards"
task = "retrieval"
data = "{root}/{00..09}.tar"
"""


def listed(*lines: str) -> str:
    return "\n".join(f'[[evaluations]]\ntask = "zero-shot"\n{line}' for line in lines)


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """``written(text)``: a suite file of this text, by its path."""
    monkeypatch.chdir(tmp_path)

    def write(text: str) -> str:
        Path("mine.toml").write_text(text)
        return "mine.toml"

    return write


def test_shipped_suites_name_their_data_in_one_root() -> None:
    assert {"papers", "clip_benchmark"} <= suites().keys()
    papers, benchmark = load_suite("papers"), load_suite("clip_benchmark")
    for suite in (papers, benchmark):
        assert suite.question
        assert all("{root}/" in one.data for one in suite.evaluations)
        assert sum(bool(one.shift_of) for one in suite.evaluations) == 5
    assert [one.name for one in papers.evaluations if one.task == "retrieval"] == ["Flickr30k", "COCO"]
    assert {one.name: one.classes for one in papers.evaluations if one.classes} == {
        "ImageNet": 1000,
        "ImageNet-V2": 1000,
        "ImageNet-Sketch": 1000,
        "ImageNet-R": 200,
        "ImageNet-A": 200,
        "ObjectNet": 113,
    }
    assert len(benchmark.evaluations) == 35 + 3
    assert "{root}/wds_vtab-pets/test" in [one.data for one in benchmark.evaluations]


def test_the_root_is_replaced_and_other_braces_stay(written: Callable[[str], str]) -> None:
    suite = load_suite(written(PROBE))
    assert (suite.name, suite.root) == ("mine", "/data")
    probe, shards = (one.at("/elsewhere") for one in suite.evaluations)
    assert (probe.train, probe.data) == ("folder:/elsewhere/train", "folder:/elsewhere/val")
    assert shards.data == "/elsewhere/{00..09}.tar"
    assert probe.shots == [1, 16, 0]
    assert suite.only(["shards"]).evaluations == [suite.evaluations[1]]
    assert suite.only([]) == suite


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "evaluations: "),
        ("evaluations = []", "evaluations: "),
        (listed('name = "a"'), "evaluations.0.data: "),
        (listed('nam = "a"'), "did you mean 'name'"),
        (listed('name = "a"\ndata = "x"', 'name = "a"\ndata = "y"'), "two have the name 'a'"),
        (listed('name = "a"\ndata = "x"\nshift_of = "b"', 'name = "bb"\ndata = "y"'), "did you mean 'bb'"),
        (listed('name = "a"\ndata = "x"\nshift_of = "a"', 'name = "b"\ndata = "y"'), "unknown evaluation 'a'"),
        (listed('name = "a"\ndata = "x"\nshots = [1]'), "shots belongs to task linear-probe"),
        (listed('name = "a"\ndata = "x"\ngallery = 9'), "gallery belongs to task retrieval"),
        (listed('name = "a"\ndata = "x"\nexpected = {slope = 1, intercept = 0}'), "expected needs shift_of"),
        (PROBE.replace('train = "folder:{root}/train"', ""), "needs train = SPEC"),
        (PROBE.replace("[1, 16, 16", "[0, 16, 16"), "shots"),
        (PROBE.replace("[1, 16, 16", '[1, "every"'), "shots"),
        (PROBE + 'shift_of = "probe"', "both need task zero-shot"),
        (PROBE.replace("retrieval", "ranking"), "evaluations.1.task: "),
    ],
)
def test_bad_files_are_one_line(written: Callable[[str], str], text: str, message: str) -> None:
    with pytest.raises(ValueError, match=rf"^suite mine\.toml: [^\n]*{message}[^\n]*$"):
        load_suite(written(text))


def test_unknown_names_have_the_nearest(written: Callable[[str], str]) -> None:
    with pytest.raises(ValueError, match="did you mean 'papers'"):
        load_suite("paper")
    with pytest.raises(ValueError, match=r"suite mine 'prob': did you mean 'probe'"):
        load_suite(written(PROBE)).only(["prob"])
