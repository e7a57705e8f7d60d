"""Real JupyterLab in a real browser: notebooks open, a slider is dragged, and the image changes."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
START_S, CELLS_S, CHANGE_S = 240, 300, 120  # on a machine that has better things to do

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium"),
    pytest.mark.skipif(find_spec("playwright") is None, reason="no playwright: pip install -e '.[dev]'"),
]

# JupyterLab takes cells that are out of sight out of the page.
SETTINGS = {"notebook-extension/tracker": {"windowingMode": "none"}}


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of JupyterLab, started by the command as a person does, in an empty folder and with settings of its own."""
    folder = tmp_path_factory.mktemp("lab")
    for name, values in SETTINGS.items():
        file = folder / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values))
    names = {"config": "JUPYTER_CONFIG_DIR", "data": "JUPYTER_DATA_DIR", "runtime": "JUPYTER_RUNTIME_DIR"}
    names |= {"settings": "JUPYTERLAB_SETTINGS_DIR", "workspaces": "JUPYTERLAB_WORKSPACES_DIR", "ipython": "IPYTHONDIR"}
    own = {variable: str(folder / name) for name, variable in names.items()}
    environment = {**os.environ, **own, "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "workbench", "notebook", "--no-browser"]
    output = folder / "output.log"
    with output.open("wb") as log:
        server = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL
        )
    try:
        yield _wait_for_address(output, server)
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)


def _wait_for_address(output: Path, server: "subprocess.Popen[bytes]") -> str:
    end_s = time.monotonic() + START_S
    while time.monotonic() < end_s and server.poll() is None:
        if found := re.search(r"http://(?:localhost|127\.0\.0\.1):\d+/lab\?token=\w+", output.read_text()):
            return found[0]
        time.sleep(0.2)
    raise AssertionError(output.read_text())


@pytest.fixture
def page() -> Iterator[Any]:
    """A page as wide as a laptop screen; console errors are in ``page.complaints``."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"], timeout=1000 * START_S)
        opened = browser.new_page(viewport={"width": 1280, "height": 1400})
        opened.set_default_timeout(1000 * START_S)
        opened.complaints = []
        opened.on("console", lambda output: opened.complaints.append(output.text) if output.type == "error" else None)
        opened.on("pageerror", lambda error: opened.complaints.append(str(error)))
        yield opened
        browser.close()


def open_notebook(page: Any, address: str, name: str) -> None:
    """Opens it in a workspace of its own, and runs all its cells."""
    base, token = address.split("/lab?")
    page.goto(f"{base}/lab/workspaces/{name}/tree/{name}.ipynb?{token}")
    page.locator(".jp-Notebook .jp-CodeCell").first.wait_for()
    page.get_by_text("Python 3 (ipykernel) | Idle").first.wait_for()
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()


def bring(element: Any) -> None:
    """Waits for it, and scrolls to it."""
    element.wait_for(state="attached", timeout=1000 * CELLS_S)
    element.evaluate("found => found.scrollIntoView({ block: 'center' })")
    element.wait_for()


def drag(page: Any, handle: Any, by_px: int) -> None:
    bring(handle)
    box = handle.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2 + by_px, box["y"] + box["height"] / 2, steps=6)
    page.mouse.up()


def wait_until_changed(image: Any, before: str) -> str:
    end_s = time.monotonic() + CHANGE_S
    while time.monotonic() < end_s:
        now = image.get_attribute("src")
        if now != before:
            return str(now)
        time.sleep(0.1)
    raise AssertionError("the image did not change")


def explorer(page: Any, number: int) -> Any:
    """What the cell shows that holds so many-th of the notebook's explorers, counted from 0."""
    return page.locator(".jp-OutputArea-output", has=page.locator(".workbench-error")).nth(number)


def test_a_drag_and_a_click_change_the_affinity_matrices(page: Any, address: str) -> None:
    open_notebook(page, address, "01_affinity_matrices")
    shown = explorer(page, 0)
    image = shown.locator("img[style*=crosshair]")
    bring(image)
    assert image.evaluate("image => image.naturalWidth") > 800
    before = image.get_attribute("src")
    drag(page, shown.locator(".noUi-handle").first, -120)
    before = wait_until_changed(image, before)
    # The browser moves a log slider to its grid as it displays it, which is not a choice of the user.
    own = shown.locator("label", has_text="each model's own").locator("input")
    assert own.is_checked()
    bring(image)
    width, height = image.evaluate("image => [image.clientWidth, image.clientHeight]")
    image.click(position={"x": 0.1 * width, "y": 0.3 * height})
    wait_until_changed(image, before)
    assert shown.locator(".workbench-error").inner_text().strip() == ""
    assert page.complaints == []


def test_a_drag_changes_the_layers_that_masks_leave(page: Any, address: str) -> None:
    open_notebook(page, address, "03_pruning_masks")
    shown = explorer(page, 1)
    image = shown.locator("img")
    bring(image)
    before = image.get_attribute("src")
    drag(page, shown.locator(".noUi-handle").first, -150)
    wait_until_changed(image, before)
    assert shown.locator(".workbench-error").inner_text().strip() == ""
    assert page.complaints == []


def test_a_training_run_is_stopped_by_its_button_while_the_next_cell_waits_for_it(page: Any, address: str) -> None:
    open_notebook(page, address, "06_your_own_loss")
    shown = explorer(page, 0)
    bring(shown)
    shown.get_by_text(re.compile(r"steps: \d+ of 60")).wait_for(timeout=1000 * CELLS_S)
    shown.get_by_role("button", name="stop").click()
    shown.get_by_text(re.compile(r"stopped at step \d+ of 60")).wait_for(timeout=1000 * CHANGE_S)
    assert shown.locator(".workbench-error").inner_text().strip() == ""
    assert page.complaints == []
