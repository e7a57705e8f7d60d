"""How early a study's order of cells was known."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from workbench.figures.style import FAINT, finish, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from workbench.statistics.agreement import Agreement


def forecast_figure(forecast: Mapping[int, "Agreement"]) -> "Figure":
    """Kendall's τ between the order of the cells after each evaluated step and the last.

    Raises:
        ValueError: nothing was evaluated before the end, or there are fewer than three cells.
    """
    from matplotlib.figure import Figure

    if not forecast:
        raise ValueError("no forecast: it needs three cells, and evaluations before the last step")
    with style():
        figure = Figure(figsize=(5.8, 3.2), layout="constrained")
        axes = figure.subplots()
        steps = sorted(forecast)
        axes.plot(steps, [forecast[step].tau for step in steps], color="#0072B2", linewidth=1.8, marker="o")
        axes.axhline(1, color=FAINT, linewidth=0.9, linestyle=(0, (2, 2)))
        axes.axhline(0, color=FAINT, linewidth=0.9)
        axes.set(xlabel="training step", ylabel="Kendall's τ with the last order", ylim=(-1, 1.08), xlim=(0, None))
        axes.set_title("How early the order of the cells was known")
        finish(axes)
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
    return figure
