"""One run: its curves, masks, gradients, settings and events, and what can be asked of it."""

import asyncio
import json
import time
from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Static, TabPane

from workbench.events import Commanded, RunFinished, Warned
from workbench.runs.directory import RunDirectory
from workbench.tui.charts.chart import Charts
from workbench.tui.charts.plot import Lens
from workbench.tui.export import Table, plots_table
from workbench.tui.tabs import KeyFooter, PanedScreen, Panes, Reading, pane_keys
from workbench.tui.run.affinity import AffinityPane
from workbench.tui.run.follow import RunFollower
from workbench.tui.run.panes import config_text, events_text, gradients_text, head_text, layers_text, paper_text
from workbench.tui.run.plots import (
    SnapshotReader,
    loss_plots,
    mask_plots,
    metric_plots,
    note_text,
    share_plot,
    speed_plots,
    step_at,
)
from workbench.tui.run.actions import Steering
from workbench.tui.commands import call

if TYPE_CHECKING:
    from workbench.tui.app import Workbench

ROOM_FOR_TWO = 30  # rows of the terminal
REFRESH_S = 1.0
CATCH_UP_S = 0.1
SNAPSHOTS_EVERY_S = 5.0
PANES = ("loss", "metrics", "speed", "masks", "gradients", "affinity", "config", "events")
WITH_SNAPSHOTS = ("masks", "gradients", "affinity")


class RunScreen(Steering):
    """Follows one run until it is left; an old run and a live one are shown alike."""

    DEFAULT_CSS = """
    RunScreen #head { height: 2; padding: 0 1; background: $panel; text-wrap: nowrap; text-overflow: ellipsis; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,backspace", "app.pop_screen", "back", key_display="esc"),
        *pane_keys(PANES),
        *PanedScreen.LENS_KEYS,
        Binding("p", "paper", "compare the settings with the paper's", show=False),
        *Steering.KEYS,
    ]
    PANES = PANES
    app: "Workbench"

    def __init__(self, run: RunDirectory) -> None:
        super().__init__()
        self.run_directory = run
        self.feed = RunFollower(run)
        self.shelf = SnapshotReader(run)
        self.lens = Lens()
        self._drawn: dict[str, object] = {}  # what each pane was drawn from
        self._num_notes = -1  # heard so far; -1 until all that was said before has been read
        self._shelf_read_s = 0.0
        self._paper: Text | None = None

    def compose(self) -> ComposeResult:
        """How it stands, the panes, the keys."""
        yield Static("", id="head", markup=False)
        with Panes(id="panes"):
            with TabPane("1 loss", id="loss"):
                yield Charts(self.lens, classes="-filling", id="loss-charts")
            with TabPane("2 metrics", id="metrics"), Reading(can_focus=False):
                yield Charts(self.lens, id="metrics-charts")
            with TabPane("3 speed", id="speed"), Reading(can_focus=False):
                yield Charts(self.lens, id="speed-charts")
            with TabPane("4 masks", id="masks"), Reading():
                yield Charts(self.lens, id="masks-charts")
                yield Static("", id="layers", markup=False)
            with TabPane("5 grads", id="gradients"), Reading():
                yield Charts(self.lens, id="gradients-charts")
                yield Static("", id="cosines", markup=False)
            with TabPane("6 affinity", id="affinity"):
                yield AffinityPane(self.run_directory, id="pairs")
            with TabPane("7 config", id="config"), Reading():
                yield Static("", id="settings", markup=False)
            with TabPane("8 events", id="events"), Reading():
                yield Static("", id="said", markup=False)
        yield KeyFooter()

    def on_mount(self) -> None:
        self.take_habits()
        self.action_pane(self.app.memory.pane if self.app.memory.pane in PANES else PANES[0])
        self.tick()
        self.set_interval(REFRESH_S, self.tick)

    def on_resize(self) -> None:
        self.draw(anew=True)

    @property
    def export_name(self) -> str:
        """The stem of exported files."""
        return f"{self.run_directory.id}-{self.pane}"

    def tick(self) -> None:
        """Reads what is new; where much is, reads on soon."""
        if self.feed.poll():
            self.set_timer(CATCH_UP_S, self.tick)
        else:
            self._tell_news()
        if self.is_current:
            self.draw()

    def _tell_news(self) -> None:
        """A notice of what the run answered, warned of, or ended with, once its past has been read."""
        story = self.feed.story
        num_notes = story.num_notes_lost + len(story.notes)
        if 0 <= self._num_notes < num_notes:
            for event in list(story.notes)[self._num_notes - num_notes :]:
                if isinstance(event, Commanded | Warned | RunFinished):
                    self.app.say(f"{self.run_directory.id}: {note_text(event)}", is_wrong=isinstance(event, Warned))
        self._num_notes = num_notes

    def draw(self, *, anew: bool = False) -> None:
        """Brings the head and the pane in front up to date."""
        if not self.children:
            return  # it is being closed
        head = self.query_one("#head", Static)
        head.update(head_text(self.feed, self.size.width, self.app.get_css_variables()), layout=False)
        pane = self.pane
        if pane in WITH_SNAPSHOTS:
            self._read_snapshots()
        basis = (self.feed.num_polls, self.feed.problem, self.shelf.num_readings, self._paper)
        if anew or self._drawn.get(pane) != basis:
            self._drawn[pane] = basis
            getattr(self, f"_draw_{pane}")()
            self.offer_lens()

    def _read_snapshots(self) -> None:
        if time.monotonic() - self._shelf_read_s > SNAPSHOTS_EVERY_S and self.shelf.is_stale():
            self._shelf_read_s = time.monotonic()
            self.run_worker(self._fetch_snapshots(), exclusive=True, group="snapshots", exit_on_error=False)

    async def _fetch_snapshots(self) -> None:
        await asyncio.to_thread(self.shelf.read)
        self.draw()

    def _draw_loss(self) -> None:
        plots = loss_plots(self.feed.story)
        self.query_one("#loss-charts", Charts).show(plots if self.size.height >= ROOM_FOR_TWO else plots[:1])

    def _draw_metrics(self) -> None:
        self.query_one("#metrics-charts", Charts).show(metric_plots(self.feed.story))

    def _draw_speed(self) -> None:
        self.query_one("#speed-charts", Charts).show(speed_plots(self.feed.story))

    def _draw_masks(self) -> None:
        self.query_one("#masks-charts", Charts).show(mask_plots(self.feed.story))
        self._draw_layers()

    def _draw_layers(self) -> None:
        step = self.lens.cursor
        if step is not None and self.lens.axis == "time":
            step = step_at(step, self.feed.story)
        layers = self.query_one("#layers", Static)
        layers.update(layers_text(self.shelf, step, max(20, self.size.width - 4)))

    def _draw_gradients(self) -> None:
        self.query_one("#gradients-charts", Charts).show([share_plot(self.shelf.gradients, self.feed.story)])
        self.query_one("#cosines", Static).update(gradients_text(self.shelf.gradients))

    def _draw_affinity(self) -> None:
        self.query_one(AffinityPane).show(self.shelf.probes)

    def _draw_config(self) -> None:
        text = config_text(self.run_directory)
        if self._paper is not None:
            text = Text.assemble(self._paper, "\n", text)
        self.query_one("#settings", Static).update(text)

    def _draw_events(self) -> None:
        self.query_one("#said", Static).update(events_text(self.feed.story, self.feed.problem))

    def redraw_charts(self) -> None:
        """The lens has changed; the layers are those at its cursor."""
        super().redraw_charts()
        if self.pane == "masks":
            self._draw_layers()

    def on_tabbed_content_tab_activated(self) -> None:
        self.app.memory.pane = self.pane
        self.app.keep()
        self.draw(anew=True)

    def table(self) -> Table:
        """For export and copy: the points of the charts, else the lines of the pane."""
        pane = self.query_one(f"#{self.pane}")
        if plots := [plot for charts in pane.query(Charts) for plot in charts.plots]:
            return plots_table(plots)
        if self.pane == "affinity":
            return self.query_one(AffinityPane).table()
        text = config_text(self.run_directory) if self.pane == "config" else events_text(self.feed.story, "")
        return ["line"], [[line] for line in text.plain.splitlines()]

    def action_paper(self) -> None:
        self.action_pane("config")
        self.app.say("asking what differs from the paper; this takes a few seconds")
        self.run_worker(self._ask_paper(), exclusive=True, group="paper", exit_on_error=False)

    async def _ask_paper(self) -> None:
        try:
            answer = await call(["runs", "show", str(self.run_directory.path), "--departures", "--json"])
        except ValueError as error:
            self.app.say(str(error), is_wrong=True)
            return
        self._paper = paper_text(json.loads(answer)["departures"])
        self.draw()
