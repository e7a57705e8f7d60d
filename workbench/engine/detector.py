"""A detector behind the last step of a run: its start, what it logs, and its metrics."""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from safetensors.torch import load_file
from torch import Tensor

from workbench.config.toml import load_run_config
from workbench.data.detection.dataset import DetectionDataset
from workbench.data.detection.spec import open_detection
from workbench.engine.checkpoint import DETECTOR
from workbench.engine.cohort import Cohort
from workbench.engine.device import peak_memory_mb, placed, resolve_device, resolved
from workbench.engine.member import Member
from workbench.events import DENSE, EvalDone, EvalStarted, Event, StageStarted, StepDone, Warned
from workbench.models.spec import load_student
from workbench.runs.checkpoints import find_checkpoint
from workbench.runs.directory import RunDirectory

if TYPE_CHECKING:
    from workbench.dense.training import DetectorTraining

NAME = "detector on the frozen image tower"


def start_detector(cohort: Cohort, member: Member) -> "DetectorTraining | None":
    """A detector on the member's image tower, as its checkpoint left it if there is one; None if ``[dense]`` is off.

    Raises:
        ValueError: the image tower has no maps, as those of other libraries.
    """
    if cohort.detection is None:
        return None
    from workbench.dense.training import DetectorTraining  # torchvision's detectors take seconds to import

    config = member.config
    training = DetectorTraining(
        member.state.student, config.dense, cohort.detection, seed=config.seed, precision=config.train.precision
    )
    if member.step > cohort.num_steps:
        training.load(member.detector_tensors)
    member.detector, member.detector_tensors = training, {}
    return training


def load_detector(run: RunDirectory) -> "tuple[DetectorTraining, DetectionDataset]":
    """The detector of a run's newest checkpoint, and the images that it is measured on.

    Raises:
        ValueError: the run has trained no detector, or its student or images are gone.
    """
    config = resolved(load_run_config(run.config_file))
    checkpoint = find_checkpoint(run)
    if not config.dense.is_on or not (checkpoint / DETECTOR).exists():
        raise ValueError(f"run {run.id} has no detector: train one with workbench dense {run.id} --data DATA")
    from workbench.dense.training import DetectorTraining

    student = placed(load_student(checkpoint), resolve_device(config.train.device))
    detection = open_detection(config.dense)
    training = DetectorTraining(student, config.dense, detection, seed=config.seed, precision=config.train.precision)
    training.load(load_file(checkpoint / DETECTOR))
    return training, detection.held_out


def detector_started(cohort: Cohort, member: Member) -> StageStarted:
    """The event of the detector's first step."""
    assert member.detector is not None
    return StageStarted(
        run=member.run,
        step=cohort.num_steps,
        name=NAME,
        stage=len(member.config.inheritance.stages),
        until=cohort.total_steps,
        learns_masks=False,
        num_parameters=member.detector.num_parameters(),
        num_embedding_parameters=0,
        kept_fraction=member.kept_fraction,
    )


def log_detector_step(member: Member, losses: dict[str, Tensor], step: int, step_time_s: float) -> Iterator[Event]:
    """The losses of the detector's last step, and a warning about images that cannot be decoded."""
    training = member.detector
    assert training is not None
    values = {name: float(loss) for name, loss in losses.items()}
    yield StepDone(
        run=member.run,
        step=step,
        loss=sum(values.values()),
        terms=values,
        weighted=values,
        scales={},
        learning_rate=training.learning_rate,
        grad_norm=float(training.grad_norm),
        step_time_s=step_time_s,
        pairs_per_s=member.config.dense.batch_size / step_time_s,
        elapsed_s=member.elapsed_s,
        peak_mb=peak_memory_mb(training.device),
    )
    if news := training.news():
        yield Warned(run=member.run, step=step, message=news)


def measure_detector(member: Member, step: int) -> Iterator[Event]:
    """COCO's metrics of the trained detector."""
    training = member.detector
    assert training is not None
    yield EvalStarted(run=member.run, step=step, split=DENSE, num_pairs=training.num_held_out)
    start_s = time.perf_counter()
    metrics = training.measure()
    elapsed_s = time.perf_counter() - start_s
    yield EvalDone(
        run=member.run, step=step, split=DENSE, num_pairs=training.num_held_out, metrics=metrics, elapsed_s=elapsed_s
    )
