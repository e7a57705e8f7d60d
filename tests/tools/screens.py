"""The pictures of the dashboard for a README: real screens of a folder of recorded runs, as SVG files."""

import asyncio
import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

from textual.pilot import Pilot
from textual.screen import Screen

from workbench.files import write_atomically
from workbench.runs.directory import RunDirectory, list_runs
from workbench.runs.snapshots import KIND
from workbench.tui.app import Workbench
from workbench.tui.home.board import Board
from workbench.tui.home.studies import studies_of
from workbench.tui.run.affinity import AffinityPane
from workbench.tui.run.screen import RunScreen
from workbench.tui.study.screen import StudyScreen

SIZE = (110, 30)
WAIT_S, POLL_S = 30.0, 0.05
FONTS = "Menlo, Consolas, 'DejaVu Sans Mono', 'Liberation Mono', monospace"


def write_screens(runs_dir: Path, out: Path) -> list[Path]:
    """Writes ``tui_*.svg``: the runs, the newest run with probe pairs, and the study that is nearest to its end.

    Raises:
        ValueError: the folder holds no runs, or the files cannot be written.
    """
    runs = list_runs(runs_dir)
    if not runs:
        raise ValueError(f"{runs_dir} holds no runs to show: train some, or name another folder with --runs DIR")
    told = next((run for run in runs if any(run.snapshots.glob(f"{KIND}-*"))), runs[0])
    board = Board(runs_dir)
    while board.poll(WAIT_S):
        pass
    studies = sorted(studies_of(board), key=lambda one: one.share)
    study = studies[-1].name if studies else ""
    with tempfile.TemporaryDirectory() as habits:  # nobody's own filter and theme
        before, os.environ["XDG_STATE_HOME"] = os.environ.get("XDG_STATE_HOME"), habits
        try:
            pictures = asyncio.run(_shoot_all(runs_dir, told, study))
        finally:
            del os.environ["XDG_STATE_HOME"]
            if before is not None:
                os.environ["XDG_STATE_HOME"] = before
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, svg in pictures.items():
            write_atomically(out / f"{name}.svg", with_usual_fonts(svg))
    except OSError as error:
        raise ValueError(f"cannot write to {out}: {error.strerror or error}") from None
    return [out / f"{name}.svg" for name in pictures]


async def _shoot_all(runs_dir: Path, told: RunDirectory, study: str) -> dict[str, str]:
    pictures = {
        "tui_runs": await _shoot(Workbench(runs_dir), ""),
        "tui_loss": await _shoot(Workbench(runs_dir, told), "1"),
        "tui_affinity": await _shoot(Workbench(runs_dir, told), "6", "ill"),
    }
    if study:
        pictures["tui_study"] = await _shoot(Workbench(runs_dir, None, study), "1")
    return pictures


async def _shoot(app: Workbench, keys: str, then: str = "") -> str:
    """The screen as SVG, once everything on it has been read, and some more keys were pressed."""
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press(*keys)
        await _until(lambda: _is_read(app.screen))
        await pilot.press(*then)
        await pilot.pause()
        await _settle(pilot)
        return app.export_screenshot(title="workbench tui")


def _is_read(screen: Screen[object]) -> bool:
    if isinstance(screen, RunScreen):
        has_looked = screen.shelf.num_readings > 0 and screen.query_one(AffinityPane).has_looked
        return screen.feed.share_read == 1 and (screen.pane != "affinity" or has_looked)
    return screen.studied is not None if isinstance(screen, StudyScreen) else True


async def _until(holds: Callable[[], bool]) -> None:
    for _ in range(round(WAIT_S / POLL_S)):
        if holds():
            return
        await asyncio.sleep(POLL_S)


async def _settle(pilot: Pilot[None]) -> None:
    """The line under the tabs slides; what is drawn stands still."""
    await pilot.wait_for_animation()
    await asyncio.sleep(1.5)


def with_usual_fonts(svg: str) -> str:
    """The picture with fonts that are on people's machines: pages that show pictures fetch none for them."""
    svg = re.sub(r"@font-face\s*\{[^}]*\}\s*", "", svg)
    return re.sub(r"font-family:\s*[^;]*Fira Code[^;]*;", f"font-family: {FONTS};", svg)
