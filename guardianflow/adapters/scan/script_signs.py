"""What makes a script one that trains, predicts, evaluates or exports: signs with weights, added up.

The names are tables; a call counts by its last name, the more the better its receiver is known.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from guardianflow.adapters.scan.findings import EVALUATION, EXPORT, INFERENCE, ROLES, TRAINING, Reason
from guardianflow.adapters.scan.script_facts import Call, ScriptFacts

__all__ = ["judge", "may_be_a_script", "score_of"]


def _by_word(**words: str) -> dict[str, str]:
    return {word: meaning for meaning, listed in words.items() for word in listed.split()}


# Top-level package → framework. The order is that of preference where a script imports several.
_PACKAGES = _by_word(
    ultralytics="ultralytics",
    lightning="lightning pytorch_lightning",
    mmdetection="mmdet mmengine mmcv",
    detectron2="detectron2",
    transformers="transformers",
    keras="keras",
    tensorflow="tensorflow",
    xgboost="xgboost",
    lightgbm="lightgbm",
    catboost="catboost",
    onnxruntime="onnxruntime",
    openvino="openvino",
    torch="torch",
    sklearn="sklearn",
)
_FRAMEWORKS = tuple(dict.fromkeys(_PACKAGES.values()))
# Last name of a call on something of a framework's (but torch's, whose `model.train()` only sets a mode) → role.
_METHODS = _by_word(
    training="train tune fit fit_generator partial_fit train_on_batch train_model train_detector minimize GradientTape "
    "LightningCLI",
    inference="predict predict_proba predict_on_batch track generate pipeline inference_detector DetInferencer "
    "DefaultPredictor InferenceSession compile_model",
    evaluation="evaluate evaluate_generator val validate test benchmark cv cross_val_score cross_validate "
    "single_gpu_test inference_on_dataset",
    export="export to_onnx convert_model TFLiteConverter Caffe2Tracer TracingAdapter",
)
# Calls known by their whole name.
_EXACT = _by_word(
    inference="ultralytics.YOLO() ultralytics.YOLOWorld() ultralytics.RTDETR() ultralytics.SAM()",
    export="torch.onnx.export torch.onnx.dynamo_export torch.jit.save torch.jit.trace torch.export.save "
    "coremltools.convert tf2onnx.convert.from_keras skl2onnx.convert_sklearn skl2onnx.to_onnx "
    "tensorflow.saved_model.save",
)
# Functions of the user's own, by name: a weaker sign.
_FUNCTIONS = _by_word(
    training="train train_model train_net train_detector train_one_epoch do_train run_train run_training fit finetune "
    "fine_tune",
    inference="predict predict_image infer inference detect do_inference run_inference run_detection",
    evaluation="evaluate evaluate_model eval_model validate do_test",
    export="export_model export_onnx export_to_onnx convert_to_onnx",
)
# Words in the name of a file.
_WORDS = _by_word(
    training="train training trainer finetune finetuning tune fit pretrain retrain",
    inference="infer inference predict prediction predictor detect demo",
    evaluation="eval evaluate evaluation val validate test benchmark",
    export="export deploy onnx",
)
# With one of these in its name a file prepares or looks, whatever else it is called.
_NO_ACTION = {
    "augment", "config", "configs", "data", "dataloader", "dataset", "datasets", "download", "helper", "helpers",
    "loader", "loss", "losses", "metric", "metrics", "plot", "prepare", "preprocess", "preprocessing", "split", "util",
    "utils",
}  # fmt: skip
# What is fitted to data but is no model.
_PREPARATION = (
    "scaler", "encoder", "vectorizer", "pca", "imputer", "binarizer", "tokenizer", "preprocess", "decomposition",
    "feature_extraction", "feature_selection", "normalizer", "label",
)  # fmt: skip
_TRAINERS = ("trainer", "runner", "learner", "learn")
_MODELS = ("model", "net", "network", "classifier", "clf", "regressor", "estimator", "booster", "detector", "yolo")
_PARSERS = {"ArgumentParser", "OptionParser", "Typer", "Fire", "docopt", "HfArgumentParser", "default_argument_parser"}
_CLI = {"argparse", "optparse", "click", "typer", "fire", "hydra", "tyro", "docopt", "absl", "jsonargparse"}
_WEB = {"flask", "fastapi", "django", "streamlit", "gradio", "tornado", "sanic", "bottle", "aiohttp"}

_NAME = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")
_FRAMEWORK_WORDS = tuple(name.encode() for name in (*_PACKAGES, "!yolo"))
_IMPORTS = re.compile(
    rb"^[ \t]*(?:from|import)\b.*\b(?:" + b"|".join(name.encode() for name in _PACKAGES) + rb")\b", re.MULTILINE
)
# What may stand at a file's top and work; without it, and without a guard, a file is a library module.
_TOP_WORK = re.compile(
    rb"^(?:for|while|with)\b|^(?!def\b|class\b|from\b|import\b)[a-z_][^\n]{0,300}(?:train|tune|fit|predict|track|val"
    rb"|test|export|generate|pipe|infer|compile|convert|trace|save|model|yolo|net|detect|main)[^\n(]{0,60}\(",
    re.MULTILINE | re.IGNORECASE,
)


def may_be_a_script(content: bytes, *, starts: bool = False) -> bool:
    """Whether a file is worth a look at its syntax: it imports a framework, and does something when it is run.

    Args:
        content: The file's.
        starts: It is known to do something.
    """
    if not any(word in content for word in _FRAMEWORK_WORDS):
        return False
    return starts or (bool(_IMPORTS.search(content)) and (b"__main__" in content or bool(_TOP_WORK.search(content))))


def score_of(reasons: Iterable[Reason]) -> float:
    """The sum of the weights, cut to 0 … 1."""
    return round(min(1.0, max(0.0, sum(reason.weight for reason in reasons))), 2)


def judge(
    facts: ScriptFacts, path: str, *, is_notebook: bool = False, started_by: str = ""
) -> tuple[str, str, tuple[Reason, ...]] | None:
    """Which role a script plays, with which framework, and why; None for what is no script of ours.

    Args:
        facts: What it says.
        path: Below the scanned folder, with ``/``: names of files and folders are signs too.
        is_notebook: It runs from top to bottom, whatever it holds.
        started_by: A console script that starts it.
    """
    imported = _imported(facts)
    actions = [action for call in facts.calls if (action := _action(call))]
    ways = list(_ways_in(facts, actions, is_notebook=is_notebook, started_by=started_by))
    if not imported or not ways:
        return None
    found = []
    for role in ROLES:
        own = sorted((one for one in actions if one.role == role), key=lambda one: (-one.weight, one.call.line))
        signs = [*_action_signs(facts, own), *_other_signs(facts, role, has_action=bool(own))]
        signs += _name_sign(path, role, alone=not signs)
        if signs:
            framework = next((one.framework for one in own if one.framework), "")
            framework = framework or ("torch" if facts.loops and "torch" in imported else next(iter(imported)))
            imports = Reason(f"imports {framework}", 0.15, imported.get(framework, 0))
            reasons = [imports, *ways, *_doubts(facts, path), *signs]
            found.append((role, framework, tuple(sorted(reasons, key=lambda one: (-one.weight, one.line)))))
    # The bare sums decide between the roles: of two that are cut to 1 the better founded wins.
    return max(found, key=lambda one: sum(reason.weight for reason in one[2]), default=None)


@dataclass(frozen=True)
class _Action:
    """A call that trains, predicts, evaluates or exports."""

    role: str
    framework: str
    weight: float
    call: Call


def _action(call: Call) -> _Action | None:
    framework, name = _framework_of(call.dotted), call.dotted.rpartition(".")[2]
    spoken, _, last = call.spoken.lower().removesuffix("()").rpartition(".")
    if role := _EXACT.get(call.dotted, ""):
        return _Action(role, framework, 0.4, call)
    if not spoken and not framework:
        return _Action(_FUNCTIONS[last], "", 0.25, call) if last in _FUNCTIONS else None
    role = _METHODS.get(name, "")
    prepares = name in {"fit", "partial_fit"} and any(word in call.dotted.lower() for word in _PREPARATION)
    if not role or framework == "torch" or prepares:
        return None
    if framework:
        return _Action(role, framework, 0.45 if role == TRAINING else 0.4, call)
    trains = spoken.removesuffix("()").endswith(_TRAINERS)
    # A model's `train()` without arguments only sets a mode.
    if trains or (spoken.endswith(_MODELS) and (name != "train" or call.has_arguments)):
        return _Action(role, "", 0.4 if role == TRAINING else 0.35, call)
    return None


def _framework_of(module: str) -> str:
    """The framework that a dotted name belongs to; empty for all others."""
    return "keras" if module.startswith("tensorflow.keras") else _PACKAGES.get(module.partition(".")[0], "")


def _imported(facts: ScriptFacts) -> dict[str, int]:
    """The frameworks that a script imports → the first line, the most telling first."""
    found: dict[str, int] = {}
    for module, line in facts.modules.items():
        if framework := _framework_of(module):
            found[framework] = min(line, found.get(framework, line))
    return {name: found[name] for name in _FRAMEWORKS if name in found}


def _action_signs(facts: ScriptFacts, own: list[_Action]) -> Iterator[Reason]:
    """The calls of one role: the heaviest counts whole, a second one adds a little."""
    for place, action in enumerate(own[:2]):
        yield Reason(facts.text_of(action.call.line), 0.05 if place else action.weight, action.call.line)


def _other_signs(facts: ScriptFacts, role: str, *, has_action: bool) -> Iterator[Reason]:
    """What a role shows by without a call of its own: a training its loop, the other ones weights and no gradients."""
    if role in {INFERENCE, EVALUATION} and not facts.loops:
        lines = {call.dotted.rpartition(".")[2]: call.line for call in reversed(facts.calls)}
        loaded = lines.get("load_state_dict", 0) or lines.get("load_from_checkpoint", 0)
        if loaded and lines.keys() & {"no_grad", "inference_mode", "eval"}:
            yield Reason("loads weights and computes no gradients", 0.25, loaded)
    if role != TRAINING:
        return
    for loop in sorted(facts.loops, key=lambda loop: (loop.step, loop.over_epochs), reverse=True)[:1]:
        said = ".backward() and .step()" if loop.step else ".backward()"
        weight = 0.45 if loop.step and not has_action else 0.3
        yield Reason(f"a loop with {said}: {facts.text_of(loop.line)}", weight, loop.line)
        if loop.over_epochs:
            yield Reason("the loop runs over epochs", 0.05, loop.line)
    if facts.mode_line:
        yield Reason(f"chooses what to do by its name: {facts.text_of(facts.mode_line)}", 0.3, facts.mode_line)


def _name_sign(path: str, role: str, *, alone: bool) -> Iterator[Reason]:
    """A word in the file's name; where nothing else speaks for a role it must be a short name."""
    pure = PurePosixPath(path)
    words = [word.lower() for word in _NAME.findall(pure.stem)]
    named = next((_WORDS[word] for word in words if word in _WORDS), "")
    is_short = len(words) <= (3 if role == EXPORT else 2) or not alone
    if named == role and is_short and not _is_test(pure) and not _NO_ACTION.intersection(words):
        yield Reason(f"the file is called {pure.name}", 0.15)


def _ways_in(facts: ScriptFacts, actions: list[_Action], *, is_notebook: bool, started_by: str) -> Iterator[Reason]:
    """How it is started: a notebook by itself, a script by a guard, a parser, or what stands at its top."""
    top = next((action.call.line for action in actions if action.call.top), 0)
    top = top or next((loop.line for loop in facts.loops if loop.top), 0)
    if is_notebook:
        yield Reason("a notebook, run from top to bottom", 0.2)
        return
    if started_by:
        yield Reason(f"the command `{started_by}` starts it", 0.2)
    elif facts.main_line:
        yield Reason('if __name__ == "__main__"', 0.2, facts.main_line)
    elif top:
        yield Reason("does its work as soon as it is run", 0.2, top)
    parser = next((call.line for call in facts.calls if call.dotted.rpartition(".")[2] in _PARSERS), 0)
    if line := parser or _first_import(facts, _CLI):
        yield Reason(f"reads the command line: {facts.text_of(line)}", 0.1, line)


def _doubts(facts: ScriptFacts, path: str) -> Iterator[Reason]:
    if _is_test(PurePosixPath(path)):
        yield Reason("it is a test", -0.4)
    if line := _first_import(facts, _WEB):
        yield Reason("it is a web service", -0.35, line)


def _first_import(facts: ScriptFacts, packages: set[str]) -> int:
    """The first line on which one of these packages is imported; 0 where none is."""
    return min((line for module, line in facts.modules.items() if module.partition(".")[0] in packages), default=0)


def _is_test(path: PurePosixPath) -> bool:
    stem = path.stem.lower()
    return (
        stem.startswith("test_") or stem.endswith("_test") or stem == "conftest"
        or any(part.lower() in {"test", "tests", "testing", "unittests"} for part in path.parts[:-1])
    )  # fmt: skip
