"""Sites with something to tell, their pages under Voila, and a real browser."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from guardianflow.execution.executors import kernel_environment
from tests.dashboard.site_scene import Scene

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WAIT_MS = 90_000
HOW_TO_GET_IT = "Chromium is missing: apt-get install chromium, or: playwright install chromium"
START = "from guardianflow.cli import main; main()"


class Pages:
    """The pages of a scene or another world with settings, served as ``guardianflow dashboard`` serves them."""

    def __init__(self, scene: Any) -> None:
        self.scene = scene
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", START, "dashboard", "--port", "0", "--json"],
            stdout=subprocess.PIPE, text=True, start_new_session=True,
            env={**os.environ, **kernel_environment(scene.settings)},
        )  # fmt: skip
        assert self.process.stdout is not None
        self.url: str = json.loads("".join(iter(self.process.stdout.readline, "}\n")) + "}")["url"]

    def page(self, name: str) -> str:
        """The address of a page."""
        return f"{self.url}/voila/render/{name}.ipynb"

    def stop(self) -> int:
        """End the server as a service manager does."""
        self.process.send_signal(signal.SIGTERM)
        with self.process:  # closes its pipe
            return self.process.wait(60)


def unwell_harbour(folder: Path) -> Scene:
    """A harbour that sees badly, a depot with a silent camera, a mill that is well; one recommendation."""
    scene = Scene(folder, datetime.now(UTC))
    scene.charge("3", ago=24 * 20)
    for days in range(26, -1, -2):
        wobble = 0.01 * (days * 7 % 3)
        gate = 0.58 if days < 6 else 0.86
        for site, camera, value in (("Harbour north", "gate", gate), ("Mill street", "yard", 0.84)):
            scene.labelled(site, value + wobble, camera=camera, ago=days * 24 + 5, version="3")
    for camera in ("dock-1", "dock-2"):
        scene.labelled("Depot east", 0.88, camera=camera, ago=70, version="3")
    scene.live("Harbour north", version="3")
    scene.live("Mill street", camera="yard", version="3")
    scene.live("Depot east", camera="dock-1", version="3")
    scene.live("Depot east", camera="dock-2", ago=7.2, version="3")
    for hours in (48, 5, 0):
        scene.evaluate(ago=hours)
    scene.recommend(dataset_changed=True, images_then={"train": 320, "val": 40}, images={"train": 512, "val": 64})
    return scene


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    """The pages of :func:`unwell_harbour`."""
    pytest.importorskip("voila", reason="voila is missing: pip install 'guardianflow[dashboard]'")
    served = Pages(unwell_harbour(tmp_path_factory.mktemp("현장 sites")))
    yield served
    assert served.stop() == 0


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    """The Chromium that is installed, else Playwright's own; without either the test is skipped, and says so."""
    playwright = pytest.importorskip("playwright.sync_api", reason=HOW_TO_GET_IT)
    with playwright.sync_playwright() as started:
        try:
            found = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        except playwright.Error:
            pytest.skip(HOW_TO_GET_IT)
        yield found
        found.close()


@pytest.fixture
def look(browser: Any) -> Iterator[Any]:
    """Opens a page; what it asked from elsewhere and what went wrong in it stand in ``look.strange``."""
    contexts = []

    def open_(url: str, *, width: int = 1400, locale: str = "en-US", selector: str = ".gf h1") -> Any:
        context = browser.new_context(viewport={"width": width, "height": 2400}, locale=locale)
        contexts.append(context)
        page = context.new_page()
        page.on("requestfinished", lambda request: check(request.url, url))
        page.on("requestfailed", lambda request: request.failure == "csp" or check(request.url, url))
        page.on("pageerror", lambda error: open_.strange.append(str(error)))
        page.goto(url)
        page.wait_for_selector(selector, timeout=WAIT_MS)
        return page

    def check(asked: str, url: str) -> None:
        here = url.split("/")[2]
        if not asked.startswith(("data:", "blob:", "file:")) and asked.split("/")[2] != here:
            open_.strange.append(asked)

    open_.strange = []
    yield open_
    for context in contexts:
        context.close()


def width_of(page: Any) -> tuple[int, int]:
    return tuple(page.evaluate("[document.documentElement.scrollWidth, innerWidth]"))
