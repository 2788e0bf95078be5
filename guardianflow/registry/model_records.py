"""What the model registry knows: who holds which alias, what a version is, what was moved when."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from guardianflow.exceptions import NotFoundError
from guardianflow.text.command_lines import command
from guardianflow.text.frozen import Frozen
from guardianflow.text.plain import Row
from guardianflow.text.printable import escape
from guardianflow.vision.serving import ServedModel, Serving

__all__ = ["ALIASES", "ModelEvent", "ModelState", "ModelVersion"]

ALIASES = ("champion", "candidate", "rollback")
"""The aliases that are ours; others in MLflow are left alone."""

_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class ModelState(Row):
    """Which version of a model holds which alias.

    Attributes:
        name: Model name.
        gen: Generation: the number of moves so far. 0 is a model that isn't registered.
        champion: The version in service.
        candidate: The version that the next promotion takes.
        rollback: The version that a rollback goes back to.
        updated: Time of the last move.
    """

    name: str
    gen: int = 0
    champion: str | None = None
    candidate: str | None = None
    rollback: str | None = None
    updated: datetime = _NEVER

    @property
    def aliases(self) -> dict[str, str]:
        """Alias → version, of the aliases that are set."""
        return {alias: version for alias in ALIASES if (version := getattr(self, alias)) is not None}

    def aliases_of(self, version: str) -> tuple[str, ...]:
        """The aliases that a version holds."""
        return tuple(alias for alias, holder in self.aliases.items() if holder == version)

    def nominated(self, version: str) -> ModelState:
        """After a registration: the new version is what the next promotion takes."""
        return replace(self, candidate=version)

    def promoted(self, version: str) -> ModelState:
        """After a promotion: the old champion is what a rollback goes back to."""
        candidate = None if self.candidate == version else self.candidate
        return replace(self, champion=version, candidate=candidate, rollback=self.champion)

    def rolled_back(self) -> ModelState:
        """After a rollback. Nothing to go back to is left, so that a repeated rollback can't undo it."""
        return replace(self, champion=self.rollback, rollback=None)

    def without(self, version: str) -> ModelState:
        """After a version lost its aliases."""
        lost: dict[str, Any] = dict.fromkeys(self.aliases_of(version))
        return replace(self, **lost)

    def resolve(self, version: str | int) -> str:
        """The version number that a number or an alias (with or without ``@``) means.

        Raises:
            NotFoundError: The alias isn't set, or it is neither a number nor an alias.
        """
        text = str(version).strip().removeprefix("@")
        if text in ALIASES:
            holder: str | None = getattr(self, text)
            if holder is None:
                held = ", ".join(f"@{alias} is {number}" for alias, number in self.aliases.items()) or "no alias is set"
                raise NotFoundError(f"model {self.name!r} has no @{text} ({held})")
            return holder
        if text.isascii() and text.isdigit():
            return str(int(text))
        known = ", ".join(f"@{alias}" for alias in ALIASES)
        raise NotFoundError(f"{version!r} is no version of model {self.name!r}: pass a number, or one of {known}")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        row = super().to_dict()
        moves = row.pop("gen")
        return {**row, "moves": moves}

    def shown(self) -> dict[str, str]:
        """What a list of models shows of it."""
        return {"model": self.name, **{alias: getattr(self, alias) or "" for alias in ALIASES}}


@dataclass(frozen=True, repr=False)
class ModelVersion(Row):
    """One registered version of a model.

    Attributes:
        name: Model name.
        version: Its number, as text.
        run_id: MLflow run that made it.
        artifact: Path of the file (or folder) within that run's artifacts.
        sha256: What the file must hash to.
        size_bytes: Its size.
        dataset_fingerprint: Fingerprint of the data it was trained on, if known.
        metrics: Its figures at registration.
        status: ``"ready"``, ``"rejected"`` or ``"deleted"``.
        aliases: The aliases it holds now.
        created: When it was registered.
        created_by: Who registered it.
        serving: Which backend serves it, how, and what it was made from.
    """

    name: str
    version: str
    run_id: str
    artifact: str
    sha256: str
    size_bytes: int
    dataset_fingerprint: str | None
    metrics: Mapping[str, float]
    status: str
    created: datetime
    created_by: str
    aliases: tuple[str, ...] = ()
    serving: Serving = field(default_factory=Serving)

    def __post_init__(self) -> None:
        object.__setattr__(self, "metrics", Frozen(self.metrics))

    @property
    def uri(self) -> str:
        """``models:/NAME/3``."""
        return f"models:/{self.name}/{self.version}"

    def served_from(self, path: Path) -> ServedModel:
        """What a server needs, with the file at a place on this machine."""
        how = self.serving
        return ServedModel(
            name=self.name,
            version=self.version,
            uri=self.uri,
            path=path,
            backend=how.backend,
            precision=how.precision,
            imgsz=how.imgsz,
            format=how.format,
            sha256=self.sha256,
        )

    def present(self) -> ModelVersion:
        """This version, if it wasn't deleted.

        Raises:
            NotFoundError: It was.
        """
        if self.status == "deleted":
            raise NotFoundError(
                f"version {self.version} of {self.name!r} was deleted; "
                f"`{command('list', 'versions', self.name)}` shows what there is"
            )
        return self

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, how it is served among them."""
        row = super().to_dict()
        served = row.pop("serving")
        return {**row, "uri": self.uri, **served}

    def shown(self) -> dict[str, str]:
        """What a list of versions shows of it."""
        return {
            "version": self.version,
            "status": self.status,
            "aliases": ", ".join(f"@{alias}" for alias in self.aliases),
            "mAP50": f"{self.metrics['map50']:.3f}" if "map50" in self.metrics else "",
            "served by": self.serving.conditions,
            "made from": self._origin(),
            "run": self.run_id[:12],
            "registered": f"{self.created:%Y-%m-%d %H:%M} UTC",
            "by": self.created_by,
        }

    def __repr__(self) -> str:
        facts = ", ".join(f"{name} {text}" for name, text in self.shown().items() if text and name != "version")
        return f"{self.name} version {self.version}: {facts}"

    def _repr_html_(self) -> str:
        shown = {
            "status": self.status,
            "aliases": ", ".join(f"@{alias}" for alias in self.aliases) or "–",
            "run": self.run_id,
            "file": f"{self.artifact} ({self.size_bytes / 1e6:.2f} MB, sha256 {self.sha256[:12]}…)",
            "served by": self.serving.conditions,
            "made from": self._origin() or "–",
            "data": self.dataset_fingerprint or "–",
            "registered": f"{self.created:%Y-%m-%d %H:%M} UTC by {self.created_by}",
            **{name: f"{value:.4g}" for name, value in sorted(self.metrics.items())[:12]},
        }
        return _table(f"{self.name} version {self.version}", shown)

    def _origin(self) -> str:
        version, run = self.serving.parent_version, self.serving.parent_run
        return ", ".join(filter(None, (version and f"version {version}", run and f"run {run[:12]}")))


@dataclass(frozen=True)
class ModelEvent(Row):
    """One line of the ledger: a move, and the state it led to.

    Attributes:
        name: Model name.
        gen: Generation the move led to; the first is 1, and none is left out.
        time: When; never earlier than the move before.
        action: ``"register"``, ``"promote"``, ``"rollback"``, ``"reject"`` or ``"delete"``.
        version: The version it was about.
        champion: Champion after the move; so are ``candidate`` and ``rollback``.
        candidate: See ``champion``.
        rollback: See ``champion``.
        actor: Who.
        reason: Why.
        evidence: On what grounds.
    """

    name: str
    gen: int
    time: datetime
    action: str
    version: str | None
    champion: str | None
    candidate: str | None
    rollback: str | None
    actor: str
    reason: str | None
    evidence: Mapping[str, Any]

    def __post_init__(self) -> None:
        object.__setattr__(self, "evidence", Frozen(self.evidence))

    def shown(self) -> dict[str, str]:
        """What a ledger shows of it."""
        return {
            "when": f"{self.time:%Y-%m-%d %H:%M:%S} UTC",
            "what": self.action,
            "version": self.version or "",
            "champion": self.champion or "",
            "rollback": self.rollback or "",
            "who": self.actor,
            "why": self.reason or "",
        }

    def _repr_html_(self) -> str:
        shown = {key: str(value) for key, value in self.to_dict().items() if value not in (None, {}, self.name)}
        return _table(f"{self.name}: {self.action}", shown)


def _table(title: str, rows: Mapping[str, str]) -> str:
    cells = "".join(
        f"<tr><th style='text-align:left'>{escape(key)}</th><td style='text-align:left'>{escape(value)}</td></tr>"
        for key, value in rows.items()
    )
    return f"<table><caption>{escape(title)}</caption>{cells}</table>"
