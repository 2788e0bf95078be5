"""The entries of a list in a COCO file: their values as arrays, and which image or class an id means.

What pycocotools would score is read, and said where it isn't written as it should be; what can't be told is refused
with the entry's place in its list.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from guardianflow.exceptions import InputError

__all__ = ["Known", "Rows"]

_Floats = npt.NDArray[np.float64]
_SHOWN = 5  # ids in a message


@dataclass(frozen=True)
class Rows:
    """The entries of one list.

    Attributes:
        path: Of the file.
        what: Name of the list.
        rows: The entries.
        remarks: What was read otherwise than it stands; grows while columns are read.
        entries: Place of each entry in the file's list; all of them when left out.
    """

    path: Path
    what: str
    rows: Sequence[Mapping[str, Any]]
    remarks: list[str]
    entries: Sequence[int] | None = None

    def note(self, remark: str) -> None:
        """Keep a remark, after the file's name."""
        self.remarks.append(f"{self.path.name}: {remark}")

    def wrong(self, place: int, problem: str, remedy: str) -> InputError:
        """The error for one entry."""
        entry = place if self.entries is None else self.entries[place]
        return InputError(f"{self.path}: entry {entry} of {self.what} {problem}. {remedy}.")

    def keep(self, kept: Iterable[bool]) -> Rows:
        """Only these entries."""
        places = [place for place, one in enumerate(kept) if one]
        if len(places) == len(self.rows):
            return self
        entries = places if self.entries is None else [self.entries[place] for place in places]
        return replace(self, rows=[self.rows[place] for place in places], entries=entries)

    def with_boxes(self) -> Rows:
        """The entries without those whose bbox is empty: nothing can meet them."""
        kept = [row.get("bbox", ()) not in (None, []) for row in self.rows]
        if not all(kept):
            self.note(f"{kept.count(False)} {self.what} have an empty bbox and are left out.")
        return self.keep(kept)

    def column(self, key: str, *, default: Any = None) -> list[Any]:
        """One value of each entry.

        Raises:
            InputError: An entry lacks it and there is no default.
        """
        if default is not None:
            return [row.get(key, default) for row in self.rows]
        try:
            return [row[key] for row in self.rows]
        except KeyError:
            place = next(place for place, row in enumerate(self.rows) if key not in row)
            raise self.wrong(place, f"lacks {key!r}", f"Add {key!r} to it") from None

    def numbers(self, key: str, values: Sequence[Any], width: int = 1) -> _Floats:
        """Values as float64 (n,), or (n, width); numbers that are written as text are read, and counted.

        Raises:
            InputError: One is no finite number.
        """
        shape = (len(values), width) if width > 1 else (len(values),)
        if not _all_numbers(values, width):
            values = self._read(key, values, width)
        try:
            numbers = np.array(values, dtype=np.float64).reshape(shape)
        except OverflowError:
            raise InputError(f"{self.path}: {self.what} hold a {key} too large for a number. Correct it.") from None
        bad = np.flatnonzero(~np.isfinite(numbers).reshape(len(values), width).all(axis=1))
        if len(bad):
            place = int(bad[0])
            raise self.wrong(place, f"has {key} {values[place]!r:.80}, which is not finite", "Correct or remove it")
        return numbers

    def _read(self, key: str, values: Sequence[Any], width: int) -> list[Any]:
        """Values with text turned into numbers."""
        read: list[Any] = []
        for place, value in enumerate(values):
            items = value if width > 1 else [value]
            found = [_number(item) for item in items] if isinstance(items, list) else []
            if len(found) != width or None in found:
                what = "a number" if width == 1 else f"{width} numbers"
                raise self.wrong(place, f"has {key} {value!r:.80}, which is not {what}", "Correct or remove it")
            read.append(found if width > 1 else found[0])
        many = sum(isinstance(value, str) or (width > 1 and any(isinstance(i, str) for i in value)) for value in values)
        if many:
            self.note(f"{key} of {many} {self.what} is text and was read as a number.")
        return read

    def boxes(self) -> tuple[_Floats, _Floats]:
        """Corners (n, 4), and areas (n,) as COCO takes them: width times height.

        Raises:
            InputError: A box is not four finite numbers, or has a negative size.
        """
        values = self.column("bbox")
        numbers = self.numbers("bbox", values, 4)
        bad = np.flatnonzero((numbers[:, 2:] < 0).any(axis=1))
        if len(bad):
            place = int(bad[0])
            raise self.wrong(
                place, f"has bbox {values[place]}, with a negative width or height",
                "COCO's boxes are x, y, width, height; corners must be turned into that",
            )  # fmt: skip
        if empty := int((numbers[:, 2:] == 0).any(axis=1).sum()):
            self.note(f"{empty} {self.what} have a bbox without width or height, which meets nothing; they count.")
        corners = np.concatenate([numbers[:, :2], numbers[:, :2] + numbers[:, 2:]], axis=1)
        return corners, numbers[:, 2] * numbers[:, 3]

    def ids(self, key: str) -> list[int | str]:
        """Ids as whole numbers or text; 1.0 is 1, and counted.

        Raises:
            InputError: An id is something else.
        """
        values = self.column(key)
        kinds = set(map(type, values))
        if kinds <= {int, str}:
            return values
        for place, value in enumerate(values):
            if isinstance(value, bool) or not (isinstance(value, int | str) or _is_whole(value)):
                raise self.wrong(place, f"has {key} {value!r:.80}", "An id must be a whole number, or text")
        floats = sum(isinstance(value, float) for value in values)
        self.note(f"{key} of {floats} {self.what} is written like 1.0 and was read as a whole number.")
        return [int(value) if isinstance(value, float) else value for value in values]

    def by_id(self, name: str) -> tuple[list[int], list[int | str]]:
        """Places of entries in the order of their ids, and those ids; an entry that stands twice is taken once.

        Raises:
            InputError: Two entries have one id and different names.
        """
        seen: dict[int | str, int] = {}
        again = 0
        for place, value in enumerate(self.ids("id")):
            first = seen.setdefault(value, place)
            if first != place and self.rows[first].get(name) != self.rows[place].get(name):
                raise self.wrong(
                    place, f"has id {value}, as entry {first} has", f"An id stands once; here the {name} differs"
                )  # fmt: skip
            again += first != place
        if again:
            self.note(f"{again} of {len(self.rows)} {self.what} repeat an earlier one and are taken once.")
        order = sorted(seen, key=lambda value: (isinstance(value, str), value))
        return [seen[value] for value in order], order


@dataclass(frozen=True)
class Known:
    """The images or classes of the ground truth, and the ways in which a file may name them.

    Attributes:
        target: ``"images"`` or ``"categories"``.
        ids: Our place of each id.
        names: Our place of each name; a name that several have is left out.
    """

    target: str
    ids: Mapping[int | str, int]
    names: Mapping[int | str, int] = field(default_factory=dict)

    @classmethod
    def images(cls, ids: Sequence[int | str], files: Sequence[str]) -> Known:
        """Images go by id, file name, or file name without folder or suffix (Ultralytics' predictions.json)."""
        paths = [PurePosixPath(name.replace("\\", "/")) for name in files]
        ways = [
            {name, path.name, _value(path.stem), path.stem, str(path.with_suffix(""))}
            if path.name
            else set[int | str]()
            for name, path in zip(files, paths, strict=True)
        ]
        return cls("images", {value: place for place, value in enumerate(ids)}, _single(ways))

    @classmethod
    def classes(cls, ids: Sequence[int | str], names: Sequence[str]) -> Known:
        """Classes go by id or name."""
        return cls("categories", {value: place for place, value in enumerate(ids)}, _single([{n} for n in names]))

    def places(self, rows: Rows, key: str, *, foreign: bool = False) -> npt.NDArray[np.int32]:
        """Our place of each entry's id; -1 where it is none of ours.

        One way of naming is found for the whole column: the ids as they are, the same as text or number ('1' for 1),
        or names.

        Args:
            rows: The entries.
            key: Where the id stands in each.
            foreign: They are results: names may stand for ids, and each image must be known.

        Raises:
            InputError: All ids are one too high or too low, none of them is ours, or one that must be isn't.
        """
        values = rows.ids(key)
        different = set(values)
        alike = _single([{_value(one)} for one in self.ids], self.ids.values())
        ways: tuple[tuple[str, Mapping[int | str, int], Callable[[int | str], int | str]], ...] = (
            ("", self.ids, lambda value: value),
            ("is written otherwise than in the ground truth ('1' for 1)", alike, _value),
            (f"holds names of {self.target}, not their ids", self.names if foreign else {}, lambda value: value),
        )
        found = [{value: known[of(value)] for value in different if of(value) in known} for _, known, of in ways]
        best = max(range(len(ways)), key=lambda way: (len(found[way]), -way))
        strays = different - set(found[best])
        if strays:
            self._check_strays(
                rows, key, values, strays, refused=not found[best] or (foreign and self.target == "images")
            )
        elif best:
            many = sum(value not in found[0] for value in values)
            rows.note(f"{key} of {many} {rows.what} {ways[best][0]}, and was matched so ({_some(different)}).")
        elif found[2].keys() == different and found[2] != found[0]:
            found[0] = self._by_file_name(rows, key, values, found[0], found[2])
        return np.array([found[best].get(value, -1) for value in values], dtype=np.int32)

    def _check_strays(
        self, rows: Rows, key: str, values: Sequence[int | str], strays: set[int | str], *, refused: bool
    ) -> None:
        """Ids that are none of ours: refused where they are all off by one, and where they must be ours."""
        place = next(place for place, value in enumerate(values) if value in strays)
        problem = f"has {key} {values[place]!r:.80}, which is not among the {self.target}"
        numbers = {value for value in values if isinstance(value, int)}
        for by, remedy in ((1, "Add 1 to each"), (-1, "Take 1 off each")):
            if len(numbers) == len(set(values)) and {value + by for value in numbers} <= set(self.ids):
                raise rows.wrong(
                    place, f"{problem}; all of them would be with ids {'higher' if by > 0 else 'lower'} by one "
                    f"({_some(numbers)} against {_some(self.ids)})", f"{remedy} {key}, so that both files count alike",
                )  # fmt: skip
        if refused:
            raise rows.wrong(place, problem, f"The ground truth has the ids {_some(self.ids)}")

    def _by_file_name(
        self, rows: Rows, key: str, values: Sequence[int | str], by_id: dict[int | str, int],
        by_name: dict[int | str, int],
    ) -> dict[int | str, int]:  # fmt: skip
        """Numbers that fit both ids and file names of other images: what ``file_name`` says, else the ids."""
        odd = next(value for value in values if by_id[value] != by_name[value])
        both = f"{key} of the {rows.what} fits ids and names of different {self.target} alike (as {odd!r})"
        given = [row.get("file_name") for row in rows.rows]
        if all(self.names.get(str(name)) == by_name[value] for name, value in zip(given, values, strict=True)):
            rows.note(f"{both}; file_name tells that it holds names, and it was read so.")
            return by_name
        rows.note(f"{both}; it was read as ids. Files of Ultralytics hold names: write ids into them.")
        return by_id


def _single(ways: Sequence[Iterable[int | str]], places: Iterable[int] | None = None) -> dict[int | str, int]:
    """Place of each name that only one has."""
    counts = Counter(chain.from_iterable(ways))
    rows = range(len(ways)) if places is None else places
    return {name: place for place, names in zip(rows, ways, strict=True) for name in names if counts[name] == 1}


def _value(text: int | str) -> int | str:
    """Digits as the number they are: '007' is 7."""
    return int(text) if isinstance(text, str) and text.strip().isdecimal() and len(text) < 20 else text


def _some(ids: Iterable[int | str]) -> str:
    listed = sorted(ids, key=lambda value: (isinstance(value, str), value))
    return ", ".join(str(item)[:40] for item in listed[:_SHOWN]) + (" …" if len(listed) > _SHOWN else "") or "of none"


def _is_whole(value: Any) -> bool:
    return isinstance(value, float) and value.is_integer()


def _number(value: Any) -> float | int | None:
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return None
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _all_numbers(values: Sequence[Any], width: int) -> bool:
    """Whether all are numbers already, without a call for each: files hold millions."""
    if width > 1:
        if not set(map(type, values)) <= {list} or not set(map(len, values)) <= {width}:
            return False
        return set(map(type, chain.from_iterable(values))) <= {int, float}
    return set(map(type, values)) <= {int, float}
