"""A trial that a person adds to a search: its values, typed and checked at once."""

from collections.abc import Mapping

from workbench.config.axes import Axis, Choices
from workbench.config.cells import as_text, make_cell
from workbench.config.study import Study, flat
from workbench.config.toml import parse_override
from workbench.views.study import StudyCell


def about(axis: Axis) -> str:
    """Where a search looks, in words."""
    if isinstance(axis, Choices):
        return f"one of {', '.join(map(as_text, axis.choices))}"
    kind = ", by ratio" if axis.log else f", in steps of {as_text(axis.step)}" if axis.step else ""
    return f"{as_text(axis.low)} to {as_text(axis.high)}{kind}"


def overrides(study: Study, filled: Mapping[str, str]) -> list[str]:
    """``KEY=VALUE`` of what was filled in, by the settings that are searched.

    Raises:
        ValueError: nothing was, or a value that the search would not try.
    """
    given = [f"{key}={text}" for key, text in filled.items() if text]
    if not given:
        raise ValueError("give at least one value; those that are left empty the sampler chooses")
    values = {key: value for override in given for key, value in flat(parse_override(override)).items()}
    for key, value in values.items():
        axis = study.search[key]
        if not _holds(axis, value):
            raise ValueError(f"{key} is searched in: {about(axis)} (got {as_text(value)})")
    make_cell(study, "these values", values)
    return given


def _holds(axis: Axis, value: object) -> bool:
    if isinstance(axis, Choices):
        return any(value == choice and isinstance(value, bool) == isinstance(choice, bool) for choice in axis.choices)
    if isinstance(value, bool) or not isinstance(value, int | float) or not axis.low <= value <= axis.high:
        return False
    is_whole = isinstance(axis.low, int) and isinstance(axis.high, int) and isinstance(axis.step, int | None)
    if is_whole and value != int(value):
        return False
    steps = (value - axis.low) / axis.step if axis.step else 0.0
    return abs(steps - round(steps)) < 1e-6


def typed(cell: StudyCell | None, key: str) -> str:
    """What a trial had of a setting, as one would type it; empty where there is none."""
    return as_text(cell.values[key]) if cell is not None and key in cell.values else ""
