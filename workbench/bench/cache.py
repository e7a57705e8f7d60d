"""A training step with cached teacher embeddings, against a live teacher and against no teacher."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import torch

from workbench.bench.contest import Row, compared, measure
from workbench.config.run import RunConfig
from workbench.config.toml import load_recipe
from workbench.engine.build import build_cohort
from workbench.engine.cohort import Cohort
from workbench.engine.teacher_cache.manifest import CACHES
from workbench.engine.teacher_cache.store import TeacherCache
from workbench.errors import unknown
from workbench.models.folder import save_folder
from workbench.models.spec import load_model

NUM_BATCHES = 2  # the steps cycle through these
LIVE, CACHED, NO_TEACHER = "live teacher", "cached teacher", "no teacher"


@dataclass(frozen=True)
class Size:
    """Teacher, student and default batch size."""

    name: str
    teacher: str
    student: str
    batch_size: int


SIZES = {
    "samples": Size("samples", "sample:scenes", "mini-w64", 128),
    "real": Size("real", "open_clip:ViT-B-16", "ViT-T-16", 8),
}


def choose_size(name: str) -> Size:
    """The size of this name.

    Raises:
        ValueError: an unknown size, with the closest known name.
    """
    if name not in SIZES:
        raise unknown("size", name, SIZES)
    return SIZES[name]


def cache_rows(size: Size, batch_size: int, device: torch.device) -> list[Row]:
    """The three steps in turns: loading, teacher forward, student update, without overlap.

    The floor is a step with the same losses and the teacher's embeddings in memory.
    """
    with _steps(size, batch_size, device) as contenders:
        measured = measure(contenders, device)
    return compared(measured, size.name, batch_size, against=LIVE, floor=NO_TEACHER)


@contextmanager
def _steps(size: Size, batch_size: int, device: torch.device) -> Iterator[dict[str, Callable[[], object]]]:
    """Calls that take one step, by name."""
    with tempfile.TemporaryDirectory() as folder:
        cached = build_cohort({"cached": _config(size, batch_size, device, Path(folder), "on")})
        kept = cached.cached
        assert isinstance(kept, TeacherCache)
        try:
            live = build_cohort({"live": _config(size, batch_size, device, Path(folder), "off")})
            free = build_cohort({"free": _config(size, batch_size, device, Path(folder), "on")}, like=cached)
            yield {LIVE: _step(live), CACHED: _step(cached), NO_TEACHER: _step(free, reuses_outputs=True)}
        finally:
            CACHES.remove(kept.folder)


def _step(cohort: Cohort, *, reuses_outputs: bool = False) -> Callable[[], object]:
    (member,) = cohort.members
    steps = count()
    # Fixed outputs cost nothing per step, which makes this the lower bound for any teacher cache.
    once = cohort.teacher_forward(cohort.stream.batch(0).to(cohort.device), 0) if reuses_outputs else None

    def work() -> None:
        step = next(steps) % NUM_BATCHES
        batch = cohort.stream.batch(step).to(cohort.device)
        member.train_step(batch, once or cohort.teacher_forward(batch, step), step)

    return work


def _config(size: Size, batch_size: int, device: torch.device, folder: Path, cache: str) -> RunConfig:
    """``data.views=0`` prevents reuse of a live teacher's outputs."""
    teacher = _with_weights(size.teacher, folder) if size.teacher.startswith("open_clip:") else size.teacher
    settings = {
        "data.num_pairs": NUM_BATCHES * batch_size,
        "data.views": 1 if cache == "on" else 0,
        "data.validation": '""',
        "data.test": '""',
        "student.model": size.student,
        "teacher.model": teacher,
        "teacher.chunk_size": batch_size,
        "teacher.cache": cache,
        "train.num_steps": NUM_BATCHES,
        "train.batch_size": batch_size,
        "train.device": device.type,
    }
    return load_recipe("clip-kd", [f"{key}={value}" for key, value in settings.items()])


def _with_weights(spec: str, folder: Path) -> str:
    """A model folder of this architecture with random weights; they cost the same as trained ones."""
    place = folder / "teacher"
    if not place.exists():
        save_folder(load_model(spec, seed=0), place)
    return str(place)
