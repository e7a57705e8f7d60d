import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from workbench.embeddings import Embeddings
from workbench.notebook import AffinityExplorer, probe_of
from workbench.notebook.explorer import open_run
from workbench.runs.snapshots import Probe, read_snapshot_history

CAPTIONS = ("a red star", "a blue ring", "a red ring", "a green star")


def embeddings(seed: int, scale: float = 10.0, num_pairs: int = 4) -> Embeddings:
    generator = torch.Generator().manual_seed(seed)
    text_BD = torch.randn(num_pairs, 8, generator=generator)
    image_BD = text_BD + 0.7 * torch.randn(num_pairs, 8, generator=generator)
    return Embeddings.from_raw(image_BD, text_BD, torch.tensor(scale))


@pytest.fixture
def explorer() -> AffinityExplorer:
    teacher = embeddings(0, 20.0)
    probes = [probe_of(embeddings(seed), teacher, CAPTIONS, step) for step, seed in ((0, 1), (10, 2))]
    return AffinityExplorer(probes, order="index")


def test_the_selection_has_the_values_of_the_matrices(explorer: AffinityExplorer) -> None:
    explorer.choose(1, 3)
    found = explorer.selection
    assert (found["row"], found["column"]) == ("image 1", "text 3")
    assert found["captions"] == ("a blue ring", "a green star")
    student, teacher = embeddings(2), embeddings(0)
    own = (10 * student.image_BD @ student.text_BD.T).softmax(1)[1, 3]
    theirs = (20 * teacher.image_BD @ teacher.text_BD.T).softmax(1)[1, 3]
    assert found["students"]["student"] == pytest.approx(float(own), rel=5e-3)
    assert found["teacher"] == pytest.approx(float(theirs), rel=5e-3, abs=1e-6)
    with pytest.raises(ValueError, match="0 to 3"):
        explorer.choose(4, 0)


def test_a_click_selects_the_cell_in_any_order(explorer: AffinityExplorer) -> None:
    axes = explorer.figure.axes[0].get_position()
    explorer.order.value = "words"
    explorer.words.value = "green blue red"
    at = [axes.x0 + 0.9 * axes.width, 1 - (axes.y1 - 0.1 * axes.height)]
    before = explorer.image.value
    explorer.image.clicked = at
    assert (explorer.selection["row"], explorer.selection["column"]) == ("image 3", "text 0")
    assert explorer.image.value != before
    assert "a green star" in explorer.cards.value
    explorer.image.clicked = [0.5, 0.999]
    assert explorer.selection["row"] == "image 3"


def test_dragging_updates_the_figure_in_place_and_equals_a_new_one(explorer: AffinityExplorer) -> None:
    explorer.choose(1, 2)
    figure = explorer.figure
    for control, value in (("step", 0), ("scale", 30.0), ("order", "cluster"), ("between", "image-image")):
        getattr(explorer, control).value = value
        assert explorer.figure is figure
        moved = explorer.image.value
        explorer.refresh()
        assert explorer.figure is not figure
        assert explorer.image.value == moved
        figure = explorer.figure
    explorer.between.value = "all"
    assert explorer.figure is not figure
    explorer.show.value = "sharpness"
    figure = explorer.figure
    explorer.step.value = 10
    assert explorer.figure is figure
    moved = explorer.image.value
    explorer.refresh()
    assert explorer.image.value == moved
    assert explorer.error is None


def test_moving_the_temperature_unticks_the_box_and_sharpens_both(explorer: AffinityExplorer) -> None:
    first = explorer.views[0].student_PP
    explorer.scale.value *= 1.001  # a browser's rounding
    assert explorer.own_scale.value
    explorer.scale.value = 200
    assert not explorer.own_scale.value
    sharp = explorer.views[0]
    assert sharp.student_PP.max() > first.max()
    assert "one-hot" in explorer.note.value
    explorer.scale.value = 1
    assert "almost uniform" in explorer.note.value
    explorer.own_scale.value = True
    assert explorer.views[0].student_PP == pytest.approx(first)


@pytest.mark.parametrize("between", ["image-text", "image-image", "text-text", "all"])
@pytest.mark.parametrize("measure", ["affinity", "cosine"])
def test_every_view_is_drawn_and_names_its_items(explorer: AffinityExplorer, between: str, measure: str) -> None:
    explorer.between.value, explorer.measure.value = between, measure
    side = 8 if between == "all" else 4
    explorer.choose(side - 1, 0)
    kinds = {"image-text": ("image", "text"), "image-image": ("image", "image")}.get(between, ("text", "text"))
    kinds = ("text", "image") if between == "all" else kinds
    assert (explorer.selection["row"], explorer.selection["column"]) == (f"{kinds[0]} 3", f"{kinds[1]} 0")
    assert explorer.error is None


def test_flips_are_since_the_chosen_checkpoint(explorer: AffinityExplorer) -> None:
    ranks = [np.array([1, 1, 1, 1])] * 2
    for place, seed in enumerate((1, 2)):
        student = embeddings(seed)
        logits = (student.image_BD.half().double() @ student.text_BD.half().double().T).numpy()
        ranks[place] = (logits >= np.diag(logits)[:, None]).sum(1)
    flipped = [pair for pair in range(4) if (ranks[0][pair] == 1) != (ranks[1][pair] == 1)]
    assert sorted(flip.pair for flip in explorer.flips) == flipped
    explorer.step.value = 0
    assert explorer.flips == []


def test_a_shipped_run_has_its_images_and_several_students() -> None:
    explorer = AffinityExplorer("example-clip-kd", "example-tinyclip")
    assert explorer.error is None
    assert "data:image/" in explorer.cards.value
    assert len(explorer.selection["students"]) == 2
    assert len([axes for axes in explorer.figure.axes if axes.images]) == 5
    assert Image.open(io.BytesIO(explorer.image.value)).size[0] > 1500
    steps = [probe.step for probe in read_snapshot_history(open_run("example-clip-kd"), Probe).snapshots]
    assert [step for _, step in explorer.step.options] == steps


def test_other_pairs_and_runs_without_probes_are_an_error_line(tmp_path: Path) -> None:
    from workbench.runs.directory import create_run

    other = AffinityExplorer([probe_of(embeddings(0), None, CAPTIONS)], [probe_of(embeddings(1))])
    assert "different probe pairs" in other.message.value
    plain = AffinityExplorer(create_run(tmp_path, "plain", ""))
    assert "has no probe pairs" in plain.message.value
    with pytest.raises(ValueError, match="different numbers of pairs"):
        probe_of(embeddings(0), embeddings(1, num_pairs=3))


def test_a_student_alone_has_one_matrix() -> None:
    explorer = AffinityExplorer([probe_of(embeddings(0))])
    assert explorer.selection["teacher"] is None
    assert len([axes for axes in explorer.figure.axes if axes.images]) == 1


def test_captions_are_escaped() -> None:
    captions = ("<script>alert(1)</script>", "[/b] \x1b[31m", "x" * 500, "")
    explorer = AffinityExplorer([probe_of(embeddings(0), None, captions)], order="index")
    explorer.choose(0, 0)
    assert "<script>" not in explorer.cards.value
    assert explorer.error is None
