"""Time of one training step by part, against a minimal loop and the student's towers alone; and its profiler trace."""

import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW
from torch.profiler import ProfilerActivity, profile, record_function

from workbench.bench.contest import Bench, Row, Work, clock, measure, now_s
from workbench.config.run import RunConfig
from workbench.config.toml import load_recipe, with_settings
from workbench.data.batches import BatchStream
from workbench.data.cached.store import PreparedDataset, Source, Store
from workbench.data.cached.writer import write_store
from workbench.data.dataset import Dataset
from workbench.data.images import at_working_size
from workbench.data.mixture import map_parts
from workbench.data.spec import open_dataset
from workbench.engine.build import build_cohort
from workbench.engine.cohort import Cohort
from workbench.engine.device import resolve_device
from workbench.engine.step import compare, encode
from workbench.engine.teacher_outputs import TeacherOutputs
from workbench.files import new_file
from workbench.models.towers import restore_open_clips_blocks

MEANING = (
    "Share of the step; times faster: prepared than live data, a bare loop than the engine, the student's blocks than "
    "open_clip's; times the lower bound, the student's towers alone; peak: extra memory."
)
NUM_BATCHES = 8  # the steps cycle through these
LEAST_TURNS = 9
PARTS = "batch", "teacher", "student forward", "losses", "student backward", "update"
BATCH, TEACHER, FORWARD, LOSSES, BACKWARD, UPDATE = PARTS
LIVE, PREPARED = f"{BATCH}, live", f"{BATCH}, prepared"
BY_PARTS, WHOLE, BARE, TOWERS = "by parts", "whole step", "bare loop", "towers alone"
OPEN_CLIP = "open_clip's blocks"


def step_config(recipe: str, overrides: list[str]) -> RunConfig:
    """Config of the run to measure; ``data.views=0`` keeps the teacher live unless overridden.

    Raises:
        ValueError: an invalid recipe or setting, or micro-batches.
    """
    config = load_recipe(recipe, ["data.views=0", *overrides])
    if config.train.micro_batch_size:
        raise ValueError("a step can only be measured by part without micro-batches: set train.micro_batch_size=0")
    batches = NUM_BATCHES * config.train.batch_size
    num_pairs = min(config.data.num_pairs or batches, batches)
    return with_settings(config, {"data": {"num_pairs": num_pairs, "validation": "", "test": ""}})


def step_bench(config: RunConfig) -> Bench:
    """The benchmark of one training step of this config."""
    label = f"step, {config.recipe}, B = {config.train.batch_size}"
    return Bench({label: partial(step_rows, config)}, MEANING, clock(resolve_device(config.train.device)))


def step_rows(config: RunConfig) -> list[Row]:
    """The parts of a step, the engine's full step, and the same arithmetic in a minimal loop.

    Unlike in training, loading does not overlap with computing. Batches come from a cache unless ``data.prepare`` is
    off. ``share`` is of all parts; ``ratio`` is live over cached loading, engine over minimal loop, and open_clip's
    towers over the student's, where open_clip can build such towers. The floor is forward and backward of the student's
    towers on a batch in memory, and a plain fused AdamW.
    """
    with steps(config) as (contenders, parts):
        measured = measure(contenders, parts.cohort.device, LEAST_TURNS)
    size, floor_s = config.train.batch_size, measured[TOWERS].time_s
    whole, bare, live = measured[WHOLE], measured[BARE], measured[LIVE]
    rows = [Row(LIVE, size, live.time_s)]
    if kept := measured.get(PREPARED):
        rows.append(Row(PREPARED, size, kept.time_s, ratio=live.time_s / kept.time_s))
    parts_s = parts.medians_s()
    rows += [Row(part, size, time_s, share=time_s / sum(parts_s.values())) for part, time_s in parts_s.items()]
    rows.append(Row(WHOLE, size, whole.time_s, whole.peak_mb, floor_ratio=whole.time_s / floor_s))
    rows.append(Row(BARE, size, bare.time_s, bare.peak_mb, whole.time_s / bare.time_s, bare.time_s / floor_s))
    if theirs := measured.get(OPEN_CLIP):
        ratio = theirs.time_s / floor_s
        rows.append(Row(TOWERS, size, floor_s, measured[TOWERS].peak_mb, ratio, floor_ratio=1.0))
        rows.append(Row(OPEN_CLIP, size, theirs.time_s, theirs.peak_mb, floor_ratio=ratio))
    return rows


@contextmanager
def steps(config: RunConfig) -> Iterator[tuple[dict[str, Work], "StepByParts"]]:
    """The contenders by name, and the step by parts, which records their times."""
    with TemporaryDirectory(prefix="workbench-bench-") as folder:
        # "off": else the engine would fill the user's cache, and live batches could not be timed.
        cohort = build_cohort({"engine": with_settings(config, {"data": {"prepare": "off"}})})
        live = cohort.stream
        contenders: dict[str, Work] = {LIVE: _batching(live, cohort)}
        if config.data.prepare != "off":
            cohort.stream = replace(live, dataset=prepared(config, live, Path(folder)))
            contenders[PREPARED] = _batching(cohort.stream, cohort)
        parts = StepByParts(cohort)
        config = cohort.members[0].config
        bare, towers, theirs = (build_cohort({name: config}, like=cohort) for name in (BARE, TOWERS, OPEN_CLIP))
        student = theirs.members[0].state.student
        bare.stream = cohort.stream  # the same kind of batches as the engine's step
        contenders |= {
            BY_PARTS: parts,
            WHOLE: whole_step(cohort, _steps_of(cohort)),
            BARE: _bare(bare),
            TOWERS: _towers(towers),
        }
        if restore_open_clips_blocks(student.towers, student.config):
            contenders[OPEN_CLIP] = _towers(theirs)
        yield contenders, parts


def prepared(config: RunConfig, live: BatchStream, folder: Path) -> Dataset:
    """The run's data from a pixel cache, with tokenized captions."""

    def keep(dataset: Dataset, _share: float) -> Dataset:
        place = folder / str(len(list(folder.iterdir())))
        place.mkdir()
        scaled = at_working_size(dataset, config.data.working_size)
        write_store(scaled, Source.of(scaled, "pixels"), place, spec=dataset.name)
        kept = PreparedDataset(Store(place), dataset)
        for form in (live.student, *live.teachers):
            kept.keep_tokens(form)
        return kept

    dataset = open_dataset(config.data.train, "train", config.data.num_pairs, config.data.bad_shards)
    return map_parts(dataset, keep)


class StepByParts:
    """One step of a single-member cohort, timed by part. The parts are named ranges for a profiler."""

    def __init__(self, cohort: Cohort) -> None:
        self.cohort = cohort
        self._steps = _steps_of(cohort)
        self._times_s: dict[str, list[float]] = {part: [] for part in PARTS}

    def __call__(self) -> None:
        cohort, (member,), step = self.cohort, self.cohort.members, next(self._steps)
        state, objective = member.state, member.objective
        with self._part(BATCH):
            batch = cohort.stream.batch(step).to(cohort.device)
        with self._part(TEACHER):
            teacher_outputs = cohort.teacher_forward(batch, step)
        with self._part(FORWARD):
            member.prepare_step(step)
            encoded = encode(
                state, member.masked(batch, step), objective.loss_inputs(step), member.config.train.precision
            )
        with self._part(LOSSES):
            values = objective(compare(state, encoded, teacher_outputs, objective, step), step)
        with self._part(BACKWARD):
            member.scaled(values.total).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        with self._part(UPDATE):
            member.update(values, batch, step)

    def medians_s(self) -> dict[str, float]:
        """Median seconds of every part, without the first (warm-up) step."""
        return {part: statistics.median(times_s[1:]) for part, times_s in self._times_s.items()}

    @contextmanager
    def _part(self, name: str) -> Iterator[None]:
        start_s = now_s(self.cohort.device)
        with record_function(name):
            yield
            taken_s = now_s(self.cohort.device) - start_s
        self._times_s[name].append(taken_s)


def _steps_of(cohort: Cohort) -> Iterator[int]:
    """Steps of the second half of the first phase, in a cycle: ramps of loss weights make early steps cheaper."""
    phase = cohort.members[0].phase(0)
    return cycle(range(phase.end // 2, phase.end))


def _batching(stream: BatchStream, cohort: Cohort) -> Work:
    steps = _steps_of(cohort)
    return lambda: stream.batch(next(steps)).to(cohort.device)


def whole_step(cohort: Cohort, steps: Iterator[int], outputs: TeacherOutputs | None = None) -> Work:
    """The engine's step, at the next of ``steps``; with ``outputs`` instead of a teacher if given."""

    def work() -> None:
        step = next(steps)
        batch = cohort.stream.batch(step).to(cohort.device)
        cohort.train_step(batch, outputs or cohort.teacher_forward(batch, step), step)

    return work


def _bare(cohort: Cohort) -> Work:
    """The same arithmetic as a minimal loop, without logging, measuring or scheduling."""
    (member,), numbers = cohort.members, _steps_of(cohort)
    state, objective, clip_norm = member.state, member.objective, member.config.optimizer.clip_norm
    precision = member.config.train.precision

    def work() -> None:
        step = next(numbers)
        batch = cohort.stream.batch(step).to(cohort.device)
        teacher_outputs: TeacherOutputs | None = cohort.teacher_forward(batch, step)
        member.prepare_step(step)
        encoded = encode(state, member.masked(batch, step), objective.loss_inputs(step), precision)
        total = objective(compare(state, encoded, teacher_outputs, objective, step), step).total
        member.scaled(total).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        if member.loss_scale:
            member.loss_scale.unscale_(state.parameters())
        if state.gates:
            state.gates.penalty(step - member.phase(step).start).backward()  # type: ignore[no-untyped-call]  # the same
        if clip_norm > 0:
            clip_grad_norm_(state.weights, clip_norm)
        state.optimizer.step()
        state.clamp_()

    return work


def _towers(cohort: Cohort) -> Work:
    """The student's towers, forward and backward on one batch, and a plain optimizer step."""
    (member,), step = cohort.members, next(_steps_of(cohort))
    state, loss_inputs = member.state, member.objective.loss_inputs(step)
    precision = member.config.train.precision
    batch = member.masked(cohort.stream.batch(step).to(cohort.device), step)
    weights = [parameter for parameter in state.student.parameters() if parameter.requires_grad]
    optimizer = AdamW(weights, lr=member.config.optimizer.learning_rate, fused=True)

    def work() -> None:
        outputs = [one for one in encode(state, batch, loss_inputs, precision).tensors().values() if one.requires_grad]
        # Ones instead of a loss's gradient: the cost of backward does not depend on the values.
        torch.autograd.backward(outputs, [torch.ones_like(one) for one in outputs])
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return work


NUM_STEPS = 5
NUM_WARM_UP_STEPS = 2
NUM_HEAVIEST = 10
OUTSIDE = "outside operators"


@dataclass(frozen=True)
class Operator:
    """Self time of one operator.

    Args:
        calls: calls per step.
        time_s: seconds per step; device time on a GPU.
        share: fraction of the traced time.
    """

    name: str
    calls: float
    time_s: float
    share: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def check_trace_path(path: Path) -> None:
    """Check that a trace can be written there.

    Raises:
        ValueError: its folder does not exist, or its suffix is not .json.
    """
    if path.suffix != ".json":
        raise ValueError(f"--trace writes JSON: name the file {path.name or path}.json")
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise ValueError(f"--trace {path}: name a file in an existing folder")


def traced(config: RunConfig, path: Path) -> list[Operator]:
    """The operators with the most self time in a few steps, whose trace is written to ``path``."""
    with steps(config) as (_, parts):
        return trace(parts, path, parts.cohort.device)


def trace(step: Work, path: Path, device: torch.device) -> list[Operator]:
    """Trace a few steps, write the trace (for ui.perfetto.dev), and return the operators with the most self time.

    On a CPU, the last entry is "outside operators": time in Python, Pillow, NumPy etc.
    """
    for _ in range(NUM_WARM_UP_STEPS):
        step()
    is_gpu = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if is_gpu else [])]
    with profile(activities=activities) as found:
        for _ in range(NUM_STEPS):
            step()
    with new_file(path) as temporary:
        found.export_chrome_trace(str(temporary))
    return _heaviest(found, is_gpu)


def _heaviest(found: profile, is_gpu: bool) -> list[Operator]:
    events = found.key_averages()
    times_us = {
        event.key: event.self_device_time_total if is_gpu else event.self_cpu_time_total
        for event in events
        if not event.is_user_annotation
    }
    annotated_us = 0 if is_gpu else sum(event.self_cpu_time_total for event in events if event.is_user_annotation)
    total_us = sum(times_us.values()) + annotated_us
    calls = {event.key: event.count for event in events} | {OUTSIDE: NUM_STEPS}
    heaviest = sorted(times_us.items(), key=lambda item: -item[1])[:NUM_HEAVIEST]
    if not is_gpu:
        heaviest.append((OUTSIDE, annotated_us))
    return [
        Operator(name, calls[name] / NUM_STEPS, time_us / NUM_STEPS / 1e6, time_us / total_us)
        for name, time_us in heaviest
    ]
