"""Base class of all configs: frozen, every field documented, unknown keys refused."""

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from workbench.documents import check_bounds, truncated
from workbench.errors import unknown


class Config(BaseModel):
    """A frozen group of settings. The string under each field is its description.

    Raises:
        ValueError: from :meth:`parse`, in one line: an unknown key (with the closest known one) or a bad value.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, fields: Any) -> Any:
        if isinstance(fields, dict) and cls.model_config.get("extra") == "forbid":
            for key in fields:
                if key not in cls.model_fields:
                    raise unknown("setting", str(key), cls.model_fields)
        return fields

    @classmethod
    def parse(cls, fields: dict[str, Any]) -> Self:
        """Validate plain data, as read from TOML."""
        for key, value in fields.items():
            check_bounds(value, truncated(str(key)))
        try:
            return cls.model_validate(fields)
        except ValidationError as error:
            raise ValueError(_one_line(error)) from None


def _one_line(error: ValidationError) -> str:
    first = error.errors()[0]
    parts = [str(part) for part in first["loc"]]
    place = ".".join(part for part in parts if not part.startswith("<"))  # <kind>: which of several types was tried
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] != "value_error":
        message = f"{message[0].lower()}{message[1:]} (got {truncated(repr(first['input']))})"
    return f"{truncated(place)}: {message}" if place else message
