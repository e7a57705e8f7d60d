import subprocess
import sys
from pathlib import Path

import pytest
import torch

from workbench.embeddings import Embeddings
from workbench.losses import build_loss

NEW_LOSS = '''
"""A loss in a new file of the folder."""
from workbench.losses.base import Loss


class HalfLoss(Loss):
    name, title, paper, equation = "half", "half", "none", "1/2"
    published_weight = {"paper": 1.0, "released": 1.0}

    def __call__(self, comparison):
        return comparison.student.scale * 0 + 0.5
'''


def test_adding_a_loss_is_adding_its_file(tmp_path: Path) -> None:
    (tmp_path / "half.py").write_text(NEW_LOSS)
    program = f"import workbench.losses as losses; losses.__path__.append({str(tmp_path)!r}); print(*losses.LOSSES)"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "half" in found.stdout.split()


def test_an_unknown_loss_offers_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean 'crd'"):
        build_loss("crdd")


@pytest.mark.parametrize("chunk_size", [-1, 2.5, None, True])
def test_a_chunk_size_that_is_no_number_of_rows_is_refused(chunk_size) -> None:
    with pytest.raises(ValueError, match="chunk_size is a number of rows"):
        build_loss("clip", chunk_size=chunk_size)


def test_plain_tensors_are_refused_with_the_remedy() -> None:
    rows_BD = torch.eye(3)
    embeddings = Embeddings.from_raw(rows_BD, rows_BD, torch.tensor(10.0))
    for student, teacher in ((rows_BD, embeddings), (embeddings, rows_BD)):
        with pytest.raises(TypeError, match=r"not a Tensor: Embeddings\.from_raw\(image_BD, text_BD, scale\)"):
            build_loss("fd")(student, teacher)
