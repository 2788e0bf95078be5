"""How a script ended, in a sentence that somebody can act on."""

from __future__ import annotations

import re
import signal
from pathlib import Path

from guardianflow.processes.supervision.frames import Facts

__all__ = ["as_on_screen", "end_of_log", "last_words", "reason_of", "signal_name"]

_TAIL_BYTES = 20_000
_LONGEST = 300
_RAISED = re.compile(r"^(?:\w+\.)*\w*(?:Error|Exception|Interrupt)(?::.*|$)", re.MULTILINE)
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\^_])")  # ECMA-48
_MEANING = {
    "SIGSEGV": "it crashed: a segmentation fault (SIGSEGV)",
    "SIGABRT": "it gave itself up (SIGABRT)",
    "SIGBUS": "it crashed: a bus error (SIGBUS)",
    "SIGFPE": "it crashed: an arithmetic error (SIGFPE)",
    "SIGILL": "it crashed: an instruction that this CPU doesn't have (SIGILL)",
    "SIGKILL": "it was killed from outside (SIGKILL), as the system does when memory runs out",
    "SIGPIPE": "it wrote to a pipe that nobody reads any more (SIGPIPE)",
}


def signal_name(number: int) -> str:
    """``11`` → ``"SIGSEGV"``; 0 → empty."""
    if not number:
        return ""
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"


def reason_of(facts: Facts, *, timeout_s: float, memory_mb: float, said: str) -> str:
    """Why it didn't end well; empty where it did.

    Args:
        facts: What its supervisor reported.
        timeout_s: How long it had.
        memory_mb: How much it might hold.
        said: Its last words on stderr.
    """
    stopped = facts.stopped
    by_force = "; it didn't listen and was killed" if facts.killed else ""
    stuck = f"; {facts.hopeless} of its processes could not be killed" if facts.hopeless else ""
    if stopped == "timeout":
        return f"it took longer than {timeout_s:g} s and was ended; allow it more with --timeout{by_force}{stuck}"
    if stopped == "out_of_memory":
        return (
            f"it and its children held {facts.held_mb:,.0f} MB of memory, more than the {memory_mb:,.0f} MB "
            f"that they may take, and were ended; let it use less, or allow it more with --memory-mb{stuck}"
        )
    if stopped:
        return {"interrupted": "it was interrupted by Ctrl-C"}.get(stopped, "it was told to end") + by_force + stuck
    if facts.signal:
        name = signal_name(facts.signal)
        return _MEANING.get(name, f"it was ended by {name}") + (f": {said}" if said else "") + stuck
    if facts.exit_code:
        return f"it ended with exit code {facts.exit_code}" + (f": {said}" if said else "") + stuck
    return stuck.removeprefix("; ")


def as_on_screen(text: str) -> str:
    """Output as a terminal shows it at the end: without colours, of a progress bar what it drew last."""
    lines = _ESCAPES.sub("", text).split("\n")
    return "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in lines)


def end_of_log(log: Path) -> str:
    """The end of a log as a terminal shows it; empty where it can't be read."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
            return as_on_screen(file.read().decode("utf-8", errors="replace"))
    except OSError:
        return ""


def last_words(log: Path) -> str:
    """What Python raised last, else the last line of a log that says something; empty where there is none."""
    text = end_of_log(log)
    raised = _RAISED.findall(text) if "Traceback (most recent call last):" in text else []
    lines = raised or [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:_LONGEST] if lines else ""
