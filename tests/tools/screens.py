"""Writes the README's screenshots of the dashboard: ``python tests/tools/screens.py RUNS_DIR OUT_DIR``."""

import asyncio
import os
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from textual.pilot import Pilot
from textual.screen import Screen

from workbench.files import write_atomically
from workbench.runs.directory import RunDirectory, list_runs
from workbench.runs.snapshots import Probe
from workbench.tui.app import Workbench
from workbench.tui.home.board import Board
from workbench.tui.home.studies import studies_of
from workbench.tui.preferences import Preferences, write_preferences
from workbench.tui.run.affinity import AffinityPane
from workbench.tui.run.screen import RunScreen
from workbench.tui.study.screen import StudyScreen
from workbench.tui.workspace.screen import WorkspaceScreen

SIZE = (110, 30)
WAIT_S, POLL_S = 30.0, 0.05
FONTS = "Menlo, Consolas, 'DejaVu Sans Mono', 'Liberation Mono', monospace"


def write_screens(runs_dir: Path, out: Path) -> list[Path]:
    """Write ``tui_*.svg``: the runs, the newest run with probe pairs, and the study with the most progress."""
    runs = list_runs(runs_dir)
    run = next((run for run in runs if any(run.snapshots.glob(f"{Probe.KIND}-*"))), runs[0])
    board = Board(runs_dir)
    while board.poll(WAIT_S):
        pass
    studies = sorted(studies_of(board), key=lambda one: one.share)
    study = studies[-1].name if studies else ""
    with tempfile.TemporaryDirectory() as state:  # the author's own filter and theme must not show
        os.environ["XDG_STATE_HOME"] = state
        write_preferences(Preferences(opens="runs"))
        images = asyncio.run(_shoot_all(runs_dir, run, study))
    out.mkdir(parents=True, exist_ok=True)
    for name, svg in images.items():
        write_atomically(out / f"{name}.svg", with_local_fonts(svg))
    return [out / f"{name}.svg" for name in images]


async def _shoot_all(runs_dir: Path, run: RunDirectory, study: str) -> dict[str, str]:
    images = {
        "tui_runs": await _shoot(Workbench(runs_dir), ""),
        "tui_workspace": await _shoot(Workbench(runs_dir), "w", "gs"),
        "tui_loss": await _shoot(Workbench(runs_dir, run), "1"),
        "tui_affinity": await _shoot(Workbench(runs_dir, run), "6", "ll", (120, 36)),  # with room for the images
    }
    if study:
        images["tui_study"] = await _shoot(Workbench(runs_dir, None, study), "1")
    return images


async def _shoot(app: Workbench, keys: str, then: str = "", size: tuple[int, int] = SIZE) -> str:
    """The screen as SVG: press ``keys``, wait until all data are read, press ``then``."""
    async with app.run_test(size=size) as pilot:
        await pilot.press(*keys)
        await _until(lambda: _is_read(app.screen))
        await pilot.press(*then)
        await pilot.pause()
        await _settle(pilot)
        return app.export_screenshot(title="workbench tui")


def _is_read(screen: Screen[object]) -> bool:
    if isinstance(screen, RunScreen):
        has_images = screen.snapshot_reader.num_readings > 0 and screen.query_one(AffinityPane).has_tried_images
        return screen.follower.share_read == 1 and (screen.pane != "affinity" or has_images)
    if isinstance(screen, WorkspaceScreen):
        return bool(screen.group.followers) and all(one.share_read == 1 for one in screen.group.followers)
    return screen.study_state is not None if isinstance(screen, StudyScreen) else True


async def _until(holds: Callable[[], bool]) -> None:
    for _ in range(round(WAIT_S / POLL_S)):
        if holds():
            return
        await asyncio.sleep(POLL_S)


async def _settle(pilot: Pilot[None]) -> None:
    """Wait for the animation of the line below the tabs."""
    await pilot.wait_for_animation()
    await asyncio.sleep(1.5)


def with_local_fonts(svg: str) -> str:
    """The image with fonts of the reader's machine: pages that embed an SVG load no web fonts for it."""
    svg = re.sub(r"@font-face\s*\{[^}]*\}\s*", "", svg)
    return re.sub(r"font-family:\s*[^;]*Fira Code[^;]*;", f"font-family: {FONTS};", svg)


if __name__ == "__main__":
    for path in write_screens(Path(sys.argv[1]), Path(sys.argv[2])):
        print(path)
