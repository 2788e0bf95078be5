"""One execution of a wrapped script: what is kept before it starts, while it works, and when it has ended."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guardianflow.adapters.finished_runs.mlflow_stores import read_mlflow_store
from guardianflow.adapters.wrap.artifacts import Artifact, ArtifactReport, ArtifactRow, ArtifactWatch
from guardianflow.adapters.wrap.commands import Command
from guardianflow.adapters.wrap.model import model_among, register_model, whole_model
from guardianflow.adapters.wrap.parameters.told import Listening
from guardianflow.adapters.wrap.recorder import LoadRecorder, MetricRecorder
from guardianflow.adapters.wrap.results import WrapResult
from guardianflow.adapters.wrap.source_state import source_state
from guardianflow.core.config import mask_secrets
from guardianflow.core.metrics import MetricSink
from guardianflow.files.run_folder import write_json, write_text
from guardianflow.machine.environment import environment_facts
from guardianflow.processes.supervision.environment import child_environment, environment_summary, outer_environment
from guardianflow.processes.supervision.live_output import VARIABLE as LIVE_VARIABLE
from guardianflow.processes.supervision.live_output import live_folder
from guardianflow.processes.supervision.process import Ended, Limits, SupervisedProcess
from guardianflow.processes.supervision.redaction import Redactor, secret_values
from guardianflow.processes.supervision.words import end_of_log
from guardianflow.runs.mlflow_adoption import AdoptedRun, adopt_runs, adoption_environment, without_foreign_runs
from guardianflow.runs.mlflow_runs import TAG
from guardianflow.runs.run_records import RunStatus
from guardianflow.runs.tracking import TrackedRun
from guardianflow.text.redaction import redact

if TYPE_CHECKING:
    from guardianflow.adapters.generic_wrapper import GenericWrapper

__all__ = ["WrappedScript"]

log = logging.getLogger(__name__)

_TAIL_LINES = 60
_SCRIPT_BYTES = 2_000_000
_SAVED_TO = re.compile(r"(?:saved|saving|[Ll]ogging results) to:?\s+(?P<place>/[^\n]+)")
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class WrappedScript:
    """The execution of one script in one run.

    Args:
        wrapper: What was asked.
        run: The run that everything is written into.
        sink: Where measurements go beside MLflow.
    """

    def __init__(self, wrapper: GenericWrapper, run: TrackedRun, sink: MetricSink) -> None:
        self._asked = wrapper.scenario
        self._run = run
        self._settings = wrapper.settings
        self._folder = wrapper.working_dir
        self._command = wrapper.command(executed_notebook=run.folder / "executed.ipynb")
        self._resolved = wrapper.resolve()
        self._listening = Listening(self._command, self._resolved, self._folder)
        self._logged: dict[str, Any] = {}
        self._remarks: list[str] = []
        self._since = time.time()
        self._environment = self._make_environment()
        self._secrets = secret_values({**os.environ, **self._environment})
        self._redactor = Redactor(self._secrets)
        self._artifacts = ArtifactWatch(self._folder, wrapper.patterns, skip=[self._settings.work_dir])
        automatic = self._asked.run.automatic_metrics and not wrapper.logs_itself()
        self._metrics = MetricRecorder(
            run,
            sink,
            self._folder,
            patterns=self._asked.run.metric_patterns,
            files=self._asked.run.metric_files,
            skip=[self._settings.work_dir],
            automatic=automatic,
        )
        self._load = LoadRecorder()

    def run(self) -> WrapResult:
        """Start it, follow it, and keep what it left, in whatever way it ends.

        Raises:
            RunFailedError: It could not be started.
            BaseException: What interrupted it; everything up to then has been kept.
        """
        try:
            return self._run_process()
        finally:
            self._listening.close()

    def _run_process(self) -> WrapResult:
        self._keep_start()
        self._artifacts.before()
        process = SupervisedProcess(
            self._command.argv,
            cwd=self._folder,
            environment=self._environment,
            folder=self._run.folder,
            limits=Limits(timeout_s=self._asked.run.timeout_s, memory_mb=self._asked.env.memory_mb),
            on_output=self._metrics.take_output,
            on_start=self._load.start,
            on_tick=self._tick,
            secrets=self._secrets,
            live=live_folder(),
        )
        try:
            ended = process.run()
        except BaseException:
            if process.ended is not None:  # it had begun: what there is by now is kept
                self._keep_end(process.ended)
            raise
        return self._keep_end(ended)

    def _make_environment(self) -> dict[str, str]:
        base = {name: value for name, value in os.environ.items() if name != LIVE_VARIABLE} | outer_environment()
        theirs = child_environment(base, allow=list(self._asked.env.environment_allowed) or None)
        theirs, remarks = without_foreign_runs(self._settings, theirs)
        self._remarks += remarks
        run = self._run
        ours = adoption_environment(self._settings, run_id=run.run_id, experiment=run.experiment, environment=theirs)
        return {**theirs, **ours, **self._command.environment, **self._listening.environment(theirs)}

    def _keep_start(self) -> None:
        run, folder = self._run, self._run.folder
        run.set_tags(_tags(self._command, self._folder, self._asked.run.entry))
        run.log_artifact(write_json(folder / "environment.json", self._facts()), "source")
        source = source_state(self._command.script.parent if self._command.script else self._folder)
        if source.commit:
            run.set_tags({"mlflow.source.git.commit": source.commit, f"{TAG}git_dirty": str(source.dirty).lower()})
        if source.remark and "in no git repository" not in source.remark:  # most folders are in none
            self._remarks.append(source.remark)
        if source.diff:
            run.log_artifact(write_text(folder / "uncommitted.diff", self._redactor.text(source.diff)), "source")
        self._keep_script()

    def _keep_script(self) -> None:
        """The script as it was; secrets in its text are taken out of the copy."""
        script = self._command.script
        if script is None:
            return
        try:
            if script.stat().st_size > _SCRIPT_BYTES:
                return
            text = self._redactor.data(script.read_bytes())
        except OSError as error:
            self._remarks.append(f"the script's text was not kept: {error.strerror}")
            return
        copy = self._run.folder / "script" / script.name
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes(text)
        self._run.log_artifact(copy, "source")

    def _facts(self) -> dict[str, Any]:
        return {
            "command": redact({"argv": list(self._command.argv)})["argv"],
            "working_dir": str(self._folder),
            "variables": environment_summary(self._environment),
            "facts": environment_facts(),
        }

    def _keep_end(self, ended: Ended) -> WrapResult:
        """All that is known at the end; a part that fails is a remark and costs the others nothing."""
        self._load.stop()
        self._keep_parameters()
        try:
            self._metrics.close()
        except Exception as error:  # noqa: BLE001 - one part must not cost the others
            self._remarks.append(f"its last figures could not be kept: {error}")
        report = self._collect_artifacts()
        adopted = self._adopt()
        metrics = {**self._metrics.last, **self._own_figures(ended)}
        self._run.log_metrics(self._own_figures(ended))
        self._run.set_tags(_end_tags(ended))
        for name in ("stdout.log", "stderr.log", "executed.ipynb"):
            if (path := self._run.folder / name).is_file():
                self._run.log_artifact(path, "output")
        for artifact in report.artifacts:
            parent = Path(artifact.name).parent.as_posix()
            self._run.log_artifact(artifact.path, "artifacts" if parent == "." else f"artifacts/{parent}")
        self._run.log_artifact(write_json(self._run.folder / "resources.json", self._load.samples))
        self._run.log_artifact(write_json(self._run.folder / "artifacts.json", _artifact_rows(report)))
        model = self._model(ended, report.artifacts)
        return self._result(ended, metrics, report, adopted, model)

    def _tick(self) -> None:
        self._metrics.tick()
        if not self._logged and (told := self._listening.settled()) is not None:
            self._log_parameters(told.values)

    def _log_parameters(self, values: Mapping[str, Any]) -> None:
        """MLflow keeps the first value of a parameter for good, so each is logged when it is known to stay."""
        changed = [name for name, value in values.items() if name in self._logged and self._logged[name] != value]
        if changed:
            self._remarks.append(f"it parsed again later; MLflow has the earlier value of {', '.join(changed[:5])}")
        self._run.log_params({name: value for name, value in values.items() if name not in self._logged})
        self._logged |= values

    def _keep_parameters(self) -> None:
        """What the script saw, now that it can't change."""
        self._resolved = resolved = self._listening.heard()
        self._remarks += resolved.remarks
        self._log_parameters(resolved.values)
        tags = {f"{TAG}declared_with": resolved.declared.style, f"{TAG}parameters_from": resolved.known_from}
        self._run.set_tags(tags)
        origins = write_json(self._run.folder / "parameters.json", {"from": resolved.known_from, **resolved.origins})
        self._run.log_artifact(origins, "source")

    def _result(
        self,
        ended: Ended,
        metrics: dict[str, float],
        report: ArtifactReport,
        adopted: Sequence[AdoptedRun],
        model: str,
    ) -> WrapResult:
        logs = {stream: end_of_log(self._run.folder / f"{stream}.log") for stream in ("stdout", "stderr")}
        output = {stream: "\n".join(text.split("\n")[-_TAIL_LINES:]) for stream, text in logs.items()}
        remarks = [*self._remarks, *ended.remarks, *self._metrics.remarks, *_elsewhere(output, self._folder)]
        if ended.left_behind:
            remarks.append(f"{ended.left_behind} processes outlived the script and were ended")
        if ended.unread_bytes:
            remarks.append(
                f"{ended.unread_bytes:,} bytes of output came faster than they could be searched for figures"
            )
        return WrapResult(
            run_id=self._run.run_id,
            experiment=self._run.experiment,
            status=_status(ended),
            exit_code=ended.exit_code,
            signal=ended.signal,
            stopped=ended.stopped,
            reason=ended.reason,
            command=self._redactor.text(self._command.line),
            kind=self._command.kind,
            working_dir=str(self._folder),
            parameters=redact(self._resolved.values),
            metrics=metrics,
            histories=self._metrics.histories,
            artifacts=_artifact_rows(report),
            left_out=[{"name": row.name, "reason": row.reason} for row in report.left_out],
            adopted=[row.to_dict() for row in adopted],
            resources=self._load.samples,
            remarks=list(dict.fromkeys(remarks)),
            output=output,
            folder=self._run.folder,
            model=model,
            tracking_uri=mask_secrets(self._settings.mlflow_tracking_uri),
        )

    def _own_figures(self, ended: Ended) -> dict[str, float]:
        return {
            **self._load.summary(),
            "cpu_util": 100.0 * ended.cpu_s / ended.wall_s if ended.wall_s > 0 else 0.0,
            "wall_seconds": ended.wall_s,
            "cpu_seconds": ended.cpu_s,
            "peak_rss_mb": ended.peak_memory_mb,
        }

    def _collect_artifacts(self) -> ArtifactReport:
        try:
            return self._artifacts.collect()
        except OSError as error:
            self._remarks.append(f"its files could not be collected: {error}")
            return ArtifactReport((), ())

    def _adopt(self) -> Sequence[AdoptedRun]:
        try:
            found = adopt_runs(
                self._settings,
                run_id=self._run.run_id,
                working_dir=self._folder,
                since=self._since,
                read_store=read_mlflow_store,
            )
        except Exception as error:  # noqa: BLE001 - MLflow may be away; the script's own result must not suffer
            self._remarks.append(f"runs that it logged to MLflow itself could not be looked for: {error}")
            return ()
        if found:
            self._run.set_tags({f"{TAG}adopted": ",".join(row.run_id for row in found)})
        return found

    def _model(self, ended: Ended, artifacts: Sequence[Artifact]) -> str:
        """The model that it made: registered where that was asked and it ended well."""
        found = model_among(artifacts, self._asked.model.pattern)
        name = self._asked.run.register_as
        if found is None:
            if name and ended.ok:
                self._remarks.append(f"{name!r} was not registered: the script made no file that could be the model")
            return ""
        model = whole_model(found)
        unregistered = f"runs:/{self._run.run_id}/artifacts/{model[1]}"
        if not name or not ended.ok:
            return unregistered
        uri, problem = register_model(self._run, self._settings, name, model, metrics=self._metrics.last)
        if problem:
            self._remarks.append(problem)
        return uri or unregistered


def _status(ended: Ended) -> str:
    if ended.stopped in {"interrupted", "terminated"}:
        return RunStatus.KILLED
    return RunStatus.FINISHED if ended.ok else RunStatus.FAILED


def _tags(command: Command, folder: Path, entry: str) -> dict[str, str]:
    tags = {
        f"{TAG}command": mask_secrets(command.line),
        f"{TAG}script_kind": command.kind,
        f"{TAG}working_dir": str(folder),
    }
    if command.script is not None:
        tags["mlflow.source.name"] = str(command.script)
        try:
            tags[f"{TAG}script_sha256"] = hashlib.sha256(command.script.read_bytes()).hexdigest()
        except OSError as error:
            log.debug("no hash of %s: %s", command.script, error)
    return {**tags, f"{TAG}entry": entry} if entry else tags


def _end_tags(ended: Ended) -> Mapping[str, str]:
    tags = {f"{TAG}exit_code": "" if ended.exit_code is None else str(ended.exit_code)}
    for name, value in (("signal", ended.signal), ("stopped", ended.stopped)):
        if value:
            tags[f"{TAG}{name}"] = value
    return tags


def _artifact_rows(report: ArtifactReport) -> list[ArtifactRow]:
    return [{"name": row.name, "size": row.size, "sha256": row.sha256, "new": row.new} for row in report.artifacts]


def _elsewhere(output: Mapping[str, str], folder: Path) -> list[str]:
    """Where it says that it saved its results, and we don't look: outside of its working folder."""
    found = []
    for text in output.values():
        for match in _SAVED_TO.finditer(_COLOURS.sub("", text)):
            place = Path(match["place"].strip().rstrip("."))
            if place.is_absolute() and place.exists() and not place.resolve().is_relative_to(folder.resolve()):
                found.append(
                    f"it saved to {place}, outside of its working folder, and only files below that are kept: "
                    "run it with --working-dir, or tell the script to write there"
                )
    return list(dict.fromkeys(found))
