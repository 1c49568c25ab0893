"""The notebooks in JupyterLab in a real browser: they run, and their widgets answer.

Needs Chromium (Debian and Ubuntu: `sudo apt install chromium`). Screenshots are kept in the folder
that BROWSER_ARTEFACTS names.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

import nbformat
import pytest
from run_notebooks import KERNEL, NOTEBOOKS

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="Chromium is not installed"),
]

PATIENCE = 300  # seconds for what takes a few, on a machine that does other things as well
WIDGETS_FAIL = ("model not found", "Error displaying widget", "Error creating widget")
RUN_ALL = """async () => {
    const panel = window.jupyterapp.shell.currentWidget;
    await panel.context.ready;
    await panel.sessionContext.ready;
    await window.jupyterapp.commands.execute("notebook:run-all-cells");
    const found = [];
    for (const cell of panel.content.model.cells) {
        if (cell.type !== "code") continue;
        if (cell.executionCount === null) found.push("a cell was not run");
        for (let n = 0; n < cell.outputs.length; n++) {
            const output = cell.outputs.get(n).toJSON();
            if (output.output_type === "error") found.push(output.ename + ": " + output.evalue);
        }
    }
    return found;
}"""
PANELS = """
import os
os.environ["WORKSHOP_3D"] = "matplotlib"
import numpy as np
from helpers import records, workshop
from helpers.rollout import Persistence
from helpers.sequences import T80_TINC4
from helpers.panels.explorer import Explorer
from helpers.panels.laboratory import Laboratory
from helpers.panels.viewer import Viewer

split = records.packed(workshop.split_folder("test"), limit=2, progress=False)
frames = T80_TINC4.select(split.frames([0])[0])
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory, lab, hostile):
    """The course's JupyterLab on localhost, on copies of the notebooks: its address and folder."""
    root, settings = tmp_path_factory.mktemp("course"), tmp_path_factory.mktemp("settings")
    shutil.copytree(NOTEBOOKS, root / "notebooks")
    # Every cell is in the page, not only those in view; and nobody asks about news.
    for place, chosen in {
        "notebook-extension/tracker": {"windowingMode": "none"},
        "apputils-extension/notification": {"fetchNews": "false"},
    }.items():
        kept = settings / "@jupyterlab" / f"{place}.jupyterlab-settings"
        kept.parent.mkdir(parents=True)
        kept.write_text(json.dumps(chosen))
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    token = secrets.token_hex(16)
    command = [*lab, "--no-browser", f"--port={port}", "--ServerApp.port_retries=0"]
    command += [f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={root}"]
    command += ["--LabApp.expose_app_in_browser=True", f"--LabApp.user_settings_dir={settings}"]
    command += [f"--LabApp.workspaces_dir={settings}", "--LabApp.news_url=None"]
    quick = {"WORKSHOP_MODE": "quick", "WORKSHOP_DATA": "", "WORKSHOP_COPIES": "0"}
    environment = {**hostile, "JUPYTER_RUNTIME_DIR": str(settings / "runtime"), **quick}
    log = root / "server.log"
    with log.open("w") as lines:
        process = subprocess.Popen(
            command, cwd=root, env=environment, stdout=lines, stderr=subprocess.STDOUT
        )
    try:
        address = f"http://127.0.0.1:{port}"
        for _ in range(2 * PATIENCE):
            if process.poll() is not None:
                pytest.fail(f"JupyterLab ended: {log.read_text()[-2000:]}")
            try:
                urllib.request.urlopen(f"{address}/api?token={token}", timeout=5)
                break
            except OSError:
                time.sleep(0.5)
        yield address, token, root
    finally:
        process.terminate()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()


@pytest.fixture(scope="module")
def browser():
    """Chromium, which reaches this machine and nothing else."""
    options = ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--no-sandbox"]
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        yield chromium
        chromium.close()


@pytest.fixture
def notebook(server, browser, request, tmp_path):
    """Open a notebook of the course folder by its path, and run all of it."""
    address, token, _root = server
    page = browser.new_page(viewport={"width": 1024, "height": 1400})
    page.set_default_timeout(1000 * PATIENCE)
    folder = Path(os.environ.get("BROWSER_ARTEFACTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)

    def run(path: str):
        # A workspace of its own, so that nothing of an earlier test is opened again.
        space = secrets.token_hex(4)
        page.goto(f"{address}/lab/workspaces/{space}/tree/{path}?token={token}")
        page.wait_for_selector(".jp-NotebookPanel .jp-Notebook .jp-Cell")
        assert page.evaluate(RUN_ALL) == []
        text = page.locator(".jp-Notebook").inner_text()
        assert not [words for words in WIDGETS_FAIL if words in text]
        return page

    yield run
    page.screenshot(path=folder / f"{request.node.name.replace('/', ' ')}.png")
    # The kernel goes with its notebook: the next one has the memory.
    page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
    page.close()


def write(root: Path, name: str, *cells: str) -> str:
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    made.metadata["kernelspec"] = KERNEL
    nbformat.write(made, root / "notebooks" / name)
    return f"notebooks/{name}"


def picture(page, name: str) -> str:
    """Return the address of a picture, once it is there; it changes with its content."""
    image = page.locator(f"img.{name}, .{name} img").first
    image.wait_for()
    return image.evaluate(
        """async (image) => {
            await image.decode();
            const bytes = await (await fetch(image.src)).arrayBuffer();
            const found = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
            return Array.from(found).join(" ");
        }"""
    )


def wait_for(condition, what: str):
    """Ask again and again; what is asked must not depend on how fast the machine is."""
    for _ in range(4 * PATIENCE):
        if condition():
            return
        time.sleep(0.25)
    pytest.fail(f"{what}: not seen within {PATIENCE} s")


def test_a_notebook_runs(notebook):
    """Notebook 01 has 3D scenes and sliders; the panels of the others are below."""
    (path,) = NOTEBOOKS.glob("01_*.ipynb")
    page = notebook(f"notebooks/{path.name}")
    assert page.locator(".jupyter-widgets").count() > 0


def test_the_explorer(notebook, server):
    cells = PANELS, "Explorer({'nothing moves': Persistence()}, frames[None], T80_TINC4)"
    page = notebook(write(server[2], "explorer.ipynb", *cells))
    row = page.locator(".widget-slider", has_text="observed")
    before = picture(page, "explorer")
    row.locator(".noUi-handle").press("ArrowRight")
    wait_for(lambda: row.locator(".widget-readout").inner_text() == "6", "one frame more")
    wait_for(lambda: picture(page, "explorer") != before, "another picture")


def test_the_viewer(notebook, server):
    page = notebook(write(server[2], "viewer.ipynb", PANELS, "Viewer(frames, 0.8 * frames[::-1])"))
    panel = page.locator(".viewer")
    before = {name: picture(page, name) for name in ("viewer-solid", "viewer-slice")}

    def slider(label):
        row = panel.locator(".widget-slider", has_text=label)
        return row.locator(".noUi-handle"), row.locator(".widget-readout")

    handle, turned = slider("turn")
    handle.press("ArrowRight")
    wait_for(lambda: picture(page, "viewer-solid") != before["viewer-solid"], "another side")
    assert picture(page, "viewer-slice") == before["viewer-slice"]
    angle, seen = turned.inner_text(), picture(page, "viewer-solid")
    handle, frame = slider("frame")
    handle.press("ArrowRight")
    wait_for(lambda: frame.inner_text() == "1", "the next frame")
    wait_for(lambda: picture(page, "viewer-solid") != seen, "its picture")
    assert turned.inner_text() == angle
    handle, _ = slider("threshold")
    words = panel.inner_text()
    for _ in range(8):
        handle.press("ArrowRight")
    wait_for(lambda: panel.inner_text() != words and "1.000" in panel.inner_text(), "distance 1")


def test_the_laboratory(notebook, server, tmp_path):
    cell = f"panel = Laboratory({str(tmp_path / 'runs')!r})\npanel"
    page = notebook(write(server[2], "laboratory.ipynb", PANELS, cell))
    panel = page.locator(".laboratory")
    status, message = page.locator(".laboratory-status"), page.locator(".laboratory-message")

    def press(name):
        panel.get_by_role("button", name=name).first.click()

    def fill(name, value):
        field = panel.get_by_label(name, exact=True)
        field.fill(str(value))
        field.press("Tab")

    fill("batch size", 2)  # however slow the machine is
    fill("steps", 40)
    press("Start")
    wait_for(lambda: "done" in status.inner_text(), "the end of the first run")
    curve = picture(page, "laboratory-curves")
    fill("steps", 5000)
    press("Start")
    wait_for(lambda: re.search("step [1-9]", status.inner_text()), "its first steps")
    wait_for(lambda: picture(page, "laboratory-curves") != curve, "another curve")
    press("Start")  # politely refused
    wait_for(lambda: message.inner_text().strip(), "a word on the second start")
    press("Stop")
    wait_for(lambda: "stopped" in status.inner_text(), "the end of the second run")
    rows = panel.locator("table").last.locator("tbody tr")  # not those of the comparison
    wait_for(lambda: rows.count() == 2, "both runs in the table")
