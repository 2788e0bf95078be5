"""What the frameworks are called, and which of their calls train, predict, evaluate or export. Data only."""

from __future__ import annotations

from guardianflow.adapters.scan.findings import EVALUATION, EXPORT, INFERENCE, TRAINING

# Top-level package → framework. The order is that of preference where a script imports several.
_PACKAGES = {
    "ultralytics": "ultralytics",
    "lightning": "lightning",
    "pytorch_lightning": "lightning",
    "mmdet": "mmdetection",
    "mmengine": "mmdetection",
    "mmcv": "mmdetection",
    "detectron2": "detectron2",
    "transformers": "transformers",
    "keras": "keras",
    "tensorflow": "tensorflow",
    "xgboost": "xgboost",
    "lightgbm": "lightgbm",
    "catboost": "catboost",
    "onnxruntime": "onnxruntime",
    "openvino": "openvino",
    "torch": "torch",
    "sklearn": "sklearn",
}
FRAMEWORK_WORDS = tuple(name.encode() for name in _PACKAGES)
FIT_FRAMEWORKS = frozenset({"lightning", "keras", "tensorflow", "sklearn", "xgboost", "lightgbm", "catboost"})
CLI_MODULES = frozenset(
    {"argparse", "optparse", "click", "typer", "fire", "hydra", "tyro", "docopt", "absl", "jsonargparse"}
)
WEB_MODULES = frozenset({"flask", "fastapi", "django", "streamlit", "gradio", "tornado", "sanic", "bottle", "aiohttp"})

# A file without one of these words does none of the four things; it needs no syntax tree.
ACTION_WORDS = (
    b"train(", b".fit", b".backward(", b"predict", b".val(", b"evaluate(", b"export(", b".tune(", b".test(",
    b"InferenceSession", b"compile_model", b"inference", b"infer(", b"pipeline(", b"generate(", b"GradientTape",
    b"LightningCLI", b"getattr(", b"YOLO(", b"load_state_dict", b"cross_val", b"jit.", b"convert", b"track(",
    b"_report(", b"launch(", b"detect(", b"validate(",
)  # fmt: skip

# Framework → the last name of a call on something of its → role and weight.
CALLS: dict[str, dict[str, tuple[str, float]]] = {
    "ultralytics": {
        "train": (TRAINING, 0.45), "tune": (TRAINING, 0.45), "predict": (INFERENCE, 0.4), "track": (INFERENCE, 0.4),
        "__call__": (INFERENCE, 0.4), "val": (EVALUATION, 0.4), "benchmark": (EVALUATION, 0.4),
        "export": (EXPORT, 0.4),
    },
    "lightning": {
        "fit": (TRAINING, 0.45), "LightningCLI": (TRAINING, 0.45), "predict": (INFERENCE, 0.4),
        "test": (EVALUATION, 0.4), "validate": (EVALUATION, 0.4), "to_onnx": (EXPORT, 0.4),
    },
    "mmdetection": {
        "train": (TRAINING, 0.45), "train_detector": (TRAINING, 0.45), "train_model": (TRAINING, 0.45),
        "inference_detector": (INFERENCE, 0.4), "init_detector": (INFERENCE, 0.2), "DetInferencer": (INFERENCE, 0.4),
        "test": (EVALUATION, 0.4), "val": (EVALUATION, 0.4), "single_gpu_test": (EVALUATION, 0.4),
    },
    "detectron2": {
        "train": (TRAINING, 0.45), "DefaultPredictor": (INFERENCE, 0.4), "inference_on_dataset": (EVALUATION, 0.35),
        "test": (EVALUATION, 0.35), "Caffe2Tracer": (EXPORT, 0.4), "TracingAdapter": (EXPORT, 0.4),
    },
    "transformers": {
        "train": (TRAINING, 0.45), "pipeline": (INFERENCE, 0.4), "generate": (INFERENCE, 0.4),
        "predict": (INFERENCE, 0.35), "evaluate": (EVALUATION, 0.4),
    },
    "keras": {
        "fit": (TRAINING, 0.45), "fit_generator": (TRAINING, 0.45), "train_on_batch": (TRAINING, 0.45),
        "predict": (INFERENCE, 0.4), "predict_on_batch": (INFERENCE, 0.4), "evaluate": (EVALUATION, 0.4),
        "evaluate_generator": (EVALUATION, 0.4),
    },
    "tensorflow": {
        "fit": (TRAINING, 0.45), "GradientTape": (TRAINING, 0.35), "minimize": (TRAINING, 0.35),
        "predict": (INFERENCE, 0.4), "evaluate": (EVALUATION, 0.4), "TFLiteConverter": (EXPORT, 0.4),
        "from_saved_model": (EXPORT, 0.4), "from_keras_model": (EXPORT, 0.4),
    },
    "sklearn": {
        "fit": (TRAINING, 0.45), "partial_fit": (TRAINING, 0.45), "predict": (INFERENCE, 0.4),
        "predict_proba": (INFERENCE, 0.4), "cross_val_score": (EVALUATION, 0.4), "cross_validate": (EVALUATION, 0.4),
        "classification_report": (EVALUATION, 0.3), "confusion_matrix": (EVALUATION, 0.3),
    },
    "xgboost": {
        "train": (TRAINING, 0.45), "fit": (TRAINING, 0.45), "cv": (EVALUATION, 0.4), "predict": (INFERENCE, 0.4),
    },
    "lightgbm": {
        "train": (TRAINING, 0.45), "fit": (TRAINING, 0.45), "cv": (EVALUATION, 0.4), "predict": (INFERENCE, 0.4),
    },
    "catboost": {
        "train": (TRAINING, 0.45), "fit": (TRAINING, 0.45), "cv": (EVALUATION, 0.4), "predict": (INFERENCE, 0.4),
    },
    "onnxruntime": {"InferenceSession": (INFERENCE, 0.3), "run": (INFERENCE, 0.4)},
    "openvino": {
        "compile_model": (INFERENCE, 0.4), "infer_new_request": (INFERENCE, 0.4), "convert_model": (EXPORT, 0.4),
        "save_model": (EXPORT, 0.3),
    },
}  # fmt: skip

# Calls known by their whole name.
EXACT_CALLS: dict[str, tuple[str, float]] = {
    "torch.onnx.export": (EXPORT, 0.4),
    "torch.onnx.dynamo_export": (EXPORT, 0.4),
    "torch.jit.save": (EXPORT, 0.35),
    "torch.jit.trace": (EXPORT, 0.3),
    "torch.jit.script": (EXPORT, 0.2),
    "torch.export.save": (EXPORT, 0.4),
    "coremltools.convert": (EXPORT, 0.4),
    "tf2onnx.convert.from_keras": (EXPORT, 0.4),
    "skl2onnx.convert_sklearn": (EXPORT, 0.4),
    "skl2onnx.to_onnx": (EXPORT, 0.4),
    "tensorflow.saved_model.save": (EXPORT, 0.3),
}

# Functions of the user's own, by name: a weaker sign.
PLAIN_CALLS: dict[str, tuple[str, float]] = {
    **dict.fromkeys(
        ("train", "train_model", "do_train", "run_training", "train_net", "train_detector", "fit", "train_one_epoch",
         "finetune", "fine_tune", "run_train"),
        (TRAINING, 0.25),
    ),
    **dict.fromkeys(
        ("predict", "infer", "inference", "run_inference", "detect", "run_detection", "do_inference", "predict_image"),
        (INFERENCE, 0.25),
    ),
    **dict.fromkeys(("evaluate", "validate", "eval_model", "do_test", "evaluate_model"), (EVALUATION, 0.2)),
    **dict.fromkeys(("export_model", "export_onnx", "convert_to_onnx", "export_to_onnx"), (EXPORT, 0.25)),
}  # fmt: skip

# Words in the name of a file.
NAME_WORDS: dict[str, str] = {
    **dict.fromkeys(
        ("train", "training", "trainer", "finetune", "finetuning", "tune", "fit", "pretrain", "retrain"), TRAINING
    ),
    **dict.fromkeys(("infer", "inference", "predict", "prediction", "predictor", "detect", "demo"), INFERENCE),
    **dict.fromkeys(("eval", "evaluate", "evaluation", "val", "validate", "test", "benchmark"), EVALUATION),
    **dict.fromkeys(("export", "deploy", "onnx"), EXPORT),
}
# With one of these in its name a file prepares or looks, whatever else it is called.
NO_SCRIPT_WORDS = frozenset({
    "data", "dataset", "datasets", "dataloader", "loader", "split", "prepare", "preprocess", "preprocessing",
    "download", "plot", "util", "utils", "helper", "helpers", "config", "configs", "loss", "losses", "metric",
    "metrics", "augment",
})  # fmt: skip
# What is fitted to data but is no model: scalers, encoders and the like.
PREPARATION = (
    "scaler", "encoder", "vectorizer", "vectoriser", "pca", "imputer", "binarizer", "tokenizer", "preprocess",
    "decomposition", "feature_extraction", "impute", "feature_selection", "normalizer", "manifold", "label",
)  # fmt: skip

_ORDER = {name: place for place, name in enumerate(dict.fromkeys(_PACKAGES.values()))}


def framework_of(module: str) -> str:
    """The framework that a dotted name belongs to; empty for all others."""
    if module.startswith(("tensorflow.keras", "tensorflow.python.keras")):
        return "keras"
    return _PACKAGES.get(module.partition(".")[0], "")


def preference(framework: str) -> int:
    """The place of a framework among those that a script imports, the most telling first."""
    return _ORDER.get(framework, len(_ORDER))
