import io

import numpy as np
import pytest
from PIL import Image

from workbench.notebook import MaskExplorer
from workbench.notebook.explorer import open_run
from workbench.runs.snapshots import MaskSnapshot, read_snapshot_history
from workbench.views.architecture import architecture

RUN = "example-tinyclip"


@pytest.fixture(scope="module")
def explorer() -> MaskExplorer:
    return MaskExplorer(RUN)


def test_moving_the_slider_shows_the_masks_at_that_step(explorer: MaskExplorer) -> None:
    snapshots = read_snapshot_history(open_run(RUN), MaskSnapshot).snapshots
    for place in (0, len(snapshots) // 2, len(snapshots) - 1):
        explorer.step.index = place
        view = architecture(snapshots[place])
        assert explorer.selection["step"] == snapshots[place].step
        assert explorer.selection["left"] == pytest.approx(1 - view.sparsity)
        assert f"{1 - view.sparsity:.1%} kept" in explorer.note.value


def redrawn_png(explorer: MaskExplorer) -> bytes:
    explorer.refresh()
    return bytes(explorer.image.value)


def test_moving_the_slider_updates_in_place_and_equals_a_new_figure(explorer: MaskExplorer) -> None:
    for show in ("layers", "size by threshold"):
        explorer.show.value = show
        explorer.step.index = 0
        figure = explorer.figure
        explorer.step.index = 7
        assert explorer.figure is figure
        moved = np.asarray(Image.open(io.BytesIO(explorer.image.value)), dtype=float)
        redrawn = np.asarray(Image.open(io.BytesIO(redrawn_png(explorer))), dtype=float)
        assert moved.shape == redrawn.shape
        assert np.abs(moved - redrawn).mean() < 0.5  # of 255: a new layout may differ by a fraction of a pixel
    explorer.show.value = "layers"


def test_every_figure_is_different(explorer: MaskExplorer) -> None:
    images = []
    for show in explorer.show.options:
        explorer.show.value = show
        assert explorer.error is None
        images.append(bytes(explorer.image.value))
    assert len(set(images)) == len(explorer.show.options)
    explorer.show.value = "layers"


def test_moving_the_threshold_prunes_until_the_box_is_unticked(explorer: MaskExplorer) -> None:
    learning = next(
        i
        for i, one in enumerate(read_snapshot_history(open_run(RUN), MaskSnapshot).snapshots)
        if one.learning and one.step
    )
    explorer.step.index = learning
    expected = explorer.selection["left"]
    explorer.threshold.value = 0.99
    assert explorer.cut.value
    assert explorer.selection["left"] < expected
    assert explorer.selection["threshold"] == 0.99
    explorer.cut.value = False
    assert explorer.selection["left"] == expected


def test_removed_shares_add_up(explorer: MaskExplorer) -> None:
    table = explorer.removed()
    weights = table[table.part == "weights"]
    for _, rows in weights.groupby("tower"):
        assert rows.before.tolist()[1:] == rows.after.tolist()[:-1]
    last = read_snapshot_history(open_run(RUN), MaskSnapshot).snapshots[-1]
    after = weights[weights.stage == 3].after.sum()
    assert after == sum(mask.student.block_weights for mask in last.towers.values())


def test_a_run_overlaps_fully_with_itself_and_snapshots_have_no_accuracy() -> None:
    explorer = MaskExplorer(RUN)
    assert set(explorer.overlap(RUN)["shared (%)"]) == {100.0}
    alone = MaskExplorer(read_snapshot_history(open_run(RUN), MaskSnapshot).snapshots)
    assert alone.error is None
    alone.show.value = "accuracy"
    assert "pass its id" in alone.message.value
    alone.show.value = "layers"
    assert alone.error is None
    with pytest.raises(ValueError, match="needs the teacher's weights"):
        alone.overlap("magnitude")
    plain = MaskExplorer("example-clip-kd")
    assert "inherits nothing" in plain.message.value


def test_the_rule_uses_the_shipped_teacher() -> None:
    table = MaskExplorer(RUN).overlap("magnitude")
    assert np.all(table["shared (%)"] <= 100)
    assert set(table.tower) == {"image", "text"}
