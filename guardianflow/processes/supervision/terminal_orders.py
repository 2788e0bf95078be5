"""What a terminal does beyond drawing, taken out of a script's output: its colours and bars are its own affair.

A script may show data that it has from elsewhere. Such text can't fill the clipboard (OSC 52), change the window's
title, hide an address behind a word (OSC 8) or make the terminal type an answer into the shell (queries). This is no
fence around the script itself: it runs as its user, who may open the terminal.
"""

from __future__ import annotations

import re

__all__ = ["TerminalOrders"]

# ECMA-48: OSC, DCS, SOS, PM and APC take a text up to their end; DA, DSR, XTWINOPS and ENQ ask for answers.
_BEGIN = re.compile(
    rb"(?P<text>\x1b[\]PX^_]|\xc2[\x90\x98\x9d\x9e\x9f])"
    rb"|(?P<query>(?:\x1b\[|\xc2\x9b)[0-9;?>=!]*[cntxq]|\x1bZ|\x05)"
    rb"|(?P<open>(?:\x1b(?:\[[0-9;?>=!]{0,64})?|\xc2(?:\x9b[0-9;?>=!]{0,64})?)\Z)"
)
_END = re.compile(rb"\x07|\x1b\\|\xc2\x9c|[\x18\x1a]|(?=[\r\n]|\x1b[^\\])")
_HALF = (b"\x1b", b"\xc2")


class TerminalOrders:
    """Takes them out of one stream, in whatever pieces it comes."""

    def __init__(self) -> None:
        self._held = b""
        self._in_text = False

    def without(self, data: bytes) -> bytes:
        """The next piece, without them; a sequence that has only begun waits for its end."""
        rest, kept = self._held + data, []
        self._held = b""
        while rest:
            if self._in_text:
                end = _END.search(rest)
                if end is None:
                    self._held = rest[-1:] if rest.endswith(_HALF) else b""
                    break
                rest, self._in_text = rest[end.end() :], False
                continue
            begin = _BEGIN.search(rest)
            if begin is None:
                kept.append(rest)
                break
            kept.append(rest[: begin.start()])
            rest = rest[begin.end() :]
            self._in_text = begin.lastgroup == "text"
            if begin.lastgroup == "open":
                self._held = begin[0]
        return b"".join(kept)
