"""The whole way of a site on the embedded default: from a scenario file to a page that says the site is well again.

Everything between is what GuardianFlow's own processes do: nothing of the library is called here but the scenes that
stand for photographs, and the Reporter, which is meant to be called from elsewhere.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from guardianflow import Reporter
from guardianflow.scenes.scenes import SceneConfig, generate_images
from tests.browser.conftest import START, browser  # noqa: F401 - a fixture

MODEL, SITE, CAMERA = "gate-watch", "North gate 북문", "gate-1"
SIDE = 96
BOUND = 0.25
PATIENCE_S = 400.0  # of each wait: a slow machine is no fault
TRAIN = f"""
schema_version: 1
kind: train
experiment: whole way
model: {{architecture: yolo11n.yaml, imgsz: {SIDE}}}
dataset: {{data_yaml: pictures/data.yaml}}
env: {{device: cpu, seed: 1, workers: 0}}
run:
  epochs: 5
  batch: 4
  register_as: {MODEL}
  # Many small steps: with these a model from random weights learns from 160 pictures in half a minute.
  options: {{plots: false, nbs: 4, optimizer: AdamW, lr0: 0.003, lrf: 0.05, mosaic: 0.0, warmup_epochs: 0.5,
    warmup_bias_lr: 0.0, scale: 0.2, translate: 0.05, erasing: 0.0}}
"""
SAMPLE = f"""
schema_version: 1
kind: infer
experiment: whole way
site: {{name: {SITE}, cameras: [{CAMERA}]}}
model: {{path: "models:/{MODEL}@champion"}}
dataset: {{data_yaml: sample/data.yaml}}
env: {{threads: 1}}  # several threads wait for each other on a machine that does something else, too
run: {{modes: [single_stream], seconds: 0.2, repeats: 1}}
"""
RULES = f"""
rules:
  - {{name: map50-low, when: map50 < {BOUND}, source: inference, statistic: last, window: 30d, keep_firing_for: 1d,
     advise: [roll_back, retrain]}}
  - {{name: silent, when: silent, source: service, after: 2h, remember: 30d}}
"""


class House:
    """A work folder, and GuardianFlow's processes on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        own = {name: value for name, value in os.environ.items() if not name.startswith("GUARDIANFLOW_")}
        self.environment = {**own, "GUARDIANFLOW_WORK_DIR": str(folder / "work"), "GUARDIANFLOW_ACTOR": "Ada"}
        (folder / "work").mkdir(parents=True)

    def run(self, *words: str) -> dict[str, Any]:
        """A verb, to its end; what it prints with --json."""
        done = subprocess.run(
            self._words(*words), cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"guardianflow {' '.join(words)}: {done.stdout}\n{done.stderr}"
        return dict(json.loads(done.stdout))

    @contextmanager
    def serving(self, *words: str) -> Iterator[str]:
        """A verb that serves on a free port; its address. It must end when a service manager says so."""
        process = subprocess.Popen(
            self._words(*words, "--port", "0"), cwd=self.folder, env=self.environment, stdout=subprocess.PIPE, text=True
        )
        with process:  # closes its pipe
            try:
                assert process.stdout is not None
                yield json.loads("".join(iter(process.stdout.readline, "}\n")) + "}")["url"]
                process.send_signal(signal.SIGTERM)
                assert process.wait(60) in {0, -signal.SIGTERM}
            finally:
                process.kill()

    @staticmethod
    def _words(*words: str) -> list[str]:
        return [sys.executable, "-P", "-c", START, *words, "--json"]


def draw(folder: Path, seed: int, *, train: int, val: int) -> Path:
    """Labelled scenes that stand for photographs."""
    scene = SceneConfig(imgsz=SIDE, people=(0, 0), vehicles=(1, 2), clutter=(0, 1), noise=1.0, seed=seed)
    splits = {"train": train / (train + val), "val": val / (train + val)}
    generate_images(folder, images=train + val, config=scene, splits=splits)
    return folder


def join(new: Path, pictures: Path) -> None:
    """More labelled pictures in the folder that is there."""
    for file in [*new.glob("images/*/*"), *new.glob("labels/*/*")]:
        shutil.copyfile(file, pictures / file.relative_to(new).parent / f"new-{file.name}")


def until(look: Callable[[], Any], what: str) -> Any:
    """What a look gives as soon as it gives something."""
    end = time.monotonic() + PATIENCE_S
    while not (found := look()):
        assert time.monotonic() < end, f"not in {PATIENCE_S:g} s: {what}"
        time.sleep(0.3)
    return found


@pytest.mark.slow
@pytest.mark.fire  # CI goes this way on the stack (tests/stack), and without the API in the demo
@pytest.mark.timeout(600)
def test_a_site_that_sees_badly_is_told_mended_and_told_to_be_well(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    house = House(tmp_path / "길 way")
    pictures = draw(house.folder / "pictures", 1, train=8, val=8)
    draw(house.folder / "sample", 2, train=4, val=32)
    for name, text in (("train.yaml", TRAIN), ("site.yaml", SAMPLE), ("work/alerts.yaml", RULES)):
        (house.folder / name).write_text(text, encoding="utf-8")

    # A model that has seen too little is trained, registered and, as the first one, put in charge.
    house.run("run", "train.yaml")
    assert house.run("promote", MODEL)["version"] == "1"
    first = house.run("run", "site.yaml", "--direct")["metrics"]
    assert first["map50"] < BOUND

    # The site's pictures are labelled: there is more to learn from now.
    join(draw(house.folder / "labelled since", 3, train=160, val=32), pictures)
    ingester = house.run("keys", "create", "North box", "--role", "ingester")["token"]
    promoter = house.run("keys", "create", "Kim", "--role", "promoter")["token"]

    changes: list[str] = []
    with (
        house.serving("api", "--evaluate-every", "1") as url,
        httpx.Client(base_url=url, headers={"Authorization": f"Bearer {promoter}"}, timeout=60) as api,
        Reporter(url, ingester, SITE, CAMERA, model=MODEL, version="1") as reporter,
    ):

        def asked(path: str, what: str, **query: str) -> list[dict[str, Any]]:
            answer = api.get(f"/api/{path}", params=query)
            assert answer.status_code == 200, answer.text
            return list(answer.json()[what])

        reporter.on_champion(changes.append)
        reporter.report("latency_ms_p95", first["latency_ms_p95"])
        assert reporter.flush(60), reporter.last_error

        # The API's own rounds find it, and advise.
        (alert,) = until(lambda: asked("alerts", "alerts", state="firing"), "an alert fires")
        assert (alert["rule"], alert["site"], alert["camera"]) == ("map50-low", SITE, CAMERA)
        assert alert["value"] == first["map50"]
        (advice,) = until(lambda: asked("recommendations", "recommendations", state="open"), "something is advised")
        assert (advice["action"], advice["alert_id"]) == ("retrain", alert["id"])
        assert advice["facts"]["dataset_changed"] is True
        assert (sum(advice["facts"]["images_then"].values()), sum(advice["facts"]["images"].values())) == (16, 208)
        assert changes == []

        # Who only reports may not decide; who may promote, does. The rest happens by itself.
        apply = f"/api/recommendations/{advice['id']}/apply"
        assert api.post(apply, headers={"Authorization": f"Bearer {ingester}"}).status_code == 403
        answer = api.post(apply)
        assert (answer.status_code, answer.json()["state"]) == (202, "applying"), answer.text

        def ended() -> dict[str, Any] | None:
            (row,) = asked("recommendations", "recommendations")
            return None if row["state"] == "applying" else row

        done = until(ended, "the recommendation is carried out")
        assert (done["state"], done["actor"], done["version"]) == ("applied", "Kim", "2"), done
        accuracy = next(check for check in done["outcome"]["verdict"]["checks"] if check["name"] == "accuracy")
        assert accuracy["figures"]["low"] > 0, "the gate let it pass for another reason than that it is better"

        # The ledger says who, and why; the box hears of it; the alert is over with the version that it was about.
        ledger = asked(f"models/{MODEL}/history", "history")
        promotion = next(event for event in ledger if event["champion"] == "2")
        assert (promotion["action"], promotion["actor"]) == ("promote", "Kim")
        assert promotion["reason"].startswith(f"recommendation {advice['id']}: retrain because map50 < {BOUND}")
        assert [event["actor"] for event in ledger if event["action"] == "promote"] == ["Kim", "Ada"]
        reporter.report("latency_ms_p95", first["latency_ms_p95"])
        assert until(lambda: changes, "the reporter hears of the new champion") == ["2"]
        (over,) = until(lambda: asked("alerts", "alerts", state="resolved"), "the alert is over")
        assert (over["id"], over["ended_by"]) == (alert["id"], "new_champion")

        # The night's run, as ever.
        second = house.run("run", "site.yaml", "--direct")["metrics"]
        assert second["map50"] > BOUND
        reporter.version = "2"
        reporter.report("latency_ms_p95", second["latency_ms_p95"])
        assert reporter.flush(60), reporter.last_error
        assert (reporter.sent, reporter.refused, reporter.dropped) == (3, 0, 0)

    chromium: Any = request.getfixturevalue("browser")  # without one the rest is skipped, and says so
    with house.serving("dashboard") as url:
        assert "The one site is well." in page_text(chromium, f"{url}/")
        fleet = page_text(chromium, f"{url}/voila/render/fleet.ipynb")
        assert "The one site is well." in fleet
        assert SITE in fleet
        told = re.search(rf"Accuracy \(mAP50\) (\S+), as it should be \(at least {BOUND}\)\.", fleet)
        assert told is not None, fleet
        assert float(told[1]) == pytest.approx(second["map50"], abs=0.001)
        assert f"model {MODEL}, version 2 in charge" in fleet

        optimizer = page_text(chromium, f"{url}/voila/render/optimizer.ipynb")
        assert "No alert is open. Nothing waits for a decision." in optimizer
        assert "version 2 is in charge now, instead of version 1" in optimizer.lower()
        helped = re.search(
            r"It helped: accuracy \(mAP50\) before (\S+) \(1 figure\), after (\S+) \(1 figure\)", optimizer
        )
        assert helped is not None, optimizer
        figures = [first["map50"], second["map50"]]
        assert [float(text) for text in helped.groups()] == pytest.approx(figures, abs=0.001)
        assert "Kim, " in optimizer


def page_text(chromium: Any, address: str) -> str:
    """What a visitor reads."""
    page = chromium.new_page()
    page.goto(address, timeout=PATIENCE_S * 1000)
    page.wait_for_selector(".gf h1", timeout=PATIENCE_S * 1000)
    text = str(page.inner_text("body"))
    page.close()
    return text
