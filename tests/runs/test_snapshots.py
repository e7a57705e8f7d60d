"""Snapshots go to disk and come back as they were, and what is torn or foreign is counted."""

import errno
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save, save_file

from workbench.config.inheritance import TowerShape
from workbench.events import RunFinished
from workbench.runs.directory import RunDirectory
from workbench.runs.log import EventLog
from workbench.runs.snapshots import (
    PLACES,
    Gradients,
    MaskSnapshot,
    Probe,
    ProbeOutputs,
    Snapshot,
    TowerMask,
    read_snapshot_history,
    read_snapshots,
    write_snapshot,
)

LOSSES = ("clip", "crd", "fd")
SHAPE = TowerShape(width=4, head_width=2, heads=(2, 0, 1), channels=(3, 1, 0))
CAPTIONS = ("a", "[/b]", "\N{FOX FACE}", "")


def outputs(seed: int) -> ProbeOutputs:
    image_PD, text_PD = np.random.default_rng(seed).normal(size=(2, len(CAPTIONS), 8)).astype(np.float16)
    return ProbeOutputs(image_PD, text_PD, 10.0 + seed)


def probe(step: int) -> Probe:
    return Probe(step, CAPTIONS, outputs(step), outputs(0) if step > 1 else None)


def gradients(step: int = 1, num_weights: int = 50) -> tuple[Gradients, dict[str, np.ndarray]]:
    """Gradients of three losses, and the vectors [K, P] that they are the inner products of."""
    generator = np.random.default_rng(step)
    vectors = {place: generator.normal(size=(len(LOSSES), num_weights)) for place in PLACES}
    return Gradients(step, LOSSES, {place: vector @ vector.T for place, vector in vectors.items()}), vectors


def make_mask(shape: TowerShape = SHAPE, seed: int = 0) -> TowerMask:
    generator = np.random.default_rng(seed)

    def some(size: int) -> np.ndarray:
        return generator.random(size, dtype=np.float32)

    return TowerMask(shape, some(shape.width), tuple(map(some, shape.heads)), tuple(map(some, shape.channels)))


def masks(step: int = 1, **changes) -> MaskSnapshot:
    fields = {"stage": 0, "learning": True, "sparsity": 0.25, "target": 0.3, "towers": {"image": make_mask(seed=step)}}
    return MaskSnapshot(step=step, **fields | changes)


MAKERS: list[Callable[[int], Snapshot]] = [probe, lambda step: gradients(step)[0], masks]
kinds = pytest.mark.parametrize("make", MAKERS, ids=["probe", "gradients", "masks"])


def assert_equal(one: Snapshot, other: Snapshot) -> None:
    assert (type(one), one.step) == (type(other), other.step)
    (arrays, metadata), (others, other_metadata) = one.pack(), other.pack()
    for name, value in metadata.items():
        assert json.loads(value) == json.loads(other_metadata[name])
    assert (metadata.keys(), arrays.keys()) == (other_metadata.keys(), others.keys())
    for name, array in arrays.items():
        assert array.dtype == others[name].dtype
        np.testing.assert_array_equal(array, others[name])


@kinds
def test_what_is_written_is_read_by_step_and_a_step_can_be_overwritten(run, make) -> None:
    run.snapshots.rmdir()
    kind = type(make(1))
    assert read_snapshots(run, kind).snapshots == []
    write_snapshot(run, replace(make(7), step=120))
    steps = (120, 1, 100_000_000, 240)
    for step in steps:
        write_snapshot(run, make(step))
    read = read_snapshots(run, kind)
    assert read.num_skipped == 0
    assert [one.step for one in read.snapshots] == sorted(steps)
    for one in read.snapshots:
        assert_equal(one, make(one.step))
    assert [one.step for one in read_snapshots(run, kind, until_step=120).snapshots] == [1, 120]


@kinds
def test_the_history_ends_at_the_runs_step(run, started, make) -> None:
    with EventLog(run.events_file) as log:
        log.append(started())
        log.append(RunFinished(run=run.id, step=100, state="finished", elapsed_s=1.0))
    for step in (50, 100, 150):
        write_snapshot(run, make(step))
    assert [one.step for one in read_snapshot_history(run, type(make(1))).snapshots] == [50, 100]


@kinds
def test_torn_and_foreign_files_are_counted_and_others_are_passed_over(run, make) -> None:
    good = write_snapshot(run, make(1))
    name, content = type(make(1)).KIND, good.read_bytes()

    def put(step: str, bad: bytes) -> None:
        (run.snapshots / f"{name}-{step}.safetensors").write_bytes(bad)

    put("00000002", content[: len(content) // 2])
    put("00000003", b"")
    put("00000004", content.replace(b'"schema":"1"', b'"schema":"9"'))
    put("00000005", save({"image/heads": np.zeros(4)}, {"schema": "1"}))
    foreign = {"captions": "[]", "scales": "3", "losses": "3", "towers": "3", "masks": "{}"}
    put("00000006", save({"image/heads": np.zeros(4)}, {"schema": "1"} | foreign))
    put("last", content)
    (run.snapshots / f"{name}-00000007.safetensors").mkdir()
    (run.snapshots / f".tmp-{name}-00000008.safetensors-0a").write_bytes(content)
    (run.snapshots / "others-00000001.safetensors").write_bytes(content)
    read = read_snapshots(run, type(make(1)))
    assert [one.step for one in read.snapshots] == [1]
    assert read.num_skipped == 7


def test_numbers_that_do_not_match_their_names_are_counted(run) -> None:
    write_snapshot(run, Gradients(5, LOSSES[:2], gradients()[0].products))
    negative = dict.fromkeys(PLACES, -np.eye(3))
    write_snapshot(run, Gradients(6, LOSSES, negative))
    assert read_snapshots(run, Gradients).num_skipped == 2
    arrays, _ = Probe(1, CAPTIONS, outputs(1)).pack()
    three = {"schema": "1", "captions": json.dumps(CAPTIONS[:3]), "scales": json.dumps({"student": 1.0})}
    save_file(arrays, run.snapshots / "probe-00000020.safetensors", three)
    assert read_snapshots(run, Probe).num_skipped == 1
    good = write_snapshot(run, masks(1))
    content = good.read_bytes()
    good.write_bytes(content.replace(b"image/heads", b"image/hands"))
    good.with_name("masks-00000002.safetensors").write_bytes(content.replace(b'\\"width\\": 4', b'\\"width\\": 5'))
    assert read_snapshots(run, MaskSnapshot).num_skipped == 2


def test_numbers_that_are_not_finite_are_refused(run) -> None:
    bad = outputs(1)
    bad.image_PD[0, 0] = np.nan
    with pytest.raises(ValueError, match="non-finite"):
        write_snapshot(run, Probe(10, CAPTIONS, bad))
    with pytest.raises(ValueError, match="after step 7 has non-finite values"):
        write_snapshot(run, Gradients(7, ("clip",), dict.fromkeys(PLACES, np.full((1, 1), np.inf))))
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_snapshot(run, masks(sparsity=float("nan")))
    assert list(run.snapshots.iterdir()) == []


@kinds
def test_a_full_disk_leaves_the_old_snapshot_or_none(run, failing, make) -> None:
    write_snapshot(run, make(1))
    for step in (1, 2):
        with failing(2, errno.ENOSPC), pytest.raises(OSError, match="disk full"):
            write_snapshot(run, replace(make(9), step=step))
    (kept,) = read_snapshots(run, type(make(1))).snapshots
    assert_equal(kept, make(1))
    assert len(list(run.snapshots.iterdir())) == 1


def test_reading_loads_no_torch(run) -> None:
    write_snapshot(run, gradients()[0])
    program = (
        "import sys; from pathlib import Path; from workbench.runs.directory import RunDirectory; "
        "from workbench.runs.snapshots import Gradients, read_snapshots; "
        f"assert read_snapshots(RunDirectory(Path({str(run.path)!r})), Gradients).snapshots; "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_norms_shares_and_cosines_are_those_of_the_vectors() -> None:
    found, vectors = gradients()
    towers_KP = np.concatenate([vectors["image_tower"], vectors["text_tower"]], axis=1)
    norm_K = np.linalg.norm(towers_KP, axis=1)
    assert found.norm_K("image") == pytest.approx(np.linalg.norm(vectors["image"], axis=1))
    assert found.tower_norm_K == pytest.approx(norm_K)
    assert found.share_K == pytest.approx(norm_K / norm_K.sum())
    assert found.tower_cosine_KK == pytest.approx(towers_KP @ towers_KP.T / np.outer(norm_K, norm_K))


@given(st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=3), st.floats(1e-12, 1e12))
def test_cosines_of_parallel_gradients_stay_within_one(vector, factor: float) -> None:
    vectors = np.array([vector, [factor * value for value in vector]])
    cosine_KK = Gradients(1, ("a", "b"), dict.fromkeys(PLACES, vectors @ vectors.T)).embedding_cosine_KK
    assert np.abs(cosine_KK).max() <= 1
    assert not np.isnan(cosine_KK).any()


def test_a_loss_without_gradient_has_share_and_cosine_zero() -> None:
    one_idle = Gradients(1, ("clip", "idle"), dict.fromkeys(PLACES, np.diag([4.0, 0.0])))
    assert one_idle.share_K.tolist() == [1, 0]
    assert one_idle.tower_cosine_KK == pytest.approx(np.diag([1.0, 0.0]))
    assert Gradients(1, ("idle",), dict.fromkeys(PLACES, np.zeros((1, 1)))).share_K.tolist() == [0]


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
any_masks = st.builds(
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
@given(any_masks)
def test_masks_of_any_shape_are_read_as_written(tmp_path_factory, written: MaskSnapshot) -> None:
    run = RunDirectory(tmp_path_factory.mktemp("run"))
    write_snapshot(run, written)
    (read,) = read_snapshots(run, MaskSnapshot).snapshots
    assert_equal(read, written)
    assert all(mask.teacher == written.towers[tower].teacher for tower, mask in read.towers.items())


def test_invalid_masks_are_refused() -> None:
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
