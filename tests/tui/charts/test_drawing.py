import numpy as np

from workbench.tui.charts.drawing import draw
from workbench.tui.charts.plot import Curve, Lens, Plot


def test_steps_are_counted_in_whole_numbers() -> None:
    one = np.array([1.0])
    drawing = draw(Plot("share", (Curve("clip", "#ffffff", one, one, one),)), Lens(), 60, 12)
    numbers = "".join(text for text, _ in drawing.rows[-1]).split()[1:]
    assert numbers == ["1"]
