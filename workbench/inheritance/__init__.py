"""Weight inheritance: a smaller student from a teacher, by a plan (``inherit``) or by learned masks (``gate``)."""

from workbench.config.inheritance import GatesConfig, Plan
from workbench.inheritance.gated import Gated, gate, slice_gated
from workbench.inheritance.manual import inherit

__all__ = ["Gated", "GatesConfig", "Plan", "gate", "inherit", "slice_gated"]
