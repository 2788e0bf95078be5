"""A change in the registry as a run: what was changed, why, and what the registry says afterwards.

``guardianflow promote`` changes the registry at once. This runner does the same inside a notebook,
so that the change has a page to show: the versions, the ledger and who was champion when.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from guardianflow._kernel import in_a_kernel
from guardianflow.core.registry import ModelRegistry
from guardianflow.exceptions import GuardianFlowError, RefusedError
from guardianflow.registry.gate import verdict_html
from guardianflow.runners._base import RESULT_FILE, Runner
from guardianflow.runners._result import Result
from guardianflow.runs.run_records import RunStatus
from guardianflow.runs.tracking import TrackedRun, write_json
from guardianflow.scenario.schema import RegistryScenario
from guardianflow.text.names import validate_name
from guardianflow.text.printable import escape
from guardianflow.views.result_page import Table

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from guardianflow.registry.model_records import ModelVersion

__all__ = ["RegistryResult", "RegistryRunner", "VerdictTable"]


@dataclass(frozen=True, repr=False)
class RegistryResult(Result):
    """What a change led to.

    Attributes:
        run_id: The run that made the change.
        experiment: Experiment name.
        status: ``"FINISHED"``.
        action: What was done.
        version: The version that it was about, as :meth:`ModelVersion.to_dict` gives it.
        aliases: Alias → version afterwards.
        versions: All versions, newest first.
        history: The ledger, newest first.
        verdict: What the gate said, as :meth:`~guardianflow.registry.gate.Verdict.to_dict` gives it; empty
            where none was asked.
        refused: Why nothing was changed, where a gate or a missing right stood against it.
    """

    answers = ("action", "version", "aliases", "refused")

    run_id: str
    experiment: str
    status: str
    action: str
    version: Mapping[str, Any]
    aliases: Mapping[str, str]
    versions: Sequence[Mapping[str, Any]] = field(default_factory=tuple)
    history: Sequence[Mapping[str, Any]] = field(default_factory=tuple)
    verdict: Mapping[str, Any] = field(default_factory=dict)
    refused: str = ""

    @property
    def model_uri(self) -> str:
        """``models:/NAME/3``."""
        return str(self.version["uri"])

    @property
    def metrics(self) -> Mapping[str, float]:
        """Those of the version."""
        return dict(self.version["metrics"])

    def plot_champions(self) -> Figure:
        """Who was champion when."""
        from guardianflow.plots.registry import champion_spans, plot_champions

        return plot_champions(champion_spans(self.history))

    def show_versions(self) -> Table:
        """The versions with their figures and aliases."""
        rows = [
            (
                row["version"],
                " ".join(f"@{alias}" for alias in row["aliases"]),
                row["status"],
                *(_figure(row["metrics"].get(name)) for name in ("map50", "map50_95")),
                f"{row['backend']} {row['precision']}",
                row["run_id"][:12],
                row["created"][:19].replace("T", " "),
                row["created_by"],
            )
            for row in self.versions
        ]
        return Table(
            ("version", "in the role of", "status", "mAP50", "mAP50-95", "served by", "run", "entered (UTC)", "by"),
            rows,
        )

    def show_history(self) -> Table:
        """The ledger."""
        rows = [
            (
                row["time"][:19].replace("T", " "),
                row["action"],
                row["version"],
                row["champion"] or "–",
                row["rollback"] or "–",
                row["actor"],
                row["reason"] or "",
            )
            for row in self.history
        ]
        return Table(("when (UTC)", "what", "version", "champion then", "rollback then", "who", "why"), rows)

    def _repr_html_(self) -> str:
        name, number = escape(str(self.version["name"])), escape(str(self.version["version"]))
        roles = ", ".join(f"@{escape(alias)} is version {escape(version)}" for alias, version in self.aliases.items())
        said = f"<p><b>Refused:</b> {escape(self.refused)}</p>" if self.refused else ""
        return (
            f"<h4>{escape(self.action.capitalize())}: {name} version {number}</h4>{said}"
            f"<p>{roles or 'No version holds a role.'}<br>Whoever serves this model asks for "
            f"<code>models:/{name}@champion</code>.</p>"
        )


@dataclass(frozen=True)
class VerdictTable:
    """A gate's verdict, as a notebook shows it."""

    verdict: Mapping[str, Any]

    def _repr_html_(self) -> str:
        if "checks" in self.verdict:
            return verdict_html(self.verdict)
        if "error" in self.verdict:
            return f"<p>The gate could not judge: {escape(str(self.verdict['error']))}</p>"
        return "<p>No gate was asked: it judges promotions, where it is on.</p>"


class RegistryRunner(Runner[RegistryScenario, RegistryResult]):
    """Register, promote, roll back or reject, as a run with a notebook.

    A change that is refused is no failure: the run finishes, and its result says why nothing was changed.

    Raises:
        ParameterError: Something that the action needs is missing.
    """

    asks = RegistryScenario

    def check(self) -> None:
        """Check the names; the registry checks the rest when it acts."""
        validate_name(self.scenario.experiment, "experiment name")
        validate_name(self.scenario.run.model_name, "model name")
        if self.scenario.run.action != "register":
            ModelRegistry(self.settings).list_versions(self.scenario.run.model_name)

    def judge(self) -> VerdictTable:
        """What the gate says of the promotion that is asked for, before anything is changed."""
        asked = self.scenario
        if asked.run.action != "promote":
            return VerdictTable({})
        try:
            return VerdictTable(
                ModelRegistry(self.settings).judge(asked.run.model_name, asked.run.version or None).to_dict()
            )
        except GuardianFlowError as error:  # the change itself says it again, or is forced
            return VerdictTable({"error": str(error)})

    def question(self) -> str:
        """Whether the change is meant: all cells of a notebook are executed easily."""
        asked, verdict = self.scenario.run, self.judge().verdict
        about = f"version {asked.version} of {asked.model_name}" if asked.version else asked.model_name
        said = ""
        if "error" in verdict:
            said = f" The gate could not judge: {verdict['error']}."
        elif verdict:
            said = f" The gate {'lets it pass' if verdict['passed'] else 'refuses it'}."
        return f"{asked.action.capitalize()} {about}?{said}"

    def run(self) -> RegistryResult:
        """Make the change in a run.

        Raises:
            RefusedError: A gate or a missing right stands against it; in a notebook the result says so instead.
        """
        result = super().run()
        if result.refused and not in_a_kernel():
            raise RefusedError(result.refused)
        return result

    def work(self, run: TrackedRun) -> RegistryResult:
        """Make the change and read back what the registry says."""
        asked = self.scenario
        registry = ModelRegistry(self.settings)
        run.log_params(asked.flat())
        refused = ""
        try:
            version = self._act(registry)
        except RefusedError as error:
            refused, version = str(error), self._meant(registry)
            run.set_tags({"guardianflow.verdict": "refused"})
        run.set_tags({"guardianflow.model": version.name, "guardianflow.model_version": version.version})
        run.log_metrics(version.metrics)
        history = [event.to_dict() for event in registry.history(asked.run.model_name)]
        result = RegistryResult(
            run_id=run.run_id,
            experiment=run.experiment,
            status=RunStatus.FINISHED,
            action=asked.run.action,
            version=version.to_dict(),
            aliases=registry.reconcile(asked.run.model_name).aliases,
            versions=[item.to_dict() for item in registry.list_versions(asked.run.model_name)],
            history=history,
            verdict=self._verdict(history, version.version, refused),
            refused=refused,
        )
        run.log_artifact(write_json(run.folder / RESULT_FILE, result.to_dict()))
        return result

    def _act(self, registry: ModelRegistry) -> ModelVersion:
        asked = self.scenario
        actions = {
            "register": lambda: registry.register(asked.run.model_name, asked.run.source_run_id),
            "promote": lambda: registry.promote(
                asked.run.model_name, asked.run.version or None, force=asked.run.force, reason=asked.run.reason or None
            ),
            "rollback": lambda: registry.rollback(asked.run.model_name, reason=asked.run.reason or None),
            "reject": lambda: registry.reject(asked.run.model_name, asked.run.version, reason=asked.run.reason),
        }
        return actions[asked.run.action]()

    def _meant(self, registry: ModelRegistry) -> ModelVersion:
        """The version that a refused change was about."""
        name, aliases = self.scenario.run.model_name, registry.reconcile(self.scenario.run.model_name).aliases
        held = next((alias for alias in ("candidate", "champion") if alias in aliases), None)
        return registry.get(name, self.scenario.run.version or held or registry.list_versions(name)[0].version)

    def _verdict(self, history: Sequence[Mapping[str, Any]], version: str, refused: str) -> Mapping[str, Any]:
        if self.scenario.run.action != "promote":
            return {}
        return self.judge().verdict if refused else _verdict_in(history, version)


def _verdict_in(history: Sequence[Mapping[str, Any]], version: str) -> Mapping[str, Any]:
    """What the gate said of the last promotion of a version; empty where it was off."""
    moves = (event for event in history if (event["action"], event["version"]) == ("promote", version))
    last = next(moves, None)
    said = last["evidence"].get("gate") if last else None
    return said if isinstance(said, dict) else {}


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
