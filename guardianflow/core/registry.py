"""The model registry: which version of a model is in charge, who put it there and why, and the way back."""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias

from guardianflow._plugins import Registry
from guardianflow.core.config import Settings
from guardianflow.core.evidence import finite_metrics, legal_text, plain_json
from guardianflow.core.ledger import DELETING, Change, Ledger, Move
from guardianflow.core.mlflow_registry import ARTIFACT_TAG, SHA256_TAG, MlflowRegistry
from guardianflow.core.model_cache import (
    Measured,
    ModelCache,
    check_content,
    copy_checked,
    legal_artifact,
    measure,
)
from guardianflow.core.model_records import ModelEvent, ModelState, ModelVersion
from guardianflow.core.names import validate_name
from guardianflow.core.projection import AliasProjection
from guardianflow.exceptions import ConflictError, GuardianFlowError, InputError, NotFoundError, RefusedError

__all__ = ["ModelEvent", "ModelRegistry", "ModelState", "ModelVersion"]

log = logging.getLogger(__name__)

Preflight: TypeAlias = Callable[[Path], None]

PREFLIGHTS: Registry[Preflight] = Registry("preflight", {"inference": "guardianflow.vision.preflight:check_loads"})
"""What a rollback asks of its target's file before it puts it in charge. Raises where it isn't fit."""

FINGERPRINT_TAG = "guardianflow.dataset_fingerprint"

_TRIES = 50
_MAX_REASON = 2000
_URI = re.compile(r"^models:/(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>[0-9]+))$")


class _StaleError(Exception):
    """What was checked before a move is no longer what the move would take."""


class ModelRegistry:
    """Registered models, their versions, and the aliases @champion, @candidate and @rollback.

    Our ledger is the authority; MLflow's aliases are its picture and are put right after every move
    and by :meth:`get_champion_uri`. Every call may be repeated, and several processes may call at once.
    What only reads the ledger needs no MLflow and doesn't import it.

    Args:
        settings: Where MLflow and the state database are. Default: the environment's.
        actor: Who is written into the ledger. Default: ``settings.actor``.
        clock: What time it is, time-zone aware.
        preflight: What :meth:`rollback` asks of its target's file: a function that raises, or a name
            from :data:`PREFLIGHTS`. The default loads the weights and runs one inference.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        actor: str | None = None,
        clock: Callable[[], datetime] | None = None,
        preflight: Preflight | str = "inference",
    ) -> None:
        self.settings = settings or Settings()
        self.actor = legal_text((actor or self.settings.actor)[:200], "actor", most=200) or "unknown"
        self._preflight = preflight
        self._clock = clock or (lambda: datetime.now(UTC))
        self._ledger = Ledger(self.settings.database_url, clock=self._clock)
        self._mlflow = MlflowRegistry(self.settings)
        self._projection = AliasProjection(self._ledger, self._mlflow)
        self._cache = ModelCache(self.settings.work_dir / "models")

    # --- moves ------------------------------------------------------------------------------------

    def register(
        self,
        name: str,
        run_id: str,
        *,
        artifact: str = "weights/best.pt",
        metrics: Mapping[str, float] | None = None,
        dataset_fingerprint: str | None = None,
    ) -> ModelVersion:
        """Enter the model file of a run as a new version, and make it @candidate.

        The same file of the same run is entered once: registering it again returns its version.

        Args:
            name: Model name, new or known.
            run_id: MLflow run that holds the file.
            artifact: Path of the file (or model folder) within the run's artifacts.
            metrics: Its figures. Default: the run's last ones.
            dataset_fingerprint: What it was trained on. Default: the run's tag.

        Raises:
            InvalidNameError: The name is not allowed.
            NotFoundError: There is no such run, or it has no such file.
            TrackingUnavailableError: MLflow doesn't answer.
        """
        name = validate_name(name, "model name")
        artifact = legal_artifact(artifact)
        run = self._mlflow.run(run_id)
        with self._mlflow.artifact(run_id, artifact) as path:
            content = measure(path)
        figures = finite_metrics(run.data.metrics if metrics is None else metrics)
        fingerprint = legal_text(
            dataset_fingerprint or run.data.tags.get(FINGERPRINT_TAG), "dataset fingerprint", most=64
        )
        with self._ledger.database.lock(f"the versions of model {name!r}"):
            known = self._registered(name, run_id, artifact, content)
            if known is not None:
                return known
            version = ModelVersion(
                name=name,
                version=self._enter(name, run_id, artifact, content),
                run_id=run_id,
                artifact=artifact,
                sha256=content.sha256,
                size_bytes=content.size_bytes,
                dataset_fingerprint=fingerprint,
                metrics=figures,
                status="ready",
                created=self._clock(),
                created_by=self.actor,
            )
            evidence = {"run_id": run_id, "artifact": artifact, "sha256": content.sha256}
            move = self._ledger.move(
                name,
                "register",
                lambda state, _: Change(version.version, state.nominated(version.version), None, version, evidence),
                actor=self.actor,
            )
        return self._shown(move, version.version)

    def promote(
        self,
        name: str,
        version: str | int | None = None,
        *,
        force: bool = False,
        reason: str | None = None,
        evidence: Mapping[str, Any] | None = None,
    ) -> ModelVersion:
        """Make a version the champion; the old champion is what a rollback goes back to.

        Promoting the champion changes nothing.

        Args:
            name: Model name.
            version: Number or alias. Default: @candidate.
            force: Promote a rejected version all the same; ``reason`` is then needed.
            reason: Why, for the ledger.
            evidence: On what grounds, as plain JSON types, for the ledger.

        Raises:
            NotFoundError: No such model or version, no candidate, or MLflow no longer has the version.
            RefusedError: The version was rejected.
            TrackingUnavailableError: MLflow doesn't answer; nothing was moved.
        """
        why, grounds = legal_text(reason, "reason", most=_MAX_REASON), plain_json(evidence)
        if force and not why:
            raise InputError("a forced promotion must say why: pass reason='…' (on the command line --reason)")
        if force:
            grounds["forced"] = True
        name = self._known(name).name

        for _ in range(_TRIES):
            number = self._promotable(self._ledger.state(name), version)
            self._mlflow.require_version(name, number)
            try:
                move = self._ledger.move(
                    name, "promote", self._promotion(number, version, force, grounds), actor=self.actor, reason=why
                )
            except _StaleError:
                continue  # another candidate meanwhile
            return self._shown(move, number)
        raise ConflictError(f"the candidate of model {name!r} changes all the time; name the version to promote")

    def rollback(self, name: str, *, reason: str | None = None) -> ModelVersion:
        """Put the champion before this one back in charge.

        Before anything is moved, the file of that version is looked for, its hash compared, and one
        inference run with it. Afterwards nothing is left to roll back to: rolling back again is
        refused, so a repeated call can't bring the bad version back. The displaced version stays
        registered and can be promoted again.

        Args:
            name: Model name.
            reason: Why, for the ledger.

        Raises:
            RefusedError: There is nothing to roll back to, or its trial inference failed.
            NotFoundError: No such model, or the target's file is gone.
            HashMismatchError: The target's file was changed after it was registered.
            ModelFileError: The target's weights can't be loaded.
            ConflictError: Somebody else moved the champion while the target was being checked.
            TrackingUnavailableError: MLflow doesn't answer; nothing was moved.
        """
        why = legal_text(reason, "reason", most=_MAX_REASON)
        seen = self._known(name)
        name = seen.name
        if seen.rollback is None:
            raise RefusedError(self._nothing_behind(seen))
        target = self._ledger.version(name, seen.rollback)
        self._check_fit(target, champion=seen.champion)

        def decide(state: ModelState, _: object) -> Change:
            if (state.champion, state.rollback) != (seen.champion, seen.rollback):
                raise _StaleError
            evidence = {"displaced": seen.champion, "preflight": {"sha256": target.sha256, "passed": True}}
            return Change(target.version, state.rolled_back(), evidence=evidence)

        try:
            move = self._ledger.move(name, "rollback", decide, actor=self.actor, reason=why)
        except _StaleError as error:
            now = self._ledger.state(name)
            raise ConflictError(
                f"model {name!r} was moved by somebody else while version {target.version} was being checked: the "
                f"champion was {seen.champion} and is {now.champion} now, and nothing was rolled back. Look at "
                f"`guardianflow history {name!r}` and decide again."
            ) from error
        return self._shown(move, target.version)

    def reject(self, name: str, version: str | int, *, reason: str) -> ModelVersion:
        """Mark a version as unfit: it loses its aliases and can't be promoted any more.

        Raises:
            InputError: No reason was given.
            NotFoundError: No such model or version.
            RefusedError: It is the champion.
        """
        why = legal_text(reason, "reason", most=_MAX_REASON)
        if not why:
            raise InputError("a rejection must say why: pass reason='…'")
        state = self._known(name)
        number = state.resolve(version)

        def decide(state: ModelState, look: Callable[[str], ModelVersion]) -> Change | None:
            if number == state.champion:
                raise RefusedError(
                    f"version {number} is the champion of {state.name!r} and in service; "
                    "roll back or promote another version first, then reject it"
                )
            status = look(number).present().status
            return None if status == "rejected" else Change(number, state.without(number), status="rejected")

        return self._shown(self._ledger.move(state.name, "reject", decide, actor=self.actor, reason=why), number)

    def delete(self, name: str, version: str | int) -> ModelVersion:
        """Delete a version here and in MLflow; its line in the ledger and its run stay.

        Raises:
            NotFoundError: No such model or version.
            RefusedError: It holds an alias.
        """
        state = self._known(name)
        number = state.resolve(version)

        def decide(state: ModelState, look: Callable[[str], ModelVersion]) -> Change | None:
            held = state.aliases_of(number)
            if held:
                raise RefusedError(
                    f"version {number} of {state.name!r} is @{' and @'.join(held)} and can't be deleted; "
                    "promote another version, or reject this one, first"
                )
            return None if look(number).status == "deleted" else Change(number, state, status=DELETING)

        return self._shown(self._ledger.move(state.name, "delete", decide, actor=self.actor), number)

    # --- reads ------------------------------------------------------------------------------------

    def get_champion_uri(self, name: str) -> str:
        """``models:/NAME@champion``, once MLflow shows what the ledger says.

        Raises:
            NotFoundError: No such model, it has no champion, or MLflow lost it.
            TrackingUnavailableError: MLflow doesn't answer.
        """
        state = self.reconcile(name)
        state.resolve("champion")
        return f"models:/{state.name}@champion"

    def reconcile(self, name: str) -> ModelState:
        """Make MLflow's aliases equal to the ledger.

        Raises:
            NotFoundError: No such model, or MLflow lost the model or its champion.
            ConflictError: Another process held the model's lock for too long.
            TrackingUnavailableError: MLflow doesn't answer.
        """
        projected = self._projection.reconcile(self._known(name).name)
        lost = projected.lost.get("champion")
        if lost is not None:
            self._mlflow.require_version(projected.state.name, lost)
        return projected.state

    def get(self, name: str, version: str | int = "champion") -> ModelVersion:
        """One version, by its number or alias.

        Raises:
            NotFoundError: No such model, version or alias.
        """
        state = self._known(name)
        return self._ledger.version(state.name, state.resolve(version))

    def list_models(self) -> list[ModelState]:
        """Every model with the holders of its aliases, by name."""
        return self._ledger.states()

    def list_versions(self, name: str, *, include_deleted: bool = False) -> list[ModelVersion]:
        """A model's versions, newest first.

        Raises:
            NotFoundError: No such model.
        """
        return self._ledger.versions(self._known(name).name, include_deleted=include_deleted)

    def history(self, name: str, limit: int | None = None) -> list[ModelEvent]:
        """The ledger of a model: who moved what, when, why and on what evidence; newest first.

        Raises:
            NotFoundError: No such model.
        """
        return self._ledger.history(self._known(name).name, limit=limit)

    def champion_at(self, name: str, time: datetime) -> ModelVersion | None:
        """Who was champion at a moment (naive: UTC); ``None`` where nobody was.

        Raises:
            NotFoundError: No such model.
        """
        state = self._known(name)
        event = self._ledger.event_at(state.name, time if time.tzinfo else time.replace(tzinfo=UTC))
        if event is None or event.champion is None:
            return None
        return self._ledger.version(state.name, event.champion)

    # --- files ------------------------------------------------------------------------------------

    def download(self, name: str, version: str | int = "champion", target: Path | None = None) -> Path:
        """A version's file on this machine, checked by its hash.

        Args:
            name: Model name.
            version: Number or alias.
            target: The file to write, or a folder to write it into. Default: a copy under
                ``<work_dir>/models`` that later calls share.

        Returns:
            Where the file (or model folder) lies.

        Raises:
            NotFoundError: No such model or version, or its file is gone.
            HashMismatchError: The file was changed after it was registered.
            TrackingUnavailableError: MLflow doesn't answer and there is no copy here.
        """
        found = self.get(name, version).present()
        source = self._cache.find(found)
        if source is None:
            with self._mlflow.artifact(found.run_id, found.artifact) as path:
                source = self._cache.keep(path, found)
        if target is None:
            return source
        place = target / PurePosixPath(found.artifact).name if target.is_dir() else target
        return copy_checked(source, place, found)

    def resolve(self, uri: str) -> Path:
        """The file behind ``models:/NAME@alias`` or ``models:/NAME/3``, as :meth:`download` gives it.

        Raises:
            InputError: The URI has another form.
            NotFoundError: No such model, version or alias, or its file is gone.
            HashMismatchError: The file was changed after it was registered.
        """
        match = _URI.match(uri)
        if match is None:
            raise InputError(f"model URI {uri!r} must read models:/NAME@champion or models:/NAME/3")
        return self.download(match["name"], match["alias"] or match["version"])

    # --- within -----------------------------------------------------------------------------------

    def _known(self, name: str) -> ModelState:
        name = validate_name(name, "model name")
        state = self._ledger.state(name)
        if state.gen == 0:
            names = [other.name for other in self._ledger.states()]
            close = difflib.get_close_matches(name, names, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            listed = ", ".join(names) or "none yet"
            raise NotFoundError(
                f"there is no model named {name!r}.{hint} Known: {listed}. "
                "`guardianflow register` enters the model of a run."
            )
        return state

    def _registered(self, name: str, run_id: str, artifact: str, content: Measured) -> ModelVersion | None:
        wanted = (run_id, artifact, content.sha256)
        versions = self._ledger.versions(name)
        return next((item for item in versions if (item.run_id, item.artifact, item.sha256) == wanted), None)

    def _enter(self, name: str, run_id: str, artifact: str, content: Measured) -> str:
        """A version in MLflow: one that a killed registration left behind, or a new one."""
        taken = {item.version for item in self._ledger.versions(name, include_deleted=True)}
        for number, tags in self._mlflow.versions_of_run(name, run_id):
            left = (tags.get(ARTIFACT_TAG), tags.get(SHA256_TAG)) == (artifact, content.sha256)
            if left and number not in taken:
                return number
        while (number := self._mlflow.create_version(name, run_id, artifact, content.sha256)) in taken:
            # Somebody deleted the whole model in MLflow, which then counts from 1 again. A number
            # that our ledger knows must not come to mean another file.
            log.warning("version %s of model %r was taken already; MLflow counts anew", number, name)
            self._mlflow.delete_version(name, number)
        return number

    def _promotable(self, state: ModelState, version: str | int | None) -> str:
        if version is not None:
            return state.resolve(version)
        if state.candidate is not None:
            return state.candidate
        last = self._ledger.history(state.name, limit=2)
        if len(last) == 2 and last[0].action == "promote" and last[1].candidate == state.champion is not None:
            return state.champion  # the call before this one promoted the candidate: a retry
        raise NotFoundError(
            f"model {state.name!r} has no candidate to promote; register a run, or name the version "
            f"(champion is {state.champion or 'none'}; `guardianflow list versions {state.name!r}` shows them)"
        )

    def _promotion(
        self, number: str, asked: str | int | None, force: bool, evidence: Mapping[str, Any]
    ) -> Callable[[ModelState, Callable[[str], ModelVersion]], Change | None]:
        def decide(state: ModelState, look: Callable[[str], ModelVersion]) -> Change | None:
            if self._promotable(state, asked) != number:
                raise _StaleError
            if number == state.champion:
                return None
            status = look(number).present().status
            if status == "rejected" and not force:
                why = next((e.reason for e in self._ledger.history(state.name) if _rejects(e, number)), None)
                raise RefusedError(
                    f"version {number} of {state.name!r} was rejected ({why}); promote another version, "
                    "or force it and say why"
                )
            return Change(
                number, state.promoted(number), status="ready" if status == "rejected" else None, evidence=evidence
            )

        return decide

    def _check_fit(self, target: ModelVersion, *, champion: str | None) -> None:
        preflight = PREFLIGHTS.get(self._preflight) if isinstance(self._preflight, str) else self._preflight
        refusal = f"{target.name!r} was not rolled back to version {target.version}; champion stays {champion}: "
        try:
            self._mlflow.require_version(target.name, target.version)
            with self._mlflow.artifact(target.run_id, target.artifact) as path:
                check_content(path, target)
                preflight(path)
        except GuardianFlowError as error:
            raise type(error)(refusal + str(error)) from error
        except Exception as error:
            raise RefusedError(f"{refusal}its trial failed ({type(error).__name__}: {error})") from error

    def _nothing_behind(self, state: ModelState) -> str:
        last = next((event for event in self._ledger.history(state.name) if event.action != "register"), None)
        if last is not None and last.action == "rollback":
            done = f"it was rolled back to version {last.version} at {last.time:%Y-%m-%d %H:%M:%S} UTC by {last.actor}"
        else:
            done = f"its champion is {state.champion or 'none'}, with no champion before it"
        return (
            f"model {state.name!r} has nothing to roll back to: {done}. Promote the version you want: "
            f"`guardianflow list versions {state.name!r}` shows them."
        )

    def _shown(self, move: Move, version: str) -> ModelVersion:
        self._draw(move.after.name, before=move.before if move.changed else None)
        return self._ledger.version(move.after.name, version)

    def _draw(self, name: str, before: ModelState | None = None) -> None:
        try:
            self._projection.reconcile(name, before=before)
        except GuardianFlowError as error:
            log.warning("MLflow does not show the state of model %r yet; the next call puts it right. %s", name, error)


def _rejects(event: ModelEvent, version: str) -> bool:
    return event.action == "reject" and event.version == version
