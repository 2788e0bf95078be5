"""What must be true of a model's ledger, whatever happened to the processes that wrote it."""

from __future__ import annotations

from collections.abc import Sequence

from guardianflow.registry.model_records import ALIASES, ModelEvent, ModelState


def ledger_problems(state: ModelState, newest_first: Sequence[ModelEvent]) -> list[str]:
    """Every way in which a ledger is not linear, or lost a champion; empty for a sound one."""
    events = list(reversed(newest_first))
    problems = []
    if [event.gen for event in events] != list(range(1, len(events) + 1)):
        problems.append(f"generations have gaps or repeat: {[event.gen for event in events]}")
    if not events or _holders(events[-1]) != _holders(state) or events[-1].gen != state.gen:
        problems.append("the last event is not the state")
    before: dict[str, str | None] = dict.fromkeys(ALIASES)
    for event in events:
        after = _holders(event)
        if after != _follows(before, event):
            problems.append(f"gen {event.gen}: {event.action} {event.version} made {before} into {after}")
        if after["champion"] is not None and after["champion"] == after["rollback"]:
            problems.append(f"gen {event.gen}: champion == rollback == {after['champion']}")
        if before["champion"] is not None and after["champion"] is None:
            problems.append(f"gen {event.gen}: the champion was lost")
        before = after
    times = [event.time for event in events]
    if times != sorted(times):
        problems.append("times run backwards")
    return problems


def _holders(holder: ModelEvent | ModelState) -> dict[str, str | None]:
    return {alias: getattr(holder, alias) for alias in ALIASES}


def _follows(before: dict[str, str | None], event: ModelEvent) -> dict[str, str | None]:
    """The aliases that an action must lead to. Written down once more, from the rules, not from the code."""
    version = event.version
    freed = {alias: None if holder == version else holder for alias, holder in before.items()}
    return {
        "register": {**before, "candidate": version},
        "promote": {"champion": version, "candidate": freed["candidate"], "rollback": before["champion"]},
        "rollback": {"champion": before["rollback"], "candidate": before["candidate"], "rollback": None},
        "reject": freed,
        "delete": before,
    }[event.action]
