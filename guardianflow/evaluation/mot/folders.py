"""Which ground-truth file belongs to which result: single files, sequence folders, folders of sequences.

Ground truth may be a file, a sequence folder (``SEQ/gt/gt.txt`` beside ``seqinfo.ini``), a folder of such folders, or
a folder of ``SEQ.txt`` (KITTI's ``label_02``, trackeval's layouts). A result is a file, or a folder with ``SEQ.txt``,
``data/SEQ.txt`` or ``SEQ/…`` in it.
"""

from __future__ import annotations

import configparser
from collections.abc import Iterator
from collections.abc import Sequence as Many
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from guardianflow.evaluation.mot.agreement import classes_agree, frames_agree, units_agree
from guardianflow.evaluation.mot.files import (
    KittiTracks,
    MotFileError,
    mot_tracks,
    read_kitti_tracks,
    read_mot_table,
)
from guardianflow.evaluation.mot.preprocess import KITTI_CLASSES, MOT_CLASSES
from guardianflow.evaluation.mot.sequences import MAX_FRAMES, Sequence
from guardianflow.exceptions import InputError, NotFoundError

__all__ = ["SequenceFiles", "find_sequences", "read_sequence", "read_sequences"]

_GT = ("gt/gt.txt", "gt.txt")
_NO_SEQUENCE = {"readme.txt", "seqmap.txt", "requirements.txt", "license.txt"}
_SHOWN = 6  # names in a message


@dataclass(frozen=True)
class SequenceFiles:
    """Where one sequence lies.

    Attributes:
        name: Of the sequence.
        gt: Its ground truth.
        result: What the tracker reported.
        info: Its ``seqinfo.ini``, which knows its length.
        frames: Its length, where a KITTI seqmap tells it.
    """

    name: str
    gt: Path
    result: Path
    info: Path | None = None
    frames: int | None = None


def read_sequences(
    gt: str | Path, result: str | Path, *, preprocess: str = "none", classes: Many[str | int] | None = None
) -> Iterator[Sequence]:
    """All sequences of a ground truth with their results, one in memory at a time.

    Args:
        gt: Ground truth.
        result: The tracker's.
        preprocess: Who will choose the boxes; a kit has its own idea of what a result's classes are.
        classes: The classes that will be scored, where they were named.

    Raises:
        NotFoundError: Nothing there, or no result for a sequence.
        MotFileError: A line that breaks a rule, named by file and number.
    """
    for files in find_sequences(gt, result):
        yield read_sequence(files, preprocess=preprocess, classes=classes)


def find_sequences(gt: str | Path, result: str | Path) -> list[SequenceFiles]:
    """The sequences of a ground truth, by name, each with its result.

    Raises:
        NotFoundError: A path that isn't there, no sequence in it, or no result for one of them.
    """
    gt, result = Path(gt), Path(result)
    for path in (gt, result):
        if not path.exists():
            raise NotFoundError(f"there is no file or folder {path}")
    truths = _truths(gt)
    if not truths:
        raise NotFoundError(
            f"{gt} holds no ground truth: expected gt/gt.txt, folders with gt/gt.txt in them, or files NAME.txt"
        )
    if result.is_file():
        if len(truths) > 1:
            raise InputError(f"{gt} holds {len(truths)} sequences; name a folder with one result each, not {result}")
        results = dict.fromkeys(truths, result)
    else:
        wanted = ((name, _result(result, name, truths[name])) for name in truths)
        results = {name: path for name, path in wanted if path is not None}
    _check_all_found(list(truths), results, result)
    lengths = _seqmap(gt)
    return [
        SequenceFiles(name, path, results[name], _info(path), lengths.get(name))
        for name, path in sorted(truths.items())
    ]


def _truths(gt: Path) -> dict[str, Path]:
    """Ground-truth files by the name of their sequence."""
    if gt.is_file():
        return {_name(gt): gt}
    own = next((gt / name for name in _GT if (gt / name).is_file()), None)
    if own is not None:
        return {_name(own): own}
    found = {
        folder.name: path
        for folder in sorted(gt.iterdir())
        if folder.is_dir() and (path := next((folder / name for name in _GT if (folder / name).is_file()), None))
    }
    place = gt / "label_02" if (gt / "label_02").is_dir() else gt
    return found or {path.stem: path for path in sorted(place.glob("*.txt")) if path.name.lower() not in _NO_SEQUENCE}


def _name(gt: Path) -> str:
    """``SEQ`` for SEQ/gt/gt.txt, SEQ/gt.txt and SEQ.txt."""
    gt = gt.resolve()
    if gt.name != "gt.txt":
        return gt.stem
    return gt.parent.parent.name if gt.parent.name == "gt" else gt.parent.name


def _result(folder: Path, name: str, gt: Path) -> Path | None:
    places = (f"{name}.txt", f"data/{name}.txt", f"{name}/{name}.txt", f"{name}/result.txt", f"{name}/test.txt")
    found = (folder / place for place in places)
    return next((path for path in found if path.is_file() and path.resolve() != gt.resolve()), None)


def _check_all_found(names: list[str], results: dict[str, Path], folder: Path) -> None:
    missing = [name for name in names if name not in results]
    if not missing:
        return
    there = sorted({path.stem for path in [*folder.glob("*.txt"), *folder.glob("data/*.txt")]})
    if len(missing) == len(names):
        raise NotFoundError(
            f"no sequence name matches: the ground truth has {_listed(names)}; {folder} has {_listed(there)}. "
            "A result is called NAME.txt, data/NAME.txt or NAME/NAME.txt."
        )
    raise NotFoundError(
        f"{folder} has no result for {_listed(missing)} ({len(missing)} of {len(names)} sequences). "
        "Where a tracker found nothing, put an empty file."
    )


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return (", ".join(repr(name) for name in names[:_SHOWN]) + more) or "no .txt file"


def _info(gt: Path) -> Path | None:
    folder = gt.parent.parent if gt.parent.name == "gt" else gt.parent
    return folder / "seqinfo.ini" if gt.name == "gt.txt" and (folder / "seqinfo.ini").is_file() else None


def _seqmap(gt: Path) -> dict[str, int]:
    """Lengths by sequence from KITTI's ``evaluate_tracking.seqmap…``, lines like ``0000 empty 000000 000154``."""
    lengths: dict[str, int] = {}
    for path in sorted(gt.glob("evaluate_tracking.seqmap*")) if gt.is_dir() else []:
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            fields = line.split()
            if len(fields) >= 4 and fields[3].isdigit():
                lengths[fields[0]] = int(fields[3])
    return lengths


def _seqinfo(info: Path) -> tuple[int, tuple[int, int] | None]:
    """``seqLength`` of a seqinfo.ini, and the images' width and height where it tells them.

    Raises:
        MotFileError: It has no length, or one that is no sensible number.
    """
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(info.read_text(encoding="utf-8-sig"))
        section = parser["Sequence"]
        length = int(section["seqLength"])
    except (configparser.Error, KeyError, ValueError, OSError) as error:
        raise MotFileError(f"{info} must hold seqLength, a whole number, under [Sequence] ({error})") from error
    if not 0 <= length <= MAX_FRAMES:
        raise MotFileError(f"{info}: seqLength lies between 0 and {MAX_FRAMES:,}; it is {length:,}")
    width, height = (section.get(name, "").strip() for name in ("imWidth", "imHeight"))
    size = (int(width), int(height)) if width.isdecimal() and height.isdecimal() else (0, 0)
    return length, size if min(size) > 0 else None


def read_sequence(
    files: SequenceFiles, *, preprocess: str = "none", classes: Many[str | int] | None = None
) -> Sequence:
    """One sequence with its result.

    Its length comes from seqinfo.ini or a seqmap; else it goes from its first box to its last.

    Args:
        files: Where it lies.
        preprocess: As in :func:`read_sequences`.
        classes: The same.

    Raises:
        NotFoundError: A file isn't there.
        MotFileError: A line that breaks a rule, named by file and number, or files that don't count alike.
    """
    frames, size = _seqinfo(files.info) if files.info else (files.frames, None)
    if _is_kitti(files.gt) or _is_kitti(files.result):
        truth, found = (read_kitti_tracks(path, frames=frames) for path in (files.gt, files.result))
        return _kitti_sequence(files.name, truth, found, frames)
    gt_table, table = read_mot_table(files.gt, ground_truth=True), read_mot_table(files.result)
    first = frames_agree(gt_table, table)
    gt = mot_tracks(gt_table, ground_truth=True, frames=frames, first=first)
    tracker = mot_tracks(table, frames=frames, first=first)
    if preprocess == "none":
        gt, tracker = classes_agree((gt_table, gt), (table, tracker), chosen=bool(classes))
    gt, tracker = units_agree((gt_table, gt), (table, tracker), size)
    names = MOT_CLASSES if set(gt.label.tolist()) <= set(MOT_CLASSES) else {}
    sequence = Sequence(files.name, MAX_FRAMES if frames is None else frames, gt, tracker, class_names=names)
    held = [tracks.frame for tracks in (gt, tracker) if len(tracks)]
    if frames is not None:
        return sequence
    return _cut(
        sequence,
        min((int(f.min()) for f in held), default=0),
        max((int(f.max()) for f in held), default=-1),
        counted_from=first,
    )


def _kitti_sequence(name: str, truth: KittiTracks, found: KittiTracks, frames: int | None) -> Sequence:
    gt = replace(truth.tracks, confidence=np.ones(len(truth.tracks)))  # a score is no mark of what is to be scored
    sequence = Sequence(
        name, MAX_FRAMES if frames is None else frames, gt, found.tracks, class_names=KITTI_CLASSES,
        ignore_frame=truth.ignore_frame, ignore_box=truth.ignore_box,
    )  # fmt: skip
    if frames is not None:
        return sequence
    held = [each for each in (truth, found) if each.last_frame >= 0]
    return _cut(
        sequence,
        min((each.first_frame for each in held), default=0),
        max((each.last_frame for each in held), default=-1),
        counted_from=0,
    )


def _cut(sequence: Sequence, first: int, last: int, *, counted_from: int) -> Sequence:
    """The sequence from its first frame with a box to its last, where nothing else tells its length."""
    remark = (
        f"the files begin at frame {first + counted_from}: that is taken for the first frame of the sequence, and the "
        f"{first} before it aren't counted (seqLength in a seqinfo.ini tells the length)."
    )
    gt, tracker = (replace(each, frame=each.frame - first) for each in (sequence.gt, sequence.tracker))
    return replace(
        sequence, frames=last + 1 - first, gt=gt, tracker=tracker, ignore_frame=sequence.ignore_frame - first,
        remarks=(*sequence.remarks, remark) if first else sequence.remarks,
    )  # fmt: skip


def _is_kitti(path: Path) -> bool:
    """Whether the first line has a word as its third field; an empty file is whatever the other one is."""
    if not path.is_file():
        raise NotFoundError(f"there is no file {path}")
    with path.open("rb") as file:
        first = next((line for line in file if line.strip()), b"").decode("utf-8", errors="replace")
    fields = first.split()
    return (
        "," not in first and len(fields) >= 10 and fields[2][:1].isalpha() and fields[2].lower() not in {"nan", "inf"}
    )
