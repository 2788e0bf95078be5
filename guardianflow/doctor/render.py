"""The doctor's report for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from guardianflow.text.printable import visible

if TYPE_CHECKING:
    from rich.console import Console

    from guardianflow.doctor.report import DoctorReport

__all__ = ["render"]

_PLAIN_WIDTH = 200  # a file or a pipe has no edge to wrap at
_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red", "skip": "dim"}


def render(report: DoctorReport, *, console: Console | None = None) -> None:
    """Print the settings, the checks, and under each that is not well what to do.

    Args:
        report: What was found.
        console: Where to; default stdout.
    """
    from rich import box
    from rich.console import Console as RichConsole
    from rich.table import Table
    from rich.text import Text

    screen = console or RichConsole(highlight=False)
    if not screen.is_terminal:
        screen.width = max(screen.width, _PLAIN_WIDTH)
    settings = Table(title="Settings", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("setting", "value", "from"):
        settings.add_column(column, overflow="fold")
    for row in report.settings:
        settings.add_row(*(Text(visible(row[name]) or "–") for name in ("env", "value", "origin")))
    checks = Table(title="Checks", title_justify="left", box=None, show_header=False, pad_edge=False)
    checks.add_column(no_wrap=True)
    checks.add_column(no_wrap=True)
    checks.add_column(overflow="fold")
    for check in report.checks:
        checks.add_row(Text(check.status, style=_STYLES[check.status]), Text(check.name), Text(visible(check.detail)))
        if check.advice:
            checks.add_row("", "", Text(visible(f"→ {check.advice}"), style="italic"))
    screen.print(settings)
    screen.print(checks)
    failed = [check.name for check in report.checks if check.status == "fail"]
    verdict = f"not ready: {', '.join(failed)}" if failed else "ready"
    screen.print(Text(f"\n{verdict} ({report.seconds:.1f} s)", style=_STYLES["fail" if failed else "ok"]))
