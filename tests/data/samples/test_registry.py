import hashlib
import io
import itertools
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from workbench.data.samples import registry
from workbench.data.samples.registry import draw_shards, sample_set, sample_shards, zero_shot_task
from workbench.data.samples.scenes import WORDS, draw
from workbench.data.samples.write import num_pairs_in

SHIPPED = Path(registry.__file__).parents[3] / "data_samples" / "scenes"
SHIPPED_PAIRS = {"train": 1_000, "validation": 300, "test": 300}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def members(shard, num_pairs):
    with tarfile.open(shard) as tar:
        for member in itertools.islice(tar, 2 * num_pairs):
            yield member.name, tar.extractfile(member).read()


def test_a_small_set_is_the_shipped_one():
    assert sample_shards("scenes", "train", 1_000) == SHIPPED / "train"


def test_a_larger_set_is_drawn_once_into_the_cache(tmp_path, capsys, monkeypatch):
    folder = sample_shards("scenes", "test", 310)
    assert folder == tmp_path / "cache" / "samples" / "scenes-v1" / "test-310"
    assert num_pairs_in(folder) == 310
    assert capsys.readouterr().err == "drawing samples:scenes/test (310 pairs)\n"
    monkeypatch.setattr(registry, "write_shards", None)  # drawing again would fail
    assert sample_shards("scenes", "test", 310) == folder


def test_a_larger_set_begins_with_the_shipped_one(tmp_path):
    drawn = draw_shards("scenes", "validation", 301, tmp_path / "out")
    for (name, content), (shipped_name, shipped) in zip(
        members(drawn / "00000.tar", 20), members(SHIPPED / "validation" / "00000.tar", 20), strict=True
    ):
        assert name == shipped_name
        if name.endswith(".json"):
            assert content == shipped


@pytest.mark.parametrize("split", SHIPPED_PAIRS)
def test_the_shipped_shards_are_what_the_code_draws(split):
    shipped = members(SHIPPED / split / "00000.tar", 100)
    for sample, (image_name, image), (record_name, record) in zip(draw(split, 0, 100), shipped, shipped, strict=True):
        assert (image_name, record_name) == (f"{sample.key}.jpg", f"{sample.key}.json")
        assert json.loads(record) == sample.record
        pixels = np.asarray(Image.open(io.BytesIO(image)), dtype=float)
        assert abs(pixels - np.asarray(sample.image, dtype=float)).mean() < 4


@pytest.mark.parametrize(("split", "num_pairs"), SHIPPED_PAIRS.items())
def test_the_shipped_shards_are_whole(split, num_pairs):
    assert num_pairs_in(SHIPPED / split) == num_pairs
    for line in (SHIPPED / split / "checksums.txt").read_text().splitlines():
        checksum, name = line.split("  ")
        assert hashlib.sha256((SHIPPED / split / name).read_bytes()).hexdigest() == checksum


def test_the_shipped_scenes_are_small():
    assert sum(path.stat().st_size for path in SHIPPED.rglob("*.tar")) < 6_000_000


def test_the_shipped_words_are_those_of_the_captions():
    assert tuple((SHIPPED / "words.txt").read_text().split()) == WORDS


def test_the_usual_sizes():
    assert sample_set("scenes").default_pairs == {
        "train": 4_000,
        "teacher": 60_000,
        "validation": 5_000,
        "test": 5_000,
    }


def test_a_split_that_ends_by_itself_is_served_whole(monkeypatch):
    monkeypatch.setattr(registry, "find_resource", lambda name: SHIPPED / name.split("/")[-1])
    assert sample_shards("emoji", "test") == SHIPPED / "test"
    assert sample_shards("emoji", "test", 10_000) == SHIPPED / "test"


def test_unknown_names_are_refused_with_the_nearest():
    with pytest.raises(ValueError, match="sample set 'scene': did you mean 'scenes'"):
        sample_shards("scene", "train", 10)
    with pytest.raises(ValueError, match="split of samples:scenes 'tests': did you mean 'test'"):
        sample_shards("scenes", "tests", 10)
    with pytest.raises(ValueError, match="cannot hold -1 pairs"):
        sample_shards("scenes", "test", -1)


def test_zero_shot_tasks_by_name():
    assert len(zero_shot_task("scenes").classes) == 48
    assert len(zero_shot_task("emoji").classes) == 12
