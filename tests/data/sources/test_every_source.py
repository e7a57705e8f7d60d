"""What holds for every source of captions: any text is read as it was written, and blank ones are counted by one rule.

Each writer below writes image names and captions as the format's usual tools do, and returns the SPEC.
"""

import csv
import io
import json
import re
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from tests.data.sources import hub_files as hub
from workbench.data.captions import cleaned, lines_of
from workbench.data.dataset import Dataset
from workbench.data.spec import open_dataset
from workbench.data.unusable import RefusedError

Texts = Sequence[str]
Writer = Callable[[Path, Texts, Texts], str]
IMAGE = b"its bytes are never decoded here"

WORDS = ["None", "null", "NA", "N/A", "nan", "NaN", "-", "0", "true", "#N/A", '""', '"', "''"]


def _table(name: str, separator: str, quoting: int = csv.QUOTE_MINIMAL) -> Writer:
    def write(folder: Path, names: Texts, captions: Texts) -> str:
        text = io.StringIO()
        rows = csv.writer(text, delimiter=separator, quoting=quoting, lineterminator="\n")  # type: ignore[arg-type]
        rows.writerows([("filepath", "title"), *zip(names, captions, strict=True)])
        (folder / name).write_text(text.getvalue(), encoding="utf-8", newline="")
        return str(folder / name)

    return write


def _plain_tsv(folder: Path, names: Texts, captions: Texts) -> str:
    rows = ["filepath\ttitle", *(f"{name}\t{caption}" for name, caption in zip(names, captions, strict=True))]
    (folder / "plain.tsv").write_text("\n".join(rows), encoding="utf-8", newline="")
    return str(folder / "plain.tsv")


def _coco(folder: Path, names: Texts, captions: Texts) -> str:
    images = [{"id": number, "file_name": name} for number, name in enumerate(names)]
    annotations = [{"image_id": number, "caption": caption} for number, caption in enumerate(captions)]
    (folder / "coco.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    return f"coco:{folder}/coco.json@{folder}"


def _karpathy(folder: Path, names: Texts, captions: Texts) -> str:
    images = [
        {"filename": name, "split": "train", "sentences": [{"raw": caption}]}
        for name, caption in zip(names, captions, strict=True)
    ]
    (folder / "karpathy.json").write_text(json.dumps({"images": images}))
    return f"karpathy:{folder}/karpathy.json@{folder}"


def _shard(extension: str, encode: Callable[[str], bytes]) -> Writer:
    def write(folder: Path, names: Texts, captions: Texts) -> str:
        path = folder / f"{extension}.tar"
        with tarfile.open(path, "w") as archive:
            for name, caption in zip(names, captions, strict=True):
                for member, content in ((name, IMAGE), (f"{Path(name).stem}.{extension}", encode(caption))):
                    header = tarfile.TarInfo(member)
                    header.size = len(content)
                    archive.addfile(header, io.BytesIO(content))
        return str(path)

    return write


def _hub_table(names: Texts, captions: Texts) -> pa.Table:
    images = [{"bytes": IMAGE, "path": name} for name in names]
    return pa.table({"image": pa.array(images, hub.IMAGE_TYPE), "caption": pa.array(captions, pa.string())})


def _path_table(folder: Path, names: Texts, captions: Texts) -> str:
    return hub.write_parquet(folder / "paths.parquet", pa.table({"image_path": names, "text": captions}))


WRITERS: dict[str, Writer] = {
    "csv": _table("pairs.csv", ","),
    "quoted tsv": _table("quoted.tsv", "\t", csv.QUOTE_ALL),
    "pandas tsv": _table("pairs.tsv", "\t"),
    "plain tsv": _plain_tsv,
    "coco": _coco,
    "karpathy": _karpathy,
    "parquet": lambda folder, *pairs: hub.write_parquet(folder / "pairs.parquet", _hub_table(*pairs)),
    "parquet of paths": _path_table,
    "saved dataset": lambda folder, *pairs: hub.write_saved(folder / "saved", _hub_table(*pairs)),
    "shard of txt": _shard("txt", str.encode),
    "shard of json": _shard("json", lambda caption: json.dumps({"caption": caption}).encode()),
}
ONE_LINE = ("plain tsv", "shard of txt")  # formats in which a line break ends a caption

letters = st.characters(exclude_categories=["Cs"], exclude_characters="\ufeff")
captions_of_any_text = st.lists(
    st.text(letters, max_size=12) | st.text('"\t,\r\nab ', max_size=8) | st.sampled_from(WORDS), min_size=1, max_size=5
)


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORKBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def write(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Texts], str]:
    """Writes captions in a format, into a folder of their own, and returns the SPEC."""

    def write(kind: str, captions: Texts) -> str:
        folder = tmp_path_factory.mktemp("source")
        names = [f"k{number:03d}.jpg" for number in range(len(captions))]
        for name in names:
            (folder / name).write_bytes(IMAGE)
        return WRITERS[kind](folder, names, captions)

    return write


def read(dataset: Dataset) -> dict[int, tuple[str, ...]]:
    """Captions by the number of the image, with which every writer's keys end."""
    texts = [dataset.text(index) for index in range(len(dataset))]
    return {int(re.findall(r"\d+", text.key)[-1]): text.captions for text in texts}


def is_ambiguous(caption: str) -> bool:
    """Whether a writer with quoting would write another caption so: in marks, with each inner mark doubled."""
    inner = caption.strip()[1:-1]
    return caption.strip().startswith('"') and '""' in inner and not inner.replace('""', "").count('"')


def is_in_marks(caption: str) -> bool:
    return len(caption.strip()) > 1 and caption.strip().startswith('"') and caption.strip().endswith('"')


@pytest.mark.parametrize("kind", WRITERS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(captions=captions_of_any_text)
@example(captions=['0"', '""'])
@pytest.mark.filterwarnings("ignore:left out")
def test_any_caption_is_read_as_it_was_written(kind: str, write: Callable[..., str], captions: list[str]) -> None:
    if kind in ONE_LINE:
        captions = [" ".join(lines_of(caption)).replace("\t", " ") for caption in captions]
    if kind == "plain tsv":
        assume(not any(map(is_ambiguous, captions)) and not all(map(is_in_marks, captions)))
    if kind in ("pandas tsv", "quoted tsv"):  # a tab in the second line of a caption makes that line a row
        captions = [" ".join(lines_of(caption)) if "\t" in caption else caption for caption in captions]
    kept = {number: (cleaned(text),) for number, text in enumerate(captions) if cleaned(text)}
    assume(kept)
    dataset = open_dataset(write(kind, captions), "train")
    assert read(dataset) == kept
    num_blank = len(captions) - len(kept)
    assert dataset.reading.left_out == ({"blank": num_blank} if num_blank else {})


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.filterwarnings("ignore:left out 5 images without a caption")
def test_a_few_blank_captions_are_counted_and_many_refused(kind: str, write: Callable[..., str]) -> None:
    for blank in ("", " \N{NO-BREAK SPACE} "):
        with pytest.warns(UserWarning, match=r"^left out captions of .*: 5 of 20 \(5 blank; such as "):
            dataset = open_dataset(write(kind, [blank] * 5 + ["a dog"] * 15), "train")
        assert len(dataset) == 15
        assert dataset.reading.left_out == {"blank": 5}
        with pytest.raises(RefusedError, match=r"^too many captions of .*, 6 of 20 \(6 blank; "):
            open_dataset(write(kind, [blank] * 6 + ["a dog"] * 14), "train")
