"""Finds the images of a run's probe pairs in its validation data."""

from collections.abc import Iterator, Sequence

from workbench.config.toml import load_run_config
from workbench.data.dataset import Dataset
from workbench.data.spec import open_dataset, sample_set_of
from workbench.data.unusable import ImageError
from workbench.runs.directory import RunDirectory


def probe_images(run: RunDirectory, captions: Sequence[str]) -> list[bytes]:
    """The encoded image files of the probe captions, from the run's validation data; needs no torch.

    Raises:
        ValueError: the data are missing, or their captions have changed.
        OSError: the data cannot be read.
    """
    data = load_run_config(run.config_file).data
    spec = f"samples:{sample_set_of(data.train)}" if data.validation == "auto" else data.validation
    # The first pairs of most data do not depend on how many are requested, and a few open faster.
    for num_pairs in (len(captions), data.num_validation_pairs):
        dataset = open_dataset(spec, "validation", num_pairs, bad_shards=data.bad_shards)
        found = list(_indices(dataset, captions))
        if len(found) == len(captions):
            return [dataset.encoded(index) for index in found]
    raise ValueError(f"the pairs of {spec} are not the probe pairs of this run")


def _indices(dataset: Dataset, captions: Sequence[str]) -> Iterator[int]:
    """Indices of the captions, in order. Only undecodable images, which evaluation skips, may lie between them."""
    num_found = 0
    for index in range(len(dataset)):
        if num_found == len(captions):
            return
        if dataset.text(index).captions[0] == captions[num_found]:
            num_found += 1
            yield index
        elif _is_usable(dataset, index):
            return


def _is_usable(dataset: Dataset, index: int) -> bool:
    try:
        dataset[index]
    except ImageError:
        return False
    return True
