"""Execute a template notebook with papermill and keep a truthful, readable record of it.

The saved notebook says the truth however the run ended: which cell failed, that its kernel was
killed, that its time was up, that somebody pressed Ctrl-C. Cells after that stay ``pending``. If
this very process is killed by SIGKILL, the file is still a valid notebook, and the cell that ran
then, like the notebook, says ``running``: nobody was left to write more.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from guardianflow.exceptions import InputError, NotFoundError
from guardianflow.execution.engine.outcome import NotebookEvent, NotebookResult
from guardianflow.execution.engine.papermill_engine import ENGINE_NAME, raise_unless_completed, register_engine
from guardianflow.execution.engine.parameters import check_parameters
from guardianflow.execution.engine.report import page_of
from guardianflow.execution.engine.report_order import INJECTED_TAG
from guardianflow.execution.engine.session import NotebookSession, SessionOptions
from guardianflow.execution.engine.signing import sign

__all__ = ["execute_notebook", "list_templates", "notebook_folder", "template_digest", "template_path"]

_PACKAGE = Path(__file__).resolve().parents[2]
_SUFFIX = ".ipynb"
_DIGESTS = "digests.json"
"""Template → what :func:`template_digest` gave when this version was made (``tools/template_cells.py``)."""


def notebook_folder(name: str = "") -> Path:
    """The folder of our notebooks, or one in it: inside an installed wheel, or in a source checkout.

    Raises:
        NotFoundError: Neither is there.
    """
    places = (_PACKAGE / "_notebooks" / name, _PACKAGE.parent / "notebooks" / name)
    for place in places:
        if place.is_dir():
            return place
    raise NotFoundError(f"our notebooks are missing from {places[0]}. Install GuardianFlow again.")


def list_templates() -> list[str]:
    """Names of the templates, without ``.ipynb``."""
    return sorted(path.stem for path in notebook_folder("templates").glob(f"*{_SUFFIX}"))


def template_path(name: str, own: Path | None = None) -> Path:
    """The notebook that is executed, by its name (``train`` or ``train.ipynb``): the one that came with this version.

    Args:
        name: Of the template.
        own: A folder of the user's own templates (the setting ``templates``); one that lies there is taken.

    Raises:
        NotFoundError: No such template, the message lists them; or no such folder.
        InputError: The one that came with this version was edited where it lies.
    """
    known = list_templates()
    stem = name.removesuffix(_SUFFIX)
    if stem not in known:
        raise NotFoundError(f"there is no template named {name!r}. Known: {', '.join(known) or 'none'}.")
    if own is not None and not own.is_dir():
        raise NotFoundError(f"templates = {str(own)!r} is no folder. Make it, or take the setting away.")
    file = f"{stem}{_SUFFIX}"
    if own and (own / file).is_file():
        return own / file
    path = notebook_folder("templates") / file
    if json.loads((path.parent / _DIGESTS).read_bytes()).get(stem) != template_digest(path):
        raise InputError(
            f"{path} was edited where it lies, and commands execute it. Take it back (git checkout, or install "
            "GuardianFlow again) and edit a copy: `guardianflow lab` opens one, and the setting templates has yours "
            "executed. A change that is meant for everybody is recorded by: python tools/template_cells.py"
        )
    return path


def template_digest(path: Path) -> str:
    """SHA-256 of what a notebook does: kind, tags and source of its cells, without outputs and an editor's notes."""
    try:
        cells = json.loads(path.read_bytes())["cells"]
        told = [
            (cell["cell_type"], sorted(cell["metadata"].get("tags", ())), "".join(cell["source"])) for cell in cells
        ]
    except (ValueError, LookupError, TypeError, AttributeError):
        return ""  # no notebook any more
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def execute_notebook(
    template: str | Path,
    output: str | Path,
    *,
    parameters: Mapping[str, Any] | None = None,
    kernel_name: str | None = None,
    timeout_s: float | None = None,
    cwd: str | Path | None = None,
    environment: Mapping[str, str] | None = None,
    on_event: Callable[[NotebookEvent], None] | None = None,
    html: bool = True,
    stop_grace_s: float = 20.0,
) -> NotebookResult:
    """Execute a notebook and write it, and its page, whatever happens.

    On Ctrl-C, SIGTERM, SIGHUP or at the end of the time the running cell gets SIGINT, so that its
    code can end its own run; after ``stop_grace_s`` the kernel gets SIGTERM and 5 s later SIGKILL. A
    second signal skips the waiting. Signals are taken in the main thread only, and given back at
    the end. The kernel, and every process it started, is gone when this returns.

    Args:
        template: The notebook to execute; it is not changed.
        output: Where the executed notebook goes; its folder is made. Written at every cell, atomically.
        parameters: Values for the cell tagged ``parameters``, see :func:`check_parameters`.
        kernel_name: An installed Jupyter kernel. Left out, the Python that runs now is used, and no
            installed kernelspec is needed.
        timeout_s: Limit in seconds for the whole notebook, kernel start included.
        cwd: Working folder of the kernel; the current one by default.
        environment: Additions to the kernel's environment.
        on_event: Called in the caller's thread: kernel started, cell started and finished, text
            printed. An error in it is logged, and it isn't called again.
        html: Whether to write a page beside the notebook, see :func:`render_html`.
        stop_grace_s: Seconds between SIGINT and SIGTERM.

    Returns:
        The result of a notebook that reached its end, or ended itself with ``sys.exit(0)``.

    Raises:
        ParameterError, NotFoundError, InputError: Before anything began.
        NotebookFailedError: A cell raised, the kernel died, or the time was up. ``error.result`` has
            the rest; notebook and page are written.
        NotebookInterruptedError: Stopped by a signal (``error.signum``); likewise.
    """
    source, target = Path(template), Path(output)
    checked = check_parameters(source, parameters or {})
    options = SessionOptions(
        output=_prepared_output(target),
        template=source.name,
        template_sha256=hashlib.sha256(source.read_bytes()).hexdigest(),
        timeout_s=_positive("timeout_s", timeout_s),
        stop_grace_s=stop_grace_s,
        cwd=_existing_folder(cwd),
        environment=dict(environment or {}),
        on_event=on_event,
    )
    session = NotebookSession(options)
    with session.signals():
        _run_papermill(source, checked, kernel_name, session)
        result = session.result
        if result is None:
            raise InputError(f"{source} did not run. Look into the log.")
        sign(result.notebook)
        if html:
            result = session.result = replace(result, html=page_of(result.notebook))
    raise_unless_completed(result, session.signum)
    return result


def _run_papermill(source: Path, parameters: dict[str, Any], kernel_name: str | None, session: NotebookSession) -> None:
    import papermill
    from papermill.exceptions import PapermillExecutionError

    register_engine()
    notebook = _parameterized(source, parameters)
    # What the run came to stands in session.result; papermill's own error says less.
    with contextlib.suppress(PapermillExecutionError):
        # No paths are given to papermill: it would put them through str.format and write without care.
        papermill.execute_notebook(
            notebook, None, engine_name=ENGINE_NAME, kernel_name=kernel_name, progress_bar=False, session=session
        )


def _parameterized(source: Path, parameters: dict[str, Any]) -> Any:
    """The template with its parameters in place, as papermill injects them."""
    import nbformat
    from papermill.iorw import load_notebook_node
    from papermill.parameterize import parameterize_notebook

    try:
        notebook = load_notebook_node(nbformat.read(source, as_version=4))
    except (nbformat.reader.NotJSONError, nbformat.ValidationError, KeyError, AttributeError) as error:
        raise InputError(f"{source} is no valid notebook ({error}). Open and save it in JupyterLab.") from error
    if parameters:
        notebook = parameterize_notebook(notebook, parameters, engine_name=ENGINE_NAME)
        for cell in notebook.cells:
            if INJECTED_TAG in cell.metadata.get("tags", []):
                cell.source = _readable(cell.source)
    return notebook


def _readable(source: str) -> str:
    """The injected cell with letters of all languages as such; papermill writes them as escapes.

    Python's own ``repr`` escapes what can't be seen, so nothing hides in the text.
    """
    try:
        statements = ast.parse(source).body
        pairs = [(node.targets[0].id, ast.literal_eval(node.value)) for node in statements]  # type: ignore[attr-defined]
    except (SyntaxError, ValueError, AttributeError):
        return source  # another language, or a value with no literal
    return "\n".join(["# Parameters", *(f"{name} = {value!r}" for name, value in pairs)]) + "\n"


def _prepared_output(target: Path) -> Path:
    if target.suffix != _SUFFIX:
        raise InputError(f"the executed notebook would be {target.name!r}; its name must end in {_SUFFIX}.")
    if target.is_file() and not _was_executed(target):
        raise InputError(
            f"{target} is there already and was not made by an execution; it is not replaced. Name another."
        )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"the folder {target.parent} can't be made ({error.strerror}). Choose one that can be written."
        ) from error
    return target.resolve()


def _was_executed(notebook: Path) -> bool:
    """Whether a notebook is what an execution left; papermill and our engine put their mark into it."""
    try:
        return "papermill" in json.loads(notebook.read_bytes())["metadata"]
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _existing_folder(folder: str | Path | None) -> Path | None:
    if folder is None:
        return None
    path = Path(folder)
    if not path.is_dir():
        raise NotFoundError(f"there is no folder {path} to run the notebook in. Make it first.")
    return path.resolve()


def _positive(name: str, value: float | None) -> float | None:
    if value is not None and not value > 0:
        raise InputError(f"{name} = {value!r} must be more than 0 seconds; leave it out for no limit.")
    return value
