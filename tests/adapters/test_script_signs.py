"""What a script is taken for, on a tree of files as teams write them."""

from __future__ import annotations

import json

import pytest

from guardianflow.adapters.scan.scan import scan_folder

TORCH_LOOP = """
import argparse
import torch
from torch import nn

def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--data", default=ROOT / "data/parts.yaml")
    args = parser.parse_args()
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for epoch in range(args.epochs):
        model.train()
        loss = model(torch.rand(4, 2)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        torch.save(model.state_dict(), f"checkpoints/epoch_{epoch}.pt")

if __name__ == "__main__":
    main()
"""
LIGHTNING = """
import lightning as L
from mymodels import LitNet, DataModule

def run():
    trainer = L.Trainer(max_epochs=5, default_root_dir="logs")
    trainer.fit(LitNet(), DataModule())
    trainer.test(LitNet())

if __name__ == "__main__":
    run()
"""
KERAS = """
from tensorflow import keras
model = keras.Sequential([keras.layers.Dense(1)])
model.compile("adam", "mse")
model.fit([[1.0]], [[2.0]], epochs=3)
model.save("out/model.keras")
"""
HF = """
from dataclasses import dataclass
from transformers import AutoModelForSequenceClassification, HfArgumentParser, Trainer, TrainingArguments

def main():
    parser = HfArgumentParser((TrainingArguments,))
    (args,) = parser.parse_args_into_dataclasses()
    model = AutoModelForSequenceClassification.from_pretrained("bert-base-uncased")
    trainer = Trainer(model=model, args=args, train_dataset=None)
    result = trainer.train(resume_from_checkpoint=None)
    trainer.save_model()
    trainer.evaluate()

if __name__ == "__main__":
    main()
"""
MMDET_TRAIN = """
import argparse
from mmengine.config import Config
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

def parse_args():
    parser = argparse.ArgumentParser(description="Train a detector")
    parser.add_argument("config")
    return parser.parse_args()

def main():
    args = parse_args()
    cfg = Config.fromfile(args.config)
    if "runner_type" not in cfg:
        runner = Runner.from_cfg(cfg)
    else:
        runner = RUNNERS.build(cfg)
    runner.train()

if __name__ == "__main__":
    main()
"""
DETECTRON = """
from detectron2.config import get_cfg
from detectron2.engine import DefaultTrainer, default_argument_parser, launch

class Trainer(DefaultTrainer):
    pass

def main(args):
    cfg = get_cfg()
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    return trainer.train()

if __name__ == "__main__":
    args = default_argument_parser().parse_args()
    launch(main, args.num_gpus, args=(args,))
"""
SKLEARN = """
import joblib
import pandas as pd
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

frame = pd.read_csv("parts.csv")
X_train, X_test, y_train, y_test = train_test_split(frame.drop(columns="y"), frame.y)
scaler = StandardScaler()
X_train = scaler.fit_transform(X_train)
clf = RandomForestClassifier()
clf.fit(X_train, y_train)
print(clf.score(scaler.transform(X_test), y_test))
joblib.dump(clf, "models/forest.joblib")
"""
XGB = """
import xgboost as xgb
import click

@click.command()
@click.option("--rounds", default=10)
def main(rounds):
    booster = xgb.train({"max_depth": 3}, xgb.DMatrix("train.buffer"), num_boost_round=rounds)
    booster.save_model("booster.json")

if __name__ == "__main__":
    main()
"""
LGBM = "import lightgbm as lgb\nmodel = lgb.LGBMClassifier()\nmodel.fit(X, y)\n"
YOLO = """\
from ultralytics import YOLO
model = YOLO("yolo11n.pt")
model.train(data="coco8.yaml", epochs=3, project="out")
"""
YOLO_PREDICT = """\
from ultralytics import YOLO

model = YOLO("best.pt")
for result in model("street.jpg", conf=0.4):
    print(result.boxes)
"""
YOLO_EXPORT = """\
from ultralytics import YOLO

if __name__ == "__main__":
    YOLO("best.pt").export(format="onnx")
"""
YOLO_VAL = """\
import argparse
from ultralytics import YOLO

if __name__ == "__main__":
    argparse.ArgumentParser()
    YOLO("b.pt").val(data="coco8.yaml")
"""
ORT = """
import argparse
import numpy as np
import onnxruntime as ort

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    session = ort.InferenceSession("model.onnx")
    print(session.run(None, {"images": np.zeros((1, 3, 640, 640), "float32")}))
"""
OPENVINO = """
import openvino as ov

core = ov.Core()
compiled = core.compile_model("model.xml", "CPU")
print(compiled([0])[0])
"""
TORCH_EVAL = """
import torch
from mymodels import Net, loader

def evaluate(model):
    with torch.no_grad():
        return sum(model(x).argmax() == y for x, y in loader())

if __name__ == "__main__":
    model = Net()
    model.load_state_dict(torch.load("w.pt"))
    model.eval()
    print(evaluate(model))
"""
PREPARATION = """
import argparse
from pathlib import Path
import torch
from sklearn.preprocessing import LabelEncoder
from sklearn.model_selection import train_test_split

def main():
    argparse.ArgumentParser().parse_args()
    encoder = LabelEncoder()
    encoder.fit(["a", "b"])
    torch.save(torch.zeros(1), "train.pt")

if __name__ == "__main__":
    main()
"""
LIBRARY = '''
import torch

class Engine:
    """Trains: call ``Engine().run()``."""

    def run(self, model, loader, optimizer):
        for epoch in range(3):
            for batch in loader:
                model(batch).backward()
                optimizer.step()
'''
TESTS = """
from ultralytics import YOLO

def test_training(tmp_path):
    YOLO("yolo11n.yaml").train(data="coco8.yaml", epochs=1)

if __name__ == "__main__":
    test_training(None)
"""
FLASK = """
from flask import Flask, request
from ultralytics import YOLO

app = Flask(__name__)
model = YOLO("best.pt")

@app.post("/predict")
def predict():
    return model.predict(request.data)[0].tojson()

if __name__ == "__main__":
    app.run()
"""
PLOTTING = """\
import torch
import matplotlib.pyplot as plt

if __name__ == "__main__":
    plt.plot(torch.load("history.pt"))
    plt.show()
"""
GRADIENT_TAPE = """
import tensorflow as tf

def step(model, x, y, optimizer):
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean((model(x) - y) ** 2)
    optimizer.apply_gradients(zip(tape.gradient(loss, model.trainable_variables), model.trainable_variables))

if __name__ == "__main__":
    for epoch in range(3):
        step(None, None, None, None)
"""
ONNX_EXPORT = """\
import torch
from net import Net

if __name__ == "__main__":
    torch.onnx.export(Net(), torch.zeros(1, 3, 64, 64), "net.onnx")
"""
OWN_TRAINER = """
import argparse
import torch
from mylib.engine import Engine

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, default=0.1)
    args = parser.parse_args()
    torch.manual_seed(0)
    Engine(args).launch()
    Engine(args).fit(args)
"""


MAGICS = "%pip install ultralytics\nif 1:\n    !ls\nfiles = !ls\nfiles?\n"


def notebook(*cells: str) -> str:
    return json.dumps({
        "cells": [{"cell_type": "code", "source": cell.splitlines(keepends=True), "outputs": []} for cell in cells],
        "metadata": {"language_info": {"name": "python"}}, "nbformat": 4, "nbformat_minor": 5,
    })  # fmt: skip


# File → its text, the role and the framework that a person would say; empty roles are no scripts of ours.
TREE: dict[str, tuple[str, str, str]] = {
    "torch_loop/train.py": (TORCH_LOOP, "training", "torch"),
    "torch_loop/main.py": (TORCH_LOOP, "training", "torch"),
    "lit/run.py": (LIGHTNING, "training", "lightning"),
    "keras/mnist.py": (KERAS, "training", "keras"),
    "keras/tape.py": (GRADIENT_TAPE, "training", "tensorflow"),
    "hf/run_glue.py": (HF, "training", "transformers"),
    "mmdet/tools/train.py": (MMDET_TRAIN, "training", "mmdetection"),
    "mmdet/tools/test.py": (MMDET_TRAIN.replace("runner.train()", "runner.test()"), "evaluation", "mmdetection"),
    "d2/train_net.py": (DETECTRON, "training", "detectron2"),
    "tabular/forest.py": (SKLEARN, "training", "sklearn"),
    "tabular/boost.py": (XGB, "training", "xgboost"),
    "tabular/light.py": (LGBM, "training", "lightgbm"),
    "yolo/start.py": (YOLO, "training", "ultralytics"),
    "yolo/look.py": (YOLO_PREDICT, "inference", "ultralytics"),
    "yolo/export.py": (YOLO_EXPORT, "export", "ultralytics"),
    "yolo/check.py": (YOLO_VAL, "evaluation", "ultralytics"),
    "yolo/train.ipynb": (notebook(MAGICS, YOLO), "training", "ultralytics"),
    "yolo/shell.ipynb": (notebook("!yolo detect train data=bccd.yaml epochs=3\n"), "training", "ultralytics"),
    "yolo/show.ipynb": (notebook("from ultralytics import YOLO\n", "YOLO('b.pt')('x')"), "inference", "ultralytics"),
    "deploy/infer.py": (ORT, "inference", "onnxruntime"),
    "deploy/openvino_demo.py": (OPENVINO, "inference", "openvino"),
    "deploy/to_onnx.py": (ONNX_EXPORT, "export", "torch"),
    "eval.py": (TORCH_EVAL, "evaluation", "torch"),
    "own/train.py": (OWN_TRAINER, "training", "torch"),
    "prepare_train_data.py": (PREPARATION, "", ""),
    "mylib/engine.py": (LIBRARY, "", ""),
    "tests/test_training.py": (TESTS, "", ""),
    "server/app.py": (FLASK, "", ""),
    "plot_history.py": (PLOTTING, "", ""),
    "mylib/__init__.py": ("", "", ""),
    "setup.py": ("from setuptools import setup\nsetup(name='mylib')\n", "", ""),
}  # fmt: skip


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    root = tmp_path_factory.mktemp("team")
    for name, (text, _, _) in TREE.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    report = scan_folder(root)
    assert not report.skipped_counts
    return {script.path.as_posix(): script for script in report.scripts}


@pytest.mark.parametrize("name", TREE)
def test_a_file_is_taken_for_what_a_person_would_take_it_for(found, name):
    _, role, framework = TREE[name]
    script = found.get(name)
    assert (script.role if script else "") == role
    assert (script.framework if script else "") == framework


def test_every_score_is_the_sum_of_its_reasons_cut_to_one(found):
    for script in found.values():
        total = sum(reason.weight for reason in script.reasons)
        assert script.score == pytest.approx(min(1.0, max(0.0, total)), abs=0.006)
        assert all(reason.text for reason in script.reasons)


def test_a_reason_quotes_the_line_that_it_names(found):
    reason = found["yolo/start.py"].reasons[0]
    assert str(reason) == 'line 3: model.train(data="coco8.yaml", epochs=3, project="out")'
    loop = next(reason for reason in found["torch_loop/train.py"].reasons if "backward" in reason.text)
    assert TORCH_LOOP.splitlines()[loop.line - 1].strip() == "for epoch in range(args.epochs):"


def test_a_notebook_is_read_without_its_magics(found):
    script = found["yolo/train.ipynb"]
    assert script.is_notebook
    assert script.data == ("coco8.yaml",)
    shell = found["yolo/shell.ipynb"]
    assert shell.data == ("bccd.yaml",)
    assert str(shell.reasons[0]) == "line 1: !yolo detect train data=bccd.yaml epochs=3"


def test_the_data_that_a_script_names_is_listed(found):
    assert found["torch_loop/train.py"].data == ("data/parts.yaml",)
    assert found["yolo/check.py"].data == ("coco8.yaml",)


@pytest.mark.parametrize(
    "text",
    [
        "import torch\n" + "-" * 100_000 + "1",
        "import torch\nx = " + "(" * 5_000 + ")" * 5_000,
        "import torch\nx = " + "+".join(["1"] * 20_000),
        "import torch\nx = a" + ".b" * 20_000 + ".backward()",
        "import torch\nx = a" + "()" * 3_000,
        "import torch\n" + "\n".join(" " * depth + "if x:" for depth in range(200)) + "\n" + " " * 200 + "y",
        "import torch\x00\nmodel.fit()",
        "import torch\n\udc80 model.fit()",
        "class",
        "",
    ],
    ids=["minuses", "brackets", "sum", "attributes", "calls", "ifs", "null", "surrogate", "broken", "empty"],
)
def test_no_text_is_too_strange_to_be_passed_over(tmp_path, text):
    (tmp_path / "strange.py").write_text(f"# __main__\n{text}", "utf-8", "surrogatepass")
    (tmp_path / "train.py").write_text(TORCH_LOOP)
    report = scan_folder(tmp_path)
    assert [script.path.name for script in report.scripts] == ["train.py"]
    assert "reading it failed" not in report.skipped_sentence()


@pytest.mark.parametrize(
    "text",
    [
        "# torch is not used here\nmodel.fit(x)",
        "import torch\n",
        "import torchlight\nmodel.fit(x)",
        'import torch\nprint "training"\nmodel.fit(x)',
    ],
    ids=["comment", "no work", "another package", "Python 2"],
)
def test_what_is_no_script_of_a_framework_is_not_found(tmp_path, text):
    (tmp_path / "train.py").write_text(text)
    report = scan_folder(tmp_path, min_score=0.0)
    assert not report.scripts
    assert set(report.skipped_counts) <= {"script that can't be read as Python 3"}


def test_a_script_of_a_package_with_relative_imports_is_named_as_a_module(tmp_path):
    package = tmp_path / "pkg" / "tools"
    package.mkdir(parents=True)
    for folder in (package, package.parent):
        (folder / "__init__.py").touch()
    (package / "train.py").write_text("from . import nothing\n" + TORCH_LOOP)
    (package / "plain.py").write_text(TORCH_LOOP)
    (package / "__main__.py").write_text("from .train import main\n" + TORCH_LOOP)
    names = {script.path.name: script.module_of for script in scan_folder(tmp_path).scripts}
    assert names == {"train.py": "pkg.tools.train", "plain.py": "", "__main__.py": "pkg.tools"}


def test_a_module_that_a_console_script_starts_has_a_way_in(tmp_path):
    (tmp_path / "pyproject.toml").write_text('[project.scripts]\nfit-parts = "parts.cli:run"\n')
    (tmp_path / "src" / "parts").mkdir(parents=True)
    (tmp_path / "src" / "parts" / "cli.py").write_text("import torch\n\n" + LIBRARY)
    (script,) = scan_folder(tmp_path).scripts
    assert any("`fit-parts` starts it" in reason.text for reason in script.reasons)


@pytest.mark.parametrize("encoding", ["cp949", "euc-kr", "utf-16", "latin-1"])
def test_scripts_in_old_encodings_are_read(tmp_path, encoding):
    note = "# Prüfung\n" if encoding == "latin-1" else "# 학습\n"
    (tmp_path / "train.py").write_bytes(f"# -*- coding: {encoding} -*-\n{note}{TORCH_LOOP}".encode(encoding))
    found = scan_folder(tmp_path).scripts
    # UTF-16 is no encoding that Python runs.
    assert [script.role for script in found] == ([] if encoding == "utf-16" else ["training"])
