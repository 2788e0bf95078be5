"""What a wrapped script prints, without the secrets in it: by name, by shape, by value.

A script prints what it likes, and its output goes to a terminal, into log files and into MLflow. Everything here
works on bytes, since a script may print bytes that are no text, and finds spans to mask; all other bytes stay as
they are. Where none of the words of a secret occurs, that is the whole cost: a search for each of them.

Known limits: a secret that is printed in pieces, that stands alone on its line in a form nobody knows, or that is
cut by the edge of a chunk, is not found. Chunks of whole lines, and :meth:`Redactor.stream`, avoid the last.
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from urllib.parse import quote, quote_plus

from guardianflow.processes.supervision import secret_patterns as patterns
from guardianflow.text.redaction import MASK, is_secret_name

__all__ = ["MIN_SECRET", "RedactedStream", "Redactor", "secret_values"]

MIN_SECRET = 6
"""Shorter values are not looked for: they would be found everywhere."""

Span = tuple[int, int]

_MASK = MASK.encode()
_MIN_LINE = 12  # of a secret with several lines, such as a key
_MIN_BASE64 = 8
_KEY_BLOCK = 65_536  # bytes; the largest keys in use take a fifth of it


class Redactor:
    """Takes secrets out of text and bytes; what isn't one stays byte for byte.

    Masked are the values after secret-like names (``API_KEY=…``, ``"token": "…"``, ``--password …``), tokens of
    well-known shapes, private keys, passwords in URLs, and the given secrets wherever they stand, also in
    URL-encoded, base64 and JSON-escaped form. Masking what was masked before does no harm.

    Args:
        secrets: Values to look for; those shorter than :data:`MIN_SECRET` are left out.
    """

    def __init__(self, secrets: Sequence[str] = ()) -> None:
        found = {form for secret in secrets for form in _forms(secret)}
        self._literals = tuple(sorted(found, key=lambda form: (-len(form), form)))

    def text(self, data: str) -> str:
        """The text without its secrets."""
        return self.data(data.encode("utf-8", "surrogatepass")).decode("utf-8", "surrogatepass")

    def data(self, data: bytes) -> bytes:
        """The bytes without the secrets in them."""
        spans = self._spans(data)
        return _masked(data, spans) if spans else data

    def stream(self) -> RedactedStream:
        """For output that comes in chunks of whole lines: a private key may span them."""
        return RedactedStream(self)

    def _spans(self, data: bytes) -> list[Span]:
        lowered = data.lower()
        spans: list[Span] = []
        for word, head in patterns.WORD_HEADS.items():
            if word in lowered:
                spans += _named(data, lowered, word, head)
        for word, head in patterns.QUERY_HEADS.items() if b"&" in data or b"?" in data else ():
            if word in lowered:
                spans += _matched(patterns.IN_QUERY, data, (match.end() for match in head.finditer(lowered)))
        for start, shape in patterns.SHAPES.items():
            if start in data:
                spans += (match.span() for match in shape.finditer(data))
        if b"://" in data and b"@" in data:
            spans += _url_passwords(data)
        if b"PRIVATE KEY" in data:
            spans += _key_blocks(data)
        for literal in self._literals:
            if literal in data:
                spans += _occurrences(data, literal)
        return spans


class RedactedStream:
    """One stream of output: like :meth:`Redactor.data`, but a private key may go on in the next chunk.

    Args:
        redactor: What is taken out.
    """

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._key_left = 0  # bytes that an unfinished private key may still take

    def data(self, chunk: bytes) -> bytes:
        """The next chunk without the secrets in it; chunks are whole lines."""
        if self._key_left:
            chunk = self._after_key(chunk)
        if b"PRIVATE KEY" in chunk:
            self._look_for_open_key(chunk)
        return self._redactor.data(chunk)

    def _look_for_open_key(self, chunk: bytes) -> None:
        begins = [match.end() for match in patterns.KEY_BEGIN.finditer(chunk)]
        if begins and chunk.find(patterns.KEY_END, begins[-1]) < 0:
            self._key_left = max(0, _KEY_BLOCK - (len(chunk) - begins[-1]))

    def _after_key(self, chunk: bytes) -> bytes:
        """The chunk without the part of the key that an earlier one began."""
        end = chunk.find(patterns.KEY_END, 0, self._key_left)
        taken = end if end >= 0 else min(len(chunk), self._key_left)
        self._key_left = 0 if end >= 0 else self._key_left - taken
        return chunk[taken:]


def secret_values(environment: Mapping[str, str]) -> tuple[str, ...]:
    """The values of secret-named variables, and the passwords in URLs that others hold.

    A path to a file that is there (``GOOGLE_APPLICATION_CREDENTIALS``) is no secret, and neither is what is
    shorter than :data:`MIN_SECRET`.
    """
    found: dict[str, None] = {}
    for name, value in environment.items():
        if is_secret_name(name) and not _is_path(value):
            found[value] = None
        elif "://" in value and "@" in value:
            data = os.fsencode(value)
            found.update((os.fsdecode(data[start:end]), None) for start, end in _url_passwords(data))
    return tuple(value for value in found if len(value) >= MIN_SECRET)


def _forms(secret: str) -> Iterator[bytes]:
    """A secret as it may stand in output: itself, line by line, for a URL, in JSON, and in base64."""
    if len(secret) < MIN_SECRET:
        return
    yield secret.encode("utf-8", "surrogatepass")
    plain = secret.encode("utf-8", "surrogateescape" if _from_system(secret) else "surrogatepass")
    yield plain
    for text in (quote(plain, safe=""), quote(plain), quote_plus(plain)):
        yield text.encode()
    for ascii_only in (True, False):
        yield json.dumps(secret, ensure_ascii=ascii_only)[1:-1].encode("utf-8", "surrogatepass")
    lines = secret.splitlines()
    if len(lines) > 1:
        yield from (line.strip().encode("utf-8", "surrogatepass") for line in lines if len(line.strip()) >= _MIN_LINE)
    if len(plain) >= _MIN_BASE64:
        yield from _base64_forms(plain)


def _from_system(text: str) -> bool:
    """Whether its bytes came from the system, which hands what is no UTF-8 over as lone surrogates."""
    return all(not 0xD800 <= ord(char) <= 0xDFFF or 0xDC80 <= ord(char) <= 0xDCFF for char in text)


def _base64_forms(plain: bytes) -> Iterator[bytes]:
    """What the bytes become within a longer base64 text, at each of the three places where they may begin."""
    for shift in range(3):
        text = base64.b64encode(b"\0" * shift + plain)
        # Signs at the edges that depend on the neighbours are left away.
        first = (0, 2, 3)[shift]
        last = len(text) - (0, 3, 2)[(shift + len(plain)) % 3]
        yield text[first:last]
        yield text[first:last].translate(bytes.maketrans(b"+/", b"-_"))


def _is_path(value: str) -> bool:
    return os.path.isabs(value) and "\0" not in value and os.path.exists(value)  # noqa: PTH110, PTH117 - cheap, never raises


def _named(data: bytes, lowered: bytes, word: bytes, head: re.Pattern[bytes]) -> Iterator[Span]:
    """The values behind names with this word in them."""
    place = 0
    while (match := head.search(lowered, place)) is not None:
        place = match.start() + len(word)
        before = _name_before(lowered, match.start(), with_blank=word == b"key")
        name = before + word + match["tail"]
        if not is_secret_name(name.decode("ascii")) or not _may_follow(name, match, lowered):
            continue
        span = _value_span(data, match.start() - len(before), name, match)
        if span is not None:
            place = max(place, span[1])  # each byte of a value is looked at once
            yield span


def _name_before(lowered: bytes, start: int, *, with_blank: bool) -> bytes:
    window = lowered[max(0, start - patterns.NAME_LENGTH) : start]
    rest = window.rstrip(patterns.NAME_BYTES)
    if with_blank and rest.endswith(b" ") and len(rest) == len(window):  # "API key"
        rest = rest[:-1].rstrip(patterns.NAME_BYTES)
    return window[len(rest) :]


def _may_follow(name: bytes, match: re.Match[bytes], lowered: bytes) -> bool:
    """Whether what stands between name and value says that the value is the name's."""
    sep = match["sep"]
    if b":" in sep or b"=" in sep:
        return True
    # A flag and its word, on a command line or in a printed list of arguments.
    return name.startswith(b"-") and lowered[match.end() : match.end() + 1] not in {b"-", b"", b"\n", b"\r"}


def _value_span(data: bytes, name_start: int, name: bytes, match: re.Match[bytes]) -> Span | None:
    start = match.end()
    quoted = patterns.QUOTED.match(data, start)
    if quoted is not None:
        return _quoted_span(data, name, quoted)
    found = _unquoted(data, name_start, name, match).match(data, start)
    if found is None:
        return None
    value = found[0].rstrip(patterns.CLOSERS + b" \t")
    if not value.strip(b"[]{}()") or value.lower() in patterns.PLAIN_VALUES or _is_plain_token(name, value):
        return None
    return start, start + len(value)


def _unquoted(data: bytes, name_start: int, name: bytes, match: re.Match[bytes]) -> re.Pattern[bytes]:
    """How far a value without quotes goes, by its name and by what stands around it."""
    before = data[name_start - 1 : name_start]
    if b"authorization" in name or b"cookie" in name:
        return patterns.IN_HEADER
    if before in {b"?", b"&"}:
        return patterns.IN_QUERY
    if data[match.end() : match.end() + 1] in {b"{", b"[", b"("}:
        return patterns.TO_LINE_END
    if match["quote"]:
        return patterns.IN_JSON
    # YAML takes a value with blanks without quotes; elsewhere the next word is another thing.
    indent = data[max(0, name_start - patterns.NAME_LENGTH) : name_start].rstrip(b" \t")[-1:]
    whole_line = name.startswith(b"pass") and b":" in match["sep"] and indent in {b"", b"\n"}
    return patterns.TO_LINE_END if whole_line else patterns.TO_BLANK


def _quoted_span(data: bytes, name: bytes, quoted: re.Match[bytes]) -> Span | None:
    start, mark = quoted.end(), quoted["open"]
    line = data.find(b"\n", start)
    limit = len(data) if line < 0 or len(mark.lstrip(b"\\")) == 3 else line
    end = data.find(mark, start, limit)
    while not mark.startswith(b"\\") and end > start and _is_escaped(data, start, end):
        end = data.find(mark, end + 1, limit)
    end = limit if end < 0 else end
    value = data[start:end]
    if value.lower() in patterns.PLAIN_VALUES or _is_plain_token(name, value):
        return None
    return start, end


def _is_escaped(data: bytes, start: int, place: int) -> bool:
    count = 0
    while place - count > start and data[place - count - 1] == 0x5C:
        count += 1
    return count % 2 == 1


def _is_plain_token(name: bytes, value: bytes) -> bool:
    """Whether it is a token of a language model: `eos_token: </s>`, `loss per token: 0.5`."""
    if not name.endswith(b"token"):
        return False
    return bool(value.startswith((b"<", b"[")) or patterns.SPECIAL_TOKEN.search(name) or patterns.FIGURE.match(value))


def _matched(pattern: re.Pattern[bytes], data: bytes, places: Iterable[int]) -> Iterator[Span]:
    for place in places:
        if (found := pattern.match(data, place)) is not None:
            yield found.span()


def _url_passwords(data: bytes) -> Iterator[Span]:
    """Between ``user:`` and the last ``@``: a password that should have been encoded must not show its tail."""
    place = 0
    while (start := data.find(b"://", place)) >= 0:
        place = start + 3
        scheme = patterns.SCHEME.search(data[max(0, start - 16) : start])
        if scheme is None:
            continue
        end = _end_of_url(data, start, start - len(scheme[0]))
        last = data.rfind(b"@", place, end)
        colon = data.find(b":", place, last) if last >= 0 else -1
        place = end
        if colon >= 0 and b"/" not in data[start + 3 : colon] and data[colon + 1 : last] != _MASK:
            yield colon + 1, last


def _end_of_url(data: bytes, start: int, scheme: int) -> int:
    found = patterns.TO_BLANK.match(data, start)
    end = found.end() if found else len(data)
    mark = data[scheme - 1 : scheme]
    if mark in {b'"', b"'"}:
        closing = data.find(mark, start, end)
        end = closing if closing >= 0 else end
    return end


def _key_blocks(data: bytes) -> Iterator[Span]:
    place = 0
    while (match := patterns.KEY_BEGIN.search(data, place)) is not None:
        limit = min(len(data), match.end() + _KEY_BLOCK)
        end = data.find(patterns.KEY_END, match.end(), limit)
        place = limit if end < 0 else end
        if place > match.end():
            yield match.end(), place


def _occurrences(data: bytes, literal: bytes) -> Iterator[Span]:
    place = data.find(literal)
    while place >= 0:
        yield place, place + len(literal)
        place = data.find(literal, place + len(literal))


def _masked(data: bytes, spans: Iterable[Span]) -> bytes:
    parts: list[bytes] = []
    done = 0
    for start, end in _merged(spans):
        parts += (data[done:start], _MASK)
        done = end
    parts.append(data[done:])
    return b"".join(parts)


def _merged(spans: Iterable[Span]) -> list[Span]:
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged
