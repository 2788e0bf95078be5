"""OpenVINO: int8 by NNCF's post-training quantization, with a greatest drop of accuracy where asked; fp16.

The arithmetic of the head stays as it is (see :mod:`guardianflow.vision.quantizers.onnxruntime`).
NNCF reports its use over the network unless it is told not to; here it is told not to, before it is imported.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import shutil
import sys
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from guardianflow._imports import require
from guardianflow.vision.backends._base import Backend, BackendInfo, check_images
from guardianflow.vision.backends.openvino_file import find_graph
from guardianflow.vision.model_artifacts import ModelFile, read_model_file
from guardianflow.vision.quantizers._base import (
    Accuracy,
    QuantizationOptions,
    QuantizedModel,
    Quantizer,
    exported,
    needs_calibration,
)

if TYPE_CHECKING:
    import openvino as ov

    from guardianflow.vision.quantizers.calibration import CalibrationSet

__all__ = ["OpenVinoQuantizer", "count_layers", "head_arithmetic", "import_nncf"]

log = logging.getLogger(__name__)

_CONVOLUTIONS = frozenset({"Convolution", "GroupConvolution"})
_SHAPES = frozenset({"ShapeOf", "Constant", "Parameter", "Range"})
_MOVES = frozenset(
    {"Concat", "Interpolate", "MaxPool", "Reshape", "Split", "StridedSlice", "Transpose", "VariadicSplit"}
)
_WATCHED = 32  # images whose outputs tell which layer changes the most; all in memory at once


class OpenVinoQuantizer(Quantizer):
    """Makes a folder that the backend ``openvino`` loads, and Ultralytics, too."""

    name = "openvino"

    def quantize(
        self, model: ModelFile, calibration: CalibrationSet | None, options: QuantizationOptions, folder: Path
    ) -> QuantizedModel:
        """Quantize to int8, or compress to fp16; see :meth:`Quantizer.quantize`."""
        ov = require("openvino", extra="openvino", purpose=f"{options.precision} for OpenVINO")
        source = exported(model, options, folder, backend="openvino")
        # Ultralytics takes a folder for OpenVINO's by the end of its name.
        stem = re.sub(r"_openvino_model$", "", model.path.stem) or "model"
        target = folder / f"{stem}_{options.precision}_openvino_model"
        graph = ov.Core().read_model(find_graph(source.path))
        facts: dict[str, Any] = {"tool": f"openvino {ov.__version__}"}
        if options.precision == "int8":
            images = needs_calibration(options, calibration)
            graph, facts = _to_int8(graph, images, options)
        _save(graph, source.path, target, fp16=options.precision == "fp16")
        return QuantizedModel(read_model_file(target), {**facts, **count_layers(target)})


def import_nncf() -> ModuleType:
    """NNCF, silent towards the network.

    Raises:
        MissingDependencyError: It is not installed.
    """
    # NNCF's own switch; it is read once, while NNCF is imported. The package openvino_telemetry sends usage
    # data without asking where no answer was given before.
    os.environ.setdefault("NNCF_CI", "1")
    nncf = require("nncf", extra="openvino", purpose="int8 for OpenVINO")
    wrapper = sys.modules.get("nncf.telemetry.wrapper")
    if wrapper is not None and type(wrapper.telemetry).__name__ == "NNCFTelemetry":  # imported by others before
        wrapper.telemetry._impl = wrapper.NNCFTelemetryStub()  # noqa: SLF001 - what every importer of it sends through
    return nncf


def head_arithmetic(model: ov.Model) -> list[str]:
    """Names of the nodes behind the last layers with learned weights: what decodes boxes and scores.

    Args:
        model: The graph, not quantized yet.
    """
    found: dict[str, None] = {}
    waiting = [source.get_node() for result in model.get_results() for source in result.input_values()]
    while waiting:
        node = waiting.pop()
        kind, name = node.get_type_name(), node.get_friendly_name()
        if name in found or kind in _SHAPES or _adds_bias(node):
            continue
        if kind in _CONVOLUTIONS and not _is_expectation(node):
            continue
        found[name] = None
        waiting += [value.get_node() for value in node.input_values()]
    return list(found)


def count_layers(folder: Path) -> dict[str, int]:
    """How many convolutions a model folder has, and how many of them compute in int8.

    A convolution counts as int8 where its images come from a FakeQuantize and its weights are stored in 8 bits.
    """
    ov = require("openvino", extra="openvino")
    model = ov.Core().read_model(find_graph(folder))
    nodes = [node for node in model.get_ordered_ops() if node.get_type_name() in _CONVOLUTIONS]
    int8 = [node for node in nodes if _from_quantizer(node.input_value(0).get_node()) and _narrow(node)]
    return {"convolutions": len(nodes), "int8_convolutions": len(int8)}


def _to_int8(
    model: ov.Model, calibration: CalibrationSet, options: QuantizationOptions
) -> tuple[ov.Model, dict[str, Any]]:
    nncf = import_nncf()
    head = head_arithmetic(model)
    name = model.inputs[0].get_any_name()
    data = nncf.Dataset(_Tensors(calibration), lambda tensor: {name: tensor})
    scope = nncf.IgnoredScope(names=head) if head else None
    facts = {
        "tool": f"nncf {nncf.__version__}",
        "head_arithmetic": len(head),
        "preset": "mixed",
        "calibration_method": options.calibration_method,
        "ranges": {"minmax": "min and max of all", "percentile": "mean of quantiles", "entropy": "histogram"}[
            options.calibration_method
        ],
        "per_channel": options.per_channel,
    }
    shared = {"preset": nncf.QuantizationPreset.MIXED, "ignored_scope": scope, "subset_size": len(calibration)}
    advanced = _advanced(options)
    with _quiet(nncf):
        if not options.max_drop or options.accuracy is None:
            return nncf.quantize(model, data, advanced_parameters=advanced, **shared), facts
        judge = _Judge(options.accuracy, options.imgsz)
        small = nncf.quantize_with_accuracy_control(
            model, data, nncf.Dataset(_Tensors(calibration, _WATCHED)), judge, max_drop=options.max_drop,
            drop_type=nncf.DropType.ABSOLUTE, advanced_quantization_parameters=advanced,
            advanced_accuracy_restorer_parameters=nncf.AdvancedAccuracyRestorerParameters(num_ranking_workers=1),
            **shared,
        )  # fmt: skip
    return small, {**facts, "max_drop": options.max_drop, "judged": judge.figures}


def _advanced(options: QuantizationOptions) -> Any:
    """Where the range of an activation ends, and whether weights have one scale a channel.

    NNCF has no entropy method of its own; its histogram method looks for the ends with the least error,
    which is the same aim.
    """
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, QuantizationParameters
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet as Ranges

    methods = {"minmax": Ranges.MINMAX, "percentile": Ranges.MEAN_QUANTILE, "entropy": Ranges.HISTOGRAM}
    return AdvancedQuantizationParameters(
        activations_range_estimator_params=methods[options.calibration_method],
        weights_quantization_params=QuantizationParameters(per_channel=options.per_channel),
    )


class _Tensors:
    """Calibration images as NNCF asks for them: as often as it likes, one at a time."""

    def __init__(self, calibration: CalibrationSet, most: int | None = None) -> None:
        self._calibration = calibration
        self._count = min(len(calibration), most or len(calibration))

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[npt.NDArray[np.float32]]:
        return self._calibration.tensors(0, self._count)


class _Judge:
    """What NNCF asks of every trial: its mAP50-95, and its outputs on a few images.

    The outputs rank the layers by what they change; the figure on all images decides when to stop.
    """

    def __init__(self, accuracy: Accuracy, imgsz: int) -> None:
        self._accuracy = accuracy
        self._imgsz = imgsz
        self.figures: list[float] = []

    def __call__(self, compiled: Any, items: Iterable[Any]) -> tuple[float, list[list[npt.NDArray[Any]]]]:
        tensors = list(items)
        outputs = [[np.array(compiled(tensor)[0])] for tensor in tensors]
        if len(tensors) == 1:  # NNCF finds out what kind of values it is given
            return 0.0, outputs
        self.figures.append(self._accuracy(_Trial(compiled, self._imgsz)))
        return self.figures[-1], outputs


class _Trial(Backend):
    """A compiled model that NNCF made, as a backend, so that it is judged like any other."""

    def __init__(self, compiled: Any, imgsz: int) -> None:
        super().__init__()
        self._compiled = compiled
        self._imgsz = imgsz

    @property
    def info(self) -> BackendInfo:
        """Nothing is asked of a trial but its outputs."""
        return BackendInfo("openvino", "", "CPU", "int8", "", (0, 3, self._imgsz, self._imgsz), 0, 1)

    def forward(self, images: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The model's output."""
        check_images(images, batch=len(images), imgsz=self._imgsz)
        return np.array(self._compiled(images)[0])

    def close(self) -> None:
        """NNCF owns the model."""


def _adds_bias(node: ov.Node) -> bool:
    """The sum of a convolution and its bias is a part of the layer, not of the arithmetic behind it."""
    if node.get_type_name() != "Add":
        return False
    kinds = {value.get_node().get_type_name() for value in node.input_values()}
    return bool(kinds & _CONVOLUTIONS) and kinds <= _CONVOLUTIONS | {"Constant", "Reshape"}


def _is_expectation(node: ov.Node) -> bool:
    """Whether a convolution has the fixed weights 0, 1, 2 …: the expectation of a distribution ("DFL")."""
    kernel = node.input_value(1).get_node()
    while kernel.get_type_name() in {"Convert", "Reshape"}:
        kernel = kernel.input_value(0).get_node()
    if kernel.get_type_name() != "Constant":
        return True  # a product of two activations is arithmetic
    weights = np.asarray(kernel.data)
    return weights.shape[0] == 1 and np.array_equal(weights.ravel(), np.arange(weights.size))


def _from_quantizer(node: ov.Node) -> bool:
    """Whether numbers come in 8 bits, also where they were only moved since."""
    if node.get_type_name() in _MOVES:
        sources = [value.get_node() for value in node.input_values()]
        return all(_from_quantizer(source) for source in sources if source.get_type_name() not in _SHAPES)
    return bool(node.get_type_name() == "FakeQuantize")


def _narrow(node: ov.Node) -> bool:
    """Whether the weights of a convolution lie in 8 bits, behind what scales them back."""
    kernel = node.input_value(1).get_node()
    while kernel.get_type_name() in {"Multiply", "Subtract", "Reshape", "Convert"}:
        kernel = kernel.input_value(0).get_node()
    # NNCF leaves some weights in fp32 behind a FakeQuantize; OpenVINO folds the two into 8 bits when it compiles.
    stored = kernel.get_element_type().get_type_name()
    return bool(kernel.get_type_name() == "FakeQuantize" or stored in {"i8", "u8"})


def _save(model: ov.Model, source: Path, target: Path, *, fp16: bool) -> None:
    """Write the folder whole or not at all, with what Ultralytics reads beside the graph."""
    import openvino as ov

    draft = target.with_name(f".{target.name}.part")
    for folder in (draft, target):
        shutil.rmtree(folder, ignore_errors=True)
    draft.mkdir(parents=True)
    ov.save_model(model, draft / f"{find_graph(source).stem}.xml", compress_to_fp16=fp16)
    metadata = source / "metadata.yaml"
    if metadata.is_file():
        shutil.copyfile(metadata, draft / metadata.name)
    draft.replace(target)


@contextlib.contextmanager
def _quiet(nncf: ModuleType) -> Iterator[None]:
    """NNCF draws bars and tells its steps; they go to our log."""
    spoken = io.StringIO()
    nncf.set_log_level(logging.WARNING)
    try:
        with contextlib.redirect_stdout(spoken), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message='install "ipywidgets"')  # of its bars, in a kernel
            yield
    finally:
        nncf.set_log_level(logging.INFO)
