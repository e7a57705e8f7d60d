"""The images of probe pairs, found in data on disk."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from workbench.data.probe_images import probe_images
from workbench.runs.directory import create_run


def image(shade: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 6), (shade, 0, 0)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def probed(tmp_path):
    """A run validated on six images of a folder, of which the second is broken."""
    folder = tmp_path / "pairs"
    folder.mkdir()
    rows = ["filepath,title"]
    for number in range(6):
        (folder / f"{number}.png").write_bytes(image(40 * number) if number != 1 else b"no image")
        rows.append(f"{number}.png,caption {number}")
    (folder / "pairs.csv").write_text("\n".join(rows) + "\n")
    spec = json.dumps(str(folder / "pairs.csv"))
    toml = f'recipe = "baseline"\nseed = 0\n[data]\nvalidation = {spec}\nnum_validation_pairs = 6\n'
    return create_run(tmp_path / "runs", "one", toml)


def shades(files: list[bytes]) -> list[int]:
    return [int(np.asarray(Image.open(io.BytesIO(file)))[0, 0, 0]) for file in files]


def test_images_match_the_captions_without_broken_ones(probed):
    captions = [f"caption {number}" for number in (0, 2, 3, 4)]
    assert shades(probe_images(probed, captions)) == [0, 80, 120, 160]


@pytest.mark.parametrize("captions", [["caption 0", "caption 3"], ["another"], ["caption 0", "caption 1"]])
def test_other_captions_are_other_pairs(probed, captions):
    if captions[-1] == "caption 1":  # it is found, and cannot be shown
        assert len(probe_images(probed, captions)) == 2
        return
    with pytest.raises(ValueError, match="are not the probe pairs"):
        probe_images(probed, captions)


def test_missing_data_are_reported(probed, tmp_path):
    (tmp_path / "pairs/pairs.csv").unlink()
    with pytest.raises(ValueError, match=r"pairs\.csv"):
        probe_images(probed, ["caption 0"])
