"""One execution of a wrapped script: what is kept before it starts, while it works, and when it has ended."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guardianflow.adapters.finished_runs.mlflow_stores import read_mlflow_store
from guardianflow.adapters.wrap.artifacts import Artifact, ArtifactReport, ArtifactWatch
from guardianflow.adapters.wrap.model import model_among, register_model, whole_model
from guardianflow.adapters.wrap.parameters.told import Listening
from guardianflow.adapters.wrap.recorder import LoadRecorder, MetricRecorder
from guardianflow.adapters.wrap.results import WrapResult
from guardianflow.adapters.wrap.source_state import source_state
from guardianflow.core.config import mask_secrets
from guardianflow.core.metrics import MetricSink
from guardianflow.files.content import hash_file
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

_TAIL_LINES = 60
_SCRIPT_BYTES = 2_000_000
_SAVED_TO = re.compile(r"(?:saved|saving|[Ll]ogging results) to:?\s+(?P<place>/[^\n]+)")


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
            run, sink, self._folder, asked=self._asked.run, skip=self._settings.work_dir, automatic=automatic
        )
        self._load = LoadRecorder()

    def run(self) -> WrapResult:
        """Start it, follow it, and keep what it left, in whatever way it ends.

        Raises:
            RunFailedError: It could not be started.
            BaseException: What interrupted it; everything up to then has been kept.
        """
        with contextlib.closing(self._listening):
            return self._run_process()

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
        """What is started, its text, the state of the code around it, and what it is started in."""
        run, script = self._run, self._command.script
        tags = {
            f"{TAG}command": mask_secrets(self._command.line),
            f"{TAG}script_kind": self._command.kind,
            f"{TAG}working_dir": str(self._folder),
            f"{TAG}entry": self._asked.run.entry,
        }
        source = source_state(script.parent if script else self._folder)
        if source.commit:
            tags |= {"mlflow.source.git.commit": source.commit, f"{TAG}git_dirty": str(source.dirty).lower()}
        if source.remark:
            self._remarks.append(source.remark)
        if source.diff:
            diff = self._redactor.text(source.diff)
            run.log_artifact(write_text(run.folder / "uncommitted.diff", diff), "source")
        if script is not None:
            tags |= {"mlflow.source.name": str(script), f"{TAG}script_sha256": self._keep_script(script)}
        run.set_tags({name: value for name, value in tags.items() if value})
        facts = {
            "command": redact({"argv": list(self._command.argv)})["argv"],
            "working_dir": str(self._folder),
            "variables": environment_summary(self._environment),
            "facts": environment_facts(),
        }
        run.log_artifact(write_json(run.folder / "environment.json", facts), "source")

    def _keep_script(self, script: Path) -> str:
        """The script as it was, without the secrets in its text; returns its sha256."""
        try:
            if script.stat().st_size <= _SCRIPT_BYTES:
                copy = self._run.folder / "script" / script.name
                copy.parent.mkdir(exist_ok=True)
                copy.write_bytes(self._redactor.data(script.read_bytes()))
                self._run.log_artifact(copy, "source")
            return hash_file(script)
        except OSError as error:
            self._remarks.append(f"the script's text was not kept: {error.strerror}")
            return ""

    def _keep_end(self, ended: Ended) -> WrapResult:
        """All that is known at the end; a part that fails is a remark and costs the others nothing."""
        run, folder = self._run, self._run.folder
        own = {
            **self._load.stop(),
            "cpu_util": 100.0 * ended.cpu_s / ended.wall_s if ended.wall_s > 0 else 0.0,
            "wall_seconds": ended.wall_s,
            "cpu_seconds": ended.cpu_s,
            "peak_rss_mb": ended.peak_memory_mb,
        }
        self._keep_parameters()
        with self._remarking("its last figures could not be kept"):
            self._metrics.close()
        report = ArtifactReport()
        with self._remarking("its files could not be collected"):
            report = self._artifacts.collect()
        adopted = self._adopt()
        run.log_metrics(own)
        facts = {"exit_code": ended.exit_code, "signal": ended.signal, "stopped": ended.stopped}
        run.set_tags({f"{TAG}{name}": value for name, value in facts.items() if value not in (None, "")})
        for name in ("stdout.log", "stderr.log", "executed.ipynb"):
            if (folder / name).is_file():
                run.log_artifact(folder / name, "output")
        for row in report.artifacts:
            run.log_artifact(self._folder / row["name"], (Path("artifacts") / row["name"]).parent.as_posix())
        run.log_artifact(write_json(folder / "resources.json", self._load.samples))
        run.log_artifact(write_json(folder / "artifacts.json", report.artifacts))
        model = ""
        with self._remarking("the model that it made could not be looked at"):
            model = self._model(ended, report.artifacts)
        return self._result(ended, {**self._metrics.last, **own}, report, adopted, model)

    @contextlib.contextmanager
    def _remarking(self, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # noqa: BLE001 - one part must not cost the others
            self._remarks.append(f"{what}: {error}")

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
        known_from = resolved.known_from
        self._run.set_tags({f"{TAG}declared_with": resolved.declared.style, f"{TAG}parameters_from": known_from})
        origins = write_json(self._run.folder / "parameters.json", {"from": known_from, **resolved.origins})
        self._run.log_artifact(origins, "source")

    def _result(
        self, ended: Ended, metrics: dict[str, float], report: ArtifactReport, adopted: Sequence[AdoptedRun], model: str
    ) -> WrapResult:
        logs = {name: end_of_log(self._run.folder / f"{name}.log").split("\n") for name in ("stdout", "stderr")}
        output = {name: "\n".join(lines[-_TAIL_LINES:]) for name, lines in logs.items()}
        remarks = [*self._remarks, *ended.remarks, *self._metrics.remarks, *_elsewhere(output, self._folder)]
        if ended.left_behind:
            remarks.append(f"{ended.left_behind} processes outlived the script and were ended")
        if ended.unread_bytes:
            remarks.append(f"{ended.unread_bytes:,} bytes of output came too fast to be searched for figures")
        told = ended.stopped in {"interrupted", "terminated"}
        status = RunStatus.KILLED if told else RunStatus.FINISHED if ended.ok else RunStatus.FAILED
        return WrapResult(
            run_id=self._run.run_id,
            experiment=self._run.experiment,
            status=status,
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
            artifacts=report.artifacts,
            left_out=report.left_out,
            adopted=[row.to_dict() for row in adopted],
            resources=self._load.samples,
            remarks=list(dict.fromkeys(remarks)),
            output=output,
            folder=self._run.folder,
            model=model,
            tracking_uri=mask_secrets(self._settings.mlflow_tracking_uri),
        )

    def _adopt(self) -> Sequence[AdoptedRun]:
        found: Sequence[AdoptedRun] = ()
        with self._remarking("runs that it logged to MLflow itself could not be looked for"):
            found = adopt_runs(
                self._settings, run_id=self._run.run_id, working_dir=self._folder, since=self._since,
                read_store=read_mlflow_store,
            )  # fmt: skip
        if found:
            self._run.set_tags({f"{TAG}adopted": ",".join(row.run_id for row in found)})
        return found

    def _model(self, ended: Ended, artifacts: Sequence[Artifact]) -> str:
        """The model that it made: registered where that was asked and it ended well."""
        found = model_among(self._folder, artifacts, self._asked.model.pattern)
        name = self._asked.run.register_as if ended.ok else ""
        if found is None:
            if name:
                self._remarks.append(f"{name!r} was not registered: the script made no file that could be the model")
            return ""
        model = whole_model(self._folder, found)
        where = f"artifacts/{model.relative_to(self._folder).as_posix()}"
        uri, problem = "", ""
        if name:
            uri, problem = register_model(self._run, self._settings, name, model, where, self._metrics.last)
        self._remarks += [problem] if problem else []
        return uri or f"runs:/{self._run.run_id}/{where}"


def _elsewhere(output: Mapping[str, str], folder: Path) -> list[str]:
    """Where it says that it saved its results, and we don't look: outside of its working folder."""
    places = [
        Path(found["place"].strip().rstrip(".")) for text in output.values() for found in _SAVED_TO.finditer(text)
    ]
    return [
        f"it saved to {place}, outside of its working folder, and only files below that are kept: "
        "run it with --working-dir, or tell the script to write there"
        for place in places
        if place.exists() and not place.resolve().is_relative_to(folder.resolve())
    ]
