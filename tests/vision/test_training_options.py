"""What people type for training options, and which of them change nothing."""

from __future__ import annotations

import inspect
import subprocess
import sys
from typing import Any

import pytest
from ultralytics import cfg as ultralytics_cfg
from ultralytics.engine.trainer import BaseTrainer

from guardianflow.exceptions import InputError
from guardianflow.text.option_values import key_values
from guardianflow.vision._ultralytics import default_options
from guardianflow.vision.model_files import ModelSource
from guardianflow.vision.training.option_effects import AskedTraining, check_freeze, effect_remarks, without_effect
from guardianflow.vision.training.options import TRAINING_OPTIONS, read_options


def read(*pairs: str) -> dict[str, Any]:
    return read_options(key_values(list(pairs)))


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ("lr0=.01", 0.01),
        ("lr0=1e-3", 0.001),
        ("lr0=1E-3", 0.001),
        ("lr0=+0.5", 0.5),
        ("lr0='0.5'", 0.5),
        ("box=5.", 5.0),
        ("box=7", 7),
        ("close_mosaic=5.0", 5),
        ("close_mosaic= 05", 5),
        ("freeze=10", 10),
        ("freeze=0,1,2", [0, 1, 2]),
        ("freeze=0, 1, 2", [0, 1, 2]),
        ("freeze=[0,1,2]", [0, 1, 2]),
        ("freeze=(0,1,2)", [0, 1, 2]),
        ("freeze=3,", [3]),
        ('freeze="0,1,2"', [0, 1, 2]),
        ("freeze=23.cv2", ["23.cv2"]),
        ("freeze=0,23.cv2", [0, "23.cv2"]),
        ("freeze=none", None),
        ("cos_lr=True", True),
        ("cos_lr=yes", True),
        ("cos_lr=on", True),
        ("cos_lr=1", True),
        ("cos_lr=off", False),
        ("cos_lr='no'", False),
        ("amp=FP32", "fp32"),
        ("amp=false", False),
        ("cache=RAM", "ram"),
        ("scale=0.5,1.5", [0.5, 1.5]),
        ("optimizer=sgd", "SGD"),
        ("optimizer='AdamW'", "AdamW"),
        ("time=none", None),
    ],
)  # fmt: skip
def test_what_people_type_is_read_by_the_type_of_the_option(typed: str, value: object) -> None:
    (found,) = read(typed).values()
    assert (found, type(found)) == (value, type(value))


def asked(*pairs: str, **changes: Any) -> AskedTraining:
    values: dict[str, Any] = {"epochs": 100, "batch": 16, "images": 200, "on_cpu": True, **changes}
    return AskedTraining(read(*pairs), **values)


@pytest.mark.parametrize(
    ("pairs", "changes", "void"),
    [
        (["lr0=0.5", "momentum=0.5", "warmup_bias_lr=0.05"], {}, {"lr0", "momentum", "warmup_bias_lr"}),
        (["lr0=0.5", "optimizer=auto"], {}, {"lr0"}),
        (["lr0=0.5", "momentum=0.5", "warmup_bias_lr=0.05", "optimizer=SGD"], {}, set()),
        (["momentum=0.5", "lr0=0.5"], {"images": 100_000}, {"lr0"}),  # MuSGD, whose warm-up ends at this momentum
        (["momentum=0.5", "fraction=0.01"], {"images": 100_000}, {"momentum"}),
        (["warmup_momentum=0.5"], {}, {"warmup_momentum"}),
        (["warmup_momentum=0.5", "optimizer=Adam"], {}, {"warmup_momentum"}),
        (["warmup_momentum=0.5", "optimizer=SGD"], {}, set()),
        (["warmup_momentum=0.5", "optimizer=SGD", "warmup_epochs=0"], {}, {"warmup_momentum"}),
        (["warmup_epochs=3", "lrf=0.1", "cos_lr=true"], {"epochs": 1}, {"warmup_epochs", "lrf", "cos_lr"}),
        (["warmup_epochs=3", "lrf=0.1", "cos_lr=true"], {"epochs": 2}, set()),
        (["mosaic=0.5", "mixup=0.5"], {"epochs": 10}, {"mosaic", "mixup"}),
        (["mosaic=0.5", "mixup=0.5"], {"epochs": 11}, set()),
        (["mosaic=0.5", "close_mosaic=0"], {"epochs": 10}, set()),
        (["mosaic=0.5", "rect=true"], {}, {"mosaic"}),
        (["close_mosaic=5", "mosaic=0"], {}, {"close_mosaic"}),
        (["close_mosaic=5", "mosaic=0", "mixup=0.5"], {}, set()),
        (["erasing=0.5"], {}, {"erasing"}),
        (["copy_paste=0.5"], {}, {"copy_paste"}),
        (["copy_paste=0.5"], {"polygons": True}, set()),
        (["amp=true"], {}, {"amp"}),
        (["amp=true"], {"on_cpu": False}, set()),
        (["amp=false"], {}, set()),
        (["amp=bf16"], {}, set()),
        (["freeze=0"], {}, {"freeze"}),
    ],
)
def test_options_that_change_nothing_are_known(pairs: list[str], changes: dict[str, Any], void: set[str]) -> None:
    training = asked(*pairs, **changes)
    assert set(without_effect(training)) == void
    assert len(effect_remarks(training)) >= len(void)


def test_a_remark_says_why_and_what_to_do() -> None:
    assert effect_remarks(asked("lr0=0.5")) == (
        "option lr0=0.5 has no effect: optimizer=auto chooses the learning rate itself; add optimizer=SGD or another",
    )
    assert effect_remarks(asked("warmup_epochs=5", epochs=3)) == (
        "option warmup_epochs=5 is cut to 2: the last epoch has none",
    )
    assert effect_remarks(asked("time=0.5")) == (
        "option time=0.5 says when it ends, in hours: epochs=100 doesn't count",
    )


def test_ultralytics_still_chooses_the_optimizer_as_we_say() -> None:
    assert '("MuSGD", 0.01, 0.9) if iterations > 10000 else ("AdamW", lr_fit, 0.9)' in inspect.getsource(
        BaseTrainer.build_optimizer
    )


def test_a_layer_without_weights_is_told() -> None:
    model = ModelSource("yolo11n.yaml", "architecture")
    assert check_freeze([0, 11], model, 2) == ("freeze: layer 11 of the model has no weights that could be frozen",)
    assert check_freeze(12, model, 2) == ()
    assert check_freeze(["23.cv2"], model, 2) == ()


def test_the_file_of_defaults_says_what_ultralytics_says_of_each_option() -> None:
    defaults = default_options()
    assert defaults == ultralytics_cfg.DEFAULT_CFG_DICT
    numbers = {
        float: ultralytics_cfg.CFG_FLOAT_KEYS | ultralytics_cfg.CFG_FRACTION_KEYS | {"scale"},
        int: ultralytics_cfg.CFG_INT_KEYS,
        bool: ultralytics_cfg.CFG_BOOL_KEYS | {"amp", "cache", "compile"},
    }
    for kind, names in numbers.items():
        found = {name for name in TRAINING_OPTIONS if type(defaults[name]) is kind}
        assert found == (names & TRAINING_OPTIONS) - {"time"}, kind


def test_what_is_plain_ultralytics_takes_too() -> None:
    for name in sorted(TRAINING_OPTIONS):
        for value in (0, 1, 7, 10_000, 0.5, 0.0, 1.0, True, False):
            try:
                taken = read_options({name: value})
            except InputError:
                continue
            ultralytics_cfg.get_cfg(overrides=taken)


def test_a_training_is_checked_without_the_seconds_that_torch_takes_to_import() -> None:
    code = (
        "import sys; from guardianflow.vision.training.options import read_options; "
        "read_options({'plots': False, 'mosaic': 0.0, 'optimizer': 'adamw', 'lr0': 0.003, 'nbs': 1}); "
        "from guardianflow.vision.devices import best_device; best_device(); print('ultralytics' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "False"
