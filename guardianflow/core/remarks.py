"""What happened on the way and must be heard by whoever asked for something else: a store was migrated, say."""

from __future__ import annotations

import logging

__all__ = ["made_remarks", "remark"]

log = logging.getLogger(__name__)

_made: list[str] = []


def remark(sentence: str) -> None:
    """Say something on the terminal at once, and keep it for the document that ``--json`` prints."""
    _made.append(sentence)
    log.warning(sentence)


def made_remarks() -> tuple[str, ...]:
    """The remarks of this process so far."""
    return tuple(_made)
