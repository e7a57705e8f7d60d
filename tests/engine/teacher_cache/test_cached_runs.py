"""A run that reads its teacher from disk is the run that asks it."""

import statistics
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from workbench.cache.arrays import ROWS
from workbench.config.run import RunConfig
from workbench.data.sources.tar import ShardDataset
from workbench.data.unusable import ImageError
from workbench.engine.build import build_cohort
from workbench.engine.cohort import Cohort
from workbench.engine.launch import launch, relaunch
from workbench.engine.loop import train
from workbench.engine.teacher_cache.choice import is_worth_building
from workbench.engine.teacher_cache.prepare import prepare_cache
from workbench.engine.teacher_cache.store import REBUILD, TeacherCache, find_cache
from workbench.engine.teacher_outputs import TeacherForward
from workbench.events import EvalDone
from workbench.models.weights import weights_sha256


def trained(config: RunConfig) -> tuple[str, Cohort]:
    cohort = build_cohort({"run": config})
    for _ in train(cohort):
        pass
    return weights_sha256(cohort.members[0].state), cohort


@pytest.mark.parametrize("batch_size", [15, 16, 23])  # forwards have 16 rows
def test_a_cached_run_ends_with_the_weights_of_a_live_one(tiny: Callable[..., RunConfig], batch_size: int) -> None:
    ends = {}
    for cache in ("off", "on"):
        settings = {"train": {"batch_size": batch_size}, "teacher": {"cache": cache}, "data": {"views": 2}}
        ends[cache], cohort = trained(tiny(**settings))
        assert (not cohort.stream.teachers) == (cohort.cached is not None) == (cache == "on")
    assert ends["on"] == ends["off"]


@pytest.mark.parametrize("batch_size", [6, 11])
def test_small_batches_train_alike_live_and_cached_on_two_threads(
    tiny: Callable[..., RunConfig], batch_size: int
) -> None:
    """Where MKL divides 5 to 7 or 9 to 11 rows among two threads, a row's last bits depend on its place."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        ends = {
            cache: trained(
                tiny(
                    train={"batch_size": batch_size, "num_steps": 4},
                    teacher={"model": "sample:scenes", "cache": cache, "chunk_size": 256},
                    data={"views": 2, "num_pairs": 12, "validation": ""},
                )
            )[0]
            for cache in ("off", "on")
        }
    finally:
        torch.set_num_threads(before)
    assert ends["on"] == ends["off"]


def test_a_resumed_run_may_change_to_the_cache(tiny, tmp_path: Path) -> None:
    def interrupted_after(steps: int) -> Callable[[], bool]:
        asked = iter([*[False] * (steps - 1), True])
        return lambda: next(asked, True)

    ends = []
    for name, caches in {"live": ("off", "off"), "cached": ("on", "on")}.items():
        started = launch({name: tiny(data={"views": 2}, teacher={"cache": caches[0]})}, tmp_path)
        list(started.events(interrupted_after(7)))
        again = relaunch(started.directories[name])
        list(again.events())
        assert again.cohort.start_step == 7
        ends.append(weights_sha256(again.cohort.members[0].state))
    live, _ = trained(tiny(data={"views": 2}, teacher={"cache": "off"}))
    assert ends == [live, live]


def test_a_pair_with_a_replaced_image_trains_the_same(tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = ShardDataset.__getitem__

    def some_broken(self, index: int):
        if index == 7 and len(self) == 60:
            raise ImageError("empty file", "pair 7")
        return honest(self, index)

    monkeypatch.setattr(ShardDataset, "__getitem__", some_broken)
    changes = {"data": {"views": 2, "prepare": "off"}}
    live, _ = trained(tiny(**changes, teacher={"cache": "off"}))
    cached, cohort = trained(tiny(**changes, teacher={"cache": "on"}))
    assert cached == live
    with pytest.raises(ValueError, match="pair 7"):
        cohort.cached.embeddings(torch.tensor([14]), cohort.teacher.scale)


def test_float16_rounds_and_no_more(tiny) -> None:
    exact = build_cohort({"run": tiny(data={"views": 1}, teacher={"cache": "on"})}).cached
    cohort = build_cohort({"run": tiny(data={"views": 1}, teacher={"cache": "on", "cache_dtype": "float16"})})
    rows, scale = torch.arange(60), cohort.teacher.scale
    full, half = exact.embeddings(rows, scale), cohort.cached.embeddings(rows, scale)
    assert cohort.cached.manifest.size_bytes * 2 == exact.manifest.size_bytes
    for name in ("image_BD", "text_BD"):
        rounded, reference = getattr(half, name), getattr(full, name)
        assert rounded.dtype == torch.float32
        assert 0 < (rounded - reference).abs().max() < 2**-10
        torch.testing.assert_close(rounded.norm(dim=1), torch.ones(60), atol=1e-6, rtol=0)


def test_float16_changes_less_than_another_seed(tiny) -> None:
    found = {}
    for dtype in ("float32", "float16"):
        for seed in range(3):
            config = tiny(data={"views": 1}, teacher={"cache": "on", "cache_dtype": dtype}).with_seed(seed)
            _, cohort = trained(config)
            found[dtype, seed] = cohort.measured["run", "validation"].metrics
    for metric in ("affinity_kl", "cka"):
        exact, rounded = ([found[dtype, seed][metric] for seed in range(3)] for dtype in ("float32", "float16"))
        change = max(abs(one - other) for one, other in zip(exact, rounded, strict=True))
        assert 0 < change < 0.1 * statistics.stdev(exact)


def test_auto_reads_what_is_there_and_makes_nothing_that_memory_does_as_well(tiny, caches: Path) -> None:
    config = tiny(data={"views": 2})
    assert build_cohort({"run": config}).cached is None
    assert not caches.exists()
    made = build_cohort({"run": tiny(data={"views": 2}, teacher={"cache": "on"})}).cached
    found = build_cohort({"run": config}).cached
    assert isinstance(found, TeacherCache)
    assert found.folder == made.folder
    assert build_cohort({"run": tiny(data={"views": 3})}).cached is None


def test_auto_makes_one_where_memory_is_too_small(tiny, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr("workbench.engine.teacher_outputs.MEMORY_MB", 0)
    assert build_cohort({"run": tiny(data={"views": 4})}).cached is None  # 240 views, and 12 steps of 20 pairs
    assert build_cohort({"run": tiny(data={"views": 3})}).cached is not None
    assert "building it takes" in capsys.readouterr().err
    monkeypatch.setattr("workbench.engine.teacher_cache.choice.AUTO_BYTES", 0)
    cohort = build_cohort({"run": tiny(data={"views": 2})})
    assert cohort.cached is None
    assert "the teacher runs live" in cohort.notes[-1]


@pytest.mark.parametrize(
    ("num_rows", "num_reads", "expected"),
    [
        (1000, 999, False),
        (1000, 5000, False),  # the run's own memory sees each row once too
        (10**9, 10**9, False),
        (10**9, 10**9 + 1, True),  # more than memory holds
    ],
)
def test_a_cache_must_save_more_forwards_than_it_takes(num_rows, num_reads, expected) -> None:
    assert is_worth_building(num_rows, 64, num_reads) is expected


def test_what_cannot_be_kept_is_refused_with_the_remedy(tiny) -> None:
    def refused(match: str, **changes) -> None:
        with pytest.raises(ValueError, match=match):
            build_cohort({"run": tiny(**changes)})

    refused("--set data.views=3", teacher={"cache": "on"}, data={"views": 0})
    losses = {"intermediate": {"weight": 1.0, "student_blocks": [0], "teacher_blocks": [0]}}
    refused("loss.intermediate.weight=0", teacher={"cache": "on"}, data={"views": 2}, loss=losses)
    refused('needs cache = "on"', teacher={"cache_dtype": "float16"})
    live = build_cohort({"run": tiny(data={"views": 2}, loss=losses)})
    assert live.stream.teachers


def test_held_out_pairs_are_asked_about_once(tiny, caches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def measured() -> tuple[dict[str, float], list[int]]:
        cohort = build_cohort({"run": tiny(data={"views": 1}, teacher={"cache": "on"}, train={"num_steps": 1})})
        seen, honest = [], cohort.teacher.embed_image
        monkeypatch.setattr(cohort.teacher, "embed_image", lambda image: (seen.append(len(image)), honest(image))[1])
        (event,) = (event for event in train(cohort) if isinstance(event, EvalDone))
        return event.metrics, seen

    first, asked = measured()
    again, asked_again = measured()
    assert sum(asked) == 40
    assert asked_again == []
    assert again == first
    (kept,) = (caches / "held-out").iterdir()
    damaged = bytearray(kept.read_bytes())
    damaged[-1] ^= 1
    kept.write_bytes(damaged)
    repaired, asked_once_more = measured()
    assert sum(asked_once_more) == 40
    assert repaired == first


def test_a_flipped_bit_stops_the_run_and_the_command_mends_it(tiny) -> None:
    config = tiny(data={"views": 2}, teacher={"cache": "on"})
    cohort = build_cohort({"run": config})
    rows = cohort.cached.folder / ROWS
    sound = rows.read_bytes()
    rows.write_bytes(sound[:100] + bytes([sound[100] ^ 4]) + sound[101:])
    with pytest.raises(ValueError, match=r"teacher cache: block 0 of .* is damaged") as error:
        list(train(build_cohort({"run": config})))
    assert REBUILD in str(error.value)
    prepared = prepare_cache(config)
    assert rows.read_bytes() == sound
    assert prepared.num_held_out == {"validation": 40}
    rows.write_bytes(sound[:-1])
    assert find_cache(cohort.cached.manifest.identity) is None
    prepare_cache(config)
    assert rows.read_bytes() == sound


def test_rows_of_a_memory_are_those_of_the_teacher(tiny) -> None:
    """Views of one pair by index and view, whatever the order they come in."""
    cohort = build_cohort({"run": tiny(data={"views": 2}, teacher={"cache": "off"})})
    forward = TeacherForward(cohort.teacher, 2, 60)
    for step in (0, 4, 0, 2, 4):
        batch = cohort.stream.batch(step)
        fresh = cohort.teacher.embed(*batch.teachers[0])
        assert torch.equal(forward(batch).embeddings.image_BD, fresh.image_BD)
