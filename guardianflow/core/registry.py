"""The model registry: which version of a model is in charge, who put it there and why, and the way back."""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from guardianflow.core.config import Settings
from guardianflow.exceptions import GuardianFlowError, InputError, NotFoundError, RefusedError
from guardianflow.registry.evidence import legal_text, plain_json
from guardianflow.registry.gate import Gate, Verdict, make_gate
from guardianflow.registry.ledger import DELETING, Change, Ledger, Move
from guardianflow.registry.mlflow_registry import MlflowRegistry
from guardianflow.registry.model_cache import ModelCache, hand_out
from guardianflow.registry.model_records import ALIASES, ModelEvent, ModelState, ModelVersion
from guardianflow.registry.projection import AliasProjection
from guardianflow.registry.promotion import Promotion
from guardianflow.registry.registration import Admission, Registration
from guardianflow.registry.rollback import PREFLIGHTS, Preflight, Rollback
from guardianflow.registry.version_files import VersionFiles
from guardianflow.text.names import validate_name
from guardianflow.text.option_values import moment_of
from guardianflow.views.result_page import Rows
from guardianflow.vision.serving import ServedModel, Serving

__all__ = ["PREFLIGHTS", "ModelEvent", "ModelRegistry", "ModelState", "ModelVersion"]

log = logging.getLogger(__name__)

_MAX_REASON = 2000
_LOST = (
    "MLflow shows {name!r} with aliases of GuardianFlow: the state database that knew of it was lost, or is another "
    "one (GUARDIANFLOW_DATABASE_URL). Put a copy of it back, or register one of its runs again: that takes up what "
    "MLflow shows."
)
_URI = re.compile(r"^models:/(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>[0-9]+))$")


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
        gate: What :meth:`promote` asks of a candidate: a gate, a name, ``"off"``. Default: ``settings.gate``.
        admission: What :meth:`register` asks of a file: a function that raises, or a name from ``ADMISSIONS``.
            The default is the check of a benchmark.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        actor: str | None = None,
        clock: Callable[[], datetime] | None = None,
        preflight: Preflight | str = "inference",
        gate: Gate | str | None = None,
        admission: Admission | str = "reading",
    ) -> None:
        self.settings = settings or Settings()
        self.actor = legal_text((actor or self.settings.actor)[:200], "actor", most=200) or "unknown"
        self._clock = clock or (lambda: datetime.now(UTC))
        self._ledger = Ledger(self.settings.database_url, clock=self._clock)
        self._mlflow = MlflowRegistry(self.settings)
        self._projection = AliasProjection(self._ledger, self._mlflow)
        self._registration = Registration(
            self._ledger, self._mlflow, admission=admission, actor=self.actor, clock=self._clock
        )
        self._files = VersionFiles(self._mlflow, ModelCache(self.settings.work_dir / "models"))
        self._promotion = Promotion(
            self._ledger,
            self._files,
            gate=make_gate(gate, self.settings),
            overriders=self.settings.gate_override_actors,
            actor=self.actor,
        )
        self._rollback = Rollback(self._ledger, self._files, preflight=preflight, actor=self.actor)

    # --- moves ------------------------------------------------------------------------------------

    def register(
        self,
        name: str,
        run_id: str,
        *,
        artifact: str = "weights/best.pt",
        metrics: Mapping[str, float] | None = None,
        dataset_fingerprint: str | None = None,
        serving: Serving | None = None,
    ) -> ModelVersion:
        """Enter the model file of a run as a new version, and make it @candidate.

        The same file of the same run, served the same way, is entered once: registering it again returns
        its version.

        Args:
            name: Model name, new or known.
            run_id: MLflow run that holds the file.
            artifact: Path of the file (or model folder) within the run's artifacts.
            metrics: Its figures. Default: the run's last ones.
            dataset_fingerprint: What it was trained on. Default: the run's tag.
            serving: Backend, precision and image size to serve it with, and what it was made from.
                Default: what the file and the run say.

        Raises:
            InvalidNameError: The name is not allowed.
            NotFoundError: There is no such run, or it has no such file.
            ModelFileError: The file is no model that a benchmark would take.
            TrackingUnavailableError: MLflow doesn't answer.
        """
        version, move = self._registration.enter(
            validate_name(name, "model name"),
            run_id,
            artifact=artifact,
            metrics=metrics,
            dataset_fingerprint=dataset_fingerprint,
            serving=serving,
        )
        return version if move is None else self._shown(move, version.version)

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

        The gate judges it first, against the champion of now; what it found goes into the ledger. If
        somebody else moves the champion meanwhile, it is judged anew. Promoting the champion changes
        nothing.

        Args:
            name: Model name.
            version: Number or alias. Default: @candidate.
            force: Promote it against the gate, or although it was rejected; ``reason`` is then needed.
            reason: Why, for the ledger.
            evidence: Further grounds, as plain JSON types, for the ledger.

        Raises:
            NotFoundError: No such model or version, no candidate, or MLflow no longer has the version.
            RefusedError: The gate refuses it, with all its reasons; it was rejected; or the actor may
                not force it.
            ConflictError: Candidate or champion change all the time.
            TrackingUnavailableError: MLflow doesn't answer; nothing was moved.
        """
        why, grounds = legal_text(reason, "reason", most=_MAX_REASON), plain_json(evidence)
        if force and not why:
            raise InputError("a forced promotion must say why: pass reason='…' (on the command line --reason)")
        name = self._known(name).name
        move, number = self._promotion.promote(name, version, force=force, reason=why, evidence=grounds)
        return self._shown(move, number)

    def judge(self, name: str, version: str | int | None = None) -> Verdict:
        """What the gate would say of a promotion; nothing is changed.

        Args:
            name: Model name.
            version: Number or alias. Default: @candidate.

        Raises:
            NotFoundError: No such model or version, or no candidate.
            RefusedError: The version was rejected.
        """
        return self._promotion.judge(self._known(name), version)

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
        move, number = self._rollback.roll_back(self._known(name), reason=why)
        return self._shown(move, number)

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

    def find(self, uri: str) -> ModelVersion:
        """The version that ``models:/NAME@alias`` or ``models:/NAME/3`` means.

        Raises:
            InputError: The URI has another form.
            NotFoundError: No such model, version or alias.
        """
        match = _URI.match(uri)
        if match is None:
            raise InputError(f"model URI {uri!r} must read models:/NAME@champion or models:/NAME/3")
        return self.get(match["name"], match["alias"] or match["version"])

    def __repr__(self) -> str:
        return repr(self.list_models())

    def _repr_html_(self) -> str:
        return self.list_models()._repr_html_()

    def list_models(self) -> Rows[ModelState]:
        """Every model with the holders of its aliases, by name."""
        return Rows(self._ledger.states())

    def signs_of_loss(self) -> tuple[str, ...]:
        """What tells that the ledger was lost: models that MLflow shows with aliases of ours and it doesn't know.

        :meth:`register` takes such a model up as MLflow shows it. Empty where MLflow doesn't answer.
        """
        known = {state.name for state in self.list_models()}
        try:
            found = [name for name in self._mlflow.models_with(ALIASES) if name not in known]
        except GuardianFlowError as error:
            log.info("whether MLflow has models that the ledger doesn't know can't be said: %s", error)
            return ()
        return tuple(_LOST.format(name=name) for name in found)

    def list_versions(self, name: str, *, include_deleted: bool = False) -> Rows[ModelVersion]:
        """A model's versions, newest first.

        Raises:
            NotFoundError: No such model.
        """
        return Rows(self._ledger.versions(self._known(name).name, include_deleted=include_deleted))

    def history(self, name: str, limit: int | None = None) -> Rows[ModelEvent]:
        """The ledger of a model: who moved what, when, why and on what evidence; newest first.

        Raises:
            NotFoundError: No such model.
        """
        return Rows(self._ledger.history(self._known(name).name, limit=limit))

    def champion_at(self, name: str, time: datetime | str) -> ModelVersion | None:
        """Who was champion at a moment; ``None`` where nobody was.

        Args:
            name: Model name.
            time: When (naive: UTC), or ISO 8601 text (without a zone: local time).

        Raises:
            NotFoundError: No such model.
            InputError: The text is no time.
        """
        state = self._known(name)
        time = moment_of(time) if isinstance(time, str) else time
        moves = self._ledger.history(state.name, limit=1, until=time if time.tzinfo else time.replace(tzinfo=UTC))
        champion = moves[0].champion if moves else None
        return None if champion is None else self._ledger.version(state.name, champion)

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
        source = self._files.local(found)
        if target is None:
            return source
        place = target / PurePosixPath(found.artifact).name if target.is_dir() else target
        known = {item.sha256 for item in self.list_versions(found.name, include_deleted=True)}
        return hand_out(source, place, found, known=known)

    def serving(self, name: str, version: str | int = "champion") -> ServedModel:
        """What a server needs: the file on this machine, and the backend and precision to open it with.

        Args:
            name: Model name.
            version: Number or alias.

        Raises:
            NotFoundError: No such model or version, or its file is gone.
            HashMismatchError: The file was changed after it was registered.
            TrackingUnavailableError: MLflow doesn't answer and there is no copy here.
        """
        found = self.get(name, version)
        path = self.download(found.name, found.version)
        return found.served_from(path)

    def resolve(self, uri: str) -> Path:
        """The file behind ``models:/NAME@alias`` or ``models:/NAME/3``, as :meth:`download` gives it.

        Raises:
            InputError: The URI has another form.
            NotFoundError: No such model, version or alias, or its file is gone.
            HashMismatchError: The file was changed after it was registered.
        """
        found = self.find(uri)
        return self.download(found.name, found.version)

    # --- within -----------------------------------------------------------------------------------

    def _known(self, name: str) -> ModelState:
        name = validate_name(name, "model name")
        state = self._ledger.state(name)
        if state.gen == 0:
            names = [other.name for other in self._ledger.states()]
            close = difflib.get_close_matches(name, names, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            listed = ", ".join(names) or "none yet"
            lost = _LOST.format(name=name)
            if lost in self.signs_of_loss():
                hint = f" {lost}"
            raise NotFoundError(
                f"there is no model named {name!r}.{hint} Known: {listed}. "
                "`guardianflow register` enters the model of a run."
            )
        return state

    def _shown(self, move: Move, version: str) -> ModelVersion:
        self._draw(move.after.name, before=move.before if move.changed else None)
        return move.version or self._ledger.version(move.after.name, version)

    def _draw(self, name: str, before: ModelState | None = None) -> None:
        try:
            self._projection.reconcile(name, before=before)
        except GuardianFlowError as error:
            log.warning("MLflow does not show the state of model %r yet; the next call puts it right. %s", name, error)
