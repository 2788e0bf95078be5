"""What may go into the ledger: text that every database takes, figures that are numbers, plain JSON."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from typing import Any

from guardianflow.exceptions import InputError

__all__ = ["finite_metrics", "legal_text", "plain_json"]

log = logging.getLogger(__name__)


def legal_text(value: str | None, what: str, *, most: int) -> str | None:
    """A text without blanks around it; ``None`` for an empty one.

    Args:
        value: What was given.
        what: What it is, as the message shall say it.
        most: How many characters it may have.

    Raises:
        InputError: It is longer, or holds what PostgreSQL or UTF-8 can't keep.
    """
    text = (value or "").strip()
    if len(text) > most or "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise InputError(
            f"{what} {text[:60]!r} must be text of at most {most} characters, without NUL; it has {len(text)}"
        )
    return text or None


def finite_metrics(metrics: Mapping[str, float]) -> dict[str, float]:
    """The metrics that are numbers; NaN and infinity are left out with a warning."""
    figures = {str(key): float(value) for key, value in metrics.items()}
    dropped = sorted(key for key, value in figures.items() if not math.isfinite(value))
    if dropped:
        log.warning("left out of the registered metrics, being no numbers: %s", ", ".join(dropped))
    return {key: value for key, value in figures.items() if math.isfinite(value)}


def plain_json(evidence: Mapping[str, Any] | None) -> dict[str, Any]:
    """Evidence as it will be read back.

    Raises:
        InputError: It holds something that JSON has no form for, NaN or infinity.
    """
    try:
        plain: dict[str, Any] = json.loads(json.dumps(dict(evidence or {}), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise InputError(f"evidence must be plain JSON types without NaN or infinity: {error}") from error
    return plain
