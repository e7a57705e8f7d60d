import subprocess
import sys
from pathlib import Path

import pytest
import torch

from workbench.losses import LOSSES, build_loss

NEW_LOSS = '''
"""A loss in a new file of the folder."""
from workbench.losses.base import Loss


class HalfLoss(Loss):
    name, title, paper, equation = "half", "half", "none", "1/2"
    published_weight = {"paper": 1.0, "released": 1.0}

    def __call__(self, comparison):
        return comparison.student.scale * 0 + 0.5
'''


def test_every_loss_documents_itself() -> None:
    assert {"clip", "crd", "fd", "icl"} <= LOSSES.keys()
    for name, loss in LOSSES.items():
        assert loss.name == name
        assert loss.__doc__
        assert loss.paper
        assert loss.equation
        assert set(loss.published_weight) == {"paper", "released"}


def test_adding_a_loss_is_adding_its_file(tmp_path: Path) -> None:
    (tmp_path / "half.py").write_text(NEW_LOSS)
    program = (
        "import workbench.losses as losses; "
        f"losses.__path__.append({str(tmp_path)!r}); "
        "print(sorted(losses.LOSSES)[-2:])"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "half" in found.stdout


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_the_order_of_the_pairs_does_not_matter(embeddings, name: str) -> None:
    student, teacher, order = embeddings(1), embeddings(2), torch.tensor([3, 1, 5, 0, 2, 4])

    def shuffled(side):
        return type(side)(side.image_BD[order], side.text_BD[order], side.scale)

    loss = build_loss(name)
    assert float(loss(shuffled(student), shuffled(teacher))) == pytest.approx(float(loss(student, teacher)), rel=1e-9)


def test_an_unknown_loss_offers_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean 'crd'"):
        build_loss("crdd")
