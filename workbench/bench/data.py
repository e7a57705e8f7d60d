"""Reading cached images against decoding them live, and against copying as many bytes.

Shape letters: B pairs · C channels · H, W pixels.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count, cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image

from workbench.bench.contest import Bench, Row, Work, choose_cases, clock, compared, measure
from workbench.data.batches import BatchStream
from workbench.data.cached.store import CroppedDataset, Kind, PreparedDataset, Source, Store, Views
from workbench.data.cached.writer import write_store
from workbench.data.crops import CropSpec
from workbench.data.dataset import Dataset
from workbench.data.images import at_working_size
from workbench.data.samples.registry import sample_set
from workbench.data.sources.csv import open_csv
from workbench.embeddings import InputSpec
from workbench.models.tokenizers import named_tokenizer

MEANING = "Times faster than live decoding; times the lower bound, copying as many bytes."
LIVE, COPIED = "live", "copied"
PHOTOGRAPH = (500, 375)  # width and height, typical of COCO and Flickr30k
COARSEST, NUM_OCTAVES = 4, 6
GRAIN = 16  # standard deviation, of 256 levels
NUM_VIEWS = 3
VIEWS = "views"
KINDS = ("pixels", "jpeg", VIEWS)


@dataclass(frozen=True)
class DataCase:
    """A set of images, and the input size and tokenizer of the model.

    Args:
        num_images: enough images to exceed the processor's cache.
        working_size: see ``data.working_size``.
    """

    name: str
    images: Callable[[int], Iterator[tuple[Image.Image, str]]]
    num_images: int
    image_size: int
    tokenizer: str
    context_length: int
    working_size: int = 0


def scenes(num_images: int) -> Iterator[tuple[Image.Image, str]]:
    """Sample images with one caption each."""
    for sample in sample_set("scenes").draw("train", num_images):
        yield sample.image, sample.record["captions"][0]


def photographs(num_images: int) -> Iterator[tuple[Image.Image, str]]:
    """Noise with a natural-image-like spectrum and grain: similar to photographs in file size and decoding time."""
    for number in range(num_images):
        generator = np.random.default_rng(number)
        image_HWC = np.zeros((PHOTOGRAPH[1], PHOTOGRAPH[0], 3), np.float32)
        for octave in range(NUM_OCTAVES):
            side = COARSEST << octave
            noise = Image.fromarray(generator.integers(0, 256, (side, side, 3), dtype=np.uint8))
            image_HWC += np.asarray(noise.resize(PHOTOGRAPH, Image.Resampling.BICUBIC), np.float32) / 2**octave
        image_HWC *= 255 / image_HWC.max()
        image_HWC += generator.normal(0, GRAIN, (*image_HWC.shape[:2], 1))
        pixels_HWC = image_HWC.clip(0, 255).astype(np.uint8)
        yield Image.fromarray(pixels_HWC), f"a photograph of nothing, number {number}, in all colors"


CASES: dict[str, DataCase] = {
    case.name: case
    for case in (
        DataCase("samples", scenes, 1024, 48, "words:scenes", 32),
        DataCase("photographs", photographs, 256, 224, "bpe", 77),
        DataCase("photographs-256", photographs, 256, 224, "bpe", 77, working_size=256),
    )
}


def data_bench(cases: list[str], batch_size: int = 128) -> Bench:
    """The benchmark of these data cases, or of all if none are given."""
    entries = {f"data, {case.name}": partial(data_rows, case, batch_size) for case in choose_cases(cases, CASES)}
    return Bench(entries, MEANING, clock(torch.device("cpu")))


def data_rows(case: DataCase, batch_size: int) -> list[Row]:
    """Reading images, then full batches (with crops and tokens): live, and from every kind of cache.

    ``ratio`` is the time of live decoding divided by theirs; ``floor_ratio`` theirs divided by that of copying as many
    bytes.

    Raises:
        ValueError: the batch size exceeds the number of images.
    """
    if batch_size > case.num_images:
        raise ValueError(f"--batch is at most {case.num_images} for {case.name} (got {batch_size})")
    rows = []
    with TemporaryDirectory(prefix="workbench-bench-") as folder:
        datasets = _datasets(case, Path(folder))
        width, height = datasets[LIVE][0].image.size
        for part, work, num_pixels in (
            ("pictures", _reading, width * height),
            ("batches", _batching, case.image_size**2),
        ):
            # A store of views has no whole images.
            contenders = {
                kept: work(case, dataset, batch_size)
                for kept, dataset in datasets.items()
                if kept != VIEWS or work is _batching
            }
            contenders[COPIED] = _copying(batch_size * num_pixels * 3)
            measured = measure(contenders, torch.device("cpu"))
            *found, _ = compared(measured, f"{case.name}, {part}", batch_size, against=LIVE, floor=COPIED)
            rows += found
    return rows


def _datasets(case: DataCase, folder: Path) -> dict[str, Dataset]:
    """The same pairs, live and from a cache of each kind."""
    files = _listed(case, folder)
    live = at_working_size(files, case.working_size)
    found = {LIVE: live}
    views = Views(num_views=NUM_VIEWS, crop=CropSpec(seed=0, scale=(0.9, 1.0), image_size=case.image_size))
    kinds: tuple[Kind, ...] = ("pixels", "jpeg", views)
    for name, kind in zip(KINDS, kinds, strict=True):
        (folder / name).mkdir()
        kept = files if kind == "jpeg" else live
        write_store(kept, Source.of(kept, kind), folder / name, spec=case.name)
        store = Store(folder / name)
        prepared = CroppedDataset([store], live) if name == VIEWS else PreparedDataset(store)
        prepared.keep_tokens(_form(case))
        found[name] = at_working_size(prepared, case.working_size) if kind == "jpeg" else prepared
    return found


def _listed(case: DataCase, folder: Path) -> Dataset:
    """The case's images as JPEG files listed in a CSV file."""
    lines = ["filepath\ttitle"]
    for number, (image, caption) in enumerate(case.images(case.num_images)):
        image.save(folder / f"{number}.jpg", quality=90)
        lines.append(f"{number}.jpg\t{caption}")
    (folder / "pairs.tsv").write_text("\n".join(lines), encoding="utf-8")
    return open_csv(str(folder / "pairs.tsv"))


def _form(case: DataCase) -> InputSpec:
    return InputSpec(case.image_size, named_tokenizer(case.tokenizer, case.context_length), case.tokenizer)


def _reading(case: DataCase, dataset: Dataset, batch_size: int) -> Work:
    """Reads the next ``batch_size`` images in a random order."""
    # At random, as in training: reading in order would be faster than a run's.
    order = cycle(np.random.default_rng(0).permutation(case.num_images).tolist())
    return lambda: [dataset[index].image for index in islice(order, batch_size)]


def _batching(case: DataCase, dataset: Dataset, batch_size: int) -> Work:
    """Makes the next batch as in a run without a teacher."""
    stream = BatchStream(dataset, _form(case), (), batch_size=batch_size, seed=0, views=NUM_VIEWS)
    steps = count()
    return lambda: stream.batch(next(steps))


def _copying(num_bytes: int) -> Work:
    source, target = np.zeros(num_bytes, np.uint8), np.ones(num_bytes, np.uint8)
    return lambda: np.copyto(target, source)
