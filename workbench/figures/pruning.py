"""The cost of pruning: a metric against sparsity, and the student's size by pruning threshold."""

from typing import TYPE_CHECKING

from workbench.figures.style import FAINT, INK, finish, freeze_layout, style

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from workbench.views.masks import Pruned

SIZE_IN = (7.6, 3.4)
STAGES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
KEPT = "#0072B2"
THRESHOLD = "size by threshold"


def pruned_figure(view: "Pruned") -> "Figure":
    """A run's metric against sparsity: hollow while masks are learned, filled when fixed; one color for each stage."""
    from matplotlib.figure import Figure

    with style():
        figure = Figure(figsize=SIZE_IN)
        figure.set_layout_engine("constrained")
        axes = figure.subplots()
        factor = view.metric.factor
        path = [(100 * point.sparsity, factor * point.value) for point in view.points]
        axes.plot(*zip(*path, strict=True), color=FAINT, linewidth=0.9, zorder=1)
        for stage in dict.fromkeys(point.stage for point in view.points):
            color = STAGES[(stage - 1) % len(STAGES)]
            for learning, face in ((True, "white"), (False, color)):
                mine = [
                    (100 * point.sparsity, factor * point.value)
                    for point in view.points
                    if (point.stage, point.learning) == (stage, learning)
                ]
                label = f"stage {stage}, masks {'learning' if learning else 'fixed'}"
                if mine:
                    _dots(axes, mine, color, face, label)
        axes.set(xlabel="sparsity: removed attention and FFN weights of the teacher (%)", xlim=(0, 100))
        axes.set(ylabel=f"{view.metric.title}, {view.split}", ylim=(0, None))
        axes.set_title("Student quality by sparsity")
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.02), borderaxespad=0)
        finish(axes)
        freeze_layout(figure)
    return figure


def _dots(axes: "Axes", points: list[tuple[float, float]], color: str, face: str, label: str) -> None:
    look = {"marker": "o", "markersize": 6, "linestyle": "", "zorder": 3}
    axes.plot(*zip(*points, strict=True), color=color, markerfacecolor=face, label=label, **look)  # type: ignore[arg-type]  # matplotlib's stubs know no keywords by name


def threshold_figure(
    thresholds_N: "NDArray[np.float64]", sizes_N: "NDArray[np.float64]", chosen: float, expected: float
) -> "Figure":
    """The kept share of the weights by threshold, the chosen threshold, and the share that the run expects to keep.

    Args:
        thresholds_N: on P(z ≠ 0), ascending.
        sizes_N: kept shares in [0, 1], one for each threshold.
        chosen: the threshold to mark.
        expected: a share in [0, 1].
    """
    from matplotlib.figure import Figure

    with style():
        figure = Figure(figsize=SIZE_IN)
        figure.set_gid(THRESHOLD)
        figure.set_layout_engine("constrained")
        _draw_threshold(figure.subplots(), thresholds_N, sizes_N, chosen, expected)
        freeze_layout(figure)
    return figure


def change_threshold(
    figure: "Figure",
    thresholds_N: "NDArray[np.float64]",
    sizes_N: "NDArray[np.float64]",
    chosen: float,
    expected: float,
) -> bool:
    """Update a figure of :func:`threshold_figure` in place; False if it is another figure."""
    if figure.get_gid() != THRESHOLD:
        return False
    with style():
        figure.axes[0].clear()
        _draw_threshold(figure.axes[0], thresholds_N, sizes_N, chosen, expected)
    return True


def _draw_threshold(
    axes: "Axes", thresholds_N: "NDArray[np.float64]", sizes_N: "NDArray[np.float64]", chosen: float, expected: float
) -> None:
    import numpy as np

    axes.step(thresholds_N, 100 * sizes_N, where="post", color=KEPT, linewidth=1.8)
    axes.axhline(100 * expected, color=INK, linewidth=1, linestyle=(0, (3, 2)))
    axes.text(0.995, 100 * expected + 1.5, "expected by the run", ha="right", fontsize=8)
    place = int(np.searchsorted(thresholds_N, chosen, side="right")) - 1
    left = 100 * float(sizes_N[max(0, place)])
    axes.plot(chosen, left, marker="o", markersize=8, color=KEPT, markeredgecolor="white")
    axes.axvline(chosen, color=FAINT, linewidth=0.9, linestyle=(0, (2, 2)))
    axes.annotate(f"{left:.1f} %", (chosen, left), (8, 6), textcoords="offset points", weight="bold")
    axes.set(xlabel="threshold on the probability that a part is kept", xlim=(0, 1), ylim=(0, 105))
    axes.set_ylabel("kept attention and FFN weights (%)")
    axes.set_title("Student size by pruning threshold")

    finish(axes)
