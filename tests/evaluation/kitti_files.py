"""KITTI's tracking files, written for tests that read them or hand them to other programs."""

from __future__ import annotations

from pathlib import Path

from guardianflow.evaluation.mot.files import KittiTracks
from guardianflow.evaluation.mot.preprocess import KITTI_CLASSES
from guardianflow.evaluation.mot.sequences import Tracks
from guardianflow.files.run_folder import write_text


def write_kitti_tracks(path: str | Path, kitti: KittiTracks | Tracks, *, ground_truth: bool = False) -> Path:
    """Write tracks as KITTI does: 17 fields for ground truth, and the score as the 18th for a result."""
    found = kitti if isinstance(kitti, KittiTracks) else KittiTracks(kitti)
    lines = [
        (frame, _kitti_line(found.tracks, row, ground_truth)) for row, frame in enumerate(found.tracks.frame.tolist())
    ]
    for frame, box in zip(found.ignore_frame.tolist(), found.ignore_box.tolist(), strict=True):
        corners = " ".join(map(repr, box))
        lines.append((frame, f"{frame} -1 DontCare -1 -1 -10 {corners} -1 -1 -1 -1000 -1000 -1000 -10"))
    text = "".join(f"{line}\n" for _, line in sorted(lines, key=lambda line: line[0]))
    return write_text(Path(path), text)


def _kitti_line(tracks: Tracks, row: int, ground_truth: bool) -> str:
    truncation = -1 if tracks.truncation is None else int(tracks.truncation[row])
    occlusion = -1 if tracks.occlusion is None else int(tracks.occlusion[row])
    corners = " ".join(map(repr, tracks.box[row].tolist()))
    start = f"{int(tracks.frame[row])} {int(tracks.id[row])} {KITTI_CLASSES[int(tracks.label[row])].capitalize()}"
    line = f"{start} {truncation} {occlusion} -10 {corners} -1 -1 -1 -1000 -1000 -1000 -10"
    return line if ground_truth else f"{line} {float(tracks.confidence[row])!r}"
