"""Tables of numbers in text files, read fast; a line that breaks a rule is named by file, line number and rule."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from guardianflow.evaluation.mot.sequences import Floats
from guardianflow.exceptions import InputError, NotFoundError

__all__ = ["MotFileError", "TextTable", "read_table"]

_SHOWN = 80  # characters of a bad line in a message


class MotFileError(InputError):
    """A tracking file has a line that can't be read, or one that breaks a rule of its format."""


@dataclass(frozen=True, eq=False)
class TextTable:
    """The columns of a text file.

    Attributes:
        path: Of the file.
        numbers: By column: (n,) float64, or ``None`` for the column of words.
        words: (n,) lower-case text of the column of words; empty where there is none.
        rows: n.
    """

    path: Path
    numbers: tuple[Floats | None, ...]
    words: npt.NDArray[np.str_]
    rows: int

    def column(self, index: int) -> Floats:
        """One column of numbers.

        Raises:
            MotFileError: The file has fewer columns, or that one holds words.
        """
        column = self.numbers[index] if index < len(self.numbers) else None
        if column is None:
            raise MotFileError(f"{self.path} has no column {index + 1} of numbers")
        return column

    def refuse(self, bad: npt.NDArray[np.bool_], rule: str) -> None:
        """Complain of the first line of which a rule doesn't hold.

        Raises:
            MotFileError: File, line number, rule and line.
        """
        if bad.any():
            raise self.fault(int(np.argmax(bad)), rule)

    def fault(self, row: int, rule: str) -> MotFileError:
        """The error for a row: file, line number, rule and line."""
        number, text = self.line(row)
        return _fault(self.path, number, rule, text)

    def line(self, row: int) -> tuple[int, str]:
        """Line number and text of a row; empty lines have a number but no row."""
        lines = ((number, text) for number, text in enumerate(_text(self.path).splitlines(), 1) if text.strip())
        return next(line for place, line in enumerate(lines) if place == row)


def read_table(path: Path, *, columns: int, word_column: int | None = None) -> TextTable:
    """Read a table separated by commas, by semicolons, or by spaces and tabs.

    Args:
        path: Of the file; an empty file is an empty table.
        columns: How many columns each line has at least.
        word_column: The column that holds words, if there is one.

    Raises:
        NotFoundError: No such file.
        MotFileError: A line with another number of columns than the first, or with something that is no number.
    """
    data = _bytes(path)
    first = next((line for line in io.BytesIO(data) if line.strip()), b"")
    if not first:
        return TextTable(path, tuple(None if i == word_column else np.zeros(0) for i in range(columns)), _no_words(), 0)
    width = len(_fields(first.decode("utf-8", errors="replace")))
    if width < columns:
        number, text = next((n, t) for n, t in enumerate(_text(path).splitlines(), 1) if t.strip())
        raise _fault(path, number, f"each line has at least {columns} columns, this one has {width}", text)
    return _fast(path, data, first, width, word_column) or _slow(path, width, word_column)


def _bytes(path: Path) -> bytes:
    if not path.is_file():
        raise NotFoundError(f"there is no file {path}")
    try:
        return path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    except OSError as error:
        raise MotFileError(f"{path} can't be read: {error.strerror or error}") from error


def _text(path: Path) -> str:
    try:
        return _bytes(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise MotFileError(f"{path} is no text file (UTF-8): byte {error.start + 1} can't be read") from error


def _no_words() -> npt.NDArray[np.str_]:
    return np.zeros(0, np.str_)


def _fault(path: Path, number: int, rule: str, text: str) -> MotFileError:
    shown = text.strip() if len(text.strip()) <= _SHOWN else text.strip()[:_SHOWN] + "…"
    return MotFileError(f"{path}, line {number}: {rule}: {shown!r}")


def _fields(line: str) -> list[str]:
    """The fields of a line; separators at its end are no field."""
    mark = _mark(line)
    line = line.strip().rstrip(mark).rstrip()
    return [field.strip() for field in line.split(mark)] if mark else line.split()


def _mark(line: str) -> str | None:
    """What separates the fields; ``None`` for white space. Beside semicolons a comma would be a decimal point."""
    return next((mark for mark in ";," if mark in line), None)


def _fast(path: Path, data: bytes, first: bytes, width: int, word_column: int | None) -> TextTable | None:
    """As most files are: one separator throughout, every field a number; ``None`` where a line differs."""
    import pyarrow as pa
    from pyarrow import csv

    names = [str(index) for index in range(width)]
    types = {name: pa.string() if index == word_column else pa.float64() for index, name in enumerate(names)}
    try:
        table = csv.read_csv(
            io.BytesIO(data),
            read_options=csv.ReadOptions(column_names=names),
            parse_options=csv.ParseOptions(
                delimiter=_mark(first.decode("utf-8", errors="replace")) or " ", quote_char=False
            ),
            convert_options=csv.ConvertOptions(column_types=types, null_values=[]),
        )
    except (pa.ArrowException, UnicodeDecodeError):
        return None
    if any(column.null_count for column in table.columns):
        return None
    numbers = tuple(None if i == word_column else _array(column) for i, column in enumerate(table.columns))
    words = _no_words() if word_column is None else _lowered(table.column(word_column).to_pylist())
    return TextTable(path, numbers, words, table.num_rows)


def _array(column: Any) -> Floats:
    """A pyarrow column of doubles; its own to_numpy() would import pandas, which takes longer than the reading."""
    chunks = [chunk for chunk in column.chunks if len(chunk)]
    views = [np.frombuffer(chunk.buffers()[1], np.float64, len(chunk), 8 * chunk.offset) for chunk in chunks]
    return np.concatenate(views) if views else np.zeros(0)


def _lowered(words: Sequence[str]) -> npt.NDArray[np.str_]:
    return np.array([word.lower() for word in words], np.str_)


def _slow(path: Path, width: int, word_column: int | None) -> TextTable:
    """Line by line: whatever float() reads, and the words for what it doesn't."""
    values: list[list[float]] = []
    words: list[str] = []
    for number, line in enumerate(_text(path).splitlines(), 1):
        fields = _fields(line)
        if not line.strip():
            continue
        if len(fields) != width:
            rule = f"each line has as many columns as the first, {width}; this one has {len(fields)}"
            raise _fault(path, number, rule, line)
        if word_column is not None:
            words.append(fields[word_column])
            fields[word_column] = "0"
        try:
            values.append([float(field) for field in fields])
        except ValueError:
            place = next(i for i, field in enumerate(fields) if not _is_number(field))
            rule = f"column {place + 1} must be a number"
            if not any(map(_is_number, fields)):
                rule += "; columns are read by their place, so take a line of titles out"
            raise _fault(path, number, rule, line) from None
    array = np.array(values).reshape(-1, width)
    numbers = tuple(None if i == word_column else np.ascontiguousarray(array[:, i]) for i in range(width))
    return TextTable(path, numbers, _lowered(words) if words else _no_words(), len(array))


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True
