"""The gate that asks for evidence: better than the champion on the same images, or as good and cheaper.

Accuracy is compared by a paired bootstrap over images: both versions' predictions on the same images,
drawn again and again with replacement (Efron and Tibshirani, An Introduction to the Bootstrap, 1993).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from guardianflow.core.config import Settings
from guardianflow.exceptions import GuardianFlowError, TrackingUnavailableError
from guardianflow.registry.evaluations import EvaluationRow, Evaluations
from guardianflow.registry.evidence_search import Common, EvidenceSearch
from guardianflow.registry.gate import Check, Verdict
from guardianflow.registry.model_records import ModelVersion

if TYPE_CHECKING:
    from guardianflow.evaluation.significance import PairedComparison

__all__ = ["EvidenceGate"]

METRIC = "map50_95"
NOISE = "latency_noise"
"""Of a row's metrics: (largest - smallest) / median of the median latencies of its repetitions."""
GAIN = 0.1
"""A trade of accuracy must be at least this much smaller or faster."""
COLLAPSE = 0.5
"""A class that loses more than this share of its AP collapsed …"""
LEAST_AP = 0.05
"""… if there was something to lose."""


@dataclass(frozen=True)
class _Costs:
    """What serving the candidate costs, beside the champion.

    Attributes:
        size: Candidate's size as a multiple of the champion's; ``None`` for the first champion.
        latency: Candidate's median latency as a multiple of the champion's; ``None`` where not comparable.
        why_not: Why latencies can't be compared.
        pair: The timings that were compared.
        noise: By what share of the median the repetitions of a timing differ, of the worse of the two.
    """

    size: float | None
    latency: float | None
    why_not: str = ""
    pair: tuple[EvaluationRow, EvaluationRow] | None = None
    noise: float = 0.0

    @property
    def gains(self) -> list[str]:
        """In what the candidate is at least 10% cheaper, and by more than the noise."""
        named = (("smaller", self.size, 0.0), ("faster", self.latency, self.noise))
        return [
            f"{1 - ratio:.0%} {word}"
            for word, ratio, noise in named
            if ratio is not None and ratio <= 1 - max(GAIN, noise)
        ]


class EvidenceGate:
    """Judges by evaluations of both versions, as they are served, on the same images.

    A candidate passes when it is better (the 95% interval of its gain lies above zero), or when it loses
    at most ``gate_margin`` of mAP50-95 (the interval's lower bound) and is at least 10% smaller or faster;
    no class may collapse; latency and size must be within the budgets of the settings. Without evidence
    it is refused. The first champion must have evidence, too, but needs to beat nobody.

    Args:
        settings: Limits, and where the evidence is.
        evaluations: The index of evidence; default: that of the settings.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.
    """

    def __init__(
        self, settings: Settings, *, evaluations: Evaluations | None = None, resamples: int = 1000, seed: int = 0
    ) -> None:
        self._settings = settings
        self._evaluations = evaluations or Evaluations(settings)
        self._search = EvidenceSearch(settings, self._evaluations)
        self._resamples = resamples
        self._seed = seed

    def judge(self, candidate: ModelVersion, champion: ModelVersion | None) -> Verdict:
        """Whether the candidate may be promoted, and why; nothing is changed.

        Raises:
            TrackingUnavailableError: The evidence lies in MLflow alone, and it doesn't answer.
        """
        common = self._search.common(candidate, champion)
        costs = self._costs(candidate, champion)
        accuracy, evidence = self._accuracy(common, costs)
        checks = (
            *accuracy,
            self._latency(candidate, champion, costs),
            self._latency_limit(candidate),
            self._size(candidate, champion, costs),
            self._size_limit(candidate),
        )
        return Verdict(
            name=candidate.name,
            candidate=candidate.version,
            champion=champion.version if champion else None,
            checks=tuple(check for check in checks if check is not None),
            evidence=evidence,
        )

    # --- accuracy ---------------------------------------------------------------------------------

    def _accuracy(self, common: Common, costs: _Costs) -> tuple[list[Check], dict[str, Any]]:
        if common.candidate is None:
            return [Check("evidence", passed=False, text=common.missing)], {}
        from guardianflow.evaluation.significance import paired_bootstrap

        evidence = _facts(common)
        try:
            seen = self._evaluations.load(common.candidate)
            if common.champion is None:
                return [self._first(common.candidate)], evidence
            compared = paired_bootstrap(
                seen,
                self._evaluations.load(common.champion),
                metric=METRIC,
                resamples=self._resamples,
                seed=self._seed,
                max_det=common.candidate.protocol.get("max_det") or 300,
            )
        except TrackingUnavailableError:
            raise
        except GuardianFlowError as error:
            return [Check("evidence", passed=False, text=f"the evidence can't be used: {error}")], evidence
        evidence["comparison"] = _plain(compared.to_dict())
        found = Check("evidence", passed=True, text=f"both were evaluated on {_subject(common.candidate)}")
        return [found, self._gain(compared, costs), _classes(compared)], evidence

    @staticmethod
    def _first(row: EvaluationRow) -> Check:
        score = row.metrics.get(METRIC)
        shown = "" if score is None else f"; mAP50-95 {score:.3f}"
        text = f"the first champion has nobody to beat; it was evaluated on {_subject(row)}{shown}"
        return Check("evidence", passed=True, text=text, figures={METRIC: score})

    def _gain(self, compared: PairedComparison, costs: _Costs) -> Check:
        margin = self._settings.gate_margin
        figures = {name: _number(getattr(compared, name)) for name in ("candidate", "champion", "difference")}
        figures |= {"low": _number(compared.low), "high": _number(compared.high), "margin": margin}
        if any(value is None for value in figures.values()):
            text = "mAP50-95 can't be compared: the images show nothing that is labelled"
            return Check("accuracy", passed=False, text=text, figures=figures)
        said = (
            f"mAP50-95 {compared.candidate:.3f} against {compared.champion:.3f} of the champion, "
            f"{compared.difference:+.3f} ({compared.level:.0%} interval {compared.low:+.3f} to {compared.high:+.3f})"
        )
        passed, judgement = self._judged(compared, costs, margin)
        return Check("accuracy", passed=passed, text=f"{said}: {judgement}", figures=figures)

    @staticmethod
    def _judged(compared: PairedComparison, costs: _Costs, margin: float) -> tuple[bool, str]:
        gains = " and ".join(costs.gains)
        if compared.low > 0:
            return True, "better"
        if compared.low < -margin:
            if compared.high < 0:
                return False, f"worse, and perhaps by more than the {margin:.3f} that a cheaper version may lose"
            return False, f"not shown to be better, and perhaps worse by more than {margin:.3f}"
        if gains:
            return True, f"a trade: it loses at most the {margin:.3f} allowed, and is {gains}"
        return False, f"as good, but neither better nor at least {GAIN:.0%} smaller or faster"

    # --- latency and size -------------------------------------------------------------------------

    def _costs(self, candidate: ModelVersion, champion: ModelVersion | None) -> _Costs:
        if champion is None:
            return _Costs(None, None)
        size = candidate.size_bytes / champion.size_bytes if champion.size_bytes else None
        pair, why_not = self._search.timings(candidate, champion)
        if pair is None:
            return _Costs(size, None, why_not)
        mine, theirs = (row.metrics["latency_ms_p50"] for row in pair)
        return _Costs(size, mine / theirs, pair=pair, noise=max(row.metrics.get(NOISE, 0.0) for row in pair))

    def _latency(self, candidate: ModelVersion, champion: ModelVersion | None, costs: _Costs) -> Check | None:
        if champion is None:
            return None
        if costs.pair is None or costs.latency is None:
            return Check("latency", passed=True, judged=False, text=costs.why_not)
        mine, theirs = (row.metrics["latency_ms_p50"] for row in costs.pair)
        limit = self._settings.gate_latency_ratio
        passed = costs.latency <= limit
        in_noise = not passed and costs.latency <= limit * (1 + costs.noise)
        text = (
            f"median latency {mine:.2f} ms ({candidate.serving.conditions}) against {theirs:.2f} ms "
            f"({champion.serving.conditions}), {costs.latency:.2f}× of the {limit:g}× allowed"
        )
        if in_noise:
            text += f", but the machine was not quiet: repetitions differ by {costs.noise:.0%}; measure again"
        figures = {
            "candidate_ms": mine,
            "champion_ms": theirs,
            "ratio": costs.latency,
            "limit": limit,
            "noise": costs.noise,
            "runs": [row.run_id for row in costs.pair],
            "conditions": list(costs.pair[0].conditions),
        }
        return Check("latency", passed=passed or in_noise, judged=not in_noise, text=text, figures=figures)

    def _latency_limit(self, candidate: ModelVersion) -> Check | None:
        limit = self._settings.gate_latency_ms_p95
        if not limit:
            return None
        row = self._search.timing(candidate)
        if row is None:
            text = (
                f"latency may be {limit:g} ms at most (p95), and version {candidate.version} was never timed: "
                f"{self._search.command(candidate)}"
            )
            return Check("latency limit", passed=False, text=text, figures={"limit_ms": limit})
        value = row.metrics["latency_ms_p95"]
        text = f"95 of 100 images take {value:.2f} ms at most ({row.device}), {limit:g} ms are allowed"
        figures = {"latency_ms_p95": value, "limit_ms": limit, "run_id": row.run_id}
        return Check("latency limit", passed=value <= limit, text=text, figures=figures)

    def _size(self, candidate: ModelVersion, champion: ModelVersion | None, costs: _Costs) -> Check | None:
        if champion is None or costs.size is None:
            return None
        limit = self._settings.gate_size_ratio
        mine, theirs = candidate.size_bytes / 1e6, champion.size_bytes / 1e6
        text = f"{mine:.2f} MB against {theirs:.2f} MB, {costs.size:.2f}× of the {limit:g}× allowed"
        figures = {"candidate_mb": mine, "champion_mb": theirs, "ratio": costs.size, "limit": limit}
        return Check("size", passed=costs.size <= limit, text=text, figures=figures)

    def _size_limit(self, candidate: ModelVersion) -> Check | None:
        limit, size = self._settings.gate_size_mb, candidate.size_bytes / 1e6
        if not limit:
            return None
        text = f"{size:.2f} MB, {limit:g} MB are allowed"
        return Check("size limit", passed=size <= limit, text=text, figures={"size_mb": size, "limit_mb": limit})


def _classes(compared: PairedComparison) -> Check:
    lost = []
    for row in compared.per_class:
        mine, theirs = _number(row.candidate), _number(row.champion)
        if mine is None or theirs is None or theirs < LEAST_AP:
            continue
        if mine < (1 - COLLAPSE) * theirs and row.lost_beyond_chance:
            lost.append((row.name, mine, theirs))
    if not lost:
        return Check("classes", passed=True, text=f"no class loses more than {COLLAPSE:.0%} of its AP")
    listed = ", ".join(f"{name} (AP {theirs:.3f} → {mine:.3f})" for name, mine, theirs in lost)
    figures = {name: {"candidate": mine, "champion": theirs} for name, mine, theirs in lost}
    return Check("classes", passed=False, text=f"collapsed: {listed}", figures=figures)


def _subject(row: EvaluationRow) -> str:
    return f"{row.images} {row.split} images of dataset {row.dataset_fingerprint[:12]}"


def _facts(common: Common) -> dict[str, Any]:
    row = common.candidate
    assert row is not None  # noqa: S101 - the caller looked
    facts: dict[str, Any] = {
        "dataset_fingerprint": row.dataset_fingerprint,
        "split": row.split,
        "images": row.images,
        "protocol": dict(row.protocol),
    }
    for role, found in (("candidate", row), ("champion", common.champion)):
        if found is not None:
            facts[role] = {
                "evaluation": found.id,
                **{name: getattr(found, name) for name in ("run_id", "sha256", "backend", "precision", "imgsz")},
                METRIC: found.metrics.get(METRIC),
            }
    return facts


def _number(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def _plain(value: Any) -> Any:
    """The same without NaN and infinity, which JSON doesn't have."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return _number(value) if isinstance(value, float) else value
