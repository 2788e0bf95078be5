"""A script's text whatever its encoding, and its facts by words where its syntax is no Python 3."""

from __future__ import annotations

import re

from guardianflow.adapters.scan.facts import CallFact, CodeFacts, LoopFact, Names

__all__ = ["decoded", "word_facts"]

_COOKIE = re.compile(rb"^[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)", re.MULTILINE)
# Plain character sets only: others (zip, rot13, idna) are no text, or take for ever.
_CHARSETS = {
    "latin-1", "iso-8859-1", "iso-8859-15", "cp1252", "windows-1252", "cp949", "euc-kr", "ks_c_5601-1987", "shift_jis",
    "euc-jp", "cp932", "gbk", "gb2312", "gb18030", "big5", "koi8-r", "cp1251", "windows-1251", "utf-16",
}  # fmt: skip
_IMPORT = re.compile(r"^\s*import\s+(.+)")
_FROM = re.compile(r"^\s*from\s+([\w.]+)\s+import\s+(.+)")
_NAMED = re.compile(r"([\w.]+)(?:\s+as\s+(\w+))?")
_CALL = re.compile(r"\b([A-Za-z_]\w*(?:\.\w+|\(\)\.\w+)*)\s*\(([^()]*)")
_BOUND = re.compile(r"^\s*((?:self\.)?\w+)\s*=\s*([A-Za-z_][\w.]*)\s*\(")
_KEYWORD = re.compile(r"\b(\w+)\s*=(?!=)")
_LONGEST_LINE = 2_000
_MOST_CALLS = 20_000


def decoded(content: bytes) -> str:
    """The text of a Python file: UTF-8, else what its first lines name, else UTF-8 with replacements."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        pass
    found = _COOKIE.search(b"\n".join(content[:1000].split(b"\n")[:2]))
    charset = found[1].decode("ascii", "replace").lower().replace("_", "-") if found else ""
    if charset in {name.replace("_", "-") for name in _CHARSETS}:
        try:
            return content.decode(charset)
        except UnicodeDecodeError:
            pass
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16", "replace")
    return content.decode("utf-8", "replace")


def word_facts(text: str, unread: str) -> CodeFacts:
    """The facts of a script line by line, for Python 2 and broken files: less sure than a syntax tree.

    Args:
        text: The script.
        unread: Why its syntax couldn't be read.
    """
    facts, names = CodeFacts(text.splitlines(), unread=unread), Names()
    raw: list[CallFact] = []
    loop: LoopFact | None = None
    for number, line in enumerate(facts.lines, 1):
        if len(line) > _LONGEST_LINE or line.lstrip().startswith("#"):
            continue
        _take_imports(line, number, facts, names)
        if bound := _BOUND.match(line):
            names.bound[bound[1]] = bound[2]
        if "__name__" in line and "__main__" in line:
            facts.main_line = facts.main_line or number
        if re.match(r"\s*for\s", line):
            loop = loop or LoopFact(number, "epoch" in line.lower(), not line[0].isspace())
        if loop and ".backward(" in line:
            loop.backward = True
        if loop and ".step(" in line:
            loop.step = True
        if len(raw) < _MOST_CALLS:
            raw.extend(_calls(line, number))
    facts.calls = [
        CallFact(names.resolve(call.dotted), call.line, call.keywords, call.has_arguments, call.top, call.spoken)
        for call in raw
    ]
    facts.loops = [loop] if loop and loop.backward else []
    return facts


def _take_imports(line: str, number: int, facts: CodeFacts, names: Names) -> None:
    if found := _FROM.match(line):
        if found[1].startswith("."):
            facts.relative_import_line = facts.relative_import_line or number
            return
        for name, alias in _NAMED.findall(found[2].strip("() \\")):
            facts.modules.setdefault(f"{found[1]}.{name}", number)
            names.imported[alias or name] = f"{found[1]}.{name}"
    elif found := _IMPORT.match(line):
        for module, alias in _NAMED.findall(found[1].partition("#")[0].partition(";")[0]):
            facts.modules.setdefault(module, number)
            if alias:
                names.imported[alias] = module


def _calls(line: str, number: int) -> list[CallFact]:
    top = not line[:1].isspace()
    return [
        CallFact(
            dotted, number, frozenset(_KEYWORD.findall(inside)), bool(inside.strip()), top,
            dotted.rpartition(".")[0].rpartition(".")[2],
        )
        for dotted, inside in _CALL.findall(line)
        if dotted not in {"def", "class", "if", "print", "for", "while", "return"}
    ]  # fmt: skip
