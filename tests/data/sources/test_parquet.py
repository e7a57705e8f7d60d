"""Parquet files and saved datasets, in the layouts of the Hugging Face Hub."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.data.sources import hub_files as hub
from workbench.data.check import check
from workbench.data.contact_sheet import write_sheet
from workbench.data.dataset import Dataset
from workbench.data.evaluation_set import open_evaluation_set
from workbench.data.images import decode_image
from workbench.data.sources import parquet, tables
from workbench.data.spec import absolute_spec, check_spec, open_dataset
from workbench.data.unusable import ImageError

Encode = Callable[[int], bytes]
CAPTIONS = ["a dog", "a cat", "None", "two\nlines", '"quoted"']


@pytest.fixture
def content(image: Encode, cache: Path) -> pa.Table:  # noqa: ARG001 - nothing may reach the user's cache
    """Five images with a caption each."""
    return hub.table(
        {"image": hub.images([image(number) for number in range(5)]), "caption": CAPTIONS, "id": [*range(5)]}
    )


@pytest.fixture(params=["parquet", "saved"])
def spec(request: pytest.FixtureRequest, tmp_path: Path, content: pa.Table) -> str:
    """The same table in two files, in either format."""
    parts = content.slice(0, 3), content.slice(3)
    if request.param == "saved":
        return hub.write_saved(tmp_path / "saved", *parts)
    for number, part in enumerate(parts):
        hub.write_parquet(tmp_path / f"train-{number:05d}-of-00002.parquet", part)
    return f"parquet:{tmp_path}/train-*.parquet"


def texts(dataset: Dataset) -> list[tuple[str, ...]]:
    return [dataset.text(index).captions for index in range(len(dataset))]


def test_rows_are_pairs_with_the_bytes_of_the_table(spec: str, image: Encode) -> None:
    dataset = open_dataset(spec, "train")
    assert texts(dataset) == [(caption,) for caption in CAPTIONS]
    for index in (4, 0, 3, 1):  # any order, across files and row groups
        assert dataset.encoded(index) == image(index)
        np.testing.assert_array_equal(np.asarray(dataset[index].image), np.asarray(decode_image(image(index))))
    assert len({dataset.text(index).key for index in range(5)}) == 5
    assert list(dataset.shard_sizes) == [[3, 2]]
    first = open_dataset(spec, "train", 3)
    assert texts(first) == texts(dataset)[:3]
    assert first.fingerprint != dataset.fingerprint
    with pytest.raises(IndexError):
        dataset.text(5)


def test_a_dataset_is_picklable_and_its_fingerprint_follows_the_content(
    spec: str, content: pa.Table, image: Encode, tmp_path: Path
) -> None:
    dataset = open_dataset(spec, "train")
    copied = pickle.loads(pickle.dumps(dataset))
    assert (copied.encoded(3), copied.text(3), copied.stamp()) == (image(3), dataset.text(3), dataset.stamp())
    assert open_dataset(spec, "train").fingerprint == dataset.fingerprint
    changed = content.set_column(0, "image", pa.array(hub.images([image(9)] * 5), hub.IMAGE_TYPE))
    if spec.startswith("datasets:"):
        hub.write_saved(tmp_path / "saved", changed.slice(0, 3), changed.slice(3))
    else:
        hub.write_parquet(tmp_path / "train-00000-of-00002.parquet", changed.slice(0, 3))
    assert open_dataset(spec, "train").fingerprint != dataset.fingerprint
    assert dataset.stamp() != open_dataset(spec, "train").stamp()


def test_a_row_group_is_read_once_where_images_are_read_in_order(
    tmp_path: Path, content: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    group = tables.ParquetFile._group
    monkeypatch.setattr(tables.ParquetFile, "_group", lambda self, number: read.append(number) or group(self, number))
    dataset = open_dataset(hub.write_parquet(tmp_path / "pairs.parquet", content), "train")
    read.clear()
    for index in range(5):
        dataset.encoded(index)
    assert read in ([1, 2], [0, 1, 2])  # the first row decided that images are in the table
    monkeypatch.setattr(tables, "MAX_CACHED_BYTES", 1)
    tables._GROUPS.clear()
    read.clear()
    for index in (4, 0, 1, 4):
        dataset.encoded(index)
    assert read == [2, 0, 2]
    assert len(tables._GROUPS._groups) == 1


def test_large_row_groups_are_warned_of(tmp_path: Path, content: pa.Table, monkeypatch: pytest.MonkeyPatch) -> None:
    path = hub.write_parquet(tmp_path / "pairs.parquet", content)
    assert open_dataset(path, "train").reading.notes == ()
    monkeypatch.setattr(parquet, "LARGE_READ_BYTES", 1)
    with pytest.warns(UserWarning, match=r"workbench data prepare SPEC --keep jpeg"):
        open_dataset(path, "train")


def test_evaluation_check_and_contact_sheet_read_it(spec: str, tmp_path: Path) -> None:
    live, prepared = (open_evaluation_set(spec, "test", prepare=how) for how in ("off", "pixels"))
    assert live.captions == prepared.captions == CAPTIONS
    for one, other in zip(live.image_chunks(16), prepared.image_chunks(16), strict=True):
        assert one.equal(other)
    report = check(open_dataset(spec, "train"), 0, lambda lines: live.caption_image_index_M.new_ones(len(lines), 78))
    assert (report["num_pairs"], report["num_captions_with_line_breaks"], report["problem"]) == (5, 1, "")
    write_sheet(open_dataset(spec, "train"), tmp_path / "sheet.png")
    assert decode_image((tmp_path / "sheet.png").read_bytes()).width > 100


def test_lists_of_captions_and_unusable_ones(tmp_path: Path, image: Encode) -> None:
    captions = [["a", " b "], ["c", None], [], None, ["d"]]
    content = hub.table({"image": hub.images([image(number) for number in range(5)]), "captions": captions})
    with pytest.warns(UserWarning, match=r"^left out captions of .*: 3 of 7 \(2 null, 1 missing; "):
        dataset = open_dataset(hub.write_parquet(tmp_path / "pairs.parquet", content), "train")
    assert texts(dataset) == [("a", "b"), ("c",), ("d",)]
    assert [dataset.encoded(index) for index in range(3)] == [image(0), image(1), image(4)]


def test_an_image_that_is_null_is_unusable(tmp_path: Path, image: Encode) -> None:
    for write in (
        lambda part: hub.write_parquet(tmp_path / "a.parquet", part),
        lambda part: hub.write_saved(tmp_path, part),
    ):
        dataset = open_dataset(write(hub.table({"image": hub.images([image(0), None]), "text": ["a", "b"]})), "train")
        assert dataset.encoded(0) == image(0)
        with pytest.raises(ImageError, match=r"row 1: the image is null"):
            dataset[1]


@pytest.mark.parametrize("kind", ["text", "struct"])
def test_paths_are_relative_to_the_file_or_the_folder_given(
    kind: str, tmp_path: Path, write_images: Callable[..., list[str]]
) -> None:
    names = [Path(name).name for name in write_images(2)]
    values = names if kind == "text" else [{"bytes": None, "path": name} for name in names]
    columns = {"image": [*values, values[0]], "caption": ["a", "b", "c"]}
    path = hub.write_parquet(tmp_path / "pairs.parquet", hub.table(columns))
    for spec in (path, f"parquet:{path}@{tmp_path}/images"):
        dataset = open_dataset(spec, "train")
        assert texts(dataset) == [("a", "c"), ("b",)]  # rows of one path are captions of one image, as in a CSV
        assert dataset[1].image.size == (40, 32)
    urls = hub.table({"image": ["https://x/a.jpg"], "caption": ["a"]})
    with pytest.raises(ValueError, match=r"by URL, first 'https://x/a.jpg': download them first"):
        open_dataset(hub.write_parquet(tmp_path / "urls.parquet", urls), "train")


def test_class_numbers_with_names_are_zero_shot_classes(tmp_path: Path, image: Encode) -> None:
    columns = {"image": hub.images([image(number) for number in range(3)]), "label": [1, 0, 1]}
    path = hub.write_parquet(tmp_path / "test.parquet", hub.table(columns, ["red_fox", "ibex"]))
    pairs = open_evaluation_set(path, "test")
    assert pairs.task is not None
    assert pairs.task.classes == (("red fox",), ("ibex",))
    assert pairs.classes_N == ["ibex", "red fox", "ibex"]
    assert pairs.captions == ["a photo of an ibex.", "a photo of a red fox.", "a photo of an ibex."]
    columns["label"][0] = -1  # as hidden test labels are
    with pytest.warns(UserWarning, match=r"1 of 3 \(1 no class; such as the class is -1, 'test.parquet', row 0\)"):
        assert (
            len(open_dataset(hub.write_parquet(tmp_path / "test.parquet", hub.table(columns, ["a", "b"])), "test")) == 2
        )


def test_splits_follow_the_use(tmp_path: Path, content: pa.Table) -> None:
    for split, part in (("train", content.slice(0, 3)), ("validation", content.slice(3))):
        hub.write_parquet(tmp_path / "data" / f"{split}-00000-of-00001.parquet", part)
        hub.write_saved(tmp_path / "saved" / split, part)
    (tmp_path / "saved" / "dataset_dict.json").write_text('{"splits": ["train", "validation"]}')
    for spec in (f"parquet:{tmp_path}/data", f"datasets:{tmp_path}/saved"):
        assert [len(open_dataset(spec, role)) for role in ("train", "teacher", "validation")] == [3, 3, 2]
        with pytest.raises(ValueError, match="split"):
            open_dataset(spec, "test")
    assert len(open_dataset(f"datasets:{tmp_path}/saved/train", "test")) == 3
    assert len(open_dataset(f"parquet:{tmp_path}/data/*.parquet", "test")) == 5  # named by the user


def test_torn_and_missing_files_are_refused_or_skipped_and_counted(tmp_path: Path, content: pa.Table) -> None:
    paths = [Path(hub.write_parquet(tmp_path / f"{number}.parquet", content)) for number in range(3)]
    paths[1].write_bytes(paths[1].read_bytes()[:-100])
    spec = f"parquet:{tmp_path}/{{0..3}}.parquet"
    with pytest.raises(
        ValueError, match=r"^2 of 4 shards cannot be used; '.*1\.parquet' is cut .*data\.bad_shards=skip"
    ):
        open_dataset(spec, "train")
    with pytest.warns(UserWarning, match=r"left out 2 of 4 shards \(data.bad_shards=skip\)"):
        dataset = open_dataset(spec, "train", bad_shards="skip")
    assert (len(dataset), dataset.reading.skipped_shards) == (10, ("1.parquet", "3.parquet"))
    with pytest.raises(
        ValueError, match=r"^'[^\n]*1\.parquet' is cut short, damaged or unreadable \([^\n]*copy it again$"
    ):
        open_dataset(str(paths[1]), "train")


def test_a_file_that_changes_under_a_run_is_refused(tmp_path: Path, content: pa.Table) -> None:
    path = hub.write_parquet(tmp_path / "pairs.parquet", content)
    dataset = pickle.loads(pickle.dumps(open_dataset(path, "train")))
    hub.write_parquet(tmp_path / "pairs.parquet", content.slice(1))
    tables._parquet.cache_clear()
    tables._GROUPS.clear()
    with pytest.raises(ValueError, match="has changed since it was opened: start again"):
        dataset.encoded(0)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("parquet:nowhere.parquet", "no such data 'nowhere.parquet'"),
        ("parquet:nothing-*.parquet", "no .parquet files in 'nothing-"),
        ("datasets:plain", "'plain' is not a saved dataset: write one with dataset.save_to_disk"),
        ("parquet:plain", "no .parquet files in 'plain'"),
        ("parquet:good.parquet#photo=x", r"PATH#image=photo,caption=alt_text \(got 'photo=x'\)"),
        (
            "parquet:good.parquet#image=photo",
            r"has no column 'photo': its columns are image \(struct.*\), caption \(string\)",
        ),
        ("parquet:good.parquet@nowhere", "no such data 'nowhere'"),
    ],
)
def test_a_wrong_spec_is_one_line_with_the_remedy(
    spec: str, message: str, tmp_path: Path, content: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plain").mkdir()
    hub.write_parquet(tmp_path / "good.parquet", content)
    with pytest.raises(ValueError, match=rf"^[^\n]*{message}[^\n]*$"):
        open_dataset(spec, "train")


def test_without_pyarrow_the_remedy_is_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "find_spec", lambda _name: None)
    for spec in ("parquet:a.parquet", "datasets:a", "a.parquet"):
        with pytest.raises(ValueError, match=r"pip install 'clip-distillation-workbench\[parquet\]'$"):
            check_spec(spec, "train")


def test_absolute_specs_work_from_everywhere(
    tmp_path: Path, content: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.write_parquet(tmp_path / "d" / "train-0.parquet", content)
    hub.write_saved(tmp_path / "s", content)
    monkeypatch.chdir(tmp_path)
    specs = (
        "parquet:d/train-*.parquet#caption=caption@d",
        "parquet:d",
        "datasets:s",
        "parquet:d/*.parquet + datasets:s*2",
    )
    absolute = [absolute_spec(spec) for spec in specs]
    assert absolute[0] == f"parquet:{tmp_path}/d/train-*.parquet#caption=caption@{tmp_path}/d"
    monkeypatch.chdir("/")
    assert [len(open_dataset(spec, "train")) for spec in absolute] == [5, 5, 5, 10]


def test_a_folder_that_datasets_wrote(tmp_path: Path) -> None:
    """``state.json`` as `datasets` 5.2 wrote it."""
    state = {
        "_data_files": [{"filename": "data-00000-of-00001.arrow"}],
        "_fingerprint": "674dbfc176ed8d42",
        "_format_columns": ["image", "caption", "captions", "label"],
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": None,
    }
    spec = hub.write_saved(tmp_path / "saved", hub.table({"image": hub.images([b"x"]), "caption": ["a"]}))
    (tmp_path / "saved" / "state.json").write_text(json.dumps(state, indent=2))
    assert open_dataset(spec, "train").encoded(0) == b"x"
