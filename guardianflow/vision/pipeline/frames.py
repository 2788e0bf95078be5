"""Where the frames of a sequence come from: a video file, a folder of images, or a MOTChallenge sequence."""

from __future__ import annotations

import configparser
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from guardianflow.exceptions import InputError, NotFoundError
from guardianflow.text.printable import printable

__all__ = ["DEFAULT_FPS", "Frame", "FrameSource", "ImageFolder", "MotSequence", "VideoFile", "open_source"]

DEFAULT_FPS = 30.0
"""Frames a second, where the source doesn't say."""

_IMAGES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".jp2", ".avif", ".heic"})
_MAX_FRAMES = 1_000_000
_MAX_PIXELS = 178_956_970  # as for images: Pillow's bound
_MAX_SEQINFO = 64 * 1024
_MAX_FPS = 1000.0
_PLAYLISTS = (b"#EXTM3U", b"ffconcat", b"[playlist]", b"<?xml", b"<MPD")
_DIGITS = re.compile(r"(\d+)")


class Frame(NamedTuple):
    """One frame.

    Attributes:
        number: Counted from 0.
        image: BGR, uint8 (H, W, 3); ``None`` where it couldn't be read. It keeps its place in the count.
    """

    number: int
    image: npt.NDArray[np.uint8] | None


class FrameSource(ABC):
    """Frames in their order. It may be gone through again; each time begins at the first frame.

    Attributes:
        path: The file or folder.
        name: Of the sequence.
        frames: How many there should be; ``None`` where the source doesn't say.
        fps: Frames a second.
        width: Of the first frame, in pixels.
        height: As width.
        ground_truth: File of the labelled tracks, where there is one.
        problems: Frames that couldn't be read, index → why; of the last time through.
        read: Frames of the last time through, those that couldn't be read included.
    """

    def __init__(self, path: Path, name: str, *, frames: int | None, fps: float) -> None:
        self.path, self.name, self.frames, self.fps = path, name, frames, fps
        self.width, self.height = 0, 0
        self.ground_truth: Path | None = None
        self.problems: dict[int, str] = {}
        self.read = 0
        self._remarks: list[str] = []
        self._ended = False

    def __iter__(self) -> Iterator[Frame]:
        self.problems, self.read, self._ended = {}, 0, False
        for image in self._images():
            self.read += 1
            yield Frame(self.read - 1, image)
        self._ended = True

    @property
    def note(self) -> str:
        """What is out of the ordinary, in sentences; empty for a source that is as it says."""
        sentences = list(self._remarks)
        if self._ended and self.frames is not None and self.read < self.frames:
            sentences.append(
                f"{self.name} ends early: it says that it has {self.frames} frames, {self.read} could be read."
            )
        if self.problems:
            first = next(iter(self.problems.values()))
            sentences.append(f"{len(self.problems)} of {self.read} frames couldn't be read; the first: {first}")
        return " ".join(sentences)

    @abstractmethod
    def _images(self) -> Iterator[npt.NDArray[np.uint8] | None]:
        """The pixels of each frame."""


class VideoFile(FrameSource):
    """A video file, decoded by OpenCV's FFmpeg.

    Raises:
        InputError: No video, or one of which no frame can be decoded.
    """

    def __init__(self, path: Path, *, fps: float | None = None) -> None:
        import cv2

        _refuse_playlists(path)
        capture = _open_capture(path)
        try:
            said = capture.get(cv2.CAP_PROP_FRAME_COUNT)
            rate = capture.get(cv2.CAP_PROP_FPS)
            wide, high = capture.get(cv2.CAP_PROP_FRAME_WIDTH), capture.get(cv2.CAP_PROP_FRAME_HEIGHT)
            if wide * high > _MAX_PIXELS:
                raise InputError(f"{printable(path)} has frames of {wide:.0f}x{high:.0f} pixels. Scale it down first.")
            decoded, image = capture.read()
        finally:
            capture.release()
        if not decoded:
            raise InputError(f"not one frame of {printable(path)} can be decoded. Convert it to H.264 or VP9 first.")
        count = int(said) if math.isfinite(said) and 0 < said <= _MAX_FRAMES else None
        given = _frame_rate(fps) if fps is not None else None
        usable = math.isfinite(rate) and 0 < rate <= _MAX_FPS
        super().__init__(path, path.stem, frames=count, fps=given or (float(rate) if usable else DEFAULT_FPS))
        if given is None and not usable:
            self._remarks.append(f"{self.name} doesn't say its frame rate; {DEFAULT_FPS:g} a second are assumed.")
        self.height, self.width = image.shape[:2]

    def _images(self) -> Iterator[npt.NDArray[np.uint8]]:
        capture = _open_capture(self.path)
        try:
            while self.read < _MAX_FRAMES:
                decoded, image = capture.read()
                if not decoded:
                    return
                yield image
        finally:
            capture.release()
        self.problems[self.read] = f"it goes on after {_MAX_FRAMES:,} frames, where reading stops."


class ImageFolder(FrameSource):
    """A folder of images in the natural order of their names (``2.jpg`` before ``10.jpg``).

    Args:
        path: The folder.
        fps: Frames a second; default 30.
        files: The images by frame, ``None`` for one that is missing; default: all images of the folder.

    Raises:
        InputError: No image, too many, or none that can be decoded.
    """

    def __init__(
        self, path: Path, *, fps: float | None = None, name: str = "", files: list[Path | None] | None = None
    ) -> None:
        self._files: list[Path | None] = [*_image_files(path)] if files is None else files
        rate = DEFAULT_FPS if fps is None else _frame_rate(fps)
        super().__init__(path, name or path.name, frames=len(self._files), fps=rate)
        first = next((image for image in self._images() if image is not None), None)
        if first is None:
            why = next(iter(self.problems.values()), "the folder is empty")
            raise InputError(f"no image in {printable(path)} can be decoded. The first: {why}")
        self.problems = {}
        self.height, self.width = first.shape[:2]

    def _images(self) -> Iterator[npt.NDArray[np.uint8] | None]:
        from guardianflow.vision.pipeline.decoding import ImageError, decode_image

        for place, file in enumerate(self._files):
            image: npt.NDArray[np.uint8] | None = None
            if file is None:
                self.problems[place] = f"frame {place + 1} has no file."
            else:
                try:
                    image = decode_image(file)
                except ImageError as error:
                    self.problems[place] = str(error)
            yield image


class MotSequence(ImageFolder):
    """A sequence in MOTChallenge's layout: ``seqinfo.ini``, a folder of images, maybe ``gt/gt.txt``.

    Images named by their frame's number stand at that number; a missing one leaves an empty frame.

    Raises:
        InputError: ``seqinfo.ini`` can't be used, or names a folder outside of the sequence.
    """

    def __init__(self, path: Path, *, fps: float | None = None) -> None:
        info = _read_seqinfo(path / "seqinfo.ini")
        folder = _inside(path, info.get("imdir", "img1"), "imDir")
        if not folder.is_dir():
            raise InputError(
                f"{printable(path / 'seqinfo.ini')} names {folder.name!r}, which is no folder. Correct it."
            )
        said, rate = _number(info, "seqlength"), _number(info, "framerate")
        files = _by_frame_number(_image_files(folder))
        usable = fps is None and rate is not None and 0 < rate <= _MAX_FPS
        name = printable(info.get("name", "") or path.resolve().name)
        super().__init__(path, fps=rate if usable else fps, name=name.replace("/", "_"), files=files)
        if fps is None and not usable:
            self._remarks.append(f"{self.name} doesn't say its frame rate; {DEFAULT_FPS:g} a second are assumed.")
        if said is not None and 0 < said <= _MAX_FRAMES:
            if len(files) > said:
                self._remarks.append(f"{self.name} says that it has {said:.0f} frames; {len(files)} images are there.")
            self.frames = int(said)
            self._files = files[: self.frames]
        truth = _inside(path, "gt/gt.txt", "gt/gt.txt")
        self.ground_truth = truth if truth.is_file() else None


def open_source(path: Path | str, *, fps: float | None = None) -> FrameSource:
    """The frames behind a path.

    Args:
        path: Video file, folder of images, or MOTChallenge sequence (a folder with ``seqinfo.ini``).
        fps: Frames a second, where the source doesn't say or says wrong.

    Raises:
        NotFoundError: There is nothing at that path.
        InputError: It can't be used; the message says why and what to do.
    """
    path = Path(path).expanduser()
    if path.is_file():
        if path.suffix.lower() in _IMAGES:
            raise InputError(f"{printable(path)} is one image; tracking needs a video or the folder that it lies in.")
        return VideoFile(path, fps=fps)
    if not path.is_dir():
        raise NotFoundError(f"there is no video file or folder at {printable(path)}. Check the path.")
    if (path / "seqinfo.ini").is_file():
        return MotSequence(path, fps=fps)
    sequences = sorted(child.name for child in path.iterdir() if (child / "seqinfo.ini").is_file())
    if sequences:
        some = ", ".join(printable(name) for name in sequences[:8])
        raise InputError(f"{printable(path)} holds {len(sequences)} sequences; name one of them: {some}")
    return ImageFolder(path, fps=fps, name=path.resolve().name)


def _open_capture(path: Path) -> Any:
    import cv2

    # An absolute path and FFmpeg alone: no pattern of image names and no protocol is read into the name.
    capture = cv2.VideoCapture(str(path.resolve()), cv2.CAP_FFMPEG)
    if not capture.isOpened():
        capture.release()
        raise InputError(f"{printable(path)} can't be opened as a video: it is damaged, cut off or of another kind.")
    return capture


def _refuse_playlists(path: Path) -> None:
    """FFmpeg would follow a playlist to other files."""
    try:
        with path.open("rb") as file:
            start = file.read(64)
    except OSError as error:
        raise InputError(
            f"{printable(path)} can't be read ({error.strerror}). Check the path and its rights."
        ) from error
    if not start:
        raise InputError(f"{printable(path)} is empty. Name a video file.")
    if start.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(_PLAYLISTS):
        raise InputError(f"{printable(path)} is a list of other files, no video. Name the video itself.")


def _image_files(folder: Path) -> list[Path]:
    files = []
    for file in folder.iterdir():
        if file.suffix.lower() in _IMAGES and not file.name.startswith(".") and file.is_file():
            files.append(file)
            if len(files) > _MAX_FRAMES:
                raise InputError(f"{printable(folder)} has more than {_MAX_FRAMES:,} images. Split it.")
    if not files:
        raise InputError(f"{printable(folder)} holds no image ({', '.join(sorted(_IMAGES))}). Name another folder.")
    return sorted(files, key=_natural)


def _natural(file: Path) -> tuple[list[tuple[int, int, str]], str]:
    parts = _DIGITS.split(file.name.lower())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part], file.name


def _by_frame_number(files: list[Path]) -> list[Path | None]:
    """Files at the frames that their names say (from 1), or in their order where the names don't."""
    if not all(re.fullmatch(r"[0-9]{1,9}", file.stem) for file in files):
        return [*files]
    numbered = {int(file.stem): file for file in files}
    last = max(numbered)
    if min(numbered) < 1 or len(numbered) < len(files) or last > 2 * len(files) + 1000:
        return [*files]
    return [numbered.get(number) for number in range(1, last + 1)]


def _read_seqinfo(file: Path) -> dict[str, str]:
    if file.stat().st_size > _MAX_SEQINFO:
        raise InputError(f"{printable(file)} is larger than {_MAX_SEQINFO // 1024} KiB; it should hold a few lines.")
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        parser.read_string(file.read_text(encoding="utf-8-sig"))
    except (configparser.Error, UnicodeDecodeError) as error:
        raise InputError(
            f"{printable(file)} can't be read: {printable(error)}. Write it as MOTChallenge does."
        ) from error
    section = next((name for name in parser.sections() if name.lower() == "sequence"), None)
    if section is None:
        raise InputError(f"{printable(file)} has no section [Sequence]. Write it as MOTChallenge does.")
    return {key.lower(): value.strip() for key, value in parser.items(section)}


def _number(info: dict[str, str], key: str) -> float | None:
    try:
        value = float(info.get(key, ""))
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _inside(root: Path, relative: str, what: str) -> Path:
    """A path below a root; neither ``..`` nor a link leads out of it."""
    wanted = root / relative
    if "\0" in relative or Path(relative).is_absolute() or not wanted.resolve().is_relative_to(root.resolve()):
        raise InputError(f"{what} must stay inside {printable(root)}, not lead to {printable(relative)}. Correct it.")
    return wanted


def _frame_rate(fps: float) -> float:
    if isinstance(fps, bool) or not 0 < float(fps) <= _MAX_FPS:
        raise InputError(f"fps must lie above 0 and at most at {_MAX_FPS:g} a second, not {fps!r}.")
    return float(fps)
