"""A finished training in one or two plain sentences, for people who don't read mAP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from guardianflow.vision.training.epochs import ClassResult

__all__ = ["training_verdict"]

_NOTEWORTHY = 0.1  # recall below the mean by which a class is worth naming


def training_verdict(
    metrics: Mapping[str, float],
    per_class: Sequence[ClassResult] = (),
    history: Sequence[Mapping[str, float]] = (),
    *,
    epochs: int = 0,
) -> str:
    """How good the best weights are on the validation images, where they are weak, and whether training ended early.

    Precision and recall are those at the confidence with the highest F1, averaged over the classes.

    Args:
        metrics: With ``precision`` and ``recall`` (fractions).
        per_class: Rows with ``name``, ``boxes`` and ``recall``, which is ``None`` where nothing is labelled.
        history: One row an epoch.
        epochs: How many epochs were asked for.
    """
    sentences = [_quality(metrics.get("recall", 0.0), metrics.get("precision", 0.0))]
    sentences += _classes(per_class, metrics.get("recall", 0.0))
    if 0 < len(history) < epochs:
        best = max(history, key=lambda row: row.get("map50_95", 0.0))
        sentences.append(f"Stopped after {len(history)} of {epochs} epochs; the best was epoch {best['epoch']:.0f}.")
    return " ".join(sentences)


def _quality(recall: float, precision: float) -> str:
    if recall < 0.005 or precision < 0.005:
        return "Finds next to nothing yet: train longer, or look at the labels and the image size."
    return f"Finds {_share(recall)} objects; {_wrong(precision)}."


def _share(fraction: float) -> str:
    """``0.78`` → ``"8 of 10"``; near the ends in hundredths, so that 0.97 isn't called all."""
    if 0.05 <= fraction < 0.95:
        return f"{round(10 * fraction)} of 10"
    return "all" if fraction > 0.995 else f"{max(round(100 * fraction), 1)} of 100"


def _wrong(precision: float) -> str:
    wrong = 1 - precision
    if wrong < 0.005:
        return "hardly any of its boxes is wrong"
    if wrong <= 0.5:
        return f"1 in {round(1 / wrong)} of its boxes is wrong"
    return f"{_share(wrong)} of its boxes are wrong"


def _classes(per_class: Sequence[ClassResult], recall: float) -> list[str]:
    sentences = []
    known = {row["name"]: found for row in per_class if (found := row.get("recall")) is not None}
    if len(known) > 1:
        weakest = min(known, key=known.__getitem__)
        if known[weakest] < recall - _NOTEWORTHY:
            sentences.append(f"Weakest class: {weakest} (finds {_share(known[weakest])}).")
    unknown = [row["name"] for row in per_class if row.get("recall") is None]
    if unknown:
        more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
        sentences.append(f"Not judged, for no validation image shows it: {', '.join(unknown[:3])}{more}.")
    return sentences
