"""How a version comes into charge: the gate judges it first, and what was judged is what is moved."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from guardianflow.exceptions import ConflictError, GuardianFlowError, NotFoundError, RefusedError
from guardianflow.registry.evidence import plain_json
from guardianflow.registry.gate import OFF, Check, Gate, Verdict
from guardianflow.registry.ledger import Change, Ledger, Move
from guardianflow.registry.model_records import ModelState, ModelVersion
from guardianflow.registry.version_files import VersionFiles
from guardianflow.text.command_lines import command

__all__ = ["Promotion"]

_TRIES = 20


class _StaleError(Exception):
    """What was checked before a move is no longer what the move would take."""


@dataclass(frozen=True)
class _Plan:
    """What is to be moved, and what it was judged against.

    Attributes:
        version: The version to promote.
        asked: How the caller named it.
        champion: The champion when it was judged.
        judged: Whether a gate judged it.
        force: Whether a rejection stands in the way.
        evidence: For the ledger.
    """

    version: str
    asked: str | int | None
    champion: str | None
    judged: bool
    force: bool
    evidence: Mapping[str, Any]


class Promotion:
    """Puts versions in charge, if the gate lets them.

    Args:
        ledger: The authority.
        files: Must still have the version as it was registered.
        gate: Who judges; ``None``: nobody.
        overriders: Who may force a promotion against the gate; empty: everybody.
        actor: Who promotes.
    """

    def __init__(
        self, ledger: Ledger, files: VersionFiles, *, gate: Gate | None, overriders: Sequence[str], actor: str
    ) -> None:
        self._ledger = ledger
        self._files = files
        self._gate = gate
        self._overriders = tuple(overriders)
        self._actor = actor

    def judge(self, state: ModelState, version: str | int | None) -> Verdict:
        """What the gate says of a version; nothing is changed.

        Raises:
            NotFoundError: No such version, no candidate, or its file is gone.
            HashMismatchError: Its file was changed.
            RefusedError: It was rejected.
        """
        candidate = self._candidate(state, version, force=False)
        if self._gate is not None and candidate.version != state.champion:
            return self._judge(state, candidate)
        text = "the gate is off" if self._gate is None else "it is the champion already; nothing would change"
        check = Check("gate", passed=True, judged=False, text=text)
        return Verdict(state.name, candidate.version, state.champion, (check,))

    def promote(
        self, name: str, version: str | int | None, *, force: bool, reason: str | None, evidence: Mapping[str, Any]
    ) -> tuple[Move, str]:
        """Move it, and tell which version it was.

        Raises:
            NotFoundError: Its file is gone; forcing doesn't help.
            HashMismatchError: Its file was changed after it was registered; likewise.
            RefusedError: The gate refuses it, it was rejected, or the actor may not force it.
            ConflictError: Candidate or champion change all the time.
        """
        if force:
            self._require_right()
        for _ in range(_TRIES):
            state = self._ledger.state(name)
            plan = self._plan(state, version, force, evidence)
            try:
                move = self._ledger.move(name, "promote", self._decision(plan), actor=self._actor, reason=reason)
            except _StaleError:
                continue  # another candidate or champion meanwhile: judged anew
            return move, plan.version
        raise ConflictError(
            f"candidate or champion of model {name!r} change all the time; nothing was promoted. "
            "Name the version, or try again."
        )

    def _plan(self, state: ModelState, version: str | int | None, force: bool, evidence: Mapping[str, Any]) -> _Plan:
        candidate = self._candidate(state, version, force=force)
        number = candidate.version
        grounds = {**evidence, "sha256": candidate.sha256, **({"forced": True} if force else {})}
        if self._gate is None:
            return _Plan(number, version, state.champion, False, force, {**grounds, "gate": OFF})
        if number != state.champion:
            grounds["gate"] = self._heard(state, candidate, force=force)
        return _Plan(number, version, state.champion, True, force, grounds)

    def _candidate(self, state: ModelState, version: str | int | None, *, force: bool) -> ModelVersion:
        """The version that is meant; not rejected, and its file is the one that was registered."""
        number = self._choose(state, version)
        try:
            candidate = self._ledger.version(state.name, number)
        except NotFoundError:
            self._files.refuse_foreign(state.name, number)
            raise
        self._require_unrejected(candidate, force=force)
        try:
            self._files.require(candidate)
        except GuardianFlowError as error:
            raise type(error)(
                f"{state.name!r} version {candidate.version} can't be promoted; champion stays "
                f"{state.champion or 'none'}: {error}"
            ) from error
        return candidate

    def _heard(self, state: ModelState, candidate: ModelVersion, *, force: bool) -> dict[str, Any]:
        """What the ledger shall keep of the gate's verdict; raises where that stands in the way."""
        try:
            verdict = self._judge(state, candidate)
        except GuardianFlowError as error:
            if not force:
                raise
            return {"error": str(error)}
        if not (verdict.passed or force):
            raise RefusedError(self._refusal(state, verdict))
        return plain_json(verdict.to_dict())

    def _judge(self, state: ModelState, candidate: ModelVersion) -> Verdict:
        assert self._gate is not None  # noqa: S101 - the callers looked
        champion = None if state.champion is None else self._ledger.version(state.name, state.champion)
        return self._gate.judge(candidate, champion)

    def _decision(self, plan: _Plan) -> Callable[[ModelState, Callable[[str], ModelVersion]], Change | None]:
        def decide(state: ModelState, look: Callable[[str], ModelVersion]) -> Change | None:
            number = plan.version
            if self._choose(state, plan.asked) != number:
                raise _StaleError
            if number == state.champion:
                return None
            if plan.judged and state.champion != plan.champion:
                raise _StaleError
            found = look(number)
            self._require_unrejected(found, force=plan.force)
            status = "ready" if found.status == "rejected" else None
            return Change(number, state.promoted(number), status=status, evidence=plan.evidence)

        return decide

    def _choose(self, state: ModelState, version: str | int | None) -> str:
        if version is not None:
            return state.resolve(version)
        if state.candidate is not None:
            return state.candidate
        last = self._ledger.history(state.name, limit=2)
        if len(last) == 2 and last[0].action == "promote" and last[1].candidate == state.champion is not None:
            return state.champion  # the call before this one promoted the candidate: a retry
        raise NotFoundError(
            f"model {state.name!r} has no candidate to promote; register a run, or name the version "
            f"(champion is {state.champion or 'none'}; `{command('list', 'versions', state.name)}` shows them)"
        )

    def _require_unrejected(self, version: ModelVersion, *, force: bool) -> None:
        if version.present().status != "rejected" or force:
            return
        number, history = version.version, self._ledger.history(version.name)
        why = next((event.reason for event in history if (event.action, event.version) == ("reject", number)), None)
        raise RefusedError(
            f"version {number} of {version.name!r} was rejected ({why}); promote another version, "
            "or force it and say why"
        )

    def _require_right(self) -> None:
        if self._overriders and self._actor not in self._overriders:
            raise RefusedError(
                f"{self._actor!r} may not force a promotion; {', '.join(self._overriders)} may "
                "(GUARDIANFLOW_GATE_OVERRIDE_ACTORS)"
            )

    @staticmethod
    def _refusal(state: ModelState, verdict: Verdict) -> str:
        reasons = verdict.reasons
        listed = "; ".join(reasons) if len(reasons) == 1 else "; ".join(
            f"({place}) {reason}" for place, reason in enumerate(reasons, 1)
        )  # fmt: skip
        return (
            f"version {verdict.candidate} of {state.name!r} was not promoted; champion stays "
            f"{state.champion or 'none'}: {listed}. With --force --reason it can be promoted all the same."
        )
