"""One line of the doctor's report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Check", "Status"]

Status = Literal["ok", "warn", "fail", "skip"]


@dataclass(frozen=True)
class Check:
    """One line of the report.

    Attributes:
        name: What was looked at.
        status: ``"ok"``, ``"warn"`` (works, with a limit), ``"fail"`` or ``"skip"`` (not asked for).
        detail: What was found.
        advice: What to do; never empty for ``"warn"`` and ``"fail"``.
    """

    name: str
    status: Status
    detail: str
    advice: str = ""
