"""What to tell somebody whose script printed no figure that was recognised: some of its lines, and a regex for them."""

from __future__ import annotations

import re
from collections import Counter
from itertools import islice
from operator import itemgetter

from guardianflow.adapters.wrap.metrics.line_names import is_figure_word
from guardianflow.adapters.wrap.metrics.measurement import figure_of

__all__ = ["metric_hint"]

_NUMBER = re.compile(r"(?<![\w./:\-])[-+]?(?:\d+\.\d+(?:[eE][-+]?\d+)?|\d+)(?![\w:/]|[.:\-]\w)")
_WORD = re.compile(r"(?P<word>[^\W\d_]\w*)(?P<signs>\W{1,8})$")
_RESERVED = frozenset({"epoch", "step", "iter", "iteration", "global_step", "name", "value"})
_SHOWN = 3
_MOST_LINES = 2_000
_LONGEST = 100


def metric_hint(text: str) -> str:
    """A remark with three lines of an output in which nothing was found, and a ``--metric`` that fits them.

    ``text`` is the output, or its end, without secrets. Empty where no line holds a number that could be a figure.
    """
    examples: dict[str, dict[str, None]] = {}
    counts: Counter[str] = Counter()
    for line in re.split(r"[\r\n]+", text)[-_MOST_LINES:]:
        ranked = [_pattern(number, line) for number in _NUMBER.finditer(line[:1_000])]
        rank, pattern = max(ranked, key=itemgetter(0), default=(0, ""))
        if pattern:
            counts[pattern] += rank
            examples.setdefault(pattern, {})[line.strip()] = None
    if not counts:
        return ""
    pattern = counts.most_common(1)[0][0]
    shown = " · ".join(repr(line[:_LONGEST]) for line in islice(examples[pattern], _SHOWN))
    return f"no metrics were found in the output. It has lines such as {shown}; --metric '{pattern}' would fit"


def _pattern(number: re.Match[str], line: str) -> tuple[int, str]:
    """A regex for a number of a line, and how likely it is a figure; 0 where it is none."""
    word = _WORD.search(line[max(0, number.start() - 60) : number.start()])
    if word is None or word["word"].lower() in _RESERVED:
        return 0, ""
    group = re.sub(r"\W", "_", word["word"].encode("ascii", "ignore").decode()).strip("_")
    signs = re.sub(r"(?:\\?[ \t])+", r"\\s+", re.escape(word["signs"])).replace("'", ".")
    pattern = rf"{word['word']}{signs}(?P<{group if group[:1].isalpha() else 'figure'}>[-+.\deE]+)"
    found = re.search(pattern, line)
    if found is None or figure_of(found[1]) is None:
        return 0, ""
    return 1 + 2 * ("." in number[0]) + 4 * bool(is_figure_word(word["word"])), pattern
