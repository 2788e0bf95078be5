"""What a serialised graph says of itself, in any format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["GraphFacts"]


@dataclass(frozen=True)
class GraphFacts:
    """What a serialised graph says of itself, in any format.

    Attributes:
        metadata: Ultralytics' keys (``names``, ``stride``, ``imgsz``, ``task`` …); values may be text.
        inputs: Shape of each input; 0 where any size fits.
        outputs: Shape of each output; 0 where any size fits.
        precision: Of the stored weights.
    """

    metadata: Mapping[str, Any]
    inputs: tuple[tuple[int, ...], ...]
    outputs: tuple[tuple[int, ...], ...]
    precision: str
