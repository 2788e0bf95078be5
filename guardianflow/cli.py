"""The command line: every verb parses, calls one function of the library, and shows what came of it.

The verbs are in :mod:`guardianflow.verbs`. Exit codes: 0 done · 1 the run failed · 2 bad usage or bad
input · 3 refused by a gate or for lack of rights · 130 ended by Ctrl-C · 143 ended by SIGTERM.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from typing import Annotated, Any, NoReturn

import typer

from guardianflow import __version__
from guardianflow.text.command_lines import typed
from guardianflow.verbs import adoption, benchmarks, evaluation, metrics, models, records, work

__all__ = ["app", "main"]

VERBS: dict[str, Callable[..., Any]] = {
    "init": work.init,
    "doctor": work.doctor,
    "demo": work.demo,
    "train": work.train,
    "infer": benchmarks.infer,
    "quant": benchmarks.quant,
    "wrap": adoption.wrap,
    "scan": adoption.scan,
    "run": work.run,
    "register": models.register,
    "promote": models.promote,
    "rollback": models.rollback,
    "reject": models.reject,
    "delete": models.delete,
    "download": models.download,
    "history": models.history,
    "list": records.list_,
}
COMMAND_CLASSES = {"wrap": adoption.WrapCommand}
GROUPS = {
    "scenario": work.scenario_app,
    "runs": records.runs_app,
    "metrics": metrics.metrics_app,
    "eval": evaluation.eval_app,
}

app = typer.Typer(
    name="guardianflow",
    help="The life of a vision model: train, register, promote, roll back, watch. Every step is a notebook that ran.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for _name, _function in VERBS.items():
    app.command(_name, cls=COMMAND_CLASSES.get(_name))(_function)
for _name, _group in GROUPS.items():
    app.add_typer(_group, name=_name)


def main() -> NoReturn:
    """Entry point of the ``guardianflow`` command."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter("%(levelname)s %(message)s"))
    logging.basicConfig(level=os.environ.get("GUARDIANFLOW_LOG", "WARNING").upper(), handlers=[handler])
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0)


class _Formatter(logging.Formatter):
    """Log lines whose commands can be typed here."""

    def format(self, record: logging.LogRecord) -> str:
        return typed(super().format(record))


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
