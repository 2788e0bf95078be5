"""The registry page: a model's versions with their evidence, what the gate says of one, and the ledger's last moves.

Reading asks the state database alone, and the predictions that lie on this machine; MLflow is left in peace.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from guardianflow.core.config import Settings, mask_secrets
from guardianflow.core.registry import ModelEvent, ModelRegistry, ModelState, ModelVersion
from guardianflow.dashboard.page_frame import figures_html, paragraphs, pill
from guardianflow.exceptions import GuardianFlowError
from guardianflow.registry.evaluations import EvaluationRow, Evaluations
from guardianflow.registry.evidence_search import EvidenceSearch
from guardianflow.registry.gate import Check, Verdict, make_gate
from guardianflow.text.messages import ago, counted, moment, say
from guardianflow.text.printable import escape

__all__ = [
    "ModelStand", "evidence_of", "headline", "heard", "ledger_html", "model_stand", "verdict_html", "versions_html",
]  # fmt: skip

_MOVES, _VERSIONS = 12, 30
_ALIASES = {"champion": "well", "candidate": "note", "rollback": "unknown"}
_FIGURES = ("map50", "map50_95", "latency_ms_p50", "latency_ms_p95", "model_size_mb")
_SIGNS = {"passed": "well", "refused": "unwell", "not compared": "unknown"}


@dataclass(frozen=True)
class ModelStand:
    """How a model stands at a moment.

    Attributes:
        now: The moment.
        names: The models that there are.
        state: Who holds which alias; ``None`` where there is no such model.
        versions: Those that are not deleted, the newest first.
        timed: Version → its newest timing.
        moves: The ledger's last lines, the newest first.
        trouble: What stands against reading; then nothing is known.
    """

    now: datetime
    names: Sequence[str] = ()
    state: ModelState | None = None
    versions: Sequence[ModelVersion] = ()
    timed: Mapping[str, EvaluationRow] = field(default_factory=dict)
    moves: Sequence[ModelEvent] = ()
    trouble: str = ""

    def version(self, number: str | None) -> ModelVersion | None:
        """One of the versions, if it is among them."""
        return next((each for each in self.versions if each.version == number), None)

    @property
    def next(self) -> str | None:
        """The version that a promotion is likely to be about: the candidate, else the newest that isn't in charge."""
        if self.state is None:
            return None
        fit = [each.version for each in self.versions if each.status == "ready" and each.version != self.state.champion]
        return self.state.candidate or next(iter(fit), self.state.champion)


def model_stand(settings: Settings | None, name: str | None) -> ModelStand:
    """How a model stands now; what can't be read is said, not raised.

    Args:
        settings: Where the ledger is. Default: the environment's.
        name: Which model; ``None``: none yet, only which there are.
    """
    now = datetime.now(UTC)
    try:
        settings = settings or Settings()
        registry = ModelRegistry(settings)
        states = {state.name: state for state in registry.list_models()}
        if name not in states:
            return ModelStand(now, tuple(states))
        versions = registry.list_versions(name)[:_VERSIONS]
        search = EvidenceSearch(settings, Evaluations(settings))
        timed = {each.version: row for each in versions if (row := search.timing(each)) is not None}
        moves = registry.history(name, limit=_MOVES)
        return ModelStand(now, tuple(states), states[name], versions, timed, moves)
    except GuardianFlowError as error:
        return ModelStand(now, trouble=mask_secrets(str(error)))


def heard(settings: Settings, stand: ModelStand, number: str) -> Verdict | None:
    """What the gate says of a version by the evidence; ``None`` where it isn't asked: off, or nothing would change.

    A promotion looks at the version's file as well.

    Raises:
        GuardianFlowError: The evidence can't be reached.
    """
    version, gate = stand.version(number), make_gate(None, settings)
    if gate is None or version is None or stand.state is None or number == stand.state.champion:
        return None
    return gate.judge(version, stand.version(stand.state.champion))


def evidence_of(settings: Settings, stand: ModelStand, number: str) -> tuple[int, ...]:
    """The numbers of the evaluations by which a version is judged: with others it may be judged otherwise."""
    both = [stand.version(number), stand.version(stand.state.champion if stand.state else None)]
    found = Evaluations(settings)
    return tuple(row.id for each in both if each for row in found.find(sha256=each.sha256))


def headline(stand: ModelStand, name: str | None, language: str) -> str:
    """Who is in charge and who waits, in a sentence."""
    if stand.trouble:
        return say("page.dead", language)
    if stand.state is None:
        return say("registry.none", language, name=name) if name else say("registry.empty", language)
    text = (
        say("registry.in_charge", language, name=stand.state.name, version=stand.state.champion)
        if stand.state.champion
        else say("registry.nobody", language, name=stand.state.name)
    )
    waits = say("registry.waits", language, version=stand.state.candidate) if stand.state.candidate else ""
    return f"{text} {waits}".strip()


def versions_html(stand: ModelStand, language: str) -> str:
    """Every version with its aliases, its figures and where it comes from."""
    rows = "".join(_version(stand, each, language) for each in stand.versions)
    title = escape(counted("registry.versions", len(stand.versions), language))
    return f'<h2>{title}</h2><div class="gf-card gf-small">{rows}</div>'


def _version(stand: ModelStand, version: ModelVersion, language: str) -> str:
    pills = [pill(_ALIASES[alias], language, say(f"alias.{alias}", language)) for alias in version.aliases]
    if version.status != "ready":
        pills.append(pill("unwell", language, say("registry.rejected", language)))
    timing = stand.timed.get(version.version)
    known = {**version.metrics, "model_size_mb": version.size_bytes / 1e6, **_latencies(timing)}
    figures = figures_html({name: known[name] for name in _FIGURES if name in known}, language)
    made = say(
        "registry.made", language, how=version.serving.conditions, run=version.run_id[:12], by=version.created_by,
        time=moment(version.created),
    )  # fmt: skip
    facts, serving = [made], version.serving
    if serving.parent_version or serving.parent_run:
        origin = serving.parent_version or (serving.parent_run or "")[:12]
        facts.append(say("registry.made_from", language, version=origin))
    if timing is not None:
        facts.append(say("registry.timed_on", language, device=timing.device))
    name = escape(say("registry.version", language, version=version.version))
    return (
        f'<div class="gf-camera"><div class="gf-head"><b>{name}</b>{"".join(pills)}</div>'
        f"{figures}{paragraphs([' · '.join(facts)], 'gf-soft')}</div>"
    )


def _latencies(timing: EvaluationRow | None) -> dict[str, float]:
    return {name: value for name, value in timing.metrics.items() if name.startswith("latency_ms_")} if timing else {}


def verdict_html(verdict: Verdict | None, language: str, *, said: str = "") -> str:
    """What the gate found, check by check, what stands in the way first; or the sentence that takes its place."""
    if verdict is None:
        return f'<div class="gf-card gf-small">{paragraphs([said], "gf-soft")}</div>'
    state, word = ("well", "registry.may") if verdict.passed else ("unwell", "registry.refused")
    title = say(word, language, version=verdict.candidate)
    against = say("registry.against", language, version=verdict.champion) if verdict.champion else ""
    checks = sorted(verdict.checks, key=lambda check: (check.passed, not check.judged))
    rows = "".join(_check(check, language) for check in checks)
    return (
        f'<div class="gf-card gf-small {state}"><div class="gf-head"><b>{escape(title)}</b></div>'
        f"{paragraphs([against] if against else [], 'gf-soft')}{rows}</div>"
    )


def _check(check: Check, language: str) -> str:
    word = say(f"check.{check.outcome.replace(' ', '_')}", language)
    text = paragraphs([check.text], "")
    return (
        f'<div class="gf-camera"><div class="gf-head"><b>{escape(check.name)}</b>'
        f"{pill(_SIGNS[check.outcome], language, word)}</div>{text}</div>"
    )


def ledger_html(moves: Iterable[ModelEvent], now: datetime, language: str) -> str:
    """The ledger's last moves: what, who, when and why."""
    rows = "".join(_move(event, now, language) for event in moves)
    return f'<h2>{escape(say("registry.ledger", language))}</h2><div class="gf-card gf-small">{rows}</div>'


def _move(event: ModelEvent, now: datetime, language: str) -> str:
    what = say(f"move.{event.action}", language, version=event.version or "")
    if event.evidence.get("forced"):
        what += f" {say('registry.was_forced', language)}"
    who = say("registry.by", language, actor=event.actor, time=moment(event.time), age=ago(event.time, now, language))
    why = [event.reason] if event.reason else []
    return (
        f'<div class="gf-camera"><div class="gf-head"><b>{escape(what)}</b></div>'
        f"{paragraphs(why, '')}{paragraphs([who], 'gf-soft')}</div>"
    )
