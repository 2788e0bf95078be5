"""What the doctor found, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from guardianflow.text.plain import Row

__all__ = ["Check", "DoctorReport", "Status"]

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


@dataclass(frozen=True)
class DoctorReport(Row):
    """Settings and checks.

    Attributes:
        settings: Each setting as :meth:`Settings.describe` has it, secrets masked.
        checks: What was examined.
        seconds: How long it took.
    """

    settings: tuple[dict[str, str], ...]
    checks: tuple[Check, ...]
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether nothing failed; warnings don't count."""
        return all(check.status != "fail" for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"ok": self.ok, **super().to_dict(), "seconds": round(self.seconds, 2)}
