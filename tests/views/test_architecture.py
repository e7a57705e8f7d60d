"""Figure 8's bars are shares of what there was, table 9's rows are means, by hand."""

import numpy as np
import pytest

from workbench.config.inheritance import TowerShape
from workbench.runs.snapshots import MaskSnapshot, TowerMask
from workbench.views.architecture import (
    Architecture,
    TowerChange,
    architecture,
    means,
    overlap_of_runs,
    overlaps_to_json,
    pick,
)

BEFORE = TowerShape(width=80, head_width=4, heads=(4, 4, 0), channels=(100, 50, 0))
AFTER = TowerShape(width=60, head_width=4, heads=(1, 4, 0), channels=(0, 25, 0))
IMAGE = TowerShape(width=768, head_width=64, heads=(12,) * 12, channels=(3072,) * 12)
TEXT = TowerShape(width=512, head_width=64, heads=(8,) * 12, channels=(2048,) * 12)


def spread(total: int, layers: int = 12) -> tuple[int, ...]:
    """Whole numbers that add up to the total, unlike from layer to layer."""
    uneven = [total // layers + (1 if layer % 2 else -1) for layer in range(layers)]
    uneven[0] += total - sum(uneven)
    return tuple(uneven)


def binary(size: int, numbers) -> np.ndarray:
    mask = np.zeros(size, dtype=np.float32)
    mask[list(numbers)] = 1
    return mask


def mask_of(teacher: TowerShape, student: TowerShape) -> TowerMask:
    """The last parts of every layer."""
    return TowerMask(
        teacher,
        binary(teacher.width, range(teacher.width - student.width, teacher.width)),
        tuple(
            binary(there, range(there - kept, there)) for kept, there in zip(student.heads, teacher.heads, strict=True)
        ),
        tuple(
            binary(there, range(there - kept, there))
            for kept, there in zip(student.channels, teacher.channels, strict=True)
        ),
    )


def snapshot(step: int = 0, stage: int = 0, learning: bool = False, **towers: TowerMask) -> MaskSnapshot:
    return MaskSnapshot(step, stage, learning, 0.5, 0.5, towers or {"image": mask_of(BEFORE, AFTER)})


def test_kept_shares_are_by_layer() -> None:
    left = TowerChange(BEFORE, AFTER).kept_shares
    assert left.embedding == 0.75
    np.testing.assert_allclose(left.heads_K, [0.25, 1, 0])
    np.testing.assert_allclose(left.channels_K, [0, 0.5, 0])
    assert TowerChange(BEFORE, AFTER).num_layers == 2


def test_the_means_are_over_layers() -> None:
    row = means(AFTER)
    assert (row.width, row.heads) == (60, 5 / 3)
    np.testing.assert_allclose(row.channels, 25 / 3)
    assert row.weights == 60 * (4 * 4 * 5 + 2 * 25)


def test_table_9_is_rebuilt_from_masks() -> None:
    """Means over 12 layers of ViT-B/32 after 50 % automatic inheritance, and the parameters that they make up."""
    image = TowerShape(width=537, head_width=64, heads=spread(112), channels=spread(24536))
    text = TowerShape(width=508, head_width=64, heads=spread(60), channels=spread(8993))
    view = architecture(snapshot(image=mask_of(IMAGE, image), text=mask_of(TEXT, text)))
    rows = {tower: means(change.student) for tower, change in view.towers.items()}
    assert [(row.width, round(row.heads, 1), round(row.channels, 1)) for row in rows.values()] == [
        (537, 9.3, 2044.7),
        (508, 5.0, 749.4),
    ]
    assert [means(shape).weights for shape in (IMAGE, TEXT)] == [12 * 12 * 768**2, 12 * 12 * 512**2]
    # By hand: a layer's matrices and the biases of queries, keys, values, outputs and FFN, and its two norms; then the
    # patches of 32 x 32 in three colors, 50 or 77 positions, the class token, the norms outside and the projection.
    inner = {"image": 64 * 112, "text": 64 * 60}
    channels = {"image": 24536, "text": 8993}
    rest = {
        "image": 537 * (3 * 32**2 + 50 + 1 + 4 + 512),
        "text": 508 * (77 + 2 + 512),
    }
    for tower, published in (("image", 43.7e6), ("text", 17.3e6)):
        width = rows[tower].width
        vectors = 3 * inner[tower] + channels[tower] + 12 * (2 + 4) * width
        matrices = (4 * inner[tower] + 2 * channels[tower]) * width
        assert rows[tower].weights == matrices
        assert matrices + vectors + rest[tower] == pytest.approx(published, abs=0.1e6)  # 9.3 heads are 9.25 to 9.35
    before = 12 * 12 * (768**2 + 512**2)
    assert view.sparsity == pytest.approx(1 - (rows["image"].weights + rows["text"].weights) / before)


def test_while_masks_are_learned_the_expected_parts_count() -> None:
    soft = TowerMask(
        TowerShape(width=4, head_width=2, heads=(3,), channels=(4,)),
        np.array([0.9, 0.2, 0.8, 0.7], dtype=np.float32),  # 2.6 in all: 4 - round(1.4) = 3
        (np.array([0.1, 0.1, 0.1], dtype=np.float32),),
        (np.array([0.5, 0.6, 0.5, 0.4], dtype=np.float32),),
    )
    view = architecture(snapshot(120, 1, True, text=soft))
    assert view.towers["text"].student == TowerShape(width=3, head_width=2, heads=(0,), channels=(2,))
    assert soft.kept.embedding == (0, 2, 3)
    assert soft.kept.channels == ((0, 1),)  # of equal ones the first
    assert view.when == "stage 2, step 120, masks still being learned"
    assert architecture(snapshot()).when == ""


def test_closed_masks_leave_one_embedding_channel() -> None:
    nothing = mask_of(BEFORE, AFTER.model_copy(update={"width": 1}))
    closed = TowerMask(BEFORE, nothing.embedding_C * 0, nothing.heads, nothing.channels)
    assert closed.kept.embedding == (0,)


def test_the_newest_snapshot_of_a_stage_is_picked() -> None:
    found = [snapshot(0, 0, True), snapshot(10, 0), snapshot(10, 1, True), snapshot(25, 1)]
    assert pick(found).step == 25
    assert pick(found, 1).step == 10
    with pytest.raises(ValueError, match="no stage 3 here; there are masks of: 1, 2"):
        pick(found, 3)
    with pytest.raises(ValueError, match="--recipe tinyclip-manual"):
        pick([])


def test_overlap_counts_shared_parts_and_chance() -> None:
    shape = TowerShape(width=4, head_width=2, heads=(4, 2), channels=(10, 0))
    one = TowerMask(
        shape, binary(4, {0, 1}), (binary(4, {0, 1, 2}), binary(2, {1})), (binary(10, range(5)), binary(0, ()))
    )
    other = TowerMask(
        shape, binary(4, {1, 2, 3}), (binary(4, {0, 3}), binary(2, ())), (binary(10, {4, 9}), binary(0, ()))
    )
    found = overlap_of_runs(snapshot(image=one), snapshot(image=other, text=other))
    assert found.keys() == {"image"}
    assert overlaps_to_json(found)["image"] == {
        "embedding": {"shared": 1 / 2, "chance": pytest.approx(3 / 4)},
        "heads": {"shared": 1 / 4, "chance": pytest.approx(3 * 2 / 4 / 4)},
        "channels": {"shared": 1 / 5, "chance": pytest.approx(2 / 10)},
    }
    itself = overlap_of_runs(snapshot(image=one), snapshot(image=one))["image"]
    assert {overlap.shared for overlap in itself.values()} == {1}


def test_incomparable_runs_are_refused() -> None:
    mine, theirs = mask_of(BEFORE, AFTER), mask_of(IMAGE, IMAGE)
    with pytest.raises(ValueError, match="different towers"):
        overlap_of_runs(snapshot(image=mine), snapshot(text=mine))
    with pytest.raises(ValueError, match="different shapes"):
        overlap_of_runs(snapshot(image=mine), snapshot(image=theirs))


def test_json_holds_both_sides() -> None:
    document = Architecture({"text": TowerChange(BEFORE, AFTER)}).to_json()
    assert document["towers"]["text"]["student"]["heads"] == [1, 4, 0]
    assert document["towers"]["text"]["teacher"]["weights"] == BEFORE.block_weights
    assert document["sparsity"] == 1 - AFTER.block_weights / BEFORE.block_weights
