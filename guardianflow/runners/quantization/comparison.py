"""Original against quantized: what was gained and what it cost, as figures and in a few plain sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from guardianflow.evaluation.damage import DamageReport
from guardianflow.evaluation.significance import PairedComparison
from guardianflow.plots.quantization import VariantRow
from guardianflow.vision.benchmark.cell_results import CellResult
from guardianflow.vision.benchmark.speed_rounds import Speed, speed_ratio

__all__ = ["VariantFacts", "compare", "quantization_verdict", "variant_facts"]

Row = Mapping[str, Any]


class VariantFacts(TypedDict):
    """One side of the comparison as plain JSON."""

    backend: str
    precision: str
    precision_executed: str
    device: str
    version: str
    artifact: str
    sha256: str
    size_mb: float
    metrics: Mapping[str, float]
    noise: Mapping[str, float]
    latency_interval_ms: Sequence[float | None]
    per_class: Sequence[Mapping[str, str | float | None]]
    warnings: Sequence[str]


_LATENCIES = ("latency_ms_p50", "latency_ms_p95", "latency_ms_p99")


def variant_facts(cell: CellResult, *, sha256: str, size_mb: float, artifact: str) -> VariantFacts:
    """One side of the comparison as plain JSON.

    Args:
        cell: What was measured.
        sha256: Of the file that is served (not of an export of it).
        size_mb: Its size, MB (10^6 bytes).
        artifact: Where it lies.
    """
    single = cell.mode("single_stream")
    latency = single.latency if single is not None else None
    return {
        "backend": cell.spec.backend,
        "precision": cell.spec.precision,
        "precision_executed": cell.precision_executed,
        "device": cell.device,
        "version": cell.backend.version if cell.backend else "",
        "artifact": artifact,
        "sha256": sha256,
        "size_mb": size_mb,
        "metrics": {**cell.metrics(), "model_size_mb": size_mb},
        "noise": dict(single.noise) if single is not None else {},
        "latency_interval_ms": [latency.p50_low, latency.p50_high] if latency is not None else [None, None],
        "per_class": [dict(row) for row in cell.detection_details.get("per_class", ())],
        "warnings": list(cell.warnings),
    }


def compare(
    original: VariantFacts,
    quantized: VariantFacts,
    damage: DamageReport,
    speeds: Sequence[Speed],
    *,
    plain: tuple[VariantFacts, PairedComparison] | None = None,
) -> dict[str, Any]:
    """The comparison as plain JSON: pairs of figures, and how many times smaller and faster.

    Args:
        original: From :func:`variant_facts`.
        quantized: From :func:`variant_facts`.
        damage: What was lost.
        speeds: Of the contenders: ``peer``, ``original``, ``plain`` (fp32 on the runtime of the quantized
            model) and ``quantized``.
        plain: fp32 on the runtime of the quantized model, and its accuracy against the original's.
    """
    whole = damage.comparison
    found: dict[str, Any] = {
        "map50_95": {
            "original": whole.champion, "quantized": whole.candidate, "change": whole.difference,
            "low": whole.low, "high": whole.high, "level": whole.level, "images": whole.images,
        },
        "model_size_mb": _pair(original["size_mb"], quantized["size_mb"]),
    }  # fmt: skip
    for name in ("map50", "precision", "recall", "f1", *_LATENCIES):
        before, after = original["metrics"].get(name), quantized["metrics"].get(name)
        if before is not None and after is not None:
            found[name] = _pair(before, after)
    by_role = {speed.role: speed for speed in speeds}
    small = by_role.get("quantized")
    ratios: dict[str, dict[str, float]] = {}
    if small is not None and small.status == "ok":
        found["throughput_fps"] = small.images_per_s
        for role, speed in by_role.items():
            ratio = speed_ratio(small, speed)
            if role != "quantized" and ratio is not None:
                ratios[role] = dict(zip(("ratio", "low", "high"), ratio, strict=True))
    return {
        **found,
        "speed_ratios": ratios,
        "speeds": [speed.to_dict() for speed in speeds],
        "variants": [
            _variant("original", original, None),
            *([_variant("plain", plain[0], plain[1])] if plain is not None else []),
            _variant("quantized", quantized, whole),
        ],
        "agreement": damage.agreement.share,
        "mean_iou": damage.agreement.mean_iou,
        "confidence_shift": damage.shift.mean,
        "precision_executed": quantized["precision_executed"],
        "passed": damage.passed,
        "reasons": list(damage.reasons),
    }


def quantization_verdict(quantized: VariantFacts, comparison: Row, damage: Row) -> str:
    """What the quantization brought and cost, for people who don't read mAP.

    Args:
        quantized: From :func:`variant_facts`.
        comparison: From :func:`compare`.
        damage: The damage report as plain JSON.
    """
    sentences = [str(damage["verdict"])]
    size = comparison["model_size_mb"]
    sentences.append(_size(size["original"], size["quantized"]))
    sentences += _speed(comparison["speed_ratios"], {row["role"]: row for row in comparison["speeds"]})
    executed, asked = quantized["precision_executed"], quantized["precision"]
    if executed and executed != asked:
        sentences.append(f"Asked for {asked}, this device computes it at {executed}.")
    return " ".join(sentences)


def _variant(role: str, side: VariantFacts, against: PairedComparison | None) -> VariantRow:
    """One way to run the model: its latency, and its accuracy against the original's."""
    low, high = side["latency_interval_ms"]
    change = (0.0, 0.0, 0.0) if against is None else (against.difference, against.low, against.high)
    return {
        "role": role,
        "label": f"{side['backend']} {side['precision_executed'] or side['precision']}",
        "map50_95": side["metrics"]["map50_95"],
        "change": change[0],
        "change_low": change[1],
        "change_high": change[2],
        "latency_ms_p50": side["metrics"].get("latency_ms_p50"),
        "latency_ms_low": low,
        "latency_ms_high": high,
        "size_mb": side["size_mb"],
    }


def _pair(before: float, after: float) -> dict[str, float | None]:
    return {"original": before, "quantized": after, "ratio": before / after if after else None}


def _size(before: float, after: float) -> str:
    if after <= 0.95 * before:
        return f"It is {before / after:.1f} times smaller: {after:.1f} MB instead of {before:.1f} MB."
    if after < 1.05 * before:
        return f"It is no smaller ({after:.1f} MB): the original's weights are stored in few bits, too."
    return f"It is larger: {after:.1f} MB instead of {before:.1f} MB."


def _speed(ratios: Mapping[str, Row], by_role: Mapping[str, Row]) -> list[str]:
    small = by_role.get("quantized")
    if small is None or small["status"] != "ok":
        return ["Its speed could not be measured."]
    sentences = []
    if "peer" in ratios:
        sentences.append(
            f"From file to boxes it does {small['images_per_s']:.0f} images a second, "
            f"{ratios['peer']['ratio']:.1f}× of what Ultralytics' own predict does with torch "
            f"({by_role['peer']['images_per_s']:.0f})."
        )
    role = "plain" if "plain" in ratios else "original"
    if role in ratios:
        sentences.append(_against(ratios[role], str(by_role[role]["label"])))
    return sentences


def _against(ratio: Row, label: str) -> str:
    """A ratio in words; one that some rounds contradict is none."""
    if ratio["low"] <= 1.02 and ratio["high"] >= 0.98:
        return f"Against {label} it gains no speed on this device ({ratio['low']:.2f} to {ratio['high']:.2f}×)."
    if ratio["ratio"] < 1:
        return f"Against {label} it is slower on this device: {ratio['ratio']:.2f}× the images a second."
    return f"Against {label} it does {ratio['ratio']:.2f}× the images a second."
