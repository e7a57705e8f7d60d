"""Values that a search is asked to try, by a person or as a recipe has them."""

from collections.abc import Iterable, Mapping
from typing import Any

from workbench.config.axes import Axis, Choices
from workbench.config.cells import as_text
from workbench.config.nearest import unknown
from workbench.config.study import Study, flat
from workbench.config.toml import parse_override


def about(axis: Axis) -> str:
    """Where a search looks, in words."""
    if isinstance(axis, Choices):
        return f"one of {', '.join(map(as_text, axis.choices))}"
    kind = ", by ratio" if axis.log else f", in steps of {as_text(axis.step)}" if axis.step else ""
    return f"{as_text(axis.low)} to {as_text(axis.high)}{kind}"


def typed_values(study: Study, overrides: Iterable[str]) -> dict[str, Any]:
    """The values that ``KEY=VALUE`` gives, by setting.

    Raises:
        ValueError: no such text; a setting that is not searched, or a value that the search would not try.
    """
    values = {key: value for override in overrides for key, value in flat(parse_override(override)).items()}
    check_values(study, values)
    return values


def check_values(study: Study, values: Mapping[str, Any]) -> None:
    """Hold values against where the study searches.

    Raises:
        ValueError: a setting that is not searched, or a value that the search would not try.
    """
    for key, value in values.items():
        if key not in study.search:
            raise unknown("setting of the search", key, study.search)
        if not study.search[key].holds(value):
            raise ValueError(f"{key} = {value} lies outside {about(study.search[key])}")
