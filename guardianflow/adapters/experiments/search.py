"""Finding an experiment by what a person remembers of it."""

from __future__ import annotations

import difflib
import fnmatch
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

from guardianflow.adapters.experiments.entries import ExperimentEntry

__all__ = ["near_names", "rank"]


def rank(
    entries: Iterable[ExperimentEntry], text: str = "", *, name: str = "", tag: str = "", framework: str = ""
) -> list[ExperimentEntry]:
    """The entries that fit, the best first; without ``text`` in the order given.

    Each word of ``text`` must occur somewhere. A word counts most as the whole name, then in the name, as a tag,
    in the script's file name, in its path, as the framework, among the reasons. Of two alike the one that the
    scan was surer of comes first, then the name decides.
    """
    kept = [entry for entry in entries if _passes(entry, name=_fold(name), tag=_fold(tag), framework=_fold(framework))]
    words = _fold(text).split()
    if not words:
        return kept
    scored = []
    for entry in kept:
        points = [_points(entry, word) for word in words]
        if all(points):
            scored.append((-sum(points), -(entry.score or 0.0), _fold(entry.name), entry))
    return [entry for *_, entry in sorted(scored, key=lambda item: item[:3])]


def near_names(name: str, names: Sequence[str]) -> list[str]:
    """The names that somebody may have meant, at most five; the first ones where none is near."""
    by_fold = {_fold(known): known for known in names}
    near = difflib.get_close_matches(_fold(name), list(by_fold), n=5, cutoff=0.5)
    holding = [fold for fold in by_fold if _fold(name) in fold]
    return [by_fold[fold] for fold in dict.fromkeys([*near, *holding])][:5] or list(names)[:5]


def _passes(entry: ExperimentEntry, *, name: str, tag: str, framework: str) -> bool:
    own = _fold(entry.name)
    named = not name or (fnmatch.fnmatchcase(own, name) if set("*?[") & set(name) else name in own)
    tagged = not tag or tag in map(_fold, entry.tags)
    return named and tagged and (not framework or framework == _fold(entry.framework))


def _points(entry: ExperimentEntry, word: str) -> int:
    name, script = _fold(entry.name), _fold(entry.script)
    tags = [_fold(tag) for tag in entry.tags]
    ranked = (
        (100, word == name),
        (60, name.startswith(word)),
        (45, word in name),
        (40, word in tags),
        (25, word in PurePosixPath(script).name),
        (20, word in script),
        (15, word in _fold(entry.framework)),
        (12, any(word in tag for tag in tags)),
        (5, any(word in _fold(reason) for reason in entry.reasons)),
    )
    return next((points for points, fits in ranked if fits), 0)


def _fold(text: str) -> str:
    return unicodedata.normalize("NFC", text).casefold().strip()
