"""The forms that detectors' outputs have: which are used here, and by what name the others are refused.

What a model says of itself (its metadata) and the shape of its output are held against each other. A layout is an
entry of :data:`LAYOUTS`: how it is called, its shape, what to do with such a model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from guardianflow.exceptions import ModelFileError

__all__ = [
    "END_TO_END",
    "HEAD",
    "LAYOUTS",
    "Claim",
    "Layout",
    "keypoints_in",
    "layout_of",
    "layout_of_head",
    "some_names",
]

Shape = tuple[int, ...]
Shapes = tuple[Shape, ...]
"""Of each output; 0 where any size fits."""

_PYRAMIDS = ((8, 16, 32), (4, 8, 16, 32), (8, 16, 32, 64), (16, 32))
"""Strides of the levels of YOLO's heads: the usual one, P2, P6, tiny."""

_MOST_CELLS = 257  # a side of 8192 pixels, in strides of 32
_QUERIES = range(100, 1001, 100)
_MOST_QUERIES = 1000
_COCO_KEYPOINTS = 51  # 17 points of x, y and visibility


@dataclass(frozen=True)
class Claim:
    """What a model says of itself, apart from the shape of its output.

    Attributes:
        names: Its classes; ``None`` where it names none.
        side: Of the square input, in pixels; 0: any.
        end_to_end: It selects its boxes itself (``end2end``, ``nms``); ``None`` where it doesn't say.
        keypoints: Figures a box has for its keypoints (``kpt_shape``); 0: it knows none.
        head: Ultralytics' name of its head; empty where it doesn't say.
    """

    names: tuple[str, ...] | None = None
    side: int = 0
    end_to_end: bool | None = None
    keypoints: int = 0
    head: str = ""

    def __str__(self) -> str:
        said = (
            "names no classes"
            if self.names is None
            else f"names {_counted(len(self.names))} ({some_names(self.names)})"
        )
        said += f" and says that its head is {self.head}" * bool(self.head)
        if self.keypoints:
            said += " and says that it has keypoints"
        if self.end_to_end is not None:
            said += f" and says that it {'selects' if self.end_to_end else 'does not select'} its boxes itself"
        return said


@dataclass(frozen=True)
class Layout:
    """A form of outputs.

    Attributes:
        name: What models of this form are called.
        form: Shape of the outputs, in words.
        fits: Whether outputs have it, for a model that says this of itself.
        advice: What to do with such a model; empty where it is used here.
        classes: How many classes outputs of this form have; ``None``: they don't tell.
        heads: Names of Ultralytics' heads that give it.
    """

    name: str
    form: str
    fits: Callable[[Shapes, Claim], bool]
    advice: str = ""
    classes: Callable[[Shapes], int] | None = None
    heads: tuple[str, ...] = ()

    @property
    def used(self) -> bool:
        """Whether models of this form are used here."""
        return not self.advice

    def called(self, outputs: Shapes) -> str:
        """Its name, with the number of classes where the outputs tell it."""
        count = self.classes(outputs) if self.classes and outputs and len(outputs[0]) == 3 else 0
        counted = f" of {_counted(count)}" if count > 0 else ""
        return f"{self.name}{counted}, {self.form}"


def layout_of(path: Path, outputs: Shapes, claim: Claim) -> Layout:
    """The layout of a model's outputs: the one that agrees with what it says of itself.

    Args:
        path: For the message.
        outputs: Shape of each; none at all, or one without sizes, says nothing: the claim is taken.
        claim: What it says of itself.

    Raises:
        ModelFileError: Claim and shape contradict each other, another layout fits, or it can't be told which.
    """
    if claim.head and (named := layout_of_head(claim.head)) is not None and not named.used:
        raise ModelFileError(_refusal(path, outputs, claim, (named,)))
    if claim.keypoints:
        raise ModelFileError(_refusal(path, outputs, claim, (POSE,)))
    if not outputs or (len(outputs) == 1 and len(outputs[0]) == 3 and not any(outputs[0][1:])):
        return END_TO_END if claim.end_to_end else HEAD
    fitting = tuple(layout for layout in LAYOUTS if layout.fits(outputs, claim))
    if (len(fitting) == 1 and fitting[0].used) or (claim.end_to_end and fitting[:1] == (END_TO_END,)):
        return fitting[0]
    if HEAD in fitting and claim.names is not None and _is_dense(outputs[0][2], claim, (1,)):
        return HEAD  # its rows are those of its classes, and its anchors those of its side
    raise ModelFileError(_refusal(path, outputs, claim, fitting))


def layout_of_head(head: str) -> Layout | None:
    """The layout of one of Ultralytics' heads, by the name of its class; ``None`` for one that isn't known."""
    return next((layout for layout in LAYOUTS if head in layout.heads), None)


def _refusal(path: Path, outputs: Shapes, claim: Claim, fitting: tuple[Layout, ...]) -> str:
    shown = " and ".join(str(tuple(side or "any" for side in shape)).replace("'", "") for shape in outputs)
    gives = f"it gives {len(outputs)} outputs, {shown}" if len(outputs) > 1 else f"its output has the shape {shown}"
    said = f"model {path} {claim}; {gives if shown else 'its graph tells no shape'}"
    read = [layout.called(outputs) for layout in fitting]
    if not any(layout.used for layout in fitting):
        anew = replace(claim, names=None, end_to_end=None)
        others = tuple(item for item in LAYOUTS if item.used and outputs and item.fits(outputs, anew))
        read += [layout.called(outputs) for layout in others]
    advice = next((layout.advice for layout in fitting if layout.advice), _EXPORT)
    if len(read) > 1 and any(layout.used for layout in fitting):
        return f"{said}, which can't be told apart: it may be {', or '.join(read)}; {_SAY_SO}"
    known = f"that is the form of {', or '.join(read)}" if read else "that is no form of a detector that is known"
    rows = 4 + len(claim.names) if claim.names is not None else "4 + classes"
    wanted = "" if claim.names is None else f" of its {_counted(len(claim.names))}"
    return f"{said}: {known}, where a detector{wanted} gives (B, {rows}, anchors) or, selected, (B, boxes, 6); {advice}"


def _counted(classes: int) -> str:
    return "1 class" if classes == 1 else f"{classes} classes"


def some_names(names: Sequence[str], most: int = 4) -> str:
    """The first names, for a message."""
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")


# --- what a shape says


def _is_cells(number: int, side: int, *, each: int = 1) -> bool:
    """Whether the levels of a head have so many cells; where the side isn't known, at any side."""
    if not number:
        return True
    for strides in _PYRAMIDS:
        coarsest = max(strides)
        sides = (side,) if side else range(coarsest, coarsest * _MOST_CELLS, coarsest)
        if any(number == each * sum((one // stride) ** 2 for stride in strides) for one in sides):
            return True
    return False


def _is_dense(number: int, claim: Claim, each: tuple[int, ...]) -> bool:
    return any(_is_cells(number, claim.side, each=count) for count in each)


def _by_rows(axis: int, extra: int, rest: Callable[[int, int, Claim], bool]) -> Callable[[Shapes, Claim], bool]:
    """One output (B, …) whose ``axis`` has ``extra`` rows and one a class; ``rest`` judges the other axis."""

    def fits(outputs: Shapes, claim: Claim) -> bool:
        if len(outputs) != 1 or len(outputs[0]) != 3:
            return False
        rows, other = outputs[0][axis], outputs[0][3 - axis]
        exact = rows > extra if claim.names is None else rows == extra + len(claim.names)
        return exact and rest(other, rows, claim)

    return fits


def _anchors(number: int, _: int, claim: Claim) -> bool:
    return claim.names is not None or _is_dense(number, claim, (1,))


def _many(*each: int) -> Callable[[int, int, Claim], bool]:
    def judge(number: int, rows: int, claim: Claim) -> bool:
        return _is_dense(number, claim, each) or (claim.names is not None and number > max(rows, _MOST_QUERIES))

    return judge


def _head(outputs: Shapes, claim: Claim) -> bool:
    return not claim.end_to_end and _by_rows(1, 4, _anchors)(outputs, claim)


def _end_to_end(outputs: Shapes, claim: Claim) -> bool:
    if claim.end_to_end is False or len(outputs) != 1 or len(outputs[0]) != 3:
        return False
    columns, boxes = outputs[0][2], outputs[0][1]
    if claim.end_to_end:
        return columns in {0, 6}
    return columns == 6 and not (boxes and _is_dense(boxes, claim, (1, 3)))


def _pose(outputs: Shapes, claim: Claim) -> bool:
    if claim.names is None:
        return False
    points = claim.keypoints or _COCO_KEYPOINTS
    selected = len(outputs) == 1 and len(outputs[0]) == 3 and outputs[0][2] == 6 + points
    return selected or _by_rows(1, 4 + points, _anchors)(outputs, claim)


def _oriented(outputs: Shapes, claim: Claim) -> bool:
    if claim.names is None:
        return False
    selected = bool(claim.end_to_end) and len(outputs) == 1 and len(outputs[0]) == 3 and outputs[0][2] == 7
    return selected or _by_rows(1, 5, _anchors)(outputs, claim)


def _segments(outputs: Shapes, _: Claim) -> bool:
    return sorted(map(len, outputs)) == [3, 4]


def _classifies(outputs: Shapes, claim: Claim) -> bool:
    return len(outputs) == 1 and len(outputs[0]) == 2 and not _rows_of_seven(outputs, claim)


def _rows_of_seven(outputs: Shapes, claim: Claim) -> bool:
    columns = outputs[0][1] if len(outputs) == 1 and len(outputs[0]) == 2 else 0
    return columns == 7 != len(claim.names or ())


def _is_map(outputs: Shapes, _: Claim) -> bool:
    return len(outputs) == 1 and len(outputs[0]) in {4, 5}


def _raw_levels(outputs: Shapes, _: Claim) -> bool:
    levels = [shape for shape in outputs if len(shape) in {4, 5}]
    return len(levels) > 1 and len(outputs) - len(levels) <= 1


def _boxes_and_scores(outputs: Shapes, _: Claim) -> bool:
    """Two outputs of as many rows, of which one holds four figures a row."""
    if len(outputs) != 2 or {len(shape) for shape in outputs} != {3}:
        return False
    return outputs[0][1] == outputs[1][1] and 4 in {outputs[0][2], outputs[1][2]}


def _apart(outputs: Shapes, _: Claim) -> bool:
    """Boxes, scores and labels as an output each, and perhaps their number."""
    return (
        len(outputs) > 2 and all(len(shape) < 4 for shape in outputs) and any(shape[-1:] == (4,) for shape in outputs)
    )


def _rows_on(axis: int, extra: int) -> Callable[[Shapes], int]:
    return lambda outputs: outputs[0][axis] - extra


_EXPORT = "export it again with its own names, without changes to the graph"
_SAY_SO = (
    "say which one in its metadata, with names and with end2end True where it selects its boxes itself: "
    "onnx.helper.set_model_props(model, {'names': ..., 'end2end': 'True'})"
)
_DETECT = "train or export a model for detection"
_YOLO = "use a YOLO model of Ultralytics"
_CONVERT = (
    "train or convert it with Ultralytics (yolov5nu.yaml and the like), whose heads have no objectness, and export that"
)

HEAD = Layout(
    "a YOLO head (YOLOv8 and later)", "(B, 4 + classes, anchors)", _head, classes=_rows_on(1, 4),
    heads=("Detect", "v10Detect", "WorldDetect", "YOLOEDetect"),
)  # fmt: skip
END_TO_END = Layout("a model that selects its boxes itself", "(B, boxes, 6): x1, y1, x2, y2, score, class", _end_to_end)
POSE = Layout(
    "a pose model", "(B, 4 + classes + keypoints, anchors)", _pose, f"keypoints are not read: {_DETECT}",
    heads=("Pose", "Pose26"),
)  # fmt: skip
LAYOUTS = (
    HEAD,
    END_TO_END,
    Layout(
        "YOLOv5, YOLOv7 or YOLOX with an objectness", "(B, boxes, 5 + classes)", _by_rows(2, 5, _many(1, 3)), _CONVERT,
        _rows_on(2, 5),
    ),
    Layout(
        "a YOLO head whose last two axes are exchanged", "(B, anchors, 4 + classes)", _by_rows(2, 4, _many(1)),
        "export it without the transposition", _rows_on(2, 4),
    ),
    Layout(
        "RT-DETR", "(B, queries, 4 + classes)", _by_rows(2, 4, lambda number, *_: number in _QUERIES), _YOLO,
        _rows_on(2, 4), heads=("RTDETRDecoder",),
    ),
    Layout(
        "a DETR or YOLO-NAS", "boxes (B, queries, 4) and logits (B, queries, classes) apart", _boxes_and_scores, _YOLO,
    ),
    Layout(
        "a model with its non-maximum suppression in it (TensorRT's plug-in, RT-DETR's own export, SSD)",
        "boxes, scores and labels apart", _apart, f"export it without its suppression, or {_YOLO}",
    ),
    Layout(
        "YOLOv7 with its suppression in it", "(boxes, 7): image, x1, y1, x2, y2, class, score", _rows_of_seven,
        f"export it without --end2end, and then: {_CONVERT}",
    ),
    Layout(
        "a YOLO model before its decoding", "a map for each level, as YOLOv5, v7 and v8 give in training", _raw_levels,
        "export it with its decoding (YOLOv7: --grid); Ultralytics' own exports have it",
    ),
    POSE,
    Layout(
        "a model for oriented boxes (OBB)", "(B, 4 + classes + angle, anchors)", _oriented,
        f"angles are not read: {_DETECT}", heads=("OBB", "OBB26"),
    ),
    Layout(
        "an instance segmentation", "(B, 4 + classes + 32, anchors) and masks (B, 32, h, w)", _segments,
        f"masks are not read: {_DETECT}", heads=("Segment", "Segment26", "YOLOESegment", "YOLOESegment26"),
    ),
    Layout("a classification", "(B, classes)", _classifies, _DETECT, heads=("Classify",)),
    Layout(
        "a map of the whole image, such as a semantic segmentation or depth", "(B, classes, h, w)", _is_map, _DETECT,
        heads=("SemanticSegment", "Depth"),
    ),
)  # fmt: skip
"""All known layouts; those without advice are used here."""


def keypoints_in(metadata: Mapping[str, object]) -> int:
    """Figures a box has for its keypoints, from ``kpt_shape``; 0 where there are none."""
    shape = metadata.get("kpt_shape")
    if not isinstance(shape, (list, tuple)) or not all(isinstance(side, int) for side in shape):
        return 0
    points = 1
    for side in shape:
        points *= int(side)
    return points if shape else 0
