"""A short clip of a sequence with the tracks drawn into it, to look at in a browser or a notebook.

Written as animated WebP: every browser plays it, and Pillow writes it. What OpenCV's wheels can write as video
is either not played by browsers (MPEG-4 part 2), or several times as large and slow (VP8, VP9): they have no H.264.
"""

from __future__ import annotations

import base64
import io
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from guardianflow.exceptions import InputError
from guardianflow.plots.font import font_file
from guardianflow.plots.palette import BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILION, YELLOW
from guardianflow.text.printable import printable

if TYPE_CHECKING:
    from PIL.Image import Image

    from guardianflow.evaluation.mot.sequences import Tracks
    from guardianflow.vision.pipeline.frames import FrameSource

__all__ = ["Clip", "ClipView", "track_colour", "write_clip"]

MAX_BYTES = 4_000_000
"""What a page or a notebook takes in without becoming slow."""

_COLOURS = (BLUE, ORANGE, GREEN, VERMILION, SKY, PURPLE, YELLOW)
_MAX_FRAMES = 300
_MAX_SECONDS = 10.0
_MAX_WIDTH = 960
_PLAYED_FPS = 15.0
_TRAIL_SECONDS = 1.0
# Quality and size are given up in this order until the clip is small enough.
_ATTEMPTS = ((60, 1.0), (35, 1.0), (35, 0.7), (20, 0.5))
_DARK_TEXT_FROM = 140  # luma of the ground, 0–255

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Clip:
    """A clip that was written.

    Attributes:
        path: The file.
        first: Its first frame in the sequence, counted from 0.
        last: Its last one.
        frames: Pictures in it; at more than 15 a second every second or third frame is left out.
        fps: Pictures a second.
        width: In pixels.
        height: In pixels.
        size: In bytes.
    """

    path: Path
    first: int
    last: int
    frames: int
    fps: float
    width: int
    height: int
    size: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {**asdict(self), "path": str(self.path)}

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        return ClipView(self)._repr_mimebundle_()


class ClipView:
    """Shows a clip in a notebook, trusted or not, with nothing to load from elsewhere.

    Args:
        clip: A clip, or the file of one.
    """

    def __init__(self, clip: Clip | Path | str) -> None:
        self.path = clip.path if isinstance(clip, Clip) else Path(clip)

    def __repr__(self) -> str:
        name = printable(self.path.name)
        try:
            size = self.path.stat().st_size
        except OSError:
            return f"The clip {name} isn't there any more."
        if size > MAX_BYTES:
            return f"The clip {name} has {size / 1e6:.1f} MB, too much for a page. Open the file itself."
        return f"Tracked clip {name}"

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        bundle = {"text/plain": repr(self)}
        if self.path.is_file() and self.path.stat().st_size <= MAX_BYTES:
            bundle["image/webp"] = base64.b64encode(self.path.read_bytes()).decode("ascii")
        return bundle


def track_colour(identity: int) -> tuple[int, int, int]:
    """The colour (red, green, blue) of a track: the same in every clip, and told apart by colour-blind people."""
    colour = _COLOURS[(identity - 1) % len(_COLOURS)]
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def write_clip(
    source: FrameSource, tracks: Tracks, path: Path | str, *, names: Sequence[str] | Mapping[int, str] = (),
    first: int | None = None, seconds: float = _MAX_SECONDS, width: int = 720, max_bytes: int = MAX_BYTES,
) -> Clip:  # fmt: skip
    """Write a short clip with boxes, ids, class names and the way of the last second.

    Args:
        source: The frames; gone through once more, up to the clip's end.
        tracks: Boxes in pixels of the original image; frames counted from 0.
        path: File to write; its suffix becomes ``.webp``.
        names: Class name by label.
        first: First frame, counted from 0; default: where most is tracked.
        seconds: Length, at most 10 and 300 frames.
        width: In pixels, at most 960; smaller frames keep their size.
        max_bytes: Quality, then size, is given up to stay below it.

    Raises:
        InputError: A value out of range, or no frame of the source can be read there.
    """
    if not 0 < seconds <= _MAX_SECONDS or not 64 <= width <= _MAX_WIDTH:
        raise InputError(
            f"a clip has up to {_MAX_SECONDS:g} seconds and is 64–{_MAX_WIDTH} pixels wide, not {seconds!r} and "
            f"{width!r}. For more, track the video and draw with the saved tracks."
        )
    target = Path(path).with_suffix(".webp")
    step = max(1, round(source.fps / _PLAYED_FPS))
    length = min(max(2, round(seconds * source.fps)), _MAX_FRAMES)
    begin = _busiest(tracks, length) if first is None else max(0, first)
    pictures = list(_pictures(source, tracks, _Names(names), begin=begin, end=begin + length, step=step, width=width))
    if not pictures:
        raise InputError(f"{printable(source.name)} has no frame to show from frame {begin} on. Choose another.")
    fps = source.fps / step
    content, size = _encode(pictures, fps, max_bytes)
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = target.with_name(f".{target.name}.part")
    staging.write_bytes(content)
    staging.replace(target)
    last = min(begin + length, max(source.read, begin + 1)) - 1
    return Clip(target, begin, last, len(pictures), fps, size[0], size[1], len(content))


class _Names:
    def __init__(self, names: Sequence[str] | Mapping[int, str]) -> None:
        self._names = dict(names) if isinstance(names, Mapping) else dict(enumerate(names))

    def __getitem__(self, label: int) -> str:
        name = printable(self._names.get(label, f"class {label}"))
        return name if len(name) <= 24 else f"{name[:23]}…"


def _busiest(tracks: Tracks, length: int) -> int:
    """The start of the stretch with the most boxes."""
    if not len(tracks):
        return 0
    boxes = np.bincount(tracks.frame)
    if len(boxes) <= length:
        return 0
    total = np.concatenate([[0], np.cumsum(boxes)])
    return int(np.argmax(total[length:] - total[:-length]))


def _pictures(
    source: FrameSource, tracks: Tracks, names: _Names, *, begin: int, end: int, step: int, width: int
) -> Iterator[Image]:
    import cv2
    from PIL import Image

    rows = tracks.by_frame()
    starts = np.searchsorted(rows.frame, np.arange(begin, end + 1))
    trails = _Trails(max(2, round(_TRAIL_SECONDS * source.fps)))
    size: tuple[int, int] | None = None
    for number, pixels in source:
        if number >= end:
            break
        if number < begin:
            continue
        here = rows.take(np.arange(starts[number - begin], starts[number - begin + 1]))
        trails.add(here)
        if (number - begin) % step or pixels is None:
            continue
        scale = min(1.0, width / pixels.shape[1])
        size = size or (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
        scales = np.array([size[0] / pixels.shape[1], size[1] / pixels.shape[0]])
        shown = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
        _draw(shown, here, trails, names, scales)
        yield Image.fromarray(cv2.cvtColor(shown, cv2.COLOR_BGR2RGB))


class _Trails:
    """Where each track stood in the last second: the middle of the lower edge of its box."""

    def __init__(self, length: int) -> None:
        self._length = length
        self._points: dict[int, deque[tuple[int, float, float]]] = {}

    def add(self, here: Tracks) -> None:
        for frame, identity, (x1, _, x2, y2) in zip(here.frame, here.id, here.box, strict=True):
            points = self._points.setdefault(int(identity), deque(maxlen=self._length))
            while points and points[0][0] <= frame - self._length:
                points.popleft()
            points.append((int(frame), (x1 + x2) / 2, y2))

    def of(self, identity: int) -> npt.NDArray[np.float64]:
        """Points (n, 2), the oldest first."""
        return np.array([point[1:] for point in self._points[identity]])


def _draw(shown: Pixels, here: Tracks, trails: _Trails, names: _Names, scales: npt.NDArray[np.float64]) -> None:
    import cv2

    height, width = shown.shape[:2]
    line = max(2, round(width / 360))
    limits = np.array([width - 1, height - 1, width - 1, height - 1])
    boxes = np.clip(here.box * np.tile(scales, 2), 0, limits).round().astype(int)
    for (x1, y1, x2, y2), identity in zip(boxes.tolist(), here.id.tolist(), strict=True):
        colour = track_colour(identity)[::-1]
        points = (trails.of(identity) * scales).round().astype(np.int32)
        cv2.polylines(shown, [points.reshape(-1, 1, 2)], False, colour, line, cv2.LINE_AA)
        cv2.rectangle(shown, (x1, y1), (x2, y2), colour, line, cv2.LINE_AA)
    text_size = max(12, round(width / 48))
    for (x1, y1, _, _), identity, label in zip(boxes.tolist(), here.id.tolist(), here.label.tolist(), strict=True):
        tag = _tag(f"{names[label]} {identity}", track_colour(identity), text_size)
        top, left = max(0, y1 - tag.shape[0]), max(0, min(x1, width - tag.shape[1]))
        bottom, right = min(height, top + tag.shape[0]), min(width, left + tag.shape[1])
        shown[top:bottom, left:right] = tag[: bottom - top, : right - left]


@lru_cache(maxsize=4096)
def _tag(text: str, ground: tuple[int, int, int], size: int) -> Pixels:
    """A text on its colour, as BGR pixels. OpenCV's own letters are ASCII only."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.truetype(str(font_file(text)), size)
    luma = 0.299 * ground[0] + 0.587 * ground[1] + 0.114 * ground[2]
    left, top, right, bottom = font.getbbox(text)
    _, line_top, _, line_bottom = font.getbbox("가Ag")
    top, bottom = min(top, line_top), max(bottom, line_bottom)
    image = Image.new("RGB", (int(right - left) + 8, int(bottom - top) + 6), ground)
    ink = (0, 0, 0) if luma > _DARK_TEXT_FROM else (255, 255, 255)
    ImageDraw.Draw(image).text((4 - left, 3 - top), text, fill=ink, font=font)
    return np.ascontiguousarray(np.asarray(image)[:, :, ::-1])


def _encode(pictures: list[Image], fps: float, max_bytes: int) -> tuple[bytes, tuple[int, int]]:
    content, size = b"", pictures[0].size
    for quality, scale in _ATTEMPTS:
        size = (max(2, round(pictures[0].width * scale)), max(2, round(pictures[0].height * scale)))
        shown = pictures if scale == 1 else [picture.resize(size) for picture in pictures]
        buffer = io.BytesIO()
        shown[0].save(
            buffer, "WEBP", save_all=True, append_images=shown[1:], duration=round(1000 / fps), loop=0,
            quality=quality, method=0, minimize_size=False,
        )  # fmt: skip
        content = buffer.getvalue()
        if len(content) <= max_bytes:
            break
    return content, size
