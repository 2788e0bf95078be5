"""The demo's story: train, promote, benchmark, quantize; then three sites, an alert, advice, and a better model."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, TypedDict

from guardianflow.console import ProgressWatch, print_lines, print_table, say
from guardianflow.core.config import Settings, mask_secrets
from guardianflow.core.registry import ModelRegistry
from guardianflow.dashboard.alerts import AlertRules
from guardianflow.dashboard.automation import AutoOptimizer, Recommendation, State
from guardianflow.dashboard.fleet import fleet
from guardianflow.dashboard.metrics_store import MetricsStore
from guardianflow.demo.sites import SILENT_CAMERA, VIEWS, DemoSites, picture_of, service_figures
from guardianflow.exceptions import NotFoundError, RunFailedError
from guardianflow.execution.executors import LocalExecutor, RunOutcome
from guardianflow.files.run_folder import read_result, write_text
from guardianflow.listing import history_table
from guardianflow.machine.system import usable_cores
from guardianflow.runs.run_records import RunRecord, RunRecords, RunStatus
from guardianflow.scenario.experiment_design import RunPlan
from guardianflow.scenario.factory import plan_run
from guardianflow.state.database import Database
from guardianflow.text.command_lines import command, program, typed

__all__ = ["DEMO_EXPERIMENT", "DEMO_MODEL", "DemoRecipe", "run_demo"]

DEMO_EXPERIMENT = "demo"
DEMO_MODEL = "demo-site"
_STEPS = 14


@dataclass(frozen=True)
class DemoRecipe:
    """How much the demo does.

    Attributes:
        images: Generated scenes by day, half of each kind of site, a fifth of them for validation.
        sample: Labelled scenes of each camera, four fifths of which the model is measured on.
        imgsz: Side of the model's input, in pixels.
        batch: Images per step.
        epochs: Of each training.
        min_map50: What the model must reach on its validation scenes; less fails the demo.
        backends: What the benchmark runs the model on.
        seconds: Least measured time of one repetition of the benchmark and of the quantization.
        calibration_images: Training images that the quantization looks at.
        seed: Of scenes and trainings.
        options: Further training options. A small batch without accumulation makes many steps,
            and no mosaic keeps the objects large: a model from random weights then learns in minutes.
    """

    images: int = 280
    sample: int = 50
    imgsz: int = 256
    batch: int = 6
    epochs: int = 9
    min_map50: float = 0.75
    backends: tuple[str, ...] = ("torch", "onnxruntime", "openvino")
    seconds: float = 0.3
    calibration_images: int = 32
    seed: int = 7
    options: Mapping[str, Any] = field(
        default_factory=lambda: {
            "nbs": 6,
            "optimizer": "AdamW",
            "lr0": 0.003,
            "lrf": 0.05,
            "mosaic": 0.0,
            "warmup_epochs": 0.5,
            "warmup_bias_lr": 0.0,
            "scale": 0.2,
            "translate": 0.05,
            "erasing": 0.0,
            "plots": False,  # our own page has the curves
        }
    )


class Facts(TypedDict, total=False):
    """What a step leaves for those after it: of a run its figures and pages, of a model its version."""

    data_yaml: str
    run_id: str
    metrics: Mapping[str, float]
    notebook: str
    html: str
    version: str


_Told = tuple[str, Facts]
"""What came of a step, as a person reads it, and what it leaves."""


@dataclass
class _Story:
    """Says each step and keeps what the demo hands back."""

    say: Callable[[str], None]
    total: int
    began: float = field(default_factory=time.perf_counter)
    steps: list[Mapping[str, object]] = field(default_factory=list)

    def step(self, title: str, work: Callable[[], _Told]) -> Facts:
        number = len(self.steps) + 1
        self.say(f"[{number}/{self.total}] {title} …")
        start = time.perf_counter()
        text, facts = work()
        seconds = time.perf_counter() - start
        self.say(f"      {text} · {seconds:.0f} s")
        self.steps.append({"step": title, "result": text, "seconds": round(seconds, 1), **facts})
        return facts


def run_demo(
    settings: Settings, *, fresh: bool = False, quiet: bool = False, recipe: DemoRecipe | None = None
) -> dict[str, Any]:
    """A model's life: trained, promoted, measured, made smaller; then three sites, an alert by night, a better model.

    Args:
        settings: Where everything goes.
        fresh: Train anew instead of reusing the runs of an earlier demo.
        quiet: Say nothing.
        recipe: How much to train.

    Returns:
        The steps, the ledger and where to look, as plain JSON types.

    Raises:
        RunFailedError: The model stays below the recipe's ``min_map50``.
    """
    recipe = recipe or DemoRecipe()
    story = _Story(say=_silent if quiet else say, total=_STEPS)
    demo = _Demo(settings, story, recipe, fresh=fresh)
    story.step("Draw scenes of three sites: people and vehicles, with labels", demo.scenes)
    trained = story.step(f"Train a model ({recipe.epochs} epochs) and register it", demo.training)
    map50, version = trained["metrics"]["map50"], trained["version"]
    if map50 < recipe.min_map50:
        raise RunFailedError(
            f"the model reached mAP50 {map50:.3f} on its scenes, below {recipe.min_map50}; "
            f"its page says more: {trained['html']}"
        )
    story.step("Promote it: it becomes the champion", lambda: demo.first_champion(version))
    measured = story.step(f"Benchmark it on {', '.join(recipe.backends)}", lambda: demo.benchmark(version))
    smaller = story.step("Quantize it: int8 for OpenVINO", lambda: demo.quantization(version))
    ledger = story.step("Ask the gate to put the small one in charge", lambda: demo.trade(version, smaller["version"]))
    story.step("Roll back: a drill", lambda: demo.drill(version))
    story.step("Measure the champion on each site's own sample, day and night", demo.measure)
    story.step("It serves for six hours; one camera goes silent", demo.serve)
    story.step("Night scenes are labelled and join the training data", demo.label_the_night)
    story.step("Look at the rules: what is wrong, and what is advised", demo.advise)
    improved = story.step("Do it: train again, ask the gate, promote", demo.improve)
    story.step("Measure the new champion on the same scenes", lambda: demo.measure(serve=True))
    fleet = story.step("Say in words how the sites are", demo.fleet)
    pages = {
        "the same as a file": fleet["html"],
        "the model's page": trained["html"],
        "how fast it is on each runtime": measured["html"],
        "what quantization cost and brought": smaller["html"],
        **({"who was in charge when": ledger["html"]} if "html" in ledger else {}),
        **({"the model that knows the night": improved["html"]} if "html" in improved else {}),
    }
    return _ending(settings, story, pages, quiet=quiet)


def _silent(_: str) -> None:
    """Say nothing."""


class _Demo:
    """The steps of the demo."""

    def __init__(self, settings: Settings, story: _Story, recipe: DemoRecipe, *, fresh: bool) -> None:
        self._settings = settings
        self._story = story
        self._recipe = recipe
        self._fresh = fresh
        self._registry = ModelRegistry(settings)
        self._sites = DemoSites(settings.work_dir / "demo", recipe.images, recipe.sample, recipe.seed)
        rules = AlertRules.load(settings=settings)
        # A demo is done again at once; a site's optimizer would rest in between.
        free = replace(rules, limits=replace(rules.limits, cooldown_s=0.0, daily_budget=1000))
        self._optimizer = AutoOptimizer(settings=settings, rules=free)
        self._advice: Recommendation | None = None

    def scenes(self) -> _Told:
        """Images with labels; reused when they are there."""
        return self._sites.draw(), {"data_yaml": str(self._sites.data_yaml)}

    def training(self) -> _Told:
        """Train and register; an earlier demo's run with the same parameters is reused."""
        facts, _, reused = self._once(
            "train",
            "epochs",
            model_arch="yolo11n.yaml",
            data_yaml=str(self._sites.data_yaml),
            epochs=self._recipe.epochs,
            batch=self._recipe.batch,
            imgsz=self._recipe.imgsz,
            threads=usable_cores(),
            register_as=DEMO_MODEL,
            options=dict(self._recipe.options),
        )
        facts["version"] = self._version_of(facts["run_id"])
        verb, map50 = "reused" if reused else "trained", facts["metrics"]["map50"]
        return f"{verb}: mAP50 {map50:.3f}, version {facts['version']} of {DEMO_MODEL}", facts

    def benchmark(self, version: str) -> _Told:
        """Measure a version on each runtime; an earlier demo's benchmark of it is reused."""
        facts, verdict, reused = self._once(
            "infer",
            "cells",
            model_path=f"models:/{DEMO_MODEL}/{version}",
            data_yaml=str(self._sites.data_yaml),
            backends=list(self._recipe.backends),
            seconds=self._recipe.seconds,
            repeats=2,
        )
        return f"{'reused: ' if reused else ''}{verdict}", facts

    def quantization(self, version: str) -> _Told:
        """Make a version smaller and register what comes of it; an earlier demo's is reused."""
        facts, verdict, reused = self._once(
            "quantize",
            "steps",
            source_run_id=f"models:/{DEMO_MODEL}/{version}",
            backend="openvino",
            precision="int8",
            data_yaml=str(self._sites.data_yaml),
            calibration_images=self._recipe.calibration_images,
            register_as=DEMO_MODEL,
            seconds=self._recipe.seconds,
            repeats=1,
            # Scenes are few and easy: what is damaged is shown, not refused.
            allow_damage=True,
        )
        facts["version"] = self._version_of(facts["run_id"])
        return f"{'reused: ' if reused else ''}{verdict}", facts

    def trade(self, version: str, smaller: str) -> _Told:
        """Promote the quantized version if the gate lets it pass; say why where it doesn't."""
        verdict = self._registry.judge(DEMO_MODEL, smaller)
        if verdict.passed:
            return self.change("promote", smaller, "as good, smaller and faster")
        return f"refused, as a gate should; version {version} stays: {'; '.join(verdict.reasons)}", {}

    def drill(self, version: str) -> _Told:
        """Back to the version before the small one, where that was promoted."""
        if self._registry.get(DEMO_MODEL).version == version:
            return f"version {version} is in charge, so there is nothing to go back from", {}
        return self.change("rollback", "", "a drill: could we go back?")

    def measure(self, *, serve: bool = False) -> _Told:
        """The champion on each camera's sample, as a nightly run would; with its live figures of now, if asked."""
        champion = self._registry.get(DEMO_MODEL)
        found = []
        for view in VIEWS:
            figures, _, _ = self._once(
                "infer",
                "cells",
                model_path=champion.uri,
                data_yaml=str(self._sites.sample_of(view)),
                site={"name": view.site, "cameras": [view.camera], "conditions": [view.condition]},
                modes=["offline"],
                seconds=0.1,
                repeats=1,
            )
            found.append(f"{view.site} by {view.condition} {figures['metrics']['map50']:.2f}")
        if serve:
            self._serve(live=True)
        return f"mAP50 of version {champion.version}: {', '.join(found)}", {"version": champion.version}

    def serve(self) -> _Told:
        """Live figures of the champion; the times are invented, the figures are not."""
        stored = self._serve(live=False)
        return f"{stored:,} figures; {SILENT_CAMERA} was last heard of three hours ago", {}

    def _serve(self, *, live: bool) -> int:
        champion = self._registry.get(DEMO_MODEL)
        file = self._registry.download(DEMO_MODEL, champion.version)
        figures = service_figures(
            champion, file, self._sites, imgsz=self._recipe.imgsz, now=datetime.now(UTC), live=live
        )
        return MetricsStore(self._settings.database_url).save_metrics(figures).stored

    def label_the_night(self) -> _Told:
        """The training data grows."""
        return self._sites.label_the_night(), {}

    def advise(self) -> _Told:
        """Evaluate the rules; the advice about the car park is kept for the next step."""
        seen = self._optimizer.evaluate()
        firing = [alert for alert in seen.alerts if alert.state == "firing"]
        open_ones = [item for item in seen.recommendations if item.model == DEMO_MODEL]
        night = VIEWS[-1]
        self._advice = next((item for item in open_ones if item.site == night.site and item.action == "retrain"), None)
        alerts = "; ".join(f"{alert.rule} at {alert.site}, {alert.camera}" for alert in firing)
        advice = "; ".join(f"{item.action}: {item.facts['why']}" for item in open_ones)
        return f"{alerts or 'no rule is broken'} → {advice or 'nothing is advised'}", {}

    def improve(self) -> _Told:
        """Apply the advice: the training, the gate, the promotion; an earlier demo's new champion is reused."""
        if self._advice is None:
            return "nothing to do", {}
        before = [] if self._fresh else self._optimizer.list(State.APPLIED)
        known = next((item for item in before if item.model == DEMO_MODEL and item.action == "retrain"), None)
        if known is not None and known.version and self._registry.judge(DEMO_MODEL, known.version).passed:
            self._registry.promote(DEMO_MODEL, known.version, reason="the earlier demo's model that knows the night")
            return f"reused: version {known.version} is in charge again", self._page_of(known)
        with self._watch("epochs") as watch:
            done = self._optimizer.apply(self._advice, on_run=watch.start)
        return str(done.outcome["said"]), self._page_of(done)

    def _page_of(self, done: Recommendation) -> Facts:
        records = RunRecords(Database.open(self._settings.database_url))
        return _pages(records.get(done.run_id)) if done.run_id else {}

    def fleet(self) -> _Told:
        """The fleet page as a file, and as a picture where a browser is."""
        seen = fleet(self._settings)
        page = write_text(self._settings.work_dir / "demo" / "fleet.html", seen.to_html())
        picture = picture_of(page)
        states = ", ".join(f"{site.site} is {site.state}" for site in seen.sites)
        return f"{states} · {picture or page}", {"html": str(page)}

    def first_champion(self, version: str) -> _Told:
        """Promote the first one; where an earlier demo left a better champion, against the gate."""
        if self._registry.judge(DEMO_MODEL, version).passed:
            return self.change("promote", version, "the first one there is")
        return self.change("promote", version, "the demo starts over", force=True)

    def change(self, action: str, version: str, reason: str, *, force: bool = False) -> _Told:
        """Promote or roll back, in a notebook."""
        asked = {"action": action, "model_name": DEMO_MODEL, "version": version, "reason": reason, "force": force}
        run, _ = self._execute(plan_run("registry", experiment_name=DEMO_EXPERIMENT, **asked), "changes")
        state = self._registry.reconcile(DEMO_MODEL)
        return f"champion is version {state.champion}, rollback is {state.rollback or 'none'}", _pages(run)

    def _execute(self, plan: RunPlan, unit: str) -> tuple[RunOutcome, Mapping[str, Any]]:
        # A sample is measured every night; here without the seconds that a notebook takes.
        direct = plan.kind == "infer" and bool(plan.parameters.get("site"))
        with self._watch(unit, short=direct or plan.kind == "registry") as watch:
            outcome = LocalExecutor(self._settings, on_run=watch.start, direct=direct).execute(plan)
        return outcome, outcome.result

    def _watch(self, unit: str, *, short: bool = False) -> AbstractContextManager[ProgressWatch]:
        quiet = short or self._story.say is _silent
        return ProgressWatch(self._settings, quiet=quiet, label=f"      {unit}").watching()

    def _once(self, kind: str, unit: str, **asked: object) -> tuple[Facts, str, bool]:
        """Facts and verdict of an earlier demo's run with the same parameters, else of a new one; and which it is."""
        plan = plan_run(kind, experiment_name=DEMO_EXPERIMENT, seed=self._recipe.seed, **asked)
        earlier = None if self._fresh else self._find(plan)
        run, result = earlier or self._execute(plan, unit)
        return {**_pages(run), "metrics": result["metrics"]}, str(result["verdict"]), earlier is not None

    def _find(self, plan: RunPlan) -> tuple[RunRecord, Mapping[str, Any]] | None:
        advised = {item.run_id for item in self._optimizer.list()}  # the same scenario, on data that had grown
        for record in self._records(plan.kind):
            if dict(record.parameters) != dict(plan.parameters) or record.run_id in advised:
                continue
            try:
                if plan.kind in {"train", "quantize"}:
                    self._version_of(record.run_id)
                return record, read_result(record.folder)
            except (NotFoundError, OSError, ValueError):
                continue
        return None

    def _records(self, kind: str) -> list[RunRecord]:
        records = RunRecords(Database.open(self._settings.database_url))
        return records.list(experiment=DEMO_EXPERIMENT, status=RunStatus.FINISHED, kind=kind)

    def _version_of(self, run_id: str) -> str:
        for version in self._registry.list_versions(DEMO_MODEL):
            if version.run_id == run_id:
                return version.version
        raise NotFoundError(f"run {run_id} has no version of {DEMO_MODEL}; run the demo with --fresh")


def _pages(run: RunOutcome | RunRecord) -> Facts:
    return {"run_id": run.run_id, "notebook": str(run.notebook), "html": str(run.folder / f"{run.kind}.html")}


def _mlflow_pages(settings: Settings) -> str:
    """The address of MLflow's server, or the command that starts one; the password of a database stays out of both."""
    uri = settings.mlflow_tracking_uri
    if uri.startswith("http"):
        return mask_secrets(uri)
    shown = shlex.quote(uri) if mask_secrets(uri) == uri else '"$MLFLOW_TRACKING_URI"'
    return f"{program('mlflow')} server --backend-store-uri {shown}"


def _ending(settings: Settings, story: _Story, pages: Mapping[str, str], *, quiet: bool) -> dict[str, Any]:
    registry = ModelRegistry(settings)
    history = registry.history(DEMO_MODEL)
    seconds = time.perf_counter() - story.began
    look = {
        "how the sites are, live": typed(command("dashboard", settings=settings)),
        **pages,
        "all runs": typed(command("list", "runs", settings=settings)),
        "the versions": typed(command("list", "versions", DEMO_MODEL, settings=settings)),
        "MLflow's own pages": _mlflow_pages(settings),
        "files": str(settings.runs_dir / DEMO_EXPERIMENT),
    }
    if not quiet:
        table = history_table(history)
        print_table(table.columns, table.rows, title=f"The ledger of {DEMO_MODEL}, newest first")
        print_lines(look.items())
        story.say(f"done in {seconds:.0f} s; champion: {registry.get_champion_uri(DEMO_MODEL)}")
    return {
        "seconds": round(seconds, 1),
        "steps": story.steps,
        "champion": registry.get(DEMO_MODEL, "champion").to_dict(),
        "history": [event.to_dict() for event in history],
        "look": look,
    }
