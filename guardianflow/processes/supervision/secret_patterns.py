"""What secrets look like in output: words that their names hold, shapes of well-known tokens, ends of values.

All patterns are for bytes. None of them looks at a byte more than a bounded number of times, whatever it is given;
those that begin with plain letters are found at the speed of a plain search.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

NAME_LENGTH = 64
NAME_BYTES = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-"

# What a secret-like name ends in, lower case. `is_secret_name` has the last word on the whole name.
_NAME_WORDS = (b"pass", b"secret", b"credential", b"authorization", b"cookie", b"key", b"token")
_AFTER_WORD = (
    rb"(?P<tail>[\w.\-]{0,64}+)"
    rb"(?P<sep>(?P<quote>\\?[\"']?)\]?[ \t]{0,64}+(?::(?!:)|:?={1,2}>?)[ \t]{0,64}+"
    rb"|\\?[\"']?,[ \t]{0,16}+(?=\\?[\"'])|[ \t]{1,16}+)"
)
WORD_HEADS = {word: re.compile(word + _AFTER_WORD) for word in _NAME_WORDS}

QUOTED = re.compile(rb"[bBrRuUfF]{0,2}(?P<open>\\?(?:\"\"\"|'''|[\"']))")
TO_BLANK = re.compile(rb"\S+")
TO_LINE_END = re.compile(rb"[^\r\n]+")
IN_JSON = re.compile(rb"[^\s,}\]]+")
IN_QUERY = re.compile(rb"[^\s&\"'<>]+")
IN_HEADER = re.compile(rb"[^\r\n\"']+")
CLOSERS = b"\"'`),;]}\\"
# No secrets: what stands for none, a type in a line of source code, and what was masked before.
PLAIN_VALUES = {
    b"", b"none", b"null", b"true", b"false", b"str", b"int", b"bool", b"bytes", b"optional", b"any", b"***",
}  # fmt: skip
# Language models have names for their special tokens, and figures for each one.
SPECIAL_TOKEN = re.compile(
    rb"(^|[_.\-])(pad|eos|bos|unk|cls|sep|mask|start|end|stop|image|next|last|first|per|special)[_\- ]?token$"
)
FIGURE = re.compile(rb"[+-]?\d{1,7}(\.\d+)?([eE][+-]?\d+)?%?[A-Za-z]{0,2}[,;)\]}]?$")

QUERY_HEADS = {
    word: re.compile(rb"(?<=[?&;])" + name + rb"=")
    for word, name in {
        b"pwd=": rb"(?:ssl)?pwd",
        b"sig=": rb"sig",
        b"signature=": rb"[\w\-]{0,32}+(?<=signature)",
    }.items()
}

# What begins a well-known token → its whole shape; upper and lower case count.
SHAPES: Mapping[bytes, re.Pattern[bytes]] = {
    start: re.compile(pattern)
    for start, pattern in {
        b"AKIA": rb"(?<![A-Za-z0-9])AKIA[A-Z0-9]{16}(?![A-Za-z0-9])",
        b"ASIA": rb"(?<![A-Za-z0-9])ASIA[A-Z0-9]{16}(?![A-Za-z0-9])",
        b"AIza": rb"(?<![\w\-])AIza[\w\-]{35}(?![\w\-])",
        b"ghp_": rb"ghp_[A-Za-z0-9]{20,}",
        b"gho_": rb"gho_[A-Za-z0-9]{20,}",
        b"ghs_": rb"ghs_[A-Za-z0-9]{20,}",
        b"ghu_": rb"ghu_[A-Za-z0-9]{20,}",
        b"ghr_": rb"ghr_[A-Za-z0-9]{20,}",
        b"_pat_": rb"(?<![A-Za-z0-9])(?:github|dckr)_pat_[\w\-]{16,}",
        b"glpat-": rb"glpat-[\w\-]{16,}",
        b"hf_": rb"(?<![A-Za-z0-9_])hf_[A-Za-z0-9]{20,}",
        b"npm_": rb"(?<![A-Za-z0-9_])npm_[A-Za-z0-9]{30,}",
        b"pypi-": rb"pypi-[\w\-]{40,}",
        b"nvapi-": rb"nvapi-[\w\-]{30,}",
        b"sk-": rb"(?<![\w\-])sk-(?=[\w\-]{0,64}\d)[\w\-]{20,}",
        b"xox": rb"(?<![A-Za-z0-9])xox[abeoprs]-[A-Za-z0-9\-]{10,}",
        b"eyJ": rb"(?<![\w\-])eyJ[\w\-]{8,}+\.[\w\-]{8,}+(?:\.[\w\-]*+)?",
        b"earer ": rb"(?<=[bB])earer [\w.~+/=\-]{16,}",
    }.items()
}
KEY_BEGIN = re.compile(rb"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
KEY_END = b"-----END "
SCHEME = re.compile(rb"[A-Za-z][A-Za-z0-9+.\-]*\Z")
