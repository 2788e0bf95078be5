"""GenericWrapper: a script that people already have, run unmodified, with all that a run of ours has."""

from __future__ import annotations

import contextlib
import json
import logging
import re
from collections.abc import Sequence
from pathlib import Path

from guardianflow.adapters.wrap.artifacts import ArtifactWatch, default_patterns
from guardianflow.adapters.wrap.commands import Command, read_command
from guardianflow.adapters.wrap.metrics.lines import MetricLines
from guardianflow.adapters.wrap.parameters.script_parameters import ResolvedParameters, resolve_parameters
from guardianflow.adapters.wrap.preview import WrapPreview, preview_wrap
from guardianflow.adapters.wrap.results import WrapResult
from guardianflow.adapters.wrap.run_identity import IDENTITY_FILE, RunIdentity, run_identity
from guardianflow.adapters.wrap.script import WrappedScript
from guardianflow.core.config import Settings
from guardianflow.core.metrics import MetricSink
from guardianflow.exceptions import InputError, ScriptFailedError
from guardianflow.files.run_folder import RESULT_FILE, write_json
from guardianflow.runners._base import Runner
from guardianflow.runs.run_records import RunRecord, RunRecords, RunStatus
from guardianflow.runs.tracking import TrackedRun
from guardianflow.scenario.parameters import WrapParameters, parse_parameters
from guardianflow.state.database import Database
from guardianflow.text.names import validate_name

__all__ = ["GenericWrapper", "WrapResult"]

log = logging.getLogger(__name__)

_MLFLOW_IMPORT = re.compile(r"^\s*(?:import|from)\s+mlflow\b", re.MULTILINE)
_LOOKED_THROUGH = 1_000


class GenericWrapper(Runner[WrapParameters, WrapResult]):
    """Run a script as it is, and keep what it was given, measured, printed and made.

    Example:
        >>> wrapper = GenericWrapper("gate", "train.py", args=["--epochs", "3"])  # doctest: +SKIP
        >>> wrapper.run().metrics["loss"]  # doctest: +SKIP
        0.31

    Args:
        experiment_name: Experiment in MLflow.
        script_path: A Python file, notebook, shell script or program; with ``module`` a module's dotted name.
        working_dir: Folder that it runs in, and that its files are looked for in; default: the current one.
        args: The script's own arguments, word by word.
        artifact_patterns: Globs below ``working_dir`` of what is kept; default: weights, figures and tables.
        module: ``script_path`` names a module, as in ``python -m``.
        python: Interpreter of Python scripts; default: this one.
        metric_patterns: Regular expressions with named groups, looked for in each line of output.
        metric_files: Globs of CSV files that hold metrics, beside those that are known by their names.
        automatic_metrics: Take ``name: value`` and the like from the output, too. A script that imports MLflow
            logs for itself; its output is then searched for ``metric_patterns`` only.
        constants: Take the script's module-level constants for parameters.
        buffered: Leave Python's buffering of its output as it is; figures then come late, and what a crash
            left in the buffer is lost.
        timeout_s: Longest time, in seconds; 0: no limit.
        memory_mb: Most memory of the script and all it starts, in MB (10^6 bytes); 0: no limit.
        environment_allowed: Names of variables (globs) that reach the script; none: all.
        register_as: Register the model that it makes under this name.
        model_pattern: Which artifact is the model; default: the weights it made.
        experiments_file: The ``experiments.yaml`` whose entry is run; its last run is noted there.
        entry: Name of that entry.
        run_id: Write into this run, which somebody else made and ends.
        settings: Where to; default: from the environment.
        sink: Where measurements go; default: the metrics store.

    Raises:
        ParameterError: A value is out of range.
    """

    kind = "wrap"
    schema = WrapParameters

    def __init__(
        self,
        experiment_name: str,
        script_path: str | Path,
        working_dir: str | Path = "",
        args: Sequence[str] = (),
        artifact_patterns: Sequence[str] = (),
        *,
        module: bool = False,
        python: str = "",
        metric_patterns: Sequence[str] = (),
        metric_files: Sequence[str] = (),
        automatic_metrics: bool = True,
        constants: bool = False,
        buffered: bool = False,
        timeout_s: float = 0.0,
        memory_mb: float = 0.0,
        environment_allowed: Sequence[str] = (),
        register_as: str = "",
        model_pattern: str = "",
        experiments_file: str | Path = "",
        entry: str = "",
        run_id: str = "",
        settings: Settings | None = None,
        sink: MetricSink | None = None,
    ) -> None:
        values = {
            "experiment_name": experiment_name,
            "script_path": str(script_path),
            "working_dir": str(working_dir),
            "args": [str(word) for word in args],
            "artifact_patterns": list(artifact_patterns),
            "module": module,
            "python": python,
            "metric_patterns": list(metric_patterns),
            "metric_files": list(metric_files),
            "automatic_metrics": automatic_metrics,
            "constants": constants,
            "buffered": buffered,
            "timeout_s": timeout_s,
            "memory_mb": memory_mb,
            "environment_allowed": list(environment_allowed),
            "register_as": register_as,
            "model_pattern": model_pattern,
            "experiments_file": str(experiments_file),
            "entry": entry,
            "run_id": run_id,
        }
        super().__init__(parse_parameters(WrapParameters, values), settings=settings, sink=sink)

    @property
    def working_dir(self) -> Path:
        """The folder that the script runs in."""
        return Path(self.parameters.working_dir or Path.cwd()).expanduser().absolute()

    @property
    def patterns(self) -> list[str]:
        """Globs of what is kept."""
        asked = list(self.parameters.artifact_patterns) or list(default_patterns())
        model = self.parameters.model_pattern
        return asked if not model or model in asked else [*asked, model]

    def command(self, *, executed_notebook: Path | None = None) -> Command:
        """What is started.

        Raises:
            InputError: There is no such script, or it can't be started.
        """
        asked = self.parameters
        return read_command(
            asked.script_path,
            asked.args,
            working_dir=self.working_dir,
            module=asked.module,
            python=asked.python,
            buffered=asked.buffered,
            executed_notebook=executed_notebook,
        )

    def resolve(self) -> ResolvedParameters:
        """What the script is run with, read from its text; nothing of it is run."""
        return resolve_parameters(self.command(), working_dir=self.working_dir, constants=self.parameters.constants)

    def check(self) -> None:
        """Check names, folder, script, patterns; nothing is written and nothing is run."""
        asked = self.parameters
        validate_name(asked.experiment_name, "experiment name")
        if asked.register_as:
            validate_name(asked.register_as, "model name")
        if not self.working_dir.is_dir():
            raise InputError(f"the working folder {self.working_dir} is not there; give another with --working-dir")
        self.command()
        ArtifactWatch(self.working_dir, self.patterns)
        MetricLines(asked.metric_patterns)

    def identity(self) -> RunIdentity:
        """What makes a run of this script the same as another one."""
        asked = self.parameters
        chosen = {"python": asked.python, "constants": str(asked.constants), "working_dir": str(self.working_dir)}
        skip = self.settings.work_dir.absolute()
        return run_identity(self.command(), working_dir=self.working_dir, environment=chosen, skip=skip)

    def already_done(self) -> RunRecord | None:
        """The newest run of the experiment that did the same and ended well; ``None`` where it is needed.

        The same means: the same code, arguments and data, by content.
        """
        digest = self.identity().digest
        records = RunRecords(Database.open(self.settings.database_url))
        candidates = records.list(
            experiment=self.parameters.experiment_name,
            kind=self.kind,
            status=RunStatus.FINISHED,
            limit=_LOOKED_THROUGH,
        )
        return next((record for record in candidates if _digest_of(record.folder) == digest), None)

    def preview(self, sample: Path | None = None) -> WrapPreview:
        """What a run would start, take for parameters, for metrics and for artifacts; nothing is run.

        Args:
            sample: Output of an earlier run, in which metrics are looked for.

        Raises:
            InputError: As :meth:`check`; or the sample can't be read.
        """
        self.check()
        return preview_wrap(self, sample)

    def logs_itself(self) -> bool:
        """Whether the script's own text imports MLflow."""
        script = self.command().script
        if script is None:
            return False
        with contextlib.suppress(OSError):
            return bool(_MLFLOW_IMPORT.search(script.read_text(encoding="utf-8", errors="replace")))
        return False

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
        identity = self.identity()
        write_json(run.folder / IDENTITY_FILE, identity.to_dict())
        status: str = RunStatus.KILLED
        try:
            result = WrappedScript(self, run, self.sink).run()
            write_json(run.folder / RESULT_FILE, result.to_dict())
            status = result.status
        finally:
            self._note_last_run(run, status)
        return result.require_success()

    def _note_last_run(self, run: TrackedRun, status: str) -> None:
        asked = self.parameters
        if not (asked.experiments_file and asked.entry):
            return
        from guardianflow.adapters.experiment_registry import ExperimentRegistry

        try:
            ExperimentRegistry(asked.experiments_file).record_run(asked.entry, run_id=run.run_id, status=status)
        except Exception as error:  # noqa: BLE001 - a note must not cost the run its result
            log.warning("the last run of %r was not noted in %s: %s", asked.entry, asked.experiments_file, error)


def _digest_of(folder: Path) -> str | None:
    try:
        found = json.loads((folder / IDENTITY_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    digest = found.get("digest") if isinstance(found, dict) else None
    return digest if isinstance(digest, str) else None
