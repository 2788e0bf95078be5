"""A registered model to call: an image in, boxes out, served by the backend and precision that the registry names."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from guardianflow.core.config import Settings
from guardianflow.exceptions import InputError
from guardianflow.plots.box_drawing import DrawnBox, draw_boxes, jpeg, letters
from guardianflow.plots.palette import SERIES
from guardianflow.runners.model_source import FoundModel, find_model_source
from guardianflow.text.printable import printable

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd
    import PIL.Image

    from guardianflow.vision.pipeline.pipeline import Pipeline
    from guardianflow.vision.pipeline.read_ahead import Image

__all__ = ["Box", "Boxes", "LoadedModel", "load", "load_champion"]

CONFIDENCE = 0.25
_LONGEST_PX = 960


@dataclass(frozen=True)
class Box:
    """One object.

    Attributes:
        name: Of its class.
        confidence: 0–1.
        x1: Left edge in pixels of the image, as ``y1`` its upper, ``x2`` its right and ``y2`` its lower one.
        y1: See ``x1``.
        x2: See ``x1``.
        y2: See ``x1``.
        label: Class id.
    """

    name: str
    confidence: float
    x1: float
    y1: float
    x2: float
    y2: float
    label: int


@dataclass(frozen=True, eq=False)
class Boxes(Sequence[Box]):
    """What a model sees on one image, the surest first; as the value of a cell, the picture with its boxes.

    Attributes:
        boxes: The objects.
        image: The image's pixels, BGR, uint8 (H, W, 3).
        source: Its file; empty for pixels.
        model: What serves it, in words: ``gate version 3 · openvino int8``.
        milliseconds: From the image (a file is read, too) to the boxes.
    """

    boxes: tuple[Box, ...]
    image: npt.NDArray[Any]
    source: str
    model: str
    milliseconds: float

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, index: Any) -> Any:
        return self.boxes[index]

    def __iter__(self) -> Iterator[Box]:
        return iter(self.boxes)

    def __repr__(self) -> str:
        lines = [
            f"{box.name:<16} {box.confidence:5.2f}   {box.x1:7.1f} {box.y1:7.1f} {box.x2:7.1f} {box.y2:7.1f}"
            for box in self.boxes
        ]
        head = f"{'object':<16}  conf        x1      y1      x2      y2" if lines else "no objects"
        return "\n".join([self.caption, head, *lines])

    @property
    def caption(self) -> str:
        """What was found, by what, in which time."""
        objects = "1 object" if len(self) == 1 else f"{len(self)} objects"
        return f"{objects} · {self.model} · {self.milliseconds:.1f} ms"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, without the pixels."""
        height, width = self.image.shape[:2]
        return {
            "source": self.source, "width": width, "height": height, "model": self.model,
            "milliseconds": round(self.milliseconds, 3), "boxes": [asdict(box) for box in self.boxes],
        }  # fmt: skip

    def to_frame(self) -> pd.DataFrame:
        """A row for each object."""
        import pandas as pd

        return pd.DataFrame([asdict(box) for box in self.boxes], columns=list(Box.__dataclass_fields__))

    def picture(self) -> PIL.Image.Image:
        """The image with its boxes, at most 960 pixels a side, what was found written below it."""
        from PIL import Image, ImageDraw

        picture = Image.fromarray(self.image[:, :, ::-1])
        scale = min(1.0, _LONGEST_PX / max(picture.size))
        if scale < 1:
            picture = picture.resize((round(picture.width * scale), round(picture.height * scale)))
        size = max(11, round(max(picture.size) / 48))
        drawn = [
            DrawnBox(
                (box.x1 * scale, box.y1 * scale, box.x2 * scale, box.y2 * scale), f"{box.name} {box.confidence:.2f}",
                SERIES[box.label % len(SERIES)], width=max(2, size // 7),
            )
            for box in self.boxes
        ]  # fmt: skip
        font = letters("".join([self.caption, *(box.text for box in drawn)]), size)
        draw_boxes(picture, drawn, font)
        canvas = Image.new("RGB", (picture.width, picture.height + 2 * size), "white")
        canvas.paste(picture)
        ImageDraw.Draw(canvas).text((4, picture.height + size // 3), self.caption, fill="#444", font=font)
        return canvas

    def _repr_jpeg_(self) -> bytes:  # a picture is shown in a notebook that isn't trusted; HTML would lose it
        return jpeg(self.picture())


class LoadedModel:
    """A model that gives boxes for an image; the first call is as quick as later ones. Close it, or use ``with``.

    Args:
        found: The model.
        device: ``""`` chooses; else ``"cpu"``, ``"0"``, ``"cuda:0"``.
        imgsz: Side of the model's input in pixels; 0: what the registry or the file says.

    Raises:
        ModelFileError: It can't be used.
        MissingDependencyError: The package of its backend is missing.
        DeviceError: No such device.
    """

    def __init__(self, found: FoundModel, *, device: str = "", imgsz: int = 0) -> None:
        from guardianflow.vision.backends._base import BackendOptions
        from guardianflow.vision.backends.catalog import BACKENDS, open_backend, serving_backend
        from guardianflow.vision.model_artifacts import read_model_file

        file = read_model_file(found.path)
        self.uri = f"models:/{found.model_name}/{found.version}" if found.version else found.spec
        self.names = file.names
        self.backend = found.backend or serving_backend(file)
        self.precision = found.precision or (
            file.precision if file.precision in BACKENDS.get(self.backend).stored else "fp32"
        )
        self.imgsz = imgsz or found.imgsz or file.imgsz
        self._title = f"{found.model_name} version {found.version}" if found.version else found.path.name
        self._lock = threading.Lock()  # a backend belongs to one thread at a time
        self._close = ExitStack()
        options = BackendOptions(precision=self.precision, device=device, imgsz=self.imgsz, compiled=False)
        self._backend = self._close.enter_context(open_backend(file, backend=self.backend, options=options))
        self.device = self._backend.info.device
        self._pipelines: dict[tuple[float, float], Pipeline] = {}
        with self._close as opened:
            self.predict(np.zeros((self.imgsz, self.imgsz, 3), np.uint8))
            self._close = opened.pop_all()

    def predict(self, image: str | Path | Image | PIL.Image.Image, *, confidence: float = CONFIDENCE,
                iou: float = 0.7) -> Boxes:  # fmt: skip
        """The objects on an image.

        Args:
            image: A file, a PIL image, or pixels: BGR as OpenCV reads them, uint8 (H, W, 3).
            confidence: Boxes at or below it are left out.
            iou: Overlap above which the weaker box of a class is dropped.

        Raises:
            InputError: The image can't be read, or the model was closed.
        """
        from guardianflow.vision.pipeline.decoding import decode_image

        began = time.perf_counter()
        source = str(image) if isinstance(image, str | Path) else ""
        pixels = decode_image(source) if source else _pixels(image)
        with self._lock:
            found, _ = self._pipeline(confidence, iou).detect_one(pixels)
        if found.error:
            raise InputError(found.error)
        boxes = tuple(
            Box(printable(self.names[label]), score, x1, y1, x2, y2, label)
            for label, score, (x1, y1, x2, y2) in zip(
                found.labels.tolist(), found.scores.tolist(), found.boxes.tolist(), strict=True
            )
        )
        return Boxes(boxes, pixels, source, self.title, 1000 * (time.perf_counter() - began))

    @property
    def title(self) -> str:
        """The model and what serves it, in words."""
        return f"{self._title} · {self.backend} {self.precision}"

    def _pipeline(self, confidence: float, iou: float) -> Pipeline:
        from guardianflow.vision.pipeline.pipeline import Pipeline, PipelineConfig

        if (confidence, iou) not in self._pipelines:
            config = PipelineConfig(imgsz=self.imgsz, confidence=confidence, iou=iou, multi_label=False, read_ahead=0)
            self._pipelines[confidence, iou] = Pipeline(self._backend, config)
        return self._pipelines[confidence, iou]

    def close(self) -> None:
        """Free what the runtime holds."""
        self._close.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{self.title}, {self.imgsz} px, on {self.device}: {', '.join(map(printable, self.names))}"


def load(spec: str | Path, *, settings: Settings | None = None, device: str = "", imgsz: int = 0) -> LoadedModel:
    """Open a model.

    Args:
        spec: ``models:/NAME@champion``, ``models:/NAME/3``, a run id, or a model file or folder.
        settings: Where runs and models are.
        device: As :class:`LoadedModel` takes it.
        imgsz: Likewise.

    Raises:
        NotFoundError: No such model, version, run or file.
        HashMismatchError: The registered file was changed.
        TrackingUnavailableError: MLflow is needed and doesn't answer.
        ModelFileError: It can't be used.
        MissingDependencyError: The package of its backend is missing.
    """
    return LoadedModel(find_model_source(str(spec), settings or Settings()), device=device, imgsz=imgsz)


def load_champion(name: str, *, settings: Settings | None = None, device: str = "", imgsz: int = 0) -> LoadedModel:
    """Open the version that is in charge of a model, as it is served; parameters and errors as :func:`load`."""
    return load(f"models:/{name}@champion", settings=settings, device=device, imgsz=imgsz)


def _pixels(image: Any) -> npt.NDArray[Any]:
    from PIL import Image

    from guardianflow.vision.pipeline.decoding import as_bgr

    if isinstance(image, Image.Image):
        return np.ascontiguousarray(np.asarray(image.convert("RGB"))[:, :, ::-1])
    return as_bgr(np.asarray(image))
