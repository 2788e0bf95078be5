"""What may follow a run, as commands and as cells of a notebook, filled in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from guardianflow.text.command_lines import command, typed
from guardianflow.text.printable import escape

__all__ = ["NextStep", "NextSteps"]


@dataclass(frozen=True)
class NextStep:
    """One thing that may follow.

    Attributes:
        why: What it is good for.
        command: For a shell, and with ``!`` before it for a cell.
        python: An expression that does the same, of one public name and what is asked of it; empty: there is none.
    """

    why: str
    command: str
    python: str = ""

    @property
    def cell(self) -> str:
        """The expression as a cell that runs as it stands."""
        return self.python and f"from guardianflow import {self.python.partition('(')[0]}\n{self.python}"

    @classmethod
    def promote(cls, why: str, name: str, *version: str) -> NextStep:
        """Put a version in charge; left out, the candidate."""
        asked = ", ".join(map(repr, (name, *version)))
        return cls(why, command("promote", name, *version), f"ModelRegistry().promote({asked})")

    @classmethod
    def register(cls, why: str, run_id: str, artifact: str = "") -> NextStep:
        """Enter what a run made under a name that is to be chosen."""
        words, asked = (("--artifact", artifact), f", artifact={artifact!r}") if artifact else ((), "")
        python = f"ModelRegistry().register('NAME', {run_id!r}{asked})"
        return cls(why, command("register", "NAME", "--run", run_id, *words), python)

    @classmethod
    def again(cls, why: str, run_id: str) -> NextStep:
        """Do it once more, as a run of its own."""
        return cls(why, command("run", "--again", run_id))

    @classmethod
    def figures(cls, run_id: str) -> NextStep:
        """Look at what a run measured."""
        return cls("Look at its figures", command("metrics", "--run", run_id), f"open_run({run_id!r})")


@dataclass(frozen=True)
class NextSteps:
    """What may follow a run; a notebook shows it as a table."""

    steps: Sequence[NextStep]

    def commands(self) -> list[tuple[str, str]]:
        """Pairs (why, command)."""
        return [(step.why, step.command) for step in self.steps]

    def _repr_html_(self) -> str:
        rows = "".join(
            f'<tr><td style="text-align:left;vertical-align:top">{escape(step.why)}</td>'
            f'<td style="text-align:left">{_code(typed(step.command))}{_code(step.cell)}</td></tr>'
            for step in self.steps
        )
        return f"<p>For a shell, or for a cell after <code>!</code>; Python as it stands.</p><table>{rows}</table>"


def _code(text: str) -> str:
    shown = escape(text)
    return f'<pre style="margin:0;padding:.2em 0;white-space:pre-wrap;background:none">{shown}</pre>' if text else ""
