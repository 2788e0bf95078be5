"""What to tell somebody whose script printed no figure that was recognised: some of its lines, and a regex for them."""

from __future__ import annotations

import re
from collections import Counter

from guardianflow.adapters.wrap.metrics.line_names import is_figure_word

__all__ = ["metric_hint"]

_NUMBER = re.compile(r"(?<![\w./:\-])[-+]?(?:\d+\.\d+(?:[eE][-+]?\d+)?|\d+)(?![\w:/]|[.:\-]\w)")
_WORD = re.compile(r"(?P<word>[^\W\d_]\w*)(?P<signs>\W{1,8})$")
_RESERVED = frozenset({"epoch", "step", "iter", "iteration", "global_step", "name", "value"})
_SHOWN = 3
_MOST_LINES = 2_000
_LONGEST = 100


def metric_hint(text: str) -> str:
    """A remark with three lines of an output in which nothing was found, and a ``--metric`` that fits them.

    Args:
        text: The output, or its end. Secrets are out of it.

    Returns:
        The remark; empty where no line holds a number that could be one.
    """
    examples: dict[str, list[str]] = {}
    counts: Counter[str] = Counter()
    for line in re.split(r"[\r\n]+", text)[-_MOST_LINES:]:
        rank, pattern = _pattern(line)
        if pattern:
            counts[pattern] += rank
            lines = examples.setdefault(pattern, [])
            if len(lines) < _SHOWN and line.strip() not in lines:
                lines.append(line.strip())
    if not counts:
        return ""
    pattern = counts.most_common(1)[0][0]
    shown = " · ".join(repr(line[:_LONGEST]) for line in examples[pattern])
    return f"no metrics were found in the output. It has lines such as {shown}; --metric '{pattern}' would fit"


def _pattern(line: str) -> tuple[int, str]:
    """A regex for the likeliest figure of a line and how likely it is; 0 without one."""
    best = (0, "")
    for number in _NUMBER.finditer(line[:1_000]):
        word = _WORD.search(line[max(0, number.start() - 60) : number.start()])
        if word is None or word["word"].lower() in _RESERVED:
            continue
        rank = 1 + 2 * ("." in number[0]) + 4 * bool(is_figure_word(word["word"]))
        if rank > best[0] and (pattern := _for(word, line)):
            best = (rank, pattern)
    return best


def _for(word: re.Match[str], line: str) -> str:
    group = re.sub(r"\W", "_", word["word"].encode("ascii", "ignore").decode()).strip("_")
    signs = re.sub(r"(?:\\?[ \t])+", r"\\s+", re.escape(word["signs"])).replace("'", ".")
    pattern = rf"{word['word']}{signs}(?P<{group if group[:1].isalpha() else 'figure'}>[-+.\deE]+)"
    found = re.search(pattern, line)
    return pattern if found and _is_number(found[1]) else ""


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
