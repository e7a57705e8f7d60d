"""Suites: lists of evaluations, one TOML file per suite, in ``suites/``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PositiveInt, model_validator

from workbench.config.base import Config
from workbench.config.toml import read_toml
from workbench.errors import unknown
from workbench.resources import find_resource, list_resources

Task = Literal["zero-shot", "retrieval", "linear-probe"]
ROOT = "{root}"  # in a SPEC: the folder of the data sets
ALL = "all"  # in a list of shots: every training image
PROBE_ONLY = ("train", "shots", "seeds")


def parse_shots(shots: Any) -> Any:
    """``[1, "all"]`` or ``"1,all"`` as numbers of images, 0 for all.

    Raises:
        ValueError: a word that is neither a number above 0 nor all.
    """
    words = shots.split(",") if isinstance(shots, str) else shots
    if not isinstance(words, list | tuple):
        return shots  # for pydantic to refuse
    texts = [str(word).strip() for word in words]
    numbers = [0 if text == ALL else int(text) if text.isdecimal() else -1 for text in texts]
    if bad := [text for text, number in zip(texts, numbers, strict=True) if text != ALL and number < 1]:
        raise ValueError(f"shots {','.join(texts)}: {bad[0]!r} is neither a number above 0 nor {ALL}, as in 1,4,{ALL}")
    return list(dict.fromkeys(numbers))


class ExpectedAccuracy(Config):
    """Accuracy on a shifted set as a function of that on its reference: logit(shifted) = slope · logit(reference) +
    intercept, fitted to standard models (Taori et al. 2020)."""

    slope: float
    """Slope on the logit scale."""
    intercept: float
    """Intercept on the logit scale."""


class Evaluation(Config):
    """One evaluation of a suite."""

    name: str = Field(min_length=1)
    """Name in tables."""
    task: Task
    """zero-shot classification, retrieval, or a linear probe on image features."""
    data: str = Field(min_length=1)
    """SPEC of the pairs to evaluate on; {root} is the folder of --root."""
    train: str = ""
    """With linear-probe: SPEC of the training images."""
    shots: Annotated[list[int], BeforeValidator(parse_shots)] = [0]
    """With linear-probe: training images per class, such as [1, 16, "all"]."""
    seeds: PositiveInt = 3
    """With linear-probe: how often these images are drawn."""
    gallery: int = Field(0, ge=0)
    """With retrieval: images in a gallery; 0 for all."""
    pairs: int = Field(0, ge=0)
    """Use the first so many images; 0 for all."""
    classes: int = Field(0, ge=0)
    """Number of classes that the complete data have; others are refused, as fewer are easier. 0 accepts any."""
    images: int = Field(0, ge=0)
    """Number of images that the complete data have; a note names a difference. 0 accepts any."""
    shift_of: str = ""
    """Name of the evaluation of which these data are a distribution shift."""
    expected: ExpectedAccuracy | None = None
    """With shift_of: the accuracy that standard models reach, for the effective robustness."""

    @model_validator(mode="after")
    def _check(self) -> "Evaluation":
        is_probe = self.task == "linear-probe"
        if is_probe and not self.train:
            raise ValueError(f"{self.name}: a linear-probe needs train = SPEC, its training images")
        if given := [name for name in PROBE_ONLY if not is_probe and name in self.model_fields_set]:
            raise ValueError(f"{self.name}: {given[0]} belongs to task linear-probe: drop it")
        if self.gallery and self.task != "retrieval":
            raise ValueError(f"{self.name}: gallery belongs to task retrieval: drop it")
        if self.expected and not self.shift_of:
            raise ValueError(f"{self.name}: expected needs shift_of, the evaluation that it is a function of")
        return self

    def at(self, root: str) -> "Evaluation":
        """The evaluation with ``{root}`` replaced in its SPECs."""
        return self.model_copy(update={key: getattr(self, key).replace(ROOT, root) for key in ("data", "train")})


class Suite(Config):
    """A list of evaluations."""

    name: str = Field(min_length=1)
    """Name of the suite, by default the file's."""
    question: str = ""
    """What the suite is for, in one line."""
    root: str = ""
    """Folder of the data sets, unless --root names one; "" for the working directory."""
    evaluations: list[Evaluation] = Field(min_length=1)
    """The evaluations, in the order of the table."""

    @model_validator(mode="after")
    def _check(self) -> "Suite":
        names = [one.name for one in self.evaluations]
        if twice := next((name for name in names if names.count(name) > 1), ""):
            raise ValueError(f"evaluations: two have the name {twice!r}: give each its own")
        for one in self.evaluations:
            shifted = next((other for other in self.evaluations if other.name == one.shift_of), None)
            if one.shift_of and (shifted is None or shifted is one):
                others = [name for name in names if name != one.name]
                raise ValueError(f"{one.name}: shift_of: {unknown('evaluation', one.shift_of, others)}")
            if shifted and {shifted.task, one.task} != {"zero-shot"}:
                raise ValueError(f"{one.name}: shift_of compares zero-shot accuracies: both need task zero-shot")
        return self

    def only(self, names: Sequence[str]) -> "Suite":
        """The suite with these evaluations only; all if there are none.

        Raises:
            ValueError: an unknown name, with the nearest.
        """
        known = {one.name: one for one in self.evaluations}
        if missing := [name for name in names if name not in known]:
            raise unknown(f"evaluation of suite {self.name}", missing[0], known)
        kept = [one for one in self.evaluations if one.name in names]
        return self.model_copy(update={"evaluations": kept}) if names else self


def suites() -> dict[str, Path]:
    """All suites by name: those in ``./suites`` and shipped ones."""
    return list_resources("suites", ".toml")


def load_suite(name_or_file: str) -> Suite:
    """The suite of this name or in this TOML file.

    Raises:
        ValueError: an unknown suite, a file that cannot be read, or a bad value, in one line.
    """
    path = Path(name_or_file) if name_or_file.endswith(".toml") else find_resource(f"suites/{name_or_file}.toml")
    if path is None:
        raise unknown("suite (or .toml file)", name_or_file, suites())
    table = {"name": path.name.removesuffix(".toml")} | read_toml(path)
    try:
        return Suite.parse(table)
    except ValueError as error:
        raise ValueError(f"suite {path}: {error}") from None
