"""TensorRT: fp16 engines, and int8 engines from a calibrated graph.

int8 is explicit: the graph says where it is quantized (QDQ, symmetric), as TensorRT asks for from version 10.1
on, where calibrators are deprecated, and from 11 on, where they are gone
(https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/work-quantized-types.html).
The calibration cache is the file of activation ranges; with it an engine for another GPU needs no images.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guardianflow._imports import require
from guardianflow.core.run_folder import write_json
from guardianflow.exceptions import ModelFileError
from guardianflow.vision.backends.engine_file import write_engine
from guardianflow.vision.model_artifacts import ModelFile, read_model_file
from guardianflow.vision.quantization._base import (
    QuantizationOptions,
    QuantizedModel,
    Quantizer,
    needs_calibration,
)

if TYPE_CHECKING:
    from guardianflow.vision.quantization.calibration import CalibrationSet

__all__ = ["TensorRtQuantizer"]

log = logging.getLogger(__name__)


class TensorRtQuantizer(Quantizer):
    """Makes an ``.engine`` file that the backend ``tensorrt`` loads on a GPU of this kind."""

    name = "tensorrt"

    def quantize(
        self,
        model: ModelFile,
        calibration: CalibrationSet | None,
        options: QuantizationOptions,
        folder: Path,
    ) -> QuantizedModel:
        """Build an engine; see :meth:`Quantizer.quantize`."""
        from guardianflow.vision.export import prepare_model

        trt = require("tensorrt", extra="tensorrt", purpose=f"{options.precision} for TensorRT")
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / f"{model.path.stem}-{options.precision}.engine"
        facts: dict[str, Any] = {"tool": f"tensorrt {trt.__version__}"}
        if options.precision == "fp16":
            engine = prepare_model(
                model, backend="tensorrt", precision="fp16", imgsz=options.imgsz, folder=folder / "export"
            )
            shutil.copyfile(engine.path, target)
            return QuantizedModel(read_model_file(target), facts)
        images = needs_calibration(options, calibration)
        graph = prepare_model(
            model, backend="onnxruntime", precision="fp32", imgsz=options.imgsz, folder=folder / "export"
        )
        facts |= _quantized_graph(graph.path, images, target.with_suffix(".onnx"), options)
        _build(trt, target.with_suffix(".onnx"), target, options.imgsz)
        return QuantizedModel(read_model_file(target), facts)


def _quantized_graph(
    source: Path, calibration: CalibrationSet, target: Path, options: QuantizationOptions
) -> dict[str, Any]:
    """The symmetric QDQ graph; kept, and made again only for another model, other images or other options."""
    from guardianflow.vision.quantization.onnxruntime import count_nodes, quantize_onnx

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


def _build(trt: Any, source: Path, target: Path, imgsz: int, *, most: int = 8) -> None:
    """Build an engine from a QDQ graph for batches of 1 to ``most``."""
    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    # From version 10 on all networks have explicit batches, and the flag is gone in 11.
    explicit = getattr(trt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH", None)
    network = builder.create_network(0 if explicit is None else 1 << int(explicit))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(source.read_bytes()):
        said = "; ".join(str(parser.get_error(index)) for index in range(parser.num_errors))
        msg = f"TensorRT can't read the quantized graph {source.name}: {said[:400]}"
        raise ModelFileError(msg)
    config = builder.create_builder_config()
    for name in ("INT8", "FP16"):  # 11 takes both from the graph and has no such flags
        flag = getattr(trt.BuilderFlag, name, None)
        if flag is not None:
            config.set_flag(flag)
    profile = builder.create_optimization_profile()
    name = network.get_input(0).name
    shape = (3, imgsz, imgsz)
    profile.set_shape(name, (1, *shape), (1, *shape), (most, *shape))
    config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        msg = f"TensorRT built no engine from {source.name}; its messages above say why"
        raise ModelFileError(msg)
    write_engine(target, bytes(plan), _metadata(source, most))


def _metadata(source: Path, most: int) -> dict[str, Any]:
    """What the backends read in front of an engine: names, side and stride, as Ultralytics writes them."""
    model = read_model_file(source)
    return {
        "task": "detect",
        "names": dict(enumerate(model.names)),
        "imgsz": [model.imgsz, model.imgsz],
        "stride": model.stride,
        "batch": most,
        "end2end": model.end_to_end,
        "args": {"dynamic": True, "quantize": 8},
    }
