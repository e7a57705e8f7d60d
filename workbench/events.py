"""What a run says, one JSON object a line in ``events.jsonl``.

Every event carries the run it belongs to, the step after which it happened and the wall-clock time. Units are
in the field names. Readers pass over fields that they do not know and keep events that they do not know, so
that an old reader can show a newer run.
"""

import time
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import from_json

SCHEMA = 1
RunState = Literal["finished", "stopped", "interrupted", "diverged", "failed"]


def _encodable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


Count = Annotated[int, Field(ge=0, lt=2**53)]  # a larger number would fit neither a float nor an array
# A file name may hold bytes that UTF-8 cannot: they are written as escapes, so that the line is never lost.
Text = Annotated[str, AfterValidator(_encodable)]


class Event(BaseModel):
    """The part all events share."""

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
    """``kept_fraction``: how much the student has of the attention and FFN weights of the towers that it inherits."""

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
    """Lines beyond ``step`` written before this one are superseded."""

    host: str
    pid: int


class StageStarted(Event):
    """A phase of inheritance: masks are learnt up to step ``until``, or what they left is trained until then."""

    name: Text
    stage: Count
    until: Count
    learns_masks: bool
    num_parameters: Count
    num_embedding_parameters: Count
    kept_fraction: float = 1.0


class StepDone(Event):
    """``terms`` are the losses before weighting, ``weighted`` what was added to the total ``loss``.

    ``masks``, while they are learnt: the expected sparsity, its target, and the constraint's two multipliers.
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


class EvalStarted(Event):
    """The student is about to be measured, which may take minutes; an EvalDone of the same split follows."""

    split: str
    num_pairs: int


class EvalDone(Event):
    """``errors`` are standard errors of the metrics that have one.

    ``chance`` is what a random answer is expected to score, and ``teacher`` the teacher's recall on the same pairs.
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
    """A command taken from the run's ``control/`` folder; of ``set``, the arguments are settings and their values."""

    command: Text
    arguments: dict[str, Any] = {}


class Forked(Event):
    """The first event of a fork. When the parent's log began tells it from a later run of its name."""

    parent: str
    parent_step: Count
    parent_began_s: float


class RunFinished(Event):
    state: RunState
    reason: Text = ""
    elapsed_s: float


EVENTS: dict[str, type[Event]] = {kind.__name__: kind for kind in Event.__subclasses__()}


class Unknown(Event):
    """An event of a later schema: ``event`` is its name, and its fields are kept and written back."""

    model_config = ConfigDict(extra="allow")

    event: str

    def to_line(self) -> str:
        """The line it was read from, up to the spacing and the order of the fields."""
        return self.model_dump_json()


def parse_event(line: str | bytes) -> Event:
    """The event on one line.

    Raises:
        ValueError: the line is torn, is not JSON, or lacks a field its event needs.
    """
    fields: Any = from_json(line)
    if not isinstance(fields, dict):
        raise ValueError("an event is a JSON object")
    return EVENTS.get(str(fields.get("event")), Unknown).model_validate(fields)
