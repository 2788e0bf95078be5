"""What happened on the way and must be heard by whoever asked for something else: a store was migrated, say."""

from __future__ import annotations

import logging

__all__ = ["forget_remarks", "made_remarks", "remark"]

log = logging.getLogger(__name__)

_made: list[str] = []


def remark(sentence: str) -> None:
    """Say something on the terminal at once, and keep it for the document that ``--json`` prints."""
    _made.append(sentence)
    log.warning(sentence)


def made_remarks() -> tuple[str, ...]:
    """The remarks since the last :func:`forget_remarks`."""
    return tuple(_made)


def forget_remarks() -> None:
    """A new command begins: what was said before belongs to another one's document."""
    _made.clear()
