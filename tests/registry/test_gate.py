"""The gate: what passes, what is refused and why, and that what was judged is what is moved."""

from __future__ import annotations

import itertools
import json
import math
import multiprocessing
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from guardianflow.core.config import Settings
from guardianflow.core.registry import ModelRegistry
from guardianflow.exceptions import ConflictError, InputError, NotFoundError, RefusedError
from guardianflow.registry.evaluations import Evaluations
from guardianflow.registry.evidence_gate import EvidenceGate
from guardianflow.registry.gate import Check, Verdict, make_gate
from guardianflow.registry.model_records import ModelVersion
from guardianflow.vision.serving import Serving
from tests.registry.evidence_world import FINGERPRINT, MACHINE, evaluate
from tests.registry.registry_ledger_check import ledger_problems
from tests.registry.registry_workers import promote_against_the_gate
from tests.registry.registry_world import World

FORK_SERVER = multiprocessing.get_context("forkserver")
FORK_SERVER.set_forkserver_preload(["tests.registry.registry_workers"])
_numbers = itertools.count(1)


def version(number: int, *, megabytes: float = 5, serving: Serving | None = None) -> ModelVersion:
    return ModelVersion(
        "cam", str(number), f"run {number}", "weights/best.pt", str(number) * 64, int(megabytes * 1e6), FINGERPRINT,
        {}, "ready", datetime.now(UTC), "kim", serving=serving or Serving(imgsz=320),
    )  # fmt: skip


CANDIDATE, CHAMPION = version(2), version(1)


class Bench:
    """A gate over an index of evidence, without a registry."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.settings = Settings(work_dir=folder / "work", actor="kim")
        self.evaluations = Evaluations(self.settings)

    def seen(self, of: ModelVersion, skill: object, **options: object) -> None:
        evaluate(self.evaluations, of.sha256, self._folder / f"r{next(_numbers)}", skill, **options)

    def judge(
        self, candidate: ModelVersion = CANDIDATE, champion: ModelVersion | None = CHAMPION, **settings: object
    ) -> Verdict:
        changed = self.settings.model_copy(update=settings)
        return EvidenceGate(changed, resamples=200).judge(candidate, champion)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def found(verdict: Verdict, name: str) -> Check:
    return next(check for check in verdict.checks if check.name == name)


# --- accuracy -------------------------------------------------------------------------------------


def test_a_better_candidate_passes_and_the_interval_is_in_the_evidence(bench):
    bench.seen(CHAMPION, 0.6)
    bench.seen(CANDIDATE, 0.9)
    verdict = bench.judge()
    assert verdict.passed, verdict.reasons
    assert verdict.reasons == ()
    accuracy = found(verdict, "accuracy")
    assert 0 < accuracy.figures["low"] < accuracy.figures["difference"] < accuracy.figures["high"]
    assert accuracy.text.endswith("better")
    kept = json.loads(json.dumps(verdict.to_dict(), allow_nan=False))["evidence"]
    assert (kept["dataset_fingerprint"], kept["split"], kept["images"]) == (FINGERPRINT, "val", 40)
    assert kept["comparison"]["resamples"] == 200
    assert (kept["candidate"]["sha256"], kept["champion"]["sha256"]) == (CANDIDATE.sha256, CHAMPION.sha256)


def test_a_worse_candidate_is_refused(bench):
    bench.seen(CHAMPION, 0.9)
    bench.seen(CANDIDATE, 0.6)
    [reason] = bench.judge().reasons
    assert "worse, and perhaps by more than the 0.020 that a cheaper version may lose" in reason


def test_an_equal_one_is_refused_for_it_brings_nothing(bench):
    bench.seen(CHAMPION, 0.8)
    bench.seen(CANDIDATE, 0.8)
    [reason] = bench.judge().reasons
    assert "as good, but neither better nor at least 10% smaller or faster" in reason


def test_what_looks_better_but_may_be_chance_is_refused(bench):
    bench.seen(CHAMPION, 0.70, seed=10, images=12)
    bench.seen(CANDIDATE, 0.72, seed=11, images=12)
    verdict = bench.judge()
    accuracy = found(verdict, "accuracy")
    assert accuracy.figures["low"] < 0 < accuracy.figures["difference"]
    assert not verdict.passed


def test_as_good_at_half_the_size_is_a_trade(bench):
    bench.seen(CHAMPION, 0.8)
    bench.seen(CANDIDATE, 0.8)
    verdict = bench.judge(version(2, megabytes=2.5))
    assert verdict.passed
    assert "a trade: it loses at most the 0.020 allowed, and is 50% smaller" in found(verdict, "accuracy").text
    assert not bench.judge(version(2, megabytes=4.6)).passed  # 8% are no trade


def test_as_good_but_faster_on_the_same_machine_is_a_trade(bench):
    bench.seen(CHAMPION, 0.8, metrics={"latency_ms_p50": 20.0})
    bench.seen(CANDIDATE, 0.8, metrics={"latency_ms_p50": 10.0})
    verdict = bench.judge()
    assert verdict.passed
    assert "50% faster" in found(verdict, "accuracy").text


def test_a_trade_may_not_cost_more_than_the_margin(bench):
    bench.seen(CHAMPION, 0.8)
    bench.seen(CANDIDATE, 0.74)
    small = version(2, megabytes=1)
    assert not bench.judge(small).passed
    assert bench.judge(small, gate_margin=0.2).passed


def test_a_collapsed_class_refuses_what_is_better_on_the_whole(bench):
    bench.seen(CHAMPION, {"사람": 0.5, "vehicle": 0.4, "forklift": 0.6})
    bench.seen(CANDIDATE, {"사람": 1.0, "vehicle": 1.0, "forklift": 0.1})
    verdict = bench.judge()
    assert found(verdict, "accuracy").passed
    [reason] = verdict.reasons
    assert reason.startswith("collapsed: forklift (AP 0.")


def test_a_class_that_was_hardly_ever_found_can_not_collapse(bench):
    bench.seen(CHAMPION, {"사람": 0.5, "vehicle": 0.5, "forklift": 0.05}, images=120)
    bench.seen(CANDIDATE, {"사람": 0.9, "vehicle": 0.9, "forklift": 0.0}, images=120)
    verdict = bench.judge()
    assert verdict.passed
    forklift = verdict.evidence["comparison"]["per_class"][2]
    assert 0 < forklift["champion"] < 0.05
    assert forklift["high"] < 0  # it is lost for certain


# --- which evidence -------------------------------------------------------------------------------


def test_without_evidence_both_are_named_with_the_command_that_gathers_it(bench):
    [reason] = bench.judge(CANDIDATE, version(1, serving=Serving("openvino", "int8", 320, "openvino"))).reasons
    assert "version 2 was never evaluated as it is served (torch fp32 at 320 px)" in reason
    command = (
        "guardianflow infer --model models:/cam/2 --data …/data.yaml --backends torch --precision fp32 --imgsz 320"
    )
    assert f"`{command}`" in reason
    assert "version 1 was never evaluated as it is served (openvino int8 at 320 px)" in reason
    assert "--backends openvino --precision int8" in reason


def test_the_first_champion_needs_evidence_but_nobody_to_beat(bench):
    [reason] = bench.judge(CANDIDATE, None).reasons
    assert "version 2 was never evaluated" in reason
    bench.seen(CANDIDATE, 0.3, metrics={"map50_95": 0.31})
    verdict = bench.judge(CANDIDATE, None)
    assert verdict.passed
    assert "mAP50-95 0.310" in verdict.checks[0].text
    assert [check.name for check in verdict.checks] == ["evidence"]


@pytest.mark.parametrize(
    "other",
    [
        {"backend": "onnxruntime"},
        {"precision": "int8"},
        {"imgsz": 640},
        {"split": "train"},
    ],
)
def test_evidence_of_another_way_to_serve_or_of_training_images_does_not_count(bench, other):
    bench.seen(CHAMPION, 0.5)
    bench.seen(CANDIDATE, 0.9, **other)
    [reason] = bench.judge().reasons
    assert "version 2 was never evaluated as it is served" in reason


@pytest.mark.parametrize("other", [{"dataset_fingerprint": "e" * 64}, {"images": 30}, {"truth_seed": 5}])
def test_evidence_on_other_images_is_no_comparison(bench, other):
    bench.seen(CHAMPION, 0.5, **other)
    bench.seen(CANDIDATE, 0.9)
    [reason] = bench.judge().reasons
    assert "never evaluated on the same images" in reason
    assert "guardianflow infer --model models:/cam/1" in reason


def test_the_candidates_own_data_and_most_images_come_first(bench):
    for of, skill in ((CHAMPION, 0.5), (CANDIDATE, 0.9)):
        bench.seen(of, skill)
        bench.seen(of, 1 - skill, images=10)  # newer, on fewer images
        bench.seen(of, 1 - skill, dataset_fingerprint="e" * 64, images=60)
    verdict = bench.judge()
    assert verdict.passed
    assert (verdict.evidence["images"], verdict.evidence["dataset_fingerprint"]) == (40, FINGERPRINT)


def test_the_newest_of_two_evaluations_on_the_same_images_counts(bench):
    bench.seen(CHAMPION, 0.5)
    bench.seen(CANDIDATE, 0.9)
    assert bench.judge().passed
    bench.seen(CANDIDATE, 0.3)
    assert not bench.judge().passed


# --- latency and size -----------------------------------------------------------------------------


@pytest.fixture
def better(bench) -> Bench:
    """A bench on which the candidate is better, and slower, by what a test measures."""
    bench.seen(CHAMPION, 0.6, metrics={"latency_ms_p50": 10.0, "latency_ms_p95": 12.0})
    bench.seen(CANDIDATE, 0.9, metrics={"latency_ms_p50": 16.0, "latency_ms_p95": 19.0})
    return bench


def test_too_slow_or_too_large_is_refused_and_every_reason_is_given(better):
    verdict = better.judge(version(2, megabytes=20), gate_size_mb=15.0, gate_latency_ms_p95=18.0)
    assert [check.name for check in verdict.checks if not check.passed] == [
        "latency", "latency limit", "size", "size limit",
    ]  # fmt: skip
    said = "; ".join(verdict.reasons)
    assert "16.00 ms (torch fp32 at 320 px) against 10.00 ms" in said
    assert "1.60× of the 1.5× allowed" in said
    assert "95 of 100 images take 19.00 ms at most (CPU), 18 ms are allowed" in said
    assert "20.00 MB against 5.00 MB, 4.00× of the 3× allowed" in said
    assert "20.00 MB, 15 MB are allowed" in said


def test_the_budgets_are_settings(better):
    assert not better.judge().passed
    assert better.judge(gate_latency_ratio=1.7).passed
    assert better.judge(version(2, megabytes=20), gate_latency_ratio=1.7, gate_size_ratio=4.0).passed


def test_noise_neither_refuses_nor_counts_as_a_gain(bench):
    noisy = {"latency_noise": 0.6}
    bench.seen(CHAMPION, 0.8, metrics={"latency_ms_p50": 10.0, **noisy})
    bench.seen(CANDIDATE, 0.8, metrics={"latency_ms_p50": 16.0})
    latency = found(bench.judge(), "latency")
    assert (latency.outcome, latency.figures["noise"]) == ("not compared", 0.6)
    assert "repetitions differ by 60%; measure again" in latency.text
    bench.seen(CANDIDATE, 0.8, metrics={"latency_ms_p50": 5.0})
    assert "as good, but neither better" in found(bench.judge(), "accuracy").text
    bench.seen(CANDIDATE, 0.8, metrics={"latency_ms_p50": 25.0, **noisy})
    assert found(bench.judge(), "latency").outcome == "refused"


def test_latencies_that_were_never_measured_stand_in_nobodys_way(bench):
    bench.seen(CHAMPION, 0.6, metrics={"latency_ms_p50": 10.0})
    bench.seen(CANDIDATE, 0.9)
    verdict = bench.judge()
    assert verdict.passed
    assert "version 2 was never timed by a benchmark: `guardianflow infer" in found(verdict, "latency").text


@pytest.mark.parametrize("differs", [{"host": "there"}, {"threads": 1}, {"timing": "stopwatch"}])
def test_latencies_under_other_conditions_stand_in_nobodys_way(bench, differs):
    bench.seen(CHAMPION, 0.6, metrics={"latency_ms_p50": 10.0})
    bench.seen(CANDIDATE, 0.9, metrics={"latency_ms_p50": 90.0}, machine={**MACHINE, **differs})
    verdict = bench.judge()
    assert verdict.passed
    [name] = differs
    assert found(verdict, "latency").outcome == "not compared"
    assert f"({name}=" in found(verdict, "latency").text


def test_a_limit_must_be_shown_to_be_kept(bench):
    bench.seen(CANDIDATE, 0.9)
    [reason] = bench.judge(CANDIDATE, None, gate_latency_ms_p95=18.0).reasons
    assert "was never timed: `guardianflow infer" in reason


# --- the registry asks it -------------------------------------------------------------------------


class Model:
    """A registered model on a real MLflow, whose gate is on."""

    def __init__(self, world: World, folder: Path) -> None:
        self.name = f"gated {next(_numbers)}"
        self.world = world
        self._folder = folder
        self.registry = world.registry(gate=None)
        self.evaluations = Evaluations(world.settings)

    def add(self, skill: float | None, *, artifacts: bool = False) -> ModelVersion:
        """A version, evaluated; ``None``: never evaluated."""
        added = self.registry.register(
            self.name, self.world.run(f"weights of {self.name} {next(_numbers)}".encode()),
            dataset_fingerprint=FINGERPRINT,
        )  # fmt: skip
        if skill is not None:
            self.place = self._folder / f"r{next(_numbers)}"
            evaluate(self.evaluations, added.sha256, self.place, skill, run_id=added.run_id)
            if artifacts:
                self.world.client.log_artifacts(added.run_id, str(self.place), "evaluation")
        return added

    @property
    def holders(self) -> tuple[str | None, str | None]:
        state = next(state for state in self.registry.list_models() if state.name == self.name)
        return state.champion, state.candidate


@pytest.fixture
def model(world: World, tmp_path: Path) -> Model:
    return Model(world, tmp_path)


def test_the_gate_is_on_unless_it_is_turned_off():
    assert Settings().gate == "evidence"
    assert isinstance(make_gate(None, Settings()), EvidenceGate)
    assert make_gate(None, Settings(gate="off")) is None
    assert make_gate("off", Settings()) is None
    with pytest.raises(NotFoundError, match=r"no gate named 'evidense'\. Did you mean 'evidence'"):
        make_gate("evidense", Settings())


def test_a_model_goes_through_its_life_with_the_gate_on(model):
    model.add(0.5)
    model.registry.promote(model.name)
    model.add(0.9)
    assert model.registry.promote(model.name, reason="finds more").version == "2"
    event = model.registry.history(model.name)[0]
    gate = event.evidence["gate"]
    assert (gate["passed"], gate["candidate"], gate["champion"]) == (True, "2", "1")
    assert gate["evidence"]["comparison"]["low"] > 0
    assert gate["evidence"]["dataset_fingerprint"] == FINGERPRINT
    assert {gate["evidence"][role]["run_id"] for role in ("candidate", "champion")} == {
        item.run_id for item in model.registry.list_versions(model.name)
    }
    assert model.registry.rollback(model.name).version == "1"  # no gate on the way back
    assert model.registry.promote(model.name, 2).version == "2"
    moves = len(model.registry.history(model.name))
    assert model.registry.promote(model.name, 2).version == "2"  # the champion already: nothing changes
    assert len(model.registry.history(model.name)) == moves


def test_a_refusal_names_every_reason_and_moves_nothing(model):
    model.add(0.9)
    model.registry.promote(model.name)
    model.add(0.4)
    moves = len(model.registry.history(model.name))
    strict = model.world.registry(gate=None, gate_size_mb=0.000001)
    with pytest.raises(
        RefusedError, match=r"was not promoted; champion stays 1: \(1\) mAP50-95.*; \(2\) .*MB"
    ) as caught:
        strict.promote(model.name)
    assert caught.value.exit_code == 3
    assert model.holders == ("1", "2")
    assert len(model.registry.history(model.name)) == moves


def test_without_evidence_nothing_is_promoted_not_even_the_first(model):
    model.add(None)
    with pytest.raises(RefusedError, match=r"never evaluated.*`guardianflow infer --model 'models:/gated"):
        model.registry.promote(model.name)
    assert model.holders == (None, "1")


def test_force_promotes_and_the_ledger_says_what_the_gate_said(model):
    model.add(0.9)
    model.registry.promote(model.name)
    model.add(0.4)
    with pytest.raises(InputError, match="must say why"):
        model.registry.promote(model.name, force=True)
    assert model.registry.promote(model.name, force=True, reason="the old one can't be licensed").version == "2"
    event = model.registry.history(model.name)[0]
    assert (event.evidence["forced"], event.evidence["gate"]["passed"]) == (True, False)
    assert "worse" in event.evidence["gate"]["reasons"][0]


def test_only_those_with_the_right_may_force(model):
    model.add(None)
    model.add(None)
    for actor in ("kim", "KIM"):
        registry = model.world.registry(gate=None, actor=actor, gate_override_actors=["lee", "박"])
        with pytest.raises(RefusedError, match=rf"'{actor}' may not force a promotion; lee, 박 may"):
            registry.promote(model.name, force=True, reason="I want it")
    assert model.holders == (None, "2")
    lee = model.world.registry(gate=None, actor="lee", gate_override_actors=["lee", "박"])
    assert lee.promote(model.name, force=True, reason="no data yet").version == "2"


def test_judging_changes_nothing(model):
    model.add(0.5)
    assert model.registry.judge(model.name).passed
    model.registry.promote(model.name)
    model.add(0.4)
    moves = len(model.registry.history(model.name))
    verdict = model.registry.judge(model.name)
    assert not verdict.passed
    assert (verdict.candidate, verdict.champion) == ("2", "1")
    assert model.registry.judge(model.name, 1).checks[0].text == "it is the champion already; nothing would change"
    assert len(model.registry.history(model.name)) == moves
    assert model.world.registry(gate="off").judge(model.name).checks[0].text == "the gate is off"


def test_evidence_that_is_gone_or_damaged_refuses_and_moves_nothing(model):
    model.add(0.5)
    model.registry.promote(model.name)
    model.add(0.9)
    (model.place / "predictions.parquet").write_bytes(b"PAR1 nonsense")
    with pytest.raises(RefusedError, match=r"the evidence can't be used: the predictions of .* was changed"):
        model.registry.promote(model.name)
    shutil.rmtree(model.place)
    with pytest.raises(RefusedError, match=r"the evidence can't be used: the predictions of .* is gone"):
        model.registry.promote(model.name)
    assert model.holders == ("1", "2")
    forced = model.registry.promote(model.name, force=True, reason="seen by eye")
    assert forced.version == "2"


def test_evidence_of_another_machine_is_read_from_mlflow(model):
    model.add(0.5)
    model.registry.promote(model.name)
    model.add(0.9, artifacts=True)
    shutil.rmtree(model.place)
    assert model.registry.promote(model.name).version == "2"


class Meddler:
    """A gate during whose judgement somebody else promotes another version."""

    def __init__(self, gate: EvidenceGate, meddle: list[object]) -> None:
        self._gate = gate
        self._meddle = meddle
        self.judged: list[tuple[str, str | None]] = []

    def judge(self, candidate: ModelVersion, champion: ModelVersion | None) -> Verdict:
        self.judged.append((candidate.version, champion.version if champion else None))
        verdict = self._gate.judge(candidate, champion)
        if self._meddle:
            self._meddle.pop()()
        return verdict


def meddled(model: Model, meddle: list[object]) -> tuple[Meddler, ModelRegistry]:
    gate = Meddler(EvidenceGate(model.world.settings, resamples=100), meddle)
    return gate, model.world.registry(gate=gate)


def test_a_champion_that_changed_meanwhile_is_judged_against_again(model):
    """Better than the champion that it was first judged against, worse than the one that is there now."""
    for skill in (0.4, 0.6, 0.95):
        model.add(skill)
    off = model.world.registry()
    off.promote(model.name, 1)
    gate, registry = meddled(model, [lambda: off.promote(model.name, 3)])
    with pytest.raises(RefusedError, match="champion stays 3: mAP50-95"):
        registry.promote(model.name, 2)
    assert gate.judged == [("2", "1"), ("2", "3")]
    assert model.holders[0] == "3"


def test_what_is_still_better_than_the_new_champion_is_promoted(model):
    for skill in (0.4, 0.6, 0.95):
        model.add(skill)
    off = model.world.registry()
    off.promote(model.name, 1)
    gate, registry = meddled(model, [lambda: off.promote(model.name, 2)])
    assert registry.promote(model.name, 3).version == "3"
    assert gate.judged == [("3", "1"), ("3", "2")]
    assert registry.history(model.name)[0].evidence["gate"]["champion"] == "2"


def test_a_champion_that_changes_all_the_time_ends_in_a_conflict(model):
    for skill in (0.4, 0.5, 0.95):
        model.add(skill)
    off = model.world.registry()
    off.promote(model.name, 1)
    turns = [lambda number=number: off.promote(model.name, number) for number in (1, 2) * 20]
    gate, registry = meddled(model, turns)
    gate._gate = type("Always", (), {"judge": lambda _, a, b: Verdict(a.name, a.version, b.version, ())})()
    with pytest.raises(ConflictError, match="change all the time; nothing was promoted"):
        registry.promote(model.name, 3)
    assert model.holders[0] in {"1", "2"}


@pytest.mark.slow
def test_two_processes_that_promote_at_once_each_pass_the_gate_or_are_refused(model):
    """Whoever is second is judged against whoever was first: nothing worse ever follows something better."""
    skills = {"1": 0.3, "2": 0.6, "3": 0.95}
    for skill in skills.values():
        model.add(skill)
    model.registry.promote(model.name, 1)
    world = model.world
    where = (str(world.settings.work_dir), world.settings.mlflow_tracking_uri, world.settings.database_url)
    barrier = FORK_SERVER.Barrier(2)
    reports, workers = [], []
    for number in (2, 3):
        mine, theirs = FORK_SERVER.Pipe()
        workers.append(
            FORK_SERVER.Process(target=promote_against_the_gate, args=(where, model.name, number, barrier, theirs))
        )
        reports.append(mine)
        workers[-1].start()
    said = [end.recv() if end.poll(100) else "no report" for end in reports]
    for worker in workers:
        worker.join(30)
    assert said[1] == "promoted"
    assert said[0] in {"promoted", "refused"}
    assert model.holders[0] == "3"
    history = model.registry.history(model.name)
    champions = [event.champion for event in reversed(history) if event.action == "promote"]
    assert champions in (["1", "3"], ["1", "2", "3"])
    judged = [event.evidence["gate"]["champion"] for event in reversed(history) if event.action == "promote"]
    assert judged == [None, *champions[:-1]], "something was moved over a champion that it was not judged against"
    assert ledger_problems(model.registry._ledger.state(model.name), history) == []


# --- how it is shown ------------------------------------------------------------------------------


def test_a_verdict_is_shown_in_words_and_escaped():
    verdict = Verdict("<b>cam</b>", "2", "1", (
        Check("accuracy", passed=False, text="<script>alert(1)</script>", figures={"low": math.pi}),
        Check("latency", passed=True, judged=False, text="other machines"),
    ))  # fmt: skip
    page = verdict._repr_html_()
    assert "<script>" not in page
    assert "<b>cam" not in page
    assert "&lt;script&gt;" in page
    assert ">refused<" in page
    assert ">not compared<" in page
    assert "judged against champion 1, is refused." in page
    assert replace(verdict, checks=verdict.checks[1:]).passed
    assert json.loads(json.dumps(verdict.to_dict()))["checks"][0]["figures"] == {"low": math.pi}
