"""The events of a run: one JSON object per line in ``events.jsonl``.

Every event has its run, the number of steps done and the wall-clock time. Units are in the field names. Readers
ignore unknown fields and keep unknown events, so that an old reader can show a newer run.
"""

import time
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import from_json

SCHEMA = 1
DENSE = "dense"  # the split of a detector's metrics, on images with boxes
RunState = Literal["finished", "stopped", "interrupted", "diverged", "failed"]


def _encodable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


Count = Annotated[int, Field(ge=0, lt=2**53)]  # larger integers are not exact in float64
# A file name may hold bytes that are not UTF-8; escape them so that the event can be encoded.
Text = Annotated[str, AfterValidator(_encodable)]


class Event(BaseModel):
    """Fields shared by all events."""

    # Non-finite numbers become the strings "NaN", "Infinity" and "-Infinity": JSON has no token for them.
    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_inf_nan="strings")

    run: str
    step: Count
    time_s: float = Field(default_factory=time.time)

    def to_line(self) -> str:
        """One line of ``events.jsonl``, without its newline."""
        body = self.model_dump_json().removeprefix("{")
        return f'{{"schema":{SCHEMA},"event":"{type(self).__name__}",{body}'


class RunStarted(Event):
    """``kept_fraction``: fraction of the source's attention and FFN weights that an inherited student has."""

    num_steps: Count
    batch_size: Count
    num_pairs: Count
    num_parameters: Count
    num_embedding_parameters: Count
    kept_fraction: float = 1.0
    weights: dict[str, float] = {}
    host: str
    pid: int


class RunResumed(Event):
    """Earlier events with a later step than ``step`` are superseded."""

    host: str
    pid: int


class StageStarted(Event):
    """A phase of automatic inheritance, up to step ``until``: learning masks, or training the remaining weights."""

    name: Text
    stage: Count
    until: Count
    learns_masks: bool
    num_parameters: Count
    num_embedding_parameters: Count
    kept_fraction: float = 1.0


class StepDone(Event):
    """``terms`` are the unweighted losses, ``weighted`` their contributions to the total ``loss``.

    ``step_time_s`` is the mean since the last report, without evaluations, checkpoints and pauses; ``elapsed_s`` leaves
    out pauses only. ``peak_mb`` is the peak since the run started here: of the GPU's allocator, or on a CPU of the
    process. ``masks``, while they are learned: expected sparsity, target sparsity, and the two Lagrange multipliers.
    ``bias`` is that of the student's logits, with the sigmoid loss.
    """

    loss: float
    terms: dict[str, float]
    weighted: dict[str, float]
    scales: dict[str, float]
    learning_rate: float
    grad_norm: float
    step_time_s: float
    pairs_per_s: float
    elapsed_s: float
    peak_mb: float
    masks: dict[str, float] = {}
    bias: float | None = None


class EvalStarted(Event):
    """An evaluation starts, which may take minutes; an EvalDone of the same split follows."""

    split: str
    num_pairs: int


class EvalDone(Event):
    """``errors`` are the standard errors of those metrics that have one.

    ``chance`` is the expected score of a random ranking, ``teacher`` the teacher's recall on the same pairs.
    """

    split: str
    num_pairs: Count
    metrics: dict[str, float]
    errors: dict[str, float] = {}
    chance: dict[str, float] = {}
    teacher: dict[str, float] = {}
    elapsed_s: float


class CheckpointSaved(Event):
    path: Text
    weights_sha256: str


class Warned(Event):
    message: Text


class Commanded(Event):
    """A command taken from the run's ``control/`` folder; for ``set``, the arguments map settings to values."""

    command: Text
    arguments: dict[str, Any] = {}


class Forked(Event):
    """The first event of a fork. ``parent_began_s`` distinguishes the parent from a later run of the same name."""

    parent: str
    parent_step: Count
    parent_began_s: float


class RunFinished(Event):
    state: RunState
    reason: Text = ""
    elapsed_s: float


EVENTS: dict[str, type[Event]] = {kind.__name__: kind for kind in Event.__subclasses__()}


class Unknown(Event):
    """An event of a later schema version; ``event`` is its name, and all fields are preserved."""

    model_config = ConfigDict(extra="allow")

    event: str

    def to_line(self) -> str:
        """The line it was read from, up to spacing and field order."""
        return self.model_dump_json()


def parse_event(line: str | bytes) -> Event:
    """The event on one line.

    Raises:
        ValueError: the line is truncated, is not JSON, or lacks a required field.
    """
    fields: Any = from_json(line)
    if not isinstance(fields, dict):
        raise ValueError("an event is a JSON object")
    return EVENTS.get(str(fields.get("event")), Unknown).model_validate(fields)
