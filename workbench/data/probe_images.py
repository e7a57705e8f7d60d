"""The pictures that a run is probed with, found again in its validation data."""

from collections.abc import Iterator, Sequence

from workbench.config.toml import load_run_config
from workbench.data.dataset import Dataset
from workbench.data.spec import open_dataset, sample_set_of
from workbench.data.unusable import ImageError
from workbench.runs.directory import RunDirectory


def probe_images(run: RunDirectory, captions: Sequence[str]) -> list[bytes]:
    """The files of the pictures that the captions are of, as they lie in the run's validation data; without torch.

    Raises:
        ValueError: the data are not there any more, or have other captions now.
        OSError: they cannot be read.
    """
    data = load_run_config(run.config_file).data
    spec = f"samples:{sample_set_of(data.train)}" if data.validation == "auto" else data.validation
    # The first pairs of most data are the same however many are asked for, and a few are there sooner.
    for num_pairs in (len(captions), data.num_validation_pairs):
        dataset = open_dataset(spec, "validation", num_pairs, bad_shards=data.bad_shards)
        found = list(_indices(dataset, captions))
        if len(found) == len(captions):
            return [dataset.encoded(index) for index in found]
    raise ValueError(f"the pairs of {spec} are not those that this run was probed with")


def _indices(dataset: Dataset, captions: Sequence[str]) -> Iterator[int]:
    """Where the captions are, in order; only pictures that cannot be decoded, which nobody measures, lie between."""
    place = 0
    for index in range(len(dataset)):
        if place == len(captions):
            return
        if dataset.text(index).captions[0] == captions[place]:
            place += 1
            yield index
        elif _is_usable(dataset, index):
            return


def _is_usable(dataset: Dataset, index: int) -> bool:
    try:
        dataset[index]
    except ImageError:
        return False
    return True
