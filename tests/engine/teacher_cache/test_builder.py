"""A cache is built block by block, and each block counts only when it is complete."""

import io
import os
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import tomli_w
import torch
from PIL import Image

from workbench.cache.arrays import DIGESTS, ROWS
from workbench.cache.identity import digest_of
from workbench.config.run import RunConfig
from workbench.engine.build import build_cohort
from workbench.engine.teacher_cache.build import Builder
from workbench.engine.teacher_cache.manifest import TeacherIdentity, remove_all, why_missing
from workbench.engine.teacher_cache.store import TeacherCache, find_cache
from workbench.files import DiskFullError


@pytest.fixture
def make(tiny, monkeypatch: pytest.MonkeyPatch):
    """A builder of 60 pairs in 2 views, ten pairs a block."""
    monkeypatch.setattr("workbench.engine.teacher_cache.build.ROWS_PER_BLOCK", 20)

    def builder(**changes) -> Builder:
        config: RunConfig = tiny(data={"views": 2} | changes.pop("data", {}), **changes)
        cohort = build_cohort({"run": config})
        return Builder(config, cohort.stream, cohort.teacher)

    return builder


def test_every_row_is_the_teacher_embedding_of_that_view(make) -> None:
    builder = make()
    cache = builder.build("test")
    assert len(cache.manifest.blocks) == 6
    teacher = builder._teacher
    for index in (0, 9, 10, 59):
        images, texts = builder._stream.every_view(index)
        expected = teacher.embed(images, texts)
        found = cache.embeddings(torch.tensor([2 * index, 2 * index + 1]), teacher.scale)
        assert torch.equal(found.image_BD, expected.image_BD)
        assert torch.equal(found.text_BD, expected.text_BD)
    rows = np.fromfile(cache.folder / ROWS, np.float32).reshape(60, 2, 2, 24)
    assert np.isfinite(rows).all()
    assert (rows[:, 0] != rows[:, 1]).any()  # the views differ


def test_worker_processes_build_the_same_rows(make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tarfile.open(tmp_path / "pairs.tar", "w") as archive:
        for number in range(60):
            image = io.BytesIO()
            Image.new("RGB", (16 + number % 3, 16), (4 * number, 9, 99)).save(image, "PNG")
            content = b"<html>" if number in (7, 31, 32) else image.getvalue()
            for name, data in ((f"{number:03d}.png", content), (f"{number:03d}.txt", b"number %d" % number)):
                header = tarfile.TarInfo(name)
                header.size = len(data)
                archive.addfile(header, io.BytesIO(data))
    pairs = {"train": str(tmp_path / "pairs.tar"), "validation": "", "num_pairs": 0}
    # Four pairs a part.
    monkeypatch.setattr("workbench.engine.teacher_cache.build.PART_BYTES", 4 * 2 * 3 * 16**2)
    built = []
    for num_workers in (0, 2):
        remove_all()
        built.append((make(data=pairs | {"num_workers": num_workers}).build("test").folder / ROWS).read_bytes())
    assert built[0] == built[1]
    rows = np.frombuffer(built[0], np.float32).reshape(60, -1)
    assert np.flatnonzero(np.isnan(rows[:, 0])).tolist() == [7, 31, 32]


def test_a_builder_that_fails_half_way_is_gone_on_with(make, monkeypatch: pytest.MonkeyPatch) -> None:
    complete = make()
    reference = (complete.build("test").folder / ROWS).read_bytes()
    remove_all()
    builder, asked = make(), []
    honest = builder._embed

    def stops(block, tally):
        asked.append(len(block))
        if len(asked) == 4:
            raise KeyboardInterrupt
        return honest(block, tally)

    monkeypatch.setattr(builder, "_embed", stops)
    with pytest.raises(KeyboardInterrupt):
        builder.build("test")
    assert find_cache(builder.identity) is None
    assert "block 3 of 6" in why_missing(builder.identity)
    assert builder.missing() == [3, 4, 5]
    again = make()
    cache = again.build("test")
    assert (cache.folder / ROWS).read_bytes() == reference
    assert again.missing() == []


def test_a_digest_that_came_before_its_rows_is_found_out(make) -> None:
    cache = make().build("test")
    with (cache.folder / ROWS).open("r+b") as rows:
        rows.seek(cache.manifest.blocks[4].start * cache.manifest.blocks.item_bytes)
        rows.write(bytes(8))
    assert find_cache(cache.manifest.identity).damaged() == [4]
    with (cache.folder / DIGESTS).open("r+b") as digests:
        digests.truncate(3 * 32)
    assert find_cache(cache.manifest.identity) is None
    assert make().missing() == [3, 4, 5]


def test_another_setting_is_another_cache_and_is_named(make) -> None:
    made = make()
    made.build("test")
    for changes, name in (
        ({"data": {"seed": 1}}, "data_seed"),
        ({"data": {"crop_scale": [0.5, 1.0]}}, "crop_scale"),
        ({"teacher": {"chunk_size": 8}}, "teacher chunk_size"),
        ({"data": {"num_pairs": 50}}, "num_pairs"),
    ):
        other = make(**changes).identity
        assert find_cache(other) is None
        assert f"{name} (" in why_missing(other)
        assert digest_of(other) != digest_of(made.identity)
    made._teacher._model.towers.ln_final.bias.view(torch.int32)[0] ^= 1
    assert TeacherIdentity.of(made._teacher) != made.identity.teacher


def test_a_full_disk_is_reported_before_anything_is_computed(make, monkeypatch: pytest.MonkeyPatch) -> None:
    builder = make()
    monkeypatch.setattr("workbench.cache.arrays.free_bytes", lambda _: 9)
    monkeypatch.setattr(builder, "_embed", lambda *_: pytest.fail("it began"))
    with pytest.raises(DiskFullError, match=r"needs about .* kB"):
        builder.build("test")


def test_teacher_embeddings_that_are_nan_are_refused(make) -> None:
    builder = make()
    with torch.no_grad():
        builder._teacher._model.towers.ln_final.bias[0] = float("nan")
    with pytest.raises(ValueError, match="not finite"):
        builder.build("test")


def test_the_forecast_knows_the_size_and_whether_places_matter(make, monkeypatch: pytest.MonkeyPatch) -> None:
    builder = make()
    estimate, is_position_independent = builder.forecast()
    assert estimate.size_bytes == 60 * 2 * 2 * 24 * 4
    assert estimate.time_s > 0
    assert is_position_independent
    honest = builder._teacher.embed_text
    monkeypatch.setattr(
        builder._teacher, "embed_text", lambda text: honest(text) + 1e-7 * torch.arange(len(text)).unsqueeze(1)
    )
    assert not builder.forecast()[1]


BUILD = """
import sys, time
import torch
torch.set_num_threads(1)
from workbench.config.toml import load_recipe
from workbench.engine.teacher_cache import build
from workbench.engine.teacher_cache.prepare import prepare_cache
build.ROWS_PER_BLOCK = 8
honest = build.Builder._embed
def slowly(self, block, tally):
    print("block", flush=True)
    time.sleep(float(sys.argv[2]))
    return honest(self, block, tally)
build.Builder._embed = slowly
prepare_cache(load_recipe(sys.argv[1]))
print("done", flush=True)
"""


@pytest.mark.slow
def test_killed_builders_and_two_at_once_leave_one_complete_cache(tiny_table, tmp_path: Path) -> None:
    table = {key: value for key, value in tiny_table.items() if key != "recipe"}
    table["data"] = {**tiny_table["data"], "views": 2}
    (tmp_path / "tiny.toml").write_text(tomli_w.dumps(table))
    environment = os.environ | {"WORKBENCH_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}

    def start(wait_s: float) -> "subprocess.Popen[str]":
        command = [sys.executable, "-c", BUILD, str(tmp_path / "tiny.toml"), str(wait_s)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)

    killed = start(0.2)
    for _ in range(4):
        assert killed.stdout.readline() == "block\n"
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    both = [start(0.01), start(0.01)]
    outputs = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    computed = sum(out.count("block") for out, _ in outputs)
    assert 11 <= computed <= 12  # of 15: three or four were done, and none was done twice
    folders = [path for path in (tmp_path / "cache" / "teacher").iterdir() if path.name != "held-out"]
    assert len(folders) == 1
    assert TeacherCache(folders[0]).damaged() == []
