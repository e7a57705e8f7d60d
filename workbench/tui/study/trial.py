"""A trial that a person adds to a search: its values, typed and checked at once."""

from collections.abc import Mapping

from workbench.config.cells import as_text, make_cell
from workbench.config.study import Study
from workbench.config.tried import typed_values
from workbench.views.study import StudyCell


def overrides(study: Study, filled: Mapping[str, str]) -> list[str]:
    """``KEY=VALUE`` of what was filled in, by the settings that are searched.

    Raises:
        ValueError: nothing was, or a value that the search would not try.
    """
    given = [f"{key}={text}" for key, text in filled.items() if text]
    if not given:
        raise ValueError("give at least one value; those that are left empty the sampler chooses")
    make_cell(study, "these values", typed_values(study, given))
    return given


def typed(cell: StudyCell | None, key: str) -> str:
    """What a trial had of a setting, as one would type it; empty where there is none."""
    return as_text(cell.values[key]) if cell is not None and key in cell.values else ""
