"""The demo: a model's life from end to end on generated scenes, each step a notebook that ran."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypedDict

from guardianflow import __version__
from guardianflow.console import ProgressWatch, print_lines, print_table, say
from guardianflow.core.config import Settings, mask_secrets
from guardianflow.core.registry import ModelRegistry
from guardianflow.exceptions import NotFoundError, RunFailedError
from guardianflow.execution.executors import LocalExecutor, RunOutcome
from guardianflow.files.run_folder import read_result
from guardianflow.listing import history_table
from guardianflow.runs.run_records import RunRecord, RunRecords, RunStatus
from guardianflow.scenario.experiment_design import RunPlan
from guardianflow.scenario.factory import plan_run
from guardianflow.scenes.scenes import SceneConfig, generate_images
from guardianflow.state.database import Database
from guardianflow.text.command_lines import command, program, typed

__all__ = ["DEMO_EXPERIMENT", "DEMO_MODEL", "DemoRecipe", "run_demo"]

DEMO_EXPERIMENT = "demo"
DEMO_MODEL = "demo-gate"


@dataclass(frozen=True)
class DemoRecipe:
    """How much the demo does; the defaults need under six minutes on two cores.

    Attributes:
        images: Generated scenes, a fifth of them for validation.
        imgsz: Side of the model's input, in pixels.
        batch: Images per step.
        weak_epochs: Of the first model: the fewest after which it finds something (mAP50 0.2 to 0.5).
        better_epochs: Of the second one.
        min_map50: What the second one must reach on its validation scenes; less fails the demo.
        backends: What the benchmark runs the better model on.
        seconds: Least measured time of one repetition of the benchmark and of the quantization.
        calibration_images: Training images that the quantization looks at.
        seed: Of scenes and trainings.
        options: Further training options. A small batch without accumulation makes many steps,
            and no mosaic keeps the objects large: a model from random weights then learns in minutes.
    """

    images: int = 300
    imgsz: int = 256
    batch: int = 6
    weak_epochs: int = 4
    better_epochs: int = 9
    min_map50: float = 0.75
    backends: tuple[str, ...] = ("torch", "onnxruntime", "openvino")
    seconds: float = 0.5
    calibration_images: int = 64
    seed: int = 7
    options: Mapping[str, Any] = field(
        default_factory=lambda: {
            "nbs": 6,
            "optimizer": "AdamW",
            "lr0": 0.002,
            "lrf": 0.05,
            "mosaic": 0.0,
            "warmup_epochs": 0.5,
            "warmup_bias_lr": 0.0,
            "scale": 0.2,
            "translate": 0.05,
            "erasing": 0.0,
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
    """Scenes → train twice → register → promote → promote → roll back → promote again → benchmark → quantize.

    Args:
        settings: Where everything goes.
        fresh: Train anew instead of reusing the runs of an earlier demo.
        quiet: Say nothing.
        recipe: How much to train.

    Returns:
        The steps, the ledger and where to look, as plain JSON types.

    Raises:
        RunFailedError: The better model stays below the recipe's ``min_map50``.
    """
    recipe = recipe or DemoRecipe()
    story = _Story(say=_silent if quiet else say, total=10)
    demo = _Demo(settings, story, recipe, fresh=fresh)
    data = story.step("Draw scenes of a gate: people and vehicles, with labels", demo.scenes)["data_yaml"]
    weak = story.step(
        f"Train a weak model ({recipe.weak_epochs} epochs) and register it",
        lambda: demo.training(data, recipe.weak_epochs, drawn=False),
    )
    story.step("Promote it: it becomes the champion", lambda: demo.first_champion(weak["version"]))
    better = story.step(
        f"Train a better model ({recipe.better_epochs} epochs) and register it",
        lambda: demo.training(data, recipe.better_epochs),
    )
    map50, version = better["metrics"]["map50"], better["version"]
    if map50 < recipe.min_map50:
        raise RunFailedError(
            f"the better model reached mAP50 {map50:.3f} on its scenes, below {recipe.min_map50}; "
            f"its page says more: {better['html']}"
        )
    reason = f"mAP50 {map50:.2f} against {weak['metrics']['map50']:.2f}"
    story.step(
        "Promote the better one: the first becomes the rollback", lambda: demo.change("promote", version, reason)
    )
    drill = "a drill: could we go back?"
    story.step("Roll back: the first is in charge again", lambda: demo.change("rollback", "", drill))
    story.step("Promote the better one again", lambda: demo.change("promote", version, "the drill is over"))
    measured = story.step(f"Benchmark it on {', '.join(recipe.backends)}", lambda: demo.benchmark(data, version))
    smaller = story.step("Quantize it: int8 for OpenVINO", lambda: demo.quantization(data, version))
    last = story.step("Ask the gate to put the small one in charge", lambda: demo.trade(smaller["version"]))
    pages = {
        "the better model's page": better["html"],
        "how fast it is on each runtime": measured["html"],
        "what quantization cost and brought": smaller["html"],
        "who was in charge when": last["html"],
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

    def scenes(self) -> _Told:
        """Images with labels; reused when they are there."""
        recipe = self._recipe
        folder = self._settings.work_dir / "demo" / f"scenes-{__version__}-{recipe.images}-{recipe.seed}"
        config = SceneConfig(site="gate", condition="day", seed=recipe.seed)
        made = generate_images(folder, images=recipe.images, config=config)
        counts = ", ".join(f"{count} {split}" for split, count in made.images.items())
        verb = "reused" if made.reused else "drawn"
        return f"{verb}: {counts} images, {made.boxes:,} boxes", {"data_yaml": str(made.data_yaml)}

    def training(self, data_yaml: str, epochs: int, *, drawn: bool = True) -> _Told:
        """Train and register; an earlier demo's run with the same parameters is reused.

        Args:
            data_yaml: The scenes.
            epochs: How long.
            drawn: Let Ultralytics draw its curves; the weak model isn't worth the seconds.
        """
        facts, _, reused = self._once(
            "train",
            "epochs",
            model_arch="yolo11n.yaml",
            data_yaml=data_yaml,
            epochs=epochs,
            batch=self._recipe.batch,
            imgsz=self._recipe.imgsz,
            register_as=DEMO_MODEL,
            options={**self._recipe.options, "plots": drawn},
        )
        facts["version"] = self._version_of(facts["run_id"])
        verb, map50 = "reused" if reused else "trained", facts["metrics"]["map50"]
        return f"{verb}: mAP50 {map50:.3f}, version {facts['version']} of {DEMO_MODEL}", facts

    def benchmark(self, data_yaml: str, version: str) -> _Told:
        """Measure a version on each runtime; an earlier demo's benchmark of it is reused."""
        facts, verdict, reused = self._once(
            "infer",
            "cells",
            model_path=f"models:/{DEMO_MODEL}/{version}",
            data_yaml=data_yaml,
            backends=list(self._recipe.backends),
            seconds=self._recipe.seconds,
            repeats=2,
        )
        return f"{'reused: ' if reused else ''}{verdict}", facts

    def quantization(self, data_yaml: str, version: str) -> _Told:
        """Make a version smaller and register what comes of it; an earlier demo's is reused."""
        facts, verdict, reused = self._once(
            "quantize",
            "steps",
            source_run_id=f"models:/{DEMO_MODEL}/{version}",
            backend="openvino",
            precision="int8",
            data_yaml=data_yaml,
            calibration_images=self._recipe.calibration_images,
            register_as=DEMO_MODEL,
            seconds=self._recipe.seconds,
            repeats=1,
            # Scenes are few and easy: what is damaged is shown, not refused.
            allow_damage=True,
        )
        facts["version"] = self._version_of(facts["run_id"])
        return f"{'reused: ' if reused else ''}{verdict}", facts

    def trade(self, version: str) -> _Told:
        """Promote the quantized version if the gate lets it pass; say why where it doesn't."""
        verdict = self._registry.judge(DEMO_MODEL, version)
        if verdict.passed:
            return self.change("promote", version, "as good, smaller and faster")
        return f"refused, as a gate should: {'; '.join(verdict.reasons)}", _pages(self._records("registry")[0])

    def first_champion(self, version: str) -> _Told:
        """Promote the weak one; where an earlier demo left a better champion, against the gate."""
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
        quiet = plan.kind == "registry" or self._story.say is _silent
        with ProgressWatch(self._settings, quiet=quiet, label=f"      {unit}").watching() as watch:
            outcome = LocalExecutor(self._settings, on_run=watch.start).execute(plan)
        return outcome, outcome.result

    def _once(self, kind: str, unit: str, **asked: object) -> tuple[Facts, str, bool]:
        """Facts and verdict of an earlier demo's run with the same parameters, else of a new one; and which it is."""
        plan = plan_run(kind, experiment_name=DEMO_EXPERIMENT, seed=self._recipe.seed, **asked)
        earlier = None if self._fresh else self._find(plan)
        run, result = earlier or self._execute(plan, unit)
        return {**_pages(run), "metrics": result["metrics"]}, str(result["verdict"]), earlier is not None

    def _find(self, plan: RunPlan) -> tuple[RunRecord, Mapping[str, Any]] | None:
        for record in self._records(plan.kind):
            if dict(record.parameters) != dict(plan.parameters) or record.notebook is None:
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
