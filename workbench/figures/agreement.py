"""Agreement of our orders with published ones: Kendall's τ of every published table, as a forest plot."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workbench.figures.style import BLUE, FAINT, INK, ORANGE, Options, finish, new_figure
from workbench.statistics.rank_agreement import AGREE, REVERSED, tau_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from workbench.statistics.rank_agreement import Agreement

WIDTH_IN, ROW_IN, GAP_ROWS, MARGIN_IN = 7.6, 0.23, 0.55, 0.95
LABELS, NUMBERS = 0.30, 0.70  # where the axes start and end, as shares of the width
TEXT_AT = 1.09  # on the x axis
NOTE = " \N{DAGGER}"
BAND = "#F4F4F4"
OPEN = ""
STYLES: Mapping[str, Options] = {
    AGREE: {"color": BLUE, "marker": "o", "markerfacecolor": BLUE},
    REVERSED: {"color": ORANGE, "marker": "D", "markerfacecolor": ORANGE},
    OPEN: {"color": FAINT, "marker": "o", "markerfacecolor": "white"},
}
MEANINGS = {AGREE: "agree (p < 0.05)", REVERSED: "reversed (p < 0.05)", OPEN: "not shown by this many cells and seeds"}


@dataclass(frozen=True)
class AgreementRow:
    """The agreement in one metric of one study; ``study`` has its number of steps, such as "one_loss, 1,000 steps".

    ``published`` is the metric of the published order if it is another one.
    """

    study: str
    metric: str
    agreed: "Agreement"
    published: str = ""


def agreement_figure(rows: Sequence[AgreementRow]) -> "Figure":
    """One line for each study and metric: τ, its 95 % interval over our seeds, and the number of cells.

    Raises:
        ValueError: no study has an order to compare.
    """
    if not rows:
        raise ValueError("nothing to draw: no study has at least three cells with published values")
    places: list[float] = []
    place = 1.0 - GAP_ROWS
    for study in dict.fromkeys(row.study for row in rows):
        mine = [row for row in rows if row.study == study]
        places += [place + GAP_ROWS + number for number in range(len(mine))]
        # Two lines at least: the study's name and its number of steps.
        place += GAP_ROWS + max(2, len(mine))
    place -= 1
    height = MARGIN_IN + ROW_IN * (place + 1)
    with new_figure(WIDTH_IN, height, is_placed=True) as figure:
        top, bottom = 1 - 0.3 / height, 0.65 / height
        axes = figure.add_axes((LABELS, bottom, NUMBERS - LABELS, top - bottom))
        for row, place in zip(rows, places, strict=True):
            _draw(axes, row, place)
        for number, study in enumerate(dict.fromkeys(row.study for row in rows)):
            _name_study(axes, study, [at for row, at in zip(rows, places, strict=True) if row.study == study], number)
        axes.axvline(0, color=INK, linewidth=0.8, zorder=1)
        axes.set(xlim=(-1.03, 1.03), ylim=(place + 0.8, 0.2), xlabel="Kendall's τ with the published order")
        axes.set_yticks(places, [row.metric + NOTE * bool(row.published) for row in rows])
        finish(axes, grid="x")
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.text(TEXT_AT, 0, "τ, 95 % interval, cells", fontsize=8, weight="bold", va="center")
        _add_key(figure, rows)
    return figure


def _word(agreed: "Agreement") -> str:
    return agreed.verdict if agreed.verdict in STYLES else OPEN


def _draw(axes: "Axes", row: AgreementRow, place: float) -> None:
    agreed, drawn = row.agreed, STYLES[_word(row.agreed)]
    axes.plot([agreed.low, agreed.high], [place] * 2, color=drawn["color"], linewidth=1.6, solid_capstyle="butt")
    axes.plot(agreed.tau, place, markersize=6, linestyle="", zorder=6, clip_on=False, **drawn)
    axes.text(TEXT_AT, place, f"{tau_text(agreed)}, {agreed.num_cells}", fontsize=8, va="center")


def _name_study(axes: "Axes", study: str, places: Sequence[float], number: int) -> None:
    """The study's name left of its metrics; every other study has a band behind it."""
    from matplotlib.transforms import blended_transform_factory

    figure = axes.get_figure()
    assert figure is not None
    across: Options = {"transform": blended_transform_factory(figure.transFigure, axes.transData)}
    if number % 2 == 0:
        low, high = places[0] - 0.72, max(places[-1], places[0] + 1) + 0.72
        axes.fill_between([0.005, 0.995], low, high, color=BAND, linewidth=0, zorder=-5, clip_on=False, **across)
    name, _, steps = study.partition(", ")
    axes.text(0.012, places[0], name, fontsize=8.5, weight="bold", va="center", **across)
    if steps:
        axes.text(0.012, places[0] + 1, steps, fontsize=8, color=FAINT, va="center", **across)


def _add_key(figure: "Figure", rows: Sequence[AgreementRow]) -> None:
    from matplotlib.lines import Line2D

    used, others = {_word(row.agreed) for row in rows}, dict.fromkeys(row.published for row in rows if row.published)
    handles = [Line2D([], [], linewidth=1.6, label=MEANINGS[word], **STYLES[word]) for word in STYLES if word in used]
    note = f"{NOTE.strip()} published: {', '.join(others)} alone"
    handles += [Line2D([], [], linestyle="", label=note)] if others else []
    figure.legend(handles=handles, loc="lower center", ncols=len(handles), handlelength=1.6, columnspacing=1.2)
