"""Settings as people read them."""

from typing import Any

from workbench.terminal import visible

NOTHING = "\N{EN DASH}"


def setting_text(value: Any) -> str:
    """A setting as TOML has it, but for quotes around words, on one line; a dash for one that a run has not."""
    if value is None:
        return NOTHING
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return f"[{', '.join(setting_text(one) for one in value)}]"
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{visible(key)} = {setting_text(one)}' for key, one in value.items())} }}"
    return visible(str(value)) or '""'
