"""What a chart counts from left to right; apart from the plots, which need numpy."""

from typing import Literal

Axis = Literal["step", "time"]
