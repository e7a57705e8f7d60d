"""Masks go to disk and come back as they were, and what is torn or foreign is counted."""

import errno
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from workbench.config.inheritance import TowerShape
from workbench.runs.directory import RunDirectory
from workbench.runs.mask_snapshots import MaskSnapshot, TowerMask, read_masks, write_masks

SHAPE = TowerShape(width=4, head_width=2, heads=(2, 0, 1), channels=(3, 1, 0))
WRITTEN = ("step", "stage", "learning", "sparsity", "target")


def make_mask(shape: TowerShape = SHAPE, seed: int = 0) -> TowerMask:
    generator = np.random.default_rng(seed)

    def some(size: int) -> np.ndarray:
        return generator.random(size, dtype=np.float32)

    return TowerMask(shape, some(shape.width), tuple(map(some, shape.heads)), tuple(map(some, shape.channels)))


def make(step: int = 1, **changes) -> MaskSnapshot:
    fields = {"stage": 0, "learning": True, "sparsity": 0.25, "target": 0.3, "towers": {"image": make_mask()}}
    return MaskSnapshot(step=step, **fields | changes)


def assert_equal(one: MaskSnapshot, other: MaskSnapshot) -> None:
    assert all(getattr(one, name) == getattr(other, name) for name in WRITTEN)
    assert one.towers.keys() == other.towers.keys()
    for tower, mask in one.towers.items():
        twin = other.towers[tower]
        assert mask.teacher == twin.teacher
        for mine, theirs in zip(
            (mask.embedding_C, *mask.heads, *mask.channels),
            (twin.embedding_C, *twin.heads, *twin.channels),
            strict=True,
        ):
            assert mine.dtype == theirs.dtype == np.float32
            np.testing.assert_array_equal(mine, theirs)


counts = st.integers(0, 5)
shapes = st.integers(1, 6).flatmap(
    lambda layers: st.builds(
        TowerShape,
        width=st.integers(1, 9),
        head_width=st.integers(1, 64),
        heads=st.tuples(*[counts] * layers),
        channels=st.tuples(*[counts] * layers),
    )
)
snapshots = st.builds(
    MaskSnapshot,
    step=st.integers(0, 10**9),
    stage=st.integers(0, 5),
    learning=st.booleans(),
    sparsity=st.floats(0, 1),
    target=st.floats(0, 1),
    towers=st.dictionaries(
        st.sampled_from(("image", "text")), st.builds(make_mask, shapes, st.integers(0, 99)), min_size=1
    ),
)


@settings(deadline=None, max_examples=50)  # every example is synced to disk
@given(snapshots)
def test_what_is_written_is_read(tmp_path_factory, snapshot: MaskSnapshot) -> None:
    run = RunDirectory(tmp_path_factory.mktemp("run"))
    write_masks(run, snapshot)
    found = read_masks(run)
    assert found.num_skipped == 0
    (read,) = found.snapshots
    assert_equal(snapshot, read)


def test_they_are_read_by_step_and_a_step_can_be_overwritten(run) -> None:
    for step in (120, 0, 100_000_000, 240):
        write_masks(run, make(step))
    write_masks(run, make(120, learning=False, stage=1))
    found = read_masks(run).snapshots
    assert [snapshot.step for snapshot in found] == [0, 120, 240, 100_000_000]
    assert [snapshot.stage for snapshot in found] == [0, 1, 0, 0]


def test_torn_and_foreign_files_are_counted(run) -> None:
    good = write_masks(run, make(1))
    content = good.read_bytes()

    def put(step: int, bad: bytes) -> None:
        (run.snapshots / f"masks-{step:08d}.safetensors").write_bytes(bad)

    mask = make_mask()
    put(2, content[: len(content) // 2])
    put(3, b"")
    put(4, content.replace(b'"schema":"1"', b'"schema":"9"'))
    put(5, content.replace(b"image/heads", b"image/hands"))
    put(6, content.replace(b'\\"width\\": 4', b'\\"width\\": 5'))
    put(7, save({"image/heads": mask.embedding_C}, {"schema": "1"}))
    put(8, save({"image/heads": mask.embedding_C}, {"schema": "1", "towers": "3", "masks": "{}"}))
    (run.snapshots / "gradients-00000001.safetensors").write_bytes(b"")
    found = read_masks(run)
    assert [snapshot.step for snapshot in found.snapshots] == [1]
    assert found.num_skipped == 7


def test_invalid_masks_are_refused(run) -> None:
    mask = make_mask()
    for wrong in (
        {"embedding_C": mask.embedding_C[1:]},
        {"heads": mask.heads[1:]},
        {"channels": mask.channels[::-1]},
    ):
        with pytest.raises(ValueError, match="does not match"):
            replace(mask, **wrong)
    for number in (np.nan, -0.1, 1.1):
        with pytest.raises(ValueError, match="between 0 and 1"):
            replace(mask, embedding_C=np.full(4, number, dtype=np.float32))
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_masks(run, make(sparsity=float("nan")))
    assert list(run.snapshots.iterdir()) == []


def test_a_full_disk_leaves_the_old_masks_or_none(run, failing) -> None:
    write_masks(run, make(1))
    for step in (1, 2):
        with failing(2, errno.ENOSPC), pytest.raises(OSError, match="disk full"):
            write_masks(run, make(step, sparsity=0.9))
    (kept,) = read_masks(run).snapshots
    assert_equal(kept, make(1))
