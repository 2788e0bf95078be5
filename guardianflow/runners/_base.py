"""What all runners share: check first, make a run, do the work, end the run truthfully.

Whatever way the work ends (done, error, Ctrl-C, SIGTERM), the run says so.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar, get_args

from guardianflow._kernel import by_hand, in_a_kernel, show_as_sentence
from guardianflow.core.config import Settings
from guardianflow.core.metrics import MetricSink, NullSink
from guardianflow.data.images import hand_over, take_over
from guardianflow.exceptions import GuardianFlowError, InputError, ParameterError, RefusedError
from guardianflow.files.run_folder import RESULT_FILE, write_text
from guardianflow.processes.interrupts import signals_raise
from guardianflow.runners._result import Result
from guardianflow.runs.run_records import RunRecords, RunStatus
from guardianflow.runs.tracking import TrackedRun
from guardianflow.runs.tracking_store import look_at_store
from guardianflow.scenario.blocks import BaseScenario
from guardianflow.scenario.fields import describe_arguments, from_flat, signature_of, to_yaml
from guardianflow.state.database import Database
from guardianflow.text.nearest_names import NearestNames
from guardianflow.text.progress_bar import cell_line

__all__ = ["RESULT_FILE", "SCENARIO_FILE", "Runner", "keep_scenario", "unmet"]

log = logging.getLogger(__name__)

SCENARIO_FILE = "scenario.yaml"
_HAND_RECORD = "guardianflow.execution.engine.hand_record"  # imported when a person sits there, as runners are
SEEN_FILE = "seen.json"

_OWN = (
    inspect.Parameter("run_id", inspect.Parameter.KEYWORD_ONLY, default="", annotation=str),
    inspect.Parameter("settings", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Settings | None),
    inspect.Parameter("sink", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=MetricSink | None),
)
_OWN_DESCRIBED = """\
    run_id: Write into this run, which somebody else made and ends.
    settings: Where to; default: from the environment.
    sink: Where measurements go; default: the metrics store."""

S = TypeVar("S", bound=BaseScenario)
R = TypeVar("R")


class Runner(NearestNames, ABC, Generic[S, R]):
    """The life of one run; subclasses say what is asked, what to check and what to do.

    A subclass names its scenario in ``asks``; its signature and the ``Args:`` of its docstring are made of it. A
    scenario that is ready may be given instead of its values.

    Attributes:
        kind: The run's kind, which is also the name of its template notebook.
        scenario: What was asked.
        remarks: What :meth:`check` has to say of input that it took, a sentence each.
    """

    asks: type[S]
    kind: ClassVar[str]
    gives: ClassVar[type[Result]]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "asks" in vars(cls):
            cls.kind = cls.asks.model_fields["kind"].default
            given = [kind for base in getattr(cls, "__orig_bases__", ()) for kind in get_args(base)]
            cls.gives = next((kind for kind in given if inspect.isclass(kind) and issubclass(kind, Result)), Result)
            cls.__signature__ = signature_of(cls.asks, *_OWN)  # type: ignore[attr-defined]
            described = f"{describe_arguments(cls.asks)}\n{_OWN_DESCRIBED}\n"
            head, raises, tail = inspect.cleandoc(cls.__doc__ or "").partition("Raises:")
            cls.__doc__ = f"{head.rstrip()}\n\n{described}{chr(10) if raises else ''}{raises}{tail}"

    def __init__(
        self,
        *values: Any,
        run_id: str = "",
        settings: Settings | None = None,
        sink: MetricSink | None = None,
        **keywords: Any,
    ) -> None:
        if values and isinstance(values[0], BaseScenario):
            self._begin(self._alone(values, keywords), run_id, settings, sink)
            return
        by_position = dict(zip(self.asks.positional, values, strict=False))
        if len(values) > len(self.asks.positional) or by_position.keys() & keywords.keys():
            wanted = ", ".join(self.asks.positional)
            raise ParameterError(f"{type(self).__name__} takes {wanted} by position, each once; all others by keyword")
        self._begin(from_flat(self.asks, {**by_position, **keywords}), run_id, settings, sink)

    def _alone(self, values: tuple[Any, ...], keywords: Mapping[str, Any]) -> S:
        """A scenario that was given instead of its values."""
        scenario, name = values[0], type(self).__name__
        if len(values) > 1 or keywords:
            msg = f"{name} takes a scenario alone, or its values; load_scenario(file, changes) changes one"
            raise ParameterError(msg)
        if scenario.kind != self.kind:
            raise InputError(f"{name} runs scenarios of kind {self.kind}; this one is of kind {scenario.kind}")
        return scenario  # type: ignore[no-any-return]

    @classmethod
    def of(
        cls, scenario: S, *, run_id: str = "", settings: Settings | None = None, sink: MetricSink | None = None
    ) -> Self:
        """A runner of a scenario, whose values were checked when it was made."""
        made = cls.__new__(cls)
        made._begin(scenario, run_id, settings, sink)  # noqa: SLF001 - it is one of us
        return made

    def _begin(self, scenario: S, run_id: str, settings: Settings | None, sink: MetricSink | None) -> None:
        self.scenario = scenario
        self.run_id = run_id
        self.settings = settings or Settings()
        self.remarks: tuple[str, ...] = ()
        self.shows_progress = not run_id or in_a_kernel()  # else somebody else shows where the run stands
        self._sink = sink
        if by_hand() and not run_id:
            import_module(_HAND_RECORD).begin()
        if run_id:  # whoever made the run has looked at the images already
            with contextlib.suppress(GuardianFlowError):
                record = RunRecords(Database.open(self.settings.database_url)).get(run_id)
                take_over(record.folder / SEEN_FILE)

    def hand_over(self, folder: Path) -> None:
        """Leave in a run's folder what :meth:`check` found, for the process that does the work."""
        hand_over(folder / SEEN_FILE)

    def require_classes(self, names: Sequence[str]) -> None:
        """Make sure that the data has the classes that the task names.

        Raises:
            InputError: It lacks some.
        """
        missing = [name for name in self.scenario.task.classes if name not in names]
        if missing:
            raise InputError(
                f"the task names the class{'es' if len(missing) > 1 else ''} {', '.join(missing)}, the data has "
                f"{', '.join(names)}; correct task.classes, or name the data that has them"
            )

    def unmet(self, metrics: Mapping[str, float]) -> list[str]:
        """Which of the task's requirements a run's figures don't meet, a sentence each."""
        return unmet(self.scenario.task.requirements, metrics)

    def __repr__(self) -> str:
        return f"{type(self).__name__} for experiment {self.scenario.experiment!r}"

    def _repr_html_(self) -> str:
        return self.scenario._repr_html_()

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
            RefusedError: A person was asked before a run by hand, and said no.
            RunFailedError: The run failed; its status and evidence say why.
            RunInterruptedError: SIGTERM ended it.
        """
        _import_tqdm_quietly()
        say = cell_line(shown=by_hand() and not self.run_id)
        say("looking at what is asked …")
        look_at_store(self.settings)
        if self._needs_check():
            self.check()
        alone = by_hand() and not self.run_id
        if alone and (question := self.question()):
            self._require_yes(question)
        run: TrackedRun | None = None
        try:
            with signals_raise("SIGTERM", "SIGHUP"), self._open_run() as run:
                if not self.run_id:
                    say(f"run {run.run_id} of {run.experiment} · {run.folder}")
                    keep_scenario(run, self.scenario)
                if alone:
                    import_module(_HAND_RECORD).follow(run, self.kind)
                return self.work(run)
        except KeyboardInterrupt as error:
            if run is not None and run.owned and in_a_kernel():
                begun = f"run {run.run_id} of {run.experiment} was interrupted and has ended as {RunStatus.KILLED}"
                show_as_sentence(error, f"{begun}; {self.how_to_go_on(run)}")
            raise

    def question(self) -> str:
        """What a person is asked before a run is made by hand; empty: nothing. It is heard after :meth:`check`."""
        return ""

    def _require_yes(self, question: str) -> None:
        if input(f"{question} (y/n) ").strip().lower() not in {"y", "yes"}:
            raise RefusedError(f"you said no to: {question} Nothing was begun.")

    def how_to_go_on(self, run: TrackedRun) -> str:
        """What to do after a run that was interrupted."""
        return f"execute the cell once more to begin anew, or `guardianflow run --again {run.run_id}`"

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
        if self.run_id:
            return TrackedRun.attach(self.settings, self.run_id)
        return TrackedRun.start(
            self.settings, experiment=self.scenario.experiment, kind=self.kind, parameters=self.scenario.flat()
        )


def keep_scenario(run: TrackedRun, scenario: BaseScenario) -> None:
    """Leave the scenario with its run: ``guardianflow run scenario.yaml`` repeats it."""
    path = run.folder / SCENARIO_FILE
    if path.exists():  # of a run that goes on
        return
    run.log_artifact(write_text(path, to_yaml(scenario)))
    site = {"guardianflow.site": scenario.site.name, "guardianflow.cameras": ",".join(scenario.site.cameras)}
    run.set_tags({name: value for name, value in site.items() if value})


def unmet(rules: Sequence[str], metrics: Mapping[str, float]) -> list[str]:
    """Which requirements some figures don't meet, a sentence each."""
    return [said for rule in rules if (said := _unmet(rule, metrics))]


def _unmet(rule: str, metrics: Mapping[str, float]) -> str:
    name, sign, bound = rule.split()
    value = metrics.get(name)
    if value is None:
        return f"whether {rule} holds isn't known: this run has no {name}"
    holds = {">=": value >= float(bound), "<=": value <= float(bound), ">": value > float(bound)}
    return "" if holds.get(sign, value < float(bound)) else f"the requirement {rule} is not met: {name} is {value:.4g}"


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
