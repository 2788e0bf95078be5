"""What a promotion is asked: a gate judges a candidate against the champion, and says why.

The gate that ships is :class:`guardianflow.registry.evidence_gate.EvidenceGate`. Another one is any object
with its :meth:`Gate.judge`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from guardianflow._plugins import Registry
from guardianflow.core.config import Settings
from guardianflow.registry.model_records import ModelVersion
from guardianflow.text.frozen import Frozen
from guardianflow.text.plain import Row
from guardianflow.text.printable import escape

__all__ = ["GATES", "OFF", "Check", "Gate", "Verdict", "make_gate", "verdict_html"]

OFF = "off"


@dataclass(frozen=True)
class Check(Row):
    """One thing that a gate looked at.

    Attributes:
        name: What, in a word or two.
        passed: Whether it stands in the way (``False``) or not.
        text: What was found, as a sentence.
        figures: The figures behind it, plain JSON.
        judged: Whether there was something to judge; what couldn't be compared stands in nobody's way.
    """

    name: str
    passed: bool
    text: str
    figures: Mapping[str, Any] = field(default_factory=dict)
    judged: bool = True

    @property
    def outcome(self) -> str:
        """``"passed"``, ``"refused"`` or ``"not compared"``."""
        if not self.passed:
            return "refused"
        return "passed" if self.judged else "not compared"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {"name": self.name, "outcome": self.outcome, "text": self.text, "figures": dict(self.figures)}


@dataclass(frozen=True)
class Verdict(Row):
    """What a gate says of a candidate.

    Attributes:
        name: Model name.
        candidate: The version that was judged.
        champion: The version it was judged against; ``None`` where nobody is in charge yet.
        checks: What was looked at.
        evidence: On what grounds: data, runs, interval; plain JSON for the ledger.
    """

    name: str
    candidate: str
    champion: str | None
    checks: tuple[Check, ...]
    evidence: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "evidence", Frozen(self.evidence))

    @property
    def passed(self) -> bool:
        """Whether nothing stands in the way."""
        return all(check.passed for check in self.checks)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Everything that stands in the way, a sentence each."""
        return tuple(check.text for check in self.checks if not check.passed)

    @property
    def sentence(self) -> str:
        """The verdict in one sentence."""
        against = f"against champion {self.champion}" if self.champion else "as the first champion"
        word = "may be promoted" if self.passed else "is refused"
        return f"version {self.candidate} of {self.name!r}, judged {against}, {word}"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {**super().to_dict(), "passed": self.passed, "reasons": list(self.reasons)}

    def _repr_html_(self) -> str:
        return verdict_html(self.to_dict())


class Gate(Protocol):
    """Whoever decides whether a candidate may take over."""

    def judge(self, candidate: ModelVersion, champion: ModelVersion | None) -> Verdict:
        """Say whether the candidate may be promoted, and why; nothing is changed.

        Args:
            candidate: The version to promote.
            champion: The version in charge; ``None`` where there is none yet.
        """


GateMaker = Callable[[Settings], Gate]
"""What makes a gate from the settings: a class, or a function."""

GATES: Registry[GateMaker] = Registry("gate", {"evidence": "guardianflow.registry.evidence_gate:EvidenceGate"})
"""The gates that ``gate`` in the settings can name, besides ``off``."""


def make_gate(gate: Gate | str | None, settings: Settings) -> Gate | None:
    """The gate that was asked for; ``None`` where it is off.

    Args:
        gate: A gate, the name of one, ``"off"``, or ``None`` for what the settings say.
        settings: Limits, and where the evidence is.

    Raises:
        NotFoundError: No gate of that name.
    """
    asked = settings.gate if gate is None else gate
    if not isinstance(asked, str):
        return asked
    return None if asked == OFF else GATES.get(asked)(settings)


def verdict_html(verdict: Mapping[str, Any]) -> str:
    """A verdict, as :meth:`Verdict.to_dict` gives it, as a table that a notebook shows; all text escaped."""
    colours = {"passed": "#1b7f4b", "refused": "#b3261e", "not compared": "#5f6368"}
    rows = "".join(
        f'<tr><td style="text-align:left">{escape(str(check["name"]))}</td>'
        f'<td style="text-align:left;color:{colours.get(check["outcome"], "inherit")};white-space:nowrap">'
        f"<b>{escape(str(check['outcome']))}</b></td>"
        f'<td style="text-align:left">{escape(str(check["text"]))}</td></tr>'
        for check in verdict["checks"]
    )
    against = f"against champion {verdict['champion']}" if verdict["champion"] else "as the first champion"
    word = "may be promoted" if verdict["passed"] else "is refused"
    title = f"Version {verdict['candidate']} of {verdict['name']}, judged {against}, {word}."
    head = "".join(f'<th style="text-align:left">{column}</th>' for column in ("check", "outcome", "what was found"))
    return f"<p><b>{escape(title)}</b></p><table><tr>{head}</tr>{rows}</table>"
