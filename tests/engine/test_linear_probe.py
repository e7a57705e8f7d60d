"""Linear probes of a model on folders of labeled images."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from workbench.engine.linear_probe import Probed, probe_source

CLASSES = {"red thing": (1.0, 0.4, 0.4), "green thing": (0.4, 1.0, 0.4), "blue thing": (0.4, 0.4, 1.0)}


def write_things(folder: Path, num_images: int, seed: int) -> None:
    """Noisy images of three colors, few of which tell the colors apart."""
    generator = np.random.default_rng(seed)
    for name, color in CLASSES.items():
        (folder / name).mkdir(parents=True)
        for number in range(num_images):
            tint = np.array(color) + generator.normal(0, 0.35, 3)
            pixels = generator.uniform(0, 255, (16, 16, 3)) * 0.3 + 150 * tint
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / name / f"{number}.png")


@pytest.fixture
def probe(tiny_models: dict[str, str], tmp_path: Path) -> Callable[..., Probed]:
    """Probes of a random tiny model, trained on 20 images per class and tested on 40."""
    write_things(tmp_path / "train", 20, 1)
    write_things(tmp_path / "test", 40, 2)

    def run(train: str = "train", test: str = "test", shots: tuple[int, ...] = (1,), num_seeds: int = 2) -> Probed:
        specs = [one if ":" in one else f"folder:{tmp_path / one}" for one in (train, test)]
        return probe_source(tiny_models["teacher"], *specs, shots=shots, num_seeds=num_seeds, runs_dir=tmp_path)

    return run


def test_more_shots_help_and_a_repeat_has_the_same_numbers(probe: Callable[..., Probed]) -> None:
    probed = probe(shots=(1, 8, 0))
    assert (probed.num_train, probed.num_test, probed.num_classes) == (60, 120, 3)
    one, eight, every = probed.accuracies
    assert [(row.shots, len(row.l2)) for row in probed.accuracies] == [(1, 2), (8, 2), (0, 1)]
    assert 1 / 3 < one.estimate.mean < eight.estimate.mean
    assert one.estimate.low < one.estimate.mean < one.estimate.high
    assert one.estimate.mean == pytest.approx(np.mean(one.estimate.per_seed))
    assert every.estimate.mean > 0.6
    assert probed.zero_shot is not None
    assert 0 <= probed.zero_shot.metrics["zero_shot_top1"] <= 0.7
    again = probe(shots=(8,))
    assert again.accuracies == (eight,)
    assert again.zero_shot is not None
    assert again.zero_shot.metrics == probed.zero_shot.metrics


def test_test_images_may_have_fewer_classes(probe: Callable[..., Probed], tmp_path: Path) -> None:
    (tmp_path / "test" / "blue thing").rename(tmp_path / "elsewhere")
    assert probe(shots=(4,), num_seeds=1).num_classes == 3


@pytest.mark.parametrize(
    ("train", "test", "shots", "message"),
    [
        (
            "few",
            "test",
            (1, 4),
            r"--linear-probe folder:.*few has 2 images of the class 'red thing', fewer than 4 shots",
        ),
        ("part", "test", (1,), "has no images of 1 classes of the test images, first 'red thing'"),
        ("samples:emoji", "test", (1,), "--linear-probe samples:emoji has images without a class"),
        ("train", "samples:emoji", (1,), "--data samples:emoji has images without a class"),
        ("gone", "test", (1,), "no such data"),
    ],
)
def test_what_cannot_be_probed_is_one_line(
    probe: Callable[..., Probed], tmp_path: Path, train: str, test: str, shots: tuple[int, ...], message: str
) -> None:
    write_things(tmp_path / "few", 5, 3)
    for number in range(3):
        (tmp_path / "few" / "red thing" / f"{number}.png").unlink()
    write_things(tmp_path / "part", 3, 3)
    (tmp_path / "part" / "red thing").rename(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=rf"^[^\n]*{message}[^\n]*$"):
        probe(train, test, shots)
