"""GenericWrapper: a script that people already have, run unmodified, with all that a run of ours has."""

from __future__ import annotations

import contextlib
import logging
import os
import re
from pathlib import Path

from guardianflow.adapters.wrap.artifacts import DEFAULT_PATTERNS, ArtifactWatch, any_of
from guardianflow.adapters.wrap.commands import Command, read_command
from guardianflow.adapters.wrap.metrics.lines import MetricLines
from guardianflow.adapters.wrap.parameters.script_parameters import ResolvedParameters, resolve_parameters
from guardianflow.adapters.wrap.preview import WrapPreview, metrics_in
from guardianflow.adapters.wrap.results import WrapResult
from guardianflow.adapters.wrap.run_identity import keep_identity, kept_identity, run_identity
from guardianflow.adapters.wrap.script import WrappedScript
from guardianflow.exceptions import ScriptFailedError
from guardianflow.files.run_folder import RESULT_FILE, write_json
from guardianflow.processes.supervision.redaction import Redactor
from guardianflow.runners._base import Runner
from guardianflow.runs.run_records import RunRecord, RunRecords, RunStatus
from guardianflow.runs.tracking import TrackedRun
from guardianflow.scenario.fields import to_yaml
from guardianflow.scenario.schema import WrapScenario
from guardianflow.state.database import Database
from guardianflow.text.names import validate_name
from guardianflow.text.redaction import redact

__all__ = ["GenericWrapper", "WrapResult"]

log = logging.getLogger(__name__)

_MLFLOW_IMPORT = re.compile(r"^\s*(?:import|from)\s+mlflow\b", re.MULTILINE)
_LOOKED_THROUGH = 1_000


class GenericWrapper(Runner[WrapScenario, WrapResult]):
    """Run a script as it is, and keep what it was given, measured, printed and made.

    Example:
        >>> wrapper = GenericWrapper("gate", "train.py", args=["--epochs", "3"])  # doctest: +SKIP
        >>> wrapper.run().metrics["loss"]  # doctest: +SKIP
        0.31

    Raises:
        ParameterError: A value is out of range.
    """

    asks = WrapScenario

    @property
    def working_dir(self) -> Path:
        """The folder that the script runs in."""
        return Path(self.scenario.run.working_dir or Path.cwd()).expanduser().absolute()

    @property
    def patterns(self) -> list[str]:
        """Globs of what is kept."""
        asked, model = self.scenario.run.artifact_patterns, self.scenario.model.pattern
        return [*(asked or DEFAULT_PATTERNS), *([model] if model else [])]

    def command(self, *, executed_notebook: Path = Path(os.devnull)) -> Command:
        """What is started.

        Raises:
            InputError: There is no such script, or it can't be started.
        """
        asked = self.scenario
        return read_command(
            asked.run.script_path,
            asked.run.args,
            working_dir=self.working_dir,
            module=asked.run.module,
            python=asked.env.python,
            buffered=asked.run.buffered,
            executed_notebook=executed_notebook,
        )

    def resolve(self) -> ResolvedParameters:
        """What the script is run with, read from its text; nothing of it is run."""
        return resolve_parameters(self.command(), working_dir=self.working_dir, constants=self.scenario.run.constants)

    def check(self) -> None:
        """Check names, folder, script, patterns; nothing is written and nothing is run."""
        asked = self.scenario
        validate_name(asked.experiment, "experiment name")
        if asked.run.register_as:
            validate_name(asked.run.register_as, "model name")
        self.command()
        any_of(self.patterns)
        MetricLines(asked.run.metric_patterns)

    def identity(self) -> str:
        """One hash of what makes a run of this script the same as another one."""
        chosen = [self.scenario.env.python, self.scenario.run.constants, str(self.working_dir)]
        skip = self.settings.work_dir.absolute()
        return run_identity(self.command(), working_dir=self.working_dir, chosen=chosen, skip=skip)

    def already_done(self) -> RunRecord | None:
        """The newest run of the experiment that did the same and ended well; ``None`` where it is needed.

        The same means: the same code, arguments and data, by content.
        """
        digest = _looked_at[to_yaml(self.scenario)] = self.identity()
        records = RunRecords(Database.open(self.settings.database_url))
        done = records.list(
            experiment=self.scenario.experiment, kind=self.kind, status=RunStatus.FINISHED, limit=_LOOKED_THROUGH
        )
        return next((record for record in done if kept_identity(record.folder) == digest), None)

    def hand_over(self, folder: Path) -> None:
        """Leave the identity that :meth:`already_done` worked out: code and data are hashed once."""
        super().hand_over(folder)
        identity = _looked_at.pop(to_yaml(self.scenario), None)
        if identity is not None:
            keep_identity(folder, identity)

    def preview(self, sample: Path | None = None) -> WrapPreview:
        """What a run would start, take for parameters, for metrics and for artifacts; nothing is run.

        Args:
            sample: Output of an earlier run, in which metrics are looked for.

        Raises:
            InputError: As :meth:`check`; or the sample can't be read.
        """
        self.check()
        command, resolved, logs_itself, run = self.command(), self.resolve(), self.logs_itself(), self.scenario.run
        done = self.already_done()
        found, remarks = metrics_in(sample, run.metric_patterns, run.automatic_metrics and not logs_itself)
        return WrapPreview(
            command=Redactor().text(command.line),
            kind=command.kind,
            working_dir=str(self.working_dir),
            parameters=redact(resolved.values),
            origins=resolved.origins,
            metrics=found,
            sampled=str(sample or ""),
            artifact_patterns=self.patterns,
            artifacts=ArtifactWatch(self.working_dir, self.patterns, skip=[self.settings.work_dir]).matching(),
            logs_itself=logs_itself,
            already_done=done.run_id if done else "",
            remarks=[*resolved.remarks, *remarks],
        )

    def logs_itself(self) -> bool:
        """Whether the script's own text imports MLflow."""
        script, text = self.command().script, ""
        with contextlib.suppress(OSError):
            text = script.read_text(encoding="utf-8", errors="replace") if script else ""
        return _MLFLOW_IMPORT.search(text) is not None

    def run(self) -> WrapResult:
        """Run the script and return what came of it; look at ``exit_code``, or call ``require_success()``.

        Raises:
            InputError: The input can't be used; no run was made and nothing was run.
            RunFailedError: It could not be started.
            RunInterruptedError: SIGTERM ended it; Ctrl-C raises ``KeyboardInterrupt``.
        """
        try:
            return super().run()
        except ScriptFailedError as error:
            if isinstance(error.result, WrapResult):
                return error.result
            raise

    def work(self, run: TrackedRun) -> WrapResult:
        """Run the script inside a run and keep everything that comes of it.

        Raises:
            ScriptFailedError: It ended badly; ``result`` holds what was kept.
        """
        if not kept_identity(run.folder):  # else whoever asked whether it is needed has hashed it
            keep_identity(run.folder, self.identity())
        status: str = RunStatus.KILLED
        try:
            result = WrappedScript(self, run, self.sink).run()
            write_json(run.folder / RESULT_FILE, result.to_dict())
            status = result.status
        finally:
            self._note_last_run(run, status)
        return result.require_success()

    def _note_last_run(self, run: TrackedRun, status: str) -> None:
        asked = self.scenario
        if not (asked.run.experiments_file and asked.run.entry):
            return
        from guardianflow.adapters.experiment_registry import ExperimentRegistry

        file, entry = asked.run.experiments_file, asked.run.entry
        try:
            ExperimentRegistry(file).record_run(entry, run_id=run.run_id, status=status)
        except Exception as error:  # noqa: BLE001 - a note must not cost the run its result
            log.warning("the last run of %r was not noted in %s: %s", entry, file, error)


_looked_at: dict[str, str] = {}
"""What was asked → its identity, from the question whether it is needed until it is run."""
