"""What all verbs share: their common options, how errors end them, how runs are named."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec

from typer import Argument, Exit, Option

from guardianflow.console import print_json, say
from guardianflow.exceptions import GuardianFlowError, InputError, NotFoundError, ScriptFailedError
from guardianflow.text.command_lines import typed
from guardianflow.text.remarks import forget_remarks

if TYPE_CHECKING:
    from guardianflow.runs.run_records import RunRecord

__all__ = ["Direct", "Json", "ModelName", "Reason", "RunId", "full_run_id", "record_of", "require", "verb"]

Params = ParamSpec("Params")

Json = Annotated[bool, Option("--json", help="Print one JSON document on stdout; messages go to stderr.")]
Reason = Annotated[str | None, Option("--reason", help="Why; it is kept in the ledger.")]
ModelName = Annotated[str, Argument(metavar="NAME", help="Registered model name.")]
RunId = Annotated[str, Argument(metavar="RUN_ID", help="Run id, or the beginning of it.")]
Direct = Annotated[bool, Option("--direct", help="Run in this process, without a notebook (for debugging).")]


def verb(function: Callable[Params, None]) -> Callable[Params, None]:
    """Turn our errors into one sentence and an exit code, and with --json into a document too."""

    @functools.wraps(function)
    def wrapped(*args: Params.args, **kwargs: Params.kwargs) -> None:
        forget_remarks()
        try:
            function(*args, **kwargs)
        except GuardianFlowError as error:
            _report(error, as_json=bool(kwargs.get("json")))
            raise Exit(error.exit_code) from error
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise Exit(1) from None

    return wrapped


def _report(error: GuardianFlowError, *, as_json: bool) -> None:
    say(f"error: {error}")
    if as_json:
        document: dict[str, Any] = {
            "error": {"type": type(error).__name__, "message": typed(str(error))},
            "exit_code": error.exit_code,
        }
        result = getattr(error, "result", None)
        if result is not None:
            document["script" if isinstance(error, ScriptFailedError) else "notebook"] = result.to_dict()
        print_json(document)


def require(options: Mapping[str, str], given: Mapping[str, Any]) -> None:
    """Options that this way of calling the verb can't do without, each with the keyword of its value.

    Raises:
        InputError: Names those that are missing.
    """
    missing = [option for option, keyword in options.items() if not given.get(keyword)]
    if missing:
        raise InputError(f"{' and '.join(missing)} must be given; --help shows how")


def record_of(run_id: str) -> RunRecord:
    """Our record of a run, by its id or the beginning of it.

    Raises:
        NotFoundError: No such run, or several.
    """
    from guardianflow.runners.training.runner import find_run

    return find_run(run_id)


def full_run_id(run_id: str) -> str:
    """Runs of ours may be named by the beginning of their id; other ids are passed on as they are."""
    try:
        return str(record_of(run_id).run_id)
    except NotFoundError:
        return run_id
