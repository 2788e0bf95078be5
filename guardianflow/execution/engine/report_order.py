"""In which order a page tells what a notebook did: the result first, what was asked and how it was prepared after it.

A notebook runs from its parameters to its result; who opens its page wants it the other way round.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from guardianflow.execution.engine.parameters import PARAMETERS_TAG, Expression, assigned_values
from guardianflow.text.printable import escape

__all__ = ["INJECTED_TAG", "STOPPED_TAG", "in_reading_order"]

INJECTED_TAG = "injected-parameters"  # papermill's
STOPPED_TAG = "gf-stopped"
"""Of the cell that an error ended; the template opens its code."""

_RESULT = "result"  # what the cells that end with this word show is what the notebook was run for
_HEADING = re.compile(r"#{1,6} +(.*)")
_COMMENT = re.compile(r"^(\w+)\b[^#]*#\s*(.*)$")

Cells = list[Any]


def in_reading_order(notebook: Any) -> None:
    """Rearrange an executed notebook for its page.

    The title; what went wrong; the section of the result, or where it stopped; what follows it; then what was asked,
    as one table, and what came before the result. Sections that never ran are named in a line. A notebook without a
    result keeps its order.
    """
    banners, cells = _taken(notebook.cells, lambda cell: cell.cell_type == "markdown" and _is_banner(cell))
    for cell in cells:
        if _has_error(cell):
            cell.metadata.setdefault("tags", []).append(STOPPED_TAG)
    title, intro, cells = _title(cells)
    asked, cells = _asked(cells)
    sections, missing = _ran(_sections(cells))
    lead = _lead(sections)
    if lead is None:
        notebook.cells = [*title, *banners, *intro, *asked, *_joined(sections), *missing]
        return
    first = _heading_below(sections[lead])
    notebook.cells = [
        *title, *banners, *first, *_joined(sections[lead + 1 :]), *missing,
        *([_text("## What was asked")] if asked or intro or lead else []), *asked, *intro, *_joined(sections[:lead]),
    ]  # fmt: skip


def _is_banner(cell: Any) -> bool:
    """Papermill's and ours stand on top; the one before the cell that stopped has a name and stays there."""
    return (
        any(tag.startswith("papermill-error") for tag in _tags(cell)) and 'id="papermill-error-cell"' not in cell.source
    )


def _taken(cells: Iterable[Any], wanted: Any) -> tuple[Cells, Cells]:
    found: tuple[Cells, Cells] = ([], [])
    for cell in cells:
        found[0 if wanted(cell) else 1].append(cell)
    return found


def _title(cells: Cells) -> tuple[Cells, Cells, Cells]:
    """The first heading, the text below it in the same cell, and the other cells."""
    if not cells or cells[0].cell_type != "markdown" or not cells[0].source.startswith("# "):
        return [], [], cells
    heading, _, text = cells[0].source.partition("\n")
    return [_text(heading)], [_text(text, "gf-note")] if text.strip() else [], cells[1:]


def _asked(cells: Cells) -> tuple[Cells, Cells]:
    """The parameters as one cell, whose output is a table of them; the other cells."""
    asked, others = _taken(cells, lambda cell: {PARAMETERS_TAG, INJECTED_TAG} & {*_tags(cell)})
    if not asked:
        return [], cells
    declared = next((cell.source for cell in asked if PARAMETERS_TAG in _tags(cell)), "")
    table = _table(declared, *(cell.source for cell in asked))
    if not table:
        return asked, others
    import nbformat

    shown = nbformat.v4.new_output("display_data", {"text/html": table})
    return [nbformat.v4.new_code_cell("\n\n".join(cell.source for cell in asked), outputs=[shown])], others


def _table(declared: str, *sources: str) -> str:
    """Name, value and meaning of each parameter; values that are no default are bold. Empty where it isn't Python."""
    values: dict[str, Any] = {}
    try:
        defaults = assigned_values(declared)
        for source in sources:
            values.update(assigned_values(source))
    except (SyntaxError, ValueError, RecursionError):
        return ""
    meanings = {found[1]: found[2] for line in declared.splitlines() if (found := _COMMENT.match(line))}
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td>{_value(value, name in defaults and value == defaults[name])}</td>"
        f"<td>{escape(meanings.get(name, ''))}</td></tr>"
        for name, value in values.items()
    )
    return f'<table class="gf-asked">{rows}</table>' if rows else ""


def _value(value: Any, is_default: bool) -> str:
    text = f"<code>{escape(value.source if isinstance(value, Expression) else repr(value))}</code>"
    return text if is_default else f"<b>{text}</b>"


def _sections(cells: Cells) -> list[Cells]:
    """Runs of cells, each begun by a heading."""
    found: list[Cells] = [[]]
    for cell in cells:
        if cell.cell_type == "markdown" and _HEADING.match(cell.source) and found[-1]:
            found.append([])
        found[-1].append(cell)
    return [section for section in found if section]


def _ran(sections: Sequence[Cells]) -> tuple[list[Cells], Cells]:
    """The sections of which something ran, and a line that names the others."""
    pending = [
        section
        for section in sections
        if any(map(_is_code, section)) and not any(_is_code(cell) and _did_run(cell) for cell in section)
    ]
    names = [heading for section in pending if (heading := _heading(section[0]))]
    if len(pending) == len(sections) or not names:
        return list(sections), []
    line = _text(f"<p>Not run: {escape(' · '.join(names))}</p>", "gf-note")
    return [section for section in sections if section not in pending], [line]


def _is_code(cell: Any) -> bool:
    return bool(cell.cell_type == "code")


def _did_run(cell: Any) -> bool:
    return bool(cell.get("outputs") or cell.get("execution_count"))


def _heading(cell: Any) -> str:
    found = _HEADING.match(cell.source) if cell.cell_type == "markdown" else None
    return found[1].strip() if found else ""


def _lead(sections: Sequence[Cells]) -> int | None:
    """Which section has the result; where there is none, which one stopped."""

    def first(wanted: Any) -> int | None:
        return next((place for place, section in enumerate(sections) if any(map(wanted, section))), None)

    found = first(_shows_result)
    return first(_has_error) if found is None else found


def _shows_result(cell: Any) -> bool:
    return (
        _is_code(cell)
        and cell.source.rstrip().rpartition("\n")[2].strip() == _RESULT
        and any(output.output_type == "execute_result" for output in cell.outputs)
    )


def _has_error(cell: Any) -> bool:
    return _is_code(cell) and any(output.output_type == "error" for output in cell.outputs)


def _heading_below(section: Cells) -> Cells:
    """A section whose result needs no heading: what its text says, and what showed its progress, stands below it."""
    for cell in filter(_is_code, section):
        cell.outputs = sorted(cell.outputs, key=lambda output: output.output_type != "execute_result")
    if not _heading(section[0]):
        return section
    _, _, text = section[0].source.partition("\n")
    note = [_text(text, "gf-note")] if text.strip() else []
    return [*section[1:], *note]


def _joined(sections: Iterable[Cells]) -> Cells:
    return [cell for section in sections for cell in section]


def _tags(cell: Any) -> list[str]:
    found: list[str] = cell.metadata.get("tags", [])
    return found


def _text(source: str, *tags: str) -> Any:
    import nbformat

    return nbformat.v4.new_markdown_cell(source.strip(), metadata={"tags": [*tags]})
