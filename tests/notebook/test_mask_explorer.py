import io

import numpy as np
import pytest
from PIL import Image

from workbench.notebook import MaskExplorer
from workbench.notebook.explorer import to_png
from workbench.notebook.source import open_run
from workbench.runs.mask_snapshots import read_mask_history
from workbench.views.architecture import architecture

RUN = "example-tinyclip"


@pytest.fixture(scope="module")
def explorer() -> MaskExplorer:
    return MaskExplorer(RUN)


def test_scrubbing_shows_what_there_is_at_that_step(explorer: MaskExplorer) -> None:
    snapshots = read_mask_history(open_run(RUN)).snapshots
    for place in (0, len(snapshots) // 2, len(snapshots) - 1):
        explorer.step.index = place
        view = architecture(snapshots[place])
        assert explorer.selection["step"] == snapshots[place].step
        assert explorer.selection["left"] == pytest.approx(1 - view.sparsity)
        assert f"{1 - view.sparsity:.1%} left" in explorer.note.value


def test_scrubbing_moves_the_picture_instead_of_drawing_it_anew_and_shows_the_same(explorer: MaskExplorer) -> None:
    for show in ("layers", "size by threshold"):
        explorer.show.value = show
        explorer.step.index = 0
        figure = explorer.figure
        explorer.step.index = 7
        assert explorer.figure is figure
        moved = np.asarray(Image.open(io.BytesIO(explorer.image.value)), dtype=float)
        anew = np.asarray(Image.open(io.BytesIO(to_png(explorer.draw()))), dtype=float)
        assert moved.shape == anew.shape
        assert np.abs(moved - anew).mean() < 0.5  # of 255: laid out anew, it may stand a fraction of a pixel elsewhere
    explorer.show.value = "layers"


def test_every_picture_is_another(explorer: MaskExplorer) -> None:
    pictures = []
    for show in explorer.show.options:
        explorer.show.value = show
        assert explorer.error is None
        pictures.append(bytes(explorer.image.value))
    assert len(set(pictures)) == len(explorer.show.options)
    explorer.show.value = "layers"


def test_a_threshold_that_is_dragged_cuts_until_it_is_told_not_to(explorer: MaskExplorer) -> None:
    learning = next(i for i, one in enumerate(read_mask_history(open_run(RUN)).snapshots) if one.learning and one.step)
    explorer.step.index = learning
    expected = explorer.selection["left"]
    explorer.threshold.value = 0.99
    assert explorer.cut.value
    assert explorer.selection["left"] < expected
    assert explorer.selection["threshold"] == 0.99
    explorer.cut.value = False
    assert explorer.selection["left"] == expected


def test_what_stages_took_adds_up(explorer: MaskExplorer) -> None:
    table = explorer.removed()
    weights = table[table.part == "weights"]
    for _, rows in weights.groupby("tower"):
        assert rows.before.tolist()[1:] == rows.after.tolist()[:-1]
    last = read_mask_history(open_run(RUN)).snapshots[-1]
    after = weights[weights.stage == 3].after.sum()
    assert after == sum(mask.student.block_weights for mask in last.towers.values())


def test_a_run_overlaps_with_itself_wholly_and_snapshots_alone_have_no_accuracy() -> None:
    explorer = MaskExplorer(RUN)
    assert set(explorer.overlap(RUN)["shared (%)"]) == {100.0}
    alone = MaskExplorer(read_mask_history(open_run(RUN)).snapshots)
    assert alone.error is None
    alone.show.value = "accuracy"
    assert "pass its id" in alone.message.value
    alone.show.value = "layers"
    assert alone.error is None
    with pytest.raises(ValueError, match="depends on the teacher"):
        alone.overlap("magnitude")
    plain = MaskExplorer("example-clip-kd")
    assert "inherits nothing" in plain.message.value


def test_the_rule_is_asked_of_the_teacher_that_ships() -> None:
    table = MaskExplorer(RUN).overlap("magnitude")
    assert np.all(table["shared (%)"] <= 100)
    assert set(table.tower) == {"image", "text"}
