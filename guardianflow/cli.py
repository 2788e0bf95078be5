"""The command line: every verb parses, calls one function of the library, and shows what came of it.

The verbs are in :mod:`guardianflow.verbs`; one that isn't called is not imported. Exit codes: 0 done · 1 the run
failed · 2 bad usage or bad input · 3 refused by a gate or for lack of rights · 130 ended by Ctrl-C · 143 ended by
SIGTERM.
"""

from __future__ import annotations

import sys
import traceback
from importlib import import_module
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption
from typer.main import get_group

from guardianflow import __version__
from guardianflow.console import log_to_stderr
from guardianflow.text.printable import visible

__all__ = ["VERBS", "app", "load_verb", "main"]

VERBS = {
    "init": ("start:init", "Make a workspace: guardianflow.toml, scenarios/, notebooks/, .gitignore."),
    "doctor": ("start:doctor", "Show every setting and where it came from, and check what the product needs."),
    "demo": (
        "start:demo",
        "Train a small model on generated scenes, promote, quantize, roll back; watch three sites, and improve it.",
    ),
    "train": ("work:train", "Train a detector: a run in MLflow, an executed notebook, weights, curves and samples."),
    "infer": ("work:infer", "Benchmark a model: accuracy, latency, throughput and memory on each runtime."),
    "quant": ("work:quant", "Quantize a model, compare it with the original on the same images, and register it."),
    "compare": (
        "compare:compare",
        "Say which model is better on the same images, by how much, and whether chance explains it.",
    ),
    "wrap": ("wrap:wrap_app", "Run a script of yours as it is, as a tracked run; its own arguments follow after --."),
    "scan": ("scan:scan", "Find training scripts, datasets, weights and finished runs by reading, never by running."),
    "run": ("scenarios:run", "Execute a scenario file, or a recorded run once more as a new run."),
    "batch": (
        "batch:batch",
        "Execute many scenario files; all are read before the first begins, and one that fails holds up no other.",
    ),
    "sweep": ("sweep:sweep", "Train again and again with other values, end hopeless trials early, keep the best."),
    "study": ("sweep:study_app", "Studies: what sweeps have tried, and what came of it."),
    "register": ("models:register", "Register a run's weights as a new version and make it the candidate."),
    "promote": (
        "models:promote",
        "Put a version in charge, if the gate lets it: it becomes the champion, the old champion the rollback.",
    ),
    "rollback": ("models:rollback", "Put the version before the champion back in charge."),
    "reject": ("models:reject", "Mark a version as not to be promoted."),
    "delete": ("models:delete", "Delete a version here and in MLflow; its run and its line in the ledger stay."),
    "download": (
        "models:download",
        "Fetch a version's file, checked by its hash; prints where it lies (--json: and what serves it).",
    ),
    "history": ("models:history", "Show a model's ledger: who changed what, when, why and on what evidence."),
    "list": ("records:list_", "List experiments, runs, models, or the versions of a model."),
    "scenario": ("scenarios:scenario_app", "Scenario files: what a run is asked, in blocks."),
    "runs": ("records:runs_app", "Runs: their state, and those whose process died."),
    "metrics": (
        "metrics:metrics_app",
        "Measurements in the metrics store: rows, figures, trends, comparisons, export.",
    ),
    "alerts": (
        "alerts:alerts_app",
        "Alerts: which model, site and camera breaks a rule of alerts.yaml, since when.",
    ),
    "optimize": (
        "optimize:optimize",
        "Hold the figures against the rules and show what is advised; nothing is applied without --apply.",
    ),
    "keys": ("keys:keys_app", "Keys for the API and the pages: who may read, report, operate, promote."),
    "lab": ("lab:lab", "Open the workspace in JupyterLab, with notebooks to edit as one likes; until Ctrl-C."),
    "dashboard": ("pages:dashboard", "Show the sites, alerts and advice as pages in a browser; until Ctrl-C."),
    "api": ("service:api", "Answer over HTTP: figures, alerts, advice, models; until Ctrl-C."),
    "stack": (
        "stack:stack_app",
        "The team's stack: PostgreSQL, SeaweedFS, MLflow, API and pages, without Docker, from docker-compose.yml.",
    ),
    "eval": ("evaluation:eval_app", "Score predictions that lie in files: detection, tracking."),
}
"""Verb → where it is in :mod:`guardianflow.verbs`, and its line in ``guardianflow --help``."""


class _Group(TyperGroup):
    """Verbs; a flag that isn't given is ``False``: were it ``None``, typer would import pydantic to say so."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        for option in self.get_params(ctx):
            if isinstance(option, TyperOption) and option.is_flag:
                option.default = option.default or False
        return super().parse_args(ctx, args)


def load_verb(name: str) -> Any:
    """A verb with its options, made now."""
    module, _, attribute = VERBS[name][0].partition(":")
    found = getattr(import_module(f"guardianflow.verbs.{module}"), attribute)
    made = typer.Typer(rich_markup_mode=None)
    if isinstance(found, typer.Typer):
        made.add_typer(found, cls=_Group)
    else:
        made.command(name)(found)
    return get_group(made).commands[name]


class _Verb(TyperCommand):
    """A verb by its name and its line; called, completed or asked for help, it is what :func:`load_verb` makes."""

    def make_context(self, *args: Any, **extra: Any) -> Any:
        """The context of the verb itself."""
        return load_verb(str(self.name)).make_context(*args, **extra)


app = typer.Typer(
    name="guardianflow",
    cls=_Group,
    help="The life of a vision model: train, register, promote, roll back, watch. Every step is a notebook that ran.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for _name, (_, _line) in VERBS.items():
    app.command(_name, cls=_Verb, help=_line)(lambda: None)


def main() -> NoReturn:
    """Entry point of the ``guardianflow`` command."""
    log_to_stderr()
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception:  # noqa: BLE001 - a fault of ours: all of it, but nothing that a terminal obeys
        sys.exit(visible(traceback.format_exc()))
    sys.exit(0)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"guardianflow {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Nothing of its own: the options above apply to every verb."""
