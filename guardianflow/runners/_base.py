"""What all runners share: check first, make a run, do the work, end the run truthfully.

Whatever way the work ends (done, error, Ctrl-C, SIGTERM), the run says so.
"""

from __future__ import annotations

import logging
import warnings
from abc import ABC, abstractmethod
from importlib import import_module
from typing import Generic, Self, TypeVar

from guardianflow.core.config import Settings
from guardianflow.core.metrics import MetricSink, NullSink
from guardianflow.exceptions import GuardianFlowError
from guardianflow.files.run_folder import RESULT_FILE
from guardianflow.processes.interrupts import signals_raise
from guardianflow.runs.tracking import TrackedRun
from guardianflow.runs.tracking_store import look_at_store
from guardianflow.scenario.parameters import RunParameters

__all__ = ["RESULT_FILE", "Runner"]

log = logging.getLogger(__name__)

P = TypeVar("P", bound=RunParameters)
R = TypeVar("R")


class Runner(ABC, Generic[P, R]):
    """The life of one run; subclasses say what to check and what to do.

    Attributes:
        kind: The run's kind, which is also the name of its template notebook.
        parameters: What was asked.
        remarks: What :meth:`check` has to say of input that it took, a sentence each.
    """

    kind: str
    schema: type[P]

    def __init__(self, parameters: P, *, settings: Settings | None = None, sink: MetricSink | None = None) -> None:
        self.parameters = parameters
        self.settings = settings or Settings()
        self.remarks: tuple[str, ...] = ()
        self._sink = sink

    @classmethod
    def from_parameters(
        cls, parameters: P, *, settings: Settings | None = None, sink: MetricSink | None = None
    ) -> Self:
        """A runner from checked parameters."""
        return cls(**parameters.model_dump(), settings=settings, sink=sink)

    @abstractmethod
    def check(self) -> None:
        """Find what is wrong with the input before any run exists.

        Raises:
            InputError: Names the file or value and the next step.
        """

    def run(self) -> R:
        """Check, do the work in a run, and return the result.

        Raises:
            InputError: The input or MLflow's store can't be used; no run was made.
            RunFailedError: The run failed; its status and evidence say why.
            RunInterruptedError: SIGTERM ended it.
        """
        _import_tqdm_quietly()
        look_at_store(self.settings)
        if self._needs_check():
            self.check()
        with signals_raise("SIGTERM", "SIGHUP"), self._open_run() as run:
            return self.work(run)

    def _needs_check(self) -> bool:
        """Whether what an earlier :meth:`check` found may no longer hold."""
        return True

    @abstractmethod
    def work(self, run: TrackedRun) -> R:
        """Do the work inside a run."""

    @property
    def sink(self) -> MetricSink:
        """Where measurements go; the metrics store of the settings unless one was given."""
        if self._sink is None:
            self._sink = _default_sink(self.settings)
        return self._sink

    def _open_run(self) -> TrackedRun:
        if self.parameters.run_id:
            return TrackedRun.attach(self.settings, self.parameters.run_id)
        return TrackedRun.start(
            self.settings,
            experiment=self.parameters.experiment_name,
            kind=self.kind,
            parameters=self.parameters.identity(),
        )


def _default_sink(settings: Settings) -> MetricSink:
    try:
        from guardianflow.dashboard.metrics_store import MetricsStore

        return MetricsStore(settings.database_url)
    except GuardianFlowError as error:
        log.warning("measurements are not stored: %s", error)
        return NullSink()


def _import_tqdm_quietly() -> None:
    # MLflow imports it, and in a kernel without ipywidgets that puts a warning on the page.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import_module("tqdm.auto")
