"""What pruning costs: a metric against sparsity, and the size that a threshold would leave."""

from typing import TYPE_CHECKING

from workbench.figures.style import FAINT, INK, finish, style

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
    """The path of a run: hollow while masks are learnt, filled where they are fixed; a colour a stage."""
    from matplotlib.figure import Figure

    with style():
        figure = Figure(figsize=SIZE_IN)
        figure.set_layout_engine("constrained")
        axes = figure.subplots()
        factor = view.metric.factor
        path = [(100 * point.sparsity, factor * point.value) for point in view.points]
        axes.plot(*zip(*path, strict=True), color=FAINT, linewidth=0.9, zorder=1)
        for stage in dict.fromkeys(point.stage for point in view.points):
            colour = STAGES[(stage - 1) % len(STAGES)]
            for learning, face in ((True, "white"), (False, colour)):
                mine = [
                    (100 * point.sparsity, factor * point.value)
                    for point in view.points
                    if (point.stage, point.learning) == (stage, learning)
                ]
                label = f"stage {stage}, masks {'learnt' if learning else 'fixed'}"
                if mine:
                    _dots(axes, mine, colour, face, label)
        axes.set(xlabel="attention and FFN weights of the teacher that are gone (%)", xlim=(0, 100))
        axes.set(ylabel=f"{view.metric.title}, {view.split}", ylim=(0, None))
        axes.set_title("What a sparser student still knows")
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.02), borderaxespad=0)
        finish(axes)
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
    return figure


def _dots(axes: "Axes", points: list[tuple[float, float]], colour: str, face: str, label: str) -> None:
    look = {"marker": "o", "markersize": 6, "linestyle": "", "zorder": 3}
    axes.plot(*zip(*points, strict=True), color=colour, markerfacecolor=face, label=label, **look)  # type: ignore[arg-type]  # matplotlib's stubs know no keywords by name


def threshold_figure(
    thresholds_N: "NDArray[np.float64]", sizes_N: "NDArray[np.float64]", chosen: float, expected: float
) -> "Figure":
    """The share of the weights that each threshold would leave, the one chosen, and what the run expects to keep.

    Args:
        sizes_N: shares in [0, 1], one a threshold.
        chosen: the threshold that is marked.
        expected: a share in [0, 1].
    """
    from matplotlib.figure import Figure

    with style():
        figure = Figure(figsize=SIZE_IN)
        figure.set_gid(THRESHOLD)
        figure.set_layout_engine("constrained")
        _draw_threshold(figure.subplots(), thresholds_N, sizes_N, chosen, expected)
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
    return figure


def change_threshold(
    figure: "Figure",
    thresholds_N: "NDArray[np.float64]",
    sizes_N: "NDArray[np.float64]",
    chosen: float,
    expected: float,
) -> bool:
    """Lets a picture of :func:`threshold_figure` show another threshold or other masks; whether it is one."""
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
    axes.text(0.995, 100 * expected + 1.5, "what the run expects to keep", ha="right", fontsize=8)
    place = int(np.searchsorted(thresholds_N, chosen, side="right")) - 1
    left = 100 * float(sizes_N[max(0, place)])
    axes.plot(chosen, left, marker="o", markersize=8, color=KEPT, markeredgecolor="white")
    axes.axvline(chosen, color=FAINT, linewidth=0.9, linestyle=(0, (2, 2)))
    axes.annotate(f"{left:.1f} %", (chosen, left), (8, 6), textcoords="offset points", weight="bold")
    axes.set(xlabel="threshold: what stays with at least this probability", xlim=(0, 1), ylim=(0, 105))
    axes.set_ylabel("attention and FFN weights left (%)")
    axes.set_title("How large the student would be")
    finish(axes)
