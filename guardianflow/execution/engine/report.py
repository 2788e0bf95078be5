"""The page of an executed notebook: one file that needs no network.

nbconvert's page loads require.js, MathJax and Mermaid from the internet and knows nothing of
Plotly's own output. Here Plotly's script is embedded once, its figures are turned into plain
HTML, and a content security policy forbids the browser to load anything from elsewhere.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import re
import uuid
from functools import cache
from pathlib import Path
from typing import Any

from guardianflow.exceptions import InputError, NotFoundError
from guardianflow.execution.engine.report_order import in_reading_order
from guardianflow.files.run_folder import write_text
from guardianflow.text.printable import escape, visible

__all__ = ["ERROR_TAG", "banner", "page_of", "render_html"]

log = logging.getLogger(__name__)

ERROR_TAG = "papermill-error-cell-tag"
"""Of cells that say what went wrong; papermill removes them when the notebook runs again."""

_STYLE = "border-left:4px solid #d0405a;padding:0.6em 1em;font-family:sans-serif"  # reads on light and dark
_PLOTLY = "application/vnd.plotly.v1+json"
_SCRIPT_PLACE = "<!-- guardianflow:plotly -->"
_MARK = 'content="GuardianFlow" name="generator"'  # as the template has it
# What a browser can show offline, best first. Widgets and Mermaid need scripts from elsewhere.
_SHOWN = [
    "text/html",
    "text/markdown",
    "image/svg+xml",
    "image/png",
    "image/jpeg",
    "application/javascript",
    "text/latex",
    "text/plain",
]
_IMAGES = ("image/webp", "image/png", "image/jpeg", "image/gif")
_REMOTE = r"""["']?\s*(?:https?:)?//"""
_REMOTE_SCRIPT = re.compile(rf"<script\b[^>]*\bsrc\s*=\s*{_REMOTE}[^>]*>.*?</script\s*>", re.IGNORECASE | re.DOTALL)
_REMOTE_LINK = re.compile(rf"<link\b[^>]*\bhref\s*=\s*{_REMOTE}[^>]*>", re.IGNORECASE)
_PLOTLY_CDN = re.compile(r"cdn\.plot\.ly|/plotly[^\"'>]*\.js", re.IGNORECASE)


def render_html(notebook: Path) -> Path:
    """Write a self-contained page of an executed notebook beside it.

    Plotly figures are drawn without a network; nothing in the page loads from elsewhere.

    Args:
        notebook: An executed notebook.

    Returns:
        The page, ``<name>.html``.

    Raises:
        NotFoundError: There is no such notebook.
        InputError: It is no notebook, or the page can't be written.
    """
    import nbformat

    try:
        document = nbformat.read(notebook, as_version=4)
    except FileNotFoundError as error:
        raise NotFoundError(f"there is no notebook at {notebook}. Check the path.") from error
    except (nbformat.reader.NotJSONError, nbformat.ValidationError, UnicodeDecodeError) as error:
        raise InputError(f"{notebook} is no valid notebook ({error}). Run it again.") from error
    drawn = [_offline(output) for cell in document.cells for output in cell.get("outputs", [])]
    in_reading_order(document)
    page = _export(document, notebook)
    script = f"<script>{_plotly_script()}</script>" if any(drawn) else ""
    target = notebook.with_suffix(".html")
    if target.is_file() and not ("papermill" in document.metadata or _MARK.encode() in target.read_bytes()):
        raise InputError(
            f"{target} is there already and is no page of GuardianFlow's; move it away, it isn't replaced."
        )
    try:
        # What is invisible in an output is shown; within a script, where it is a string's, it stays what it is.
        write_text(target, visible(page).replace(_SCRIPT_PLACE, script, 1))
    except OSError as error:
        raise InputError(f"the page {target} can't be written ({error.strerror}). Free space, or move it.") from error
    return target


def page_of(notebook: Path) -> Path | None:
    """The page of a notebook, written anew; ``None`` where there can be none, which the log says."""
    try:
        return render_html(notebook)
    except Exception as error:  # noqa: BLE001 - nbconvert runs third-party renderers
        log.warning("no page could be made of %s: %s", notebook.name, error)
        return None


def banner(text: str, *, name: str = "") -> Any:
    """A cell that says what went wrong.

    Args:
        text: HTML on one line: nothing in an error's text is taken for markdown.
        name: What links lead to it by.
    """
    import nbformat

    anchor = f'id="{name}" ' if name else ""
    cell = nbformat.v4.new_markdown_cell(f'<div {anchor}style="{_STYLE}">{text}</div>')
    cell.metadata["tags"] = [ERROR_TAG]
    return cell


def _export(document: Any, notebook: Path) -> str:
    from nbconvert import HTMLExporter
    from traitlets.config import Config

    config = Config()
    config.NbConvertBase.display_data_priority = _SHOWN
    template = Path(__file__).with_suffix(".html.j2").read_text(encoding="utf-8")
    exporter = HTMLExporter(
        config=config, raw_template=template, embed_images=True, log=log,
        exclude_input_prompt=True, exclude_output_prompt=True,
    )  # fmt: skip
    document.metadata.pop("widgets", None)
    document.metadata["gf_footer"] = _footer(document, notebook)
    resources = {"metadata": {"name": notebook.stem, "path": str(notebook.parent)}}
    page, _ = exporter.from_notebook_node(document, resources=resources)
    return str(page)


def _footer(document: Any, notebook: Path) -> str:
    """When it was executed, how long that took, and by what."""
    ours, papermill = document.metadata.get("guardianflow", {}), document.metadata.get("papermill", {})
    began = str(papermill.get("start_time") or "")[:16].replace("T", " ")
    parts = [
        notebook.name,
        f"executed {began} UTC" if began else "",
        f"{ours['seconds']:,.0f} s" if ours.get("seconds") else "",
        f"GuardianFlow {ours['guardianflow_version']}" if "guardianflow_version" in ours else "",
    ]
    return " · ".join(filter(None, parts))


def _offline(output: Any) -> bool:
    """Make one output work without a network; ``True`` when it needs Plotly's script."""
    data = output.get("data")
    if not data:
        return False
    if _PLOTLY in data:
        output.data = {"text/html": _figure(data[_PLOTLY]), "text/plain": data.get("text/plain", "")}
        return True
    text = data.get("text/html")
    if text is None:
        image = next((kind for kind in _IMAGES if kind in data), None)
        if image:
            output.data = {"text/html": _image(image, data)}
        return False
    source = "".join(text) if isinstance(text, list) else str(text)
    needs_plotly = any(_PLOTLY_CDN.search(tag) for tag in _REMOTE_SCRIPT.findall(source))
    data["text/html"] = _REMOTE_LINK.sub("", _REMOTE_SCRIPT.sub("", source))
    return needs_plotly


def _image(kind: str, data: Any) -> str:
    """A picture, and what it shows in words for who can't see it. nbconvert leaves these out, and knows no WebP."""
    said, content = ("".join(data.get(name, "")) for name in ("text/plain", kind))
    return (
        f'<img style="max-width:100%" alt="{escape(said[:1000])}" src="data:{kind};base64,{escape(content.strip())}">'
    )


def _figure(bundle: Any) -> str:
    """A Plotly figure as a ``div`` and the call that draws it."""
    place = f"figure-{uuid.uuid4().hex}"
    layout = dict(bundle.get("layout") or {})
    look = "gf-figure"
    if not layout.get("paper_bgcolor"):  # drawn for a white page: the page turns its colours where it is dark
        layout |= {"paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)"}
        look += " gf-turned"
    # "<" would let a label such as "</script>" end the script.
    config = {"responsive": True, **(bundle.get("config") or {})}
    parts = [_json(part) for part in (bundle.get("data") or [], layout, config)]
    height = layout.get("height") if isinstance(layout.get("height"), int | float) else 450
    return (
        f'<div class="{look}"><div id="{place}" style="width:100%;min-height:{height}px"></div></div>'
        f'<script>Plotly.newPlot("{place}", {", ".join(parts)});</script>'
    )


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False).replace("<", "\\u003c").replace("\u2028", "\\u2028")


@cache
def _plotly_script() -> str:
    """Plotly's own script, read from the installed package without importing it."""
    spec = importlib.util.find_spec("plotly")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        script = Path(folder) / "package_data" / "plotly.min.js"
        if script.is_file():
            return script.read_text(encoding="utf-8")
    raise NotFoundError("plotly.min.js is missing from the installed plotly. Install it again: pip install plotly")
