"""TensorRT: fp16 engines, and int8 engines from a calibrated graph.

int8 is explicit: the graph says where it is quantized (QDQ, symmetric), as TensorRT asks for from version 10.1
on, where calibrators are deprecated, and from 11 on, where they are gone
(https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/work-quantized-types.html).
The calibration cache is the file of activation ranges; with it an engine for another GPU needs no images.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guardianflow._imports import require
from guardianflow.files.run_folder import write_json
from guardianflow.vision.model_artifacts import ModelFile, read_model_file
from guardianflow.vision.quantizers._base import (
    QuantizationOptions,
    QuantizedModel,
    Quantizer,
    exported,
    needs_calibration,
)

if TYPE_CHECKING:
    from guardianflow.vision.quantizers.calibration import CalibrationSet

__all__ = ["TensorRtQuantizer"]

_MOST = 8  # images in one call


class TensorRtQuantizer(Quantizer):
    """Makes an ``.engine`` file that the backend ``tensorrt`` loads on a GPU of this kind."""

    name = "tensorrt"

    def quantize(
        self, model: ModelFile, calibration: CalibrationSet | None, options: QuantizationOptions, folder: Path
    ) -> QuantizedModel:
        """Build an engine; see :meth:`Quantizer.quantize`."""
        from guardianflow.vision.backends.tensorrt import build_engine
        from guardianflow.vision.export import export_metadata

        trt = require("tensorrt", extra="tensorrt", purpose=f"{options.precision} for TensorRT")
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / f"{model.path.stem}-{options.precision}.engine"
        facts: dict[str, Any] = {"tool": f"tensorrt {trt.__version__}"}
        if options.precision == "fp16":
            engine = exported(model, options, folder, backend="tensorrt", precision="fp16")
            shutil.copyfile(engine.path, target)
            return QuantizedModel(read_model_file(target), facts)
        images = needs_calibration(options, calibration)
        graph = exported(model, options, folder)
        facts |= _quantized_graph(graph.path, images, target.with_suffix(".onnx"), options)
        metadata = export_metadata(read_model_file(graph.path), imgsz=options.imgsz)
        metadata = {**metadata, "batch": _MOST, "args": {**metadata["args"], "quantize": 8}}
        build_engine(target.with_suffix(".onnx"), target, metadata, precision="int8", imgsz=options.imgsz, batch=_MOST)
        return QuantizedModel(read_model_file(target), facts)


def _quantized_graph(
    source: Path, calibration: CalibrationSet, target: Path, options: QuantizationOptions
) -> dict[str, Any]:
    """The symmetric QDQ graph; kept, and made again only for another model, other images or other options."""
    from guardianflow.vision.quantizers.onnxruntime import count_nodes, quantize_onnx

    said = {
        "model": hashlib.sha256(source.read_bytes()).hexdigest(),
        "calibration": calibration.fingerprint,
        "options": options.to_dict(),
    }
    note = target.with_suffix(".calibration.json")
    if target.is_file() and note.is_file() and json.loads(note.read_text(encoding="utf-8"))["key"] == said:
        return {"calibration_cache": "reused", **count_nodes(target)}
    facts = quantize_onnx(source, calibration, target, options, symmetric=True)
    write_json(note, {"key": said, "ranges": target.with_suffix(".ranges.json").name})
    return {**facts, "calibration_cache": "made"}
