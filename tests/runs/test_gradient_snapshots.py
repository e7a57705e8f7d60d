"""Gradients go to disk and come back, and what is torn or foreign is counted."""

import errno
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.runs.gradient_snapshots import PLACES, Gradients, read_gradients, write_gradients

LOSSES = ("clip", "crd", "fd")


def make(step: int = 1, num_weights: int = 50, seed: int = 0) -> tuple[Gradients, dict[str, np.ndarray]]:
    """Gradients of three losses, and the vectors [K, P] that they are the inner products of."""
    generator = np.random.default_rng(seed)
    vectors = {place: generator.normal(size=(len(LOSSES), num_weights)) for place in PLACES}
    return Gradients(step, LOSSES, {place: vector @ vector.T for place, vector in vectors.items()}), vectors


def test_what_is_written_is_read_in_the_order_of_its_steps(run) -> None:
    written = {step: make(step, seed=step)[0] for step in (120, 1, 100_000_000, 240)}
    for gradients in written.values():
        write_gradients(run, gradients)
    found = read_gradients(run)
    assert found.num_skipped == 0
    assert [gradients.step for gradients in found.gradients] == [1, 120, 240, 100_000_000]
    for gradients in found.gradients:
        assert gradients.losses == LOSSES
        for place in PLACES:
            np.testing.assert_array_equal(gradients.products[place], written[gradients.step].products[place])


def test_norms_shares_and_cosines_are_those_of_the_vectors() -> None:
    gradients, vectors = make()
    towers_KP = np.concatenate([vectors["image_tower"], vectors["text_tower"]], axis=1)
    norm_K = np.linalg.norm(towers_KP, axis=1)
    assert gradients.norm_K("image") == pytest.approx(np.linalg.norm(vectors["image"], axis=1))
    assert gradients.tower_norm_K == pytest.approx(norm_K)
    assert gradients.share_K == pytest.approx(norm_K / norm_K.sum())
    expected_KK = towers_KP @ towers_KP.T / np.outer(norm_K, norm_K)
    assert gradients.tower_cosine_KK == pytest.approx(expected_KK)


@given(st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=3), st.floats(1e-12, 1e12))
def test_cosines_of_parallel_gradients_stay_within_one(vector, factor: float) -> None:
    vectors = np.array([vector, [factor * value for value in vector]])
    gradients = Gradients(1, ("a", "b"), dict.fromkeys(PLACES, vectors @ vectors.T))
    cosine_KK = gradients.embedding_cosine_KK
    assert np.abs(cosine_KK).max() <= 1
    assert not np.isnan(cosine_KK).any()


def test_a_loss_that_reaches_nothing_has_share_and_cosine_zero() -> None:
    products_KK = np.diag([4.0, 0.0])
    gradients = Gradients(1, ("clip", "idle"), dict.fromkeys(PLACES, products_KK))
    assert gradients.share_K.tolist() == [1, 0]
    assert gradients.tower_cosine_KK == pytest.approx(np.diag([1.0, 0.0]))
    silent = Gradients(1, ("idle",), dict.fromkeys(PLACES, np.zeros((1, 1))))
    assert silent.share_K.tolist() == [0]


def test_torn_and_foreign_files_are_counted_and_others_are_passed_over(run) -> None:
    good = write_gradients(run, make(1)[0])
    content = good.read_bytes()
    (run.snapshots / "gradients-00000002.safetensors").write_bytes(content[: len(content) // 2])
    (run.snapshots / "gradients-00000003.safetensors").write_bytes(b"")
    (run.snapshots / "gradients-00000004.safetensors").write_bytes(content.replace(b'"schema":"1"', b'"schema":"9"'))
    write_gradients(run, Gradients(5, LOSSES[:2], make()[0].products))
    (run.snapshots / "gradients-00000006.safetensors").mkdir()
    (run.snapshots / "gradients-last.safetensors").write_bytes(content)
    (run.snapshots / ".tmp-gradients-00000007.safetensors-0a").write_bytes(content)
    (run.snapshots / "probe-00000001.safetensors").write_bytes(content)
    found = read_gradients(run)
    assert [gradients.step for gradients in found.gradients] == [1]
    assert found.num_skipped == 6


def test_a_run_without_snapshots_has_none(run) -> None:
    run.snapshots.rmdir()
    assert read_gradients(run).gradients == []
    write_gradients(run, make(3)[0])
    assert [gradients.step for gradients in read_gradients(run).gradients] == [3]


def test_gradients_that_are_not_finite_are_refused(run) -> None:
    gradients = Gradients(7, ("clip",), dict.fromkeys(PLACES, np.full((1, 1), np.inf)))
    with pytest.raises(ValueError, match="after step 7 has non-finite values"):
        write_gradients(run, gradients)
    assert list(run.snapshots.iterdir()) == []


def test_a_full_disk_leaves_the_old_snapshot_or_none(run, failing) -> None:
    write_gradients(run, make(1)[0])
    for step in (1, 2):
        with failing(2, errno.ENOSPC), pytest.raises(OSError, match="disk full"):
            write_gradients(run, make(step, seed=1)[0])
    (kept,) = read_gradients(run).gradients
    np.testing.assert_array_equal(kept.products["text"], make(1)[0].products["text"])
    assert len(list(run.snapshots.iterdir())) == 1


def test_reading_loads_no_torch(run) -> None:
    write_gradients(run, make(1)[0])
    program = (
        "import sys; from pathlib import Path; from workbench.runs.directory import RunDirectory; "
        "from workbench.runs.gradient_snapshots import read_gradients; "
        f"assert read_gradients(RunDirectory(Path({str(run.path)!r}))).gradients; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
