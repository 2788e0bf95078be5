"""What the common trainings print, read as a person would read it; and nothing read where there is nothing."""

# ruff: noqa: E501 - what trainings print is wide
from __future__ import annotations

import itertools
import math
import threading
import time
import tracemalloc

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from guardianflow.adapters.wrap.metrics.lines import MetricLines
from guardianflow.adapters.wrap.metrics.measurement import Measurement
from guardianflow.core.metrics import legal_metric_name
from guardianflow.exceptions import InputError


def read(text: str | bytes, *patterns: str, automatic: bool = True) -> list[tuple[str, float, int | None]]:
    lines = MetricLines(patterns, automatic=automatic)
    data = text.encode() if isinstance(text, str) else text
    return [(found.name, found.value, found.step) for found in lines.feed(data) + lines.close()]


def curves(text: str, *patterns: str) -> dict[str, list[tuple[int | None, float]]]:
    found: dict[str, list[tuple[int | None, float]]] = {}
    for name, value, step in read(text, *patterns):
        found.setdefault(name, []).append((step, value))
    return found


# --- what trainings print ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("step 12: loss=0.345 acc=0.8", [("loss", 0.345, 12), ("acc", 0.8, 12)]),
        ("Epoch 3/10 - loss: 0.34 - val_acc: 0.81", [("loss", 0.34, 3), ("val_acc", 0.81, 3)]),
        ("Epoch [3/10] train loss: 1e-3, val loss = -2.5E+1", [("train loss", 0.001, 3), ("val loss", -25.0, 3)]),
        ("Epoch [3/10], Step [100/600], Loss: 0.4", [("Loss", 0.4, 1300)]),
        ("epoch=3 iter=12 loss: .5", [("loss", 0.5, 12)]),
        ("global_step: 40 | reward: 3", [("reward", 3.0, 40)]),
        ("Iteration 1, loss = 0.69", [("loss", 0.69, 1)]),
        ("Train Loss: 0.34, Test Loss: 0.4 | Acc: 99.5%", [("Train Loss", 0.34, None), ("Test Loss", 0.4, None), ("Acc", 99.5, None)]),
        ("train loss=0.3 val loss=0.4 lr=1e-05", [("train loss", 0.3, None), ("val loss", 0.4, None), ("lr", 1e-5, None)]),
        ("INFO:root:train loss: 0.3", [("train loss", 0.3, None)]),
        ("2024-01-01 12:00:00,123 - INFO - loss: 0.3", [("loss", 0.3, None)]),
        ("[12:00:01] INFO loss: 0.3", [("loss", 0.3, None)]),
        ("mAP50: 0.7 mAP50-95: 0.4 metrics/mAP50(B): 0.3", [("mAP50", 0.7, None), ("mAP50-95", 0.4, None), ("metrics/mAP50_B", 0.3, None)]),
        ("loss: tensor(0.3450, device='cuda:0', grad_fn=<NllLossBackward0>)", [("loss", 0.345, None)]),
        ("[12]\ttrain-rmse:0.34\ttest-rmse:0.4", [("train-rmse", 0.34, 12), ("test-rmse", 0.4, 12)]),
        ("[10]\tvalid_0's l2: 0.2", [("valid_0_s l2", 0.2, 10)]),
        ("Test set: Average loss: 0.0255, Accuracy: 9910/10000 (99%)", [("Average loss", 0.0255, None)]),
        ("[CV 1/5] END ....C=1, gamma=0.1;, score=0.912 total time=   0.0s", [("gamma", 0.1, None), ("score", 0.912, None)]),
        ("x: -inf y: Infinity", [("x", -math.inf, None), ("y", math.inf, None)]),
        ("\x1b[1mloss: \x1b[32m0.34\x1b[0m", [("loss", 0.34, None)]),
        ("we print loss and then loss:3", [("loss", 3.0, None)]),
    ],
)  # fmt: skip
def test_a_line_gives_its_figures_and_their_step(line, expected) -> None:
    assert read(line + "\n") == expected


@pytest.mark.parametrize(
    "line",
    [
        "12:34:56", "[12:00:01] started", "2024-01-01 12:00:00,123 - INFO - ready", "version: 1.2.3", "v1.2.3",
        "10.0.0.1:8080", "localhost:8080", "redis:6379", "cuda:0", "http://x.y/z?loss=3&acc=1.5", "http://h:80/a=3",
        '  File "x.py", line 3, in <module>', "/tmp/x.py:12: UserWarning: 3 are too many", "x.py:12: error", "INFO:root:12",
        "0x7f addr=0x7f3a", "size: 640x480", "imgsz=640", "samples: 1,234", "a=1,2", "ETA: 3s", "eta: 0:12:34",
        "ValueError: 3 is bad", "(fc1): Linear(in_features=784, out_features=10, bias=True)",
        "engine/trainer: agnostic_nms=False, amp=True, batch=16, lr0=0.01", "Namespace(batch_size=64, lr=0.01)",
        "python train.py --lr=0.1 --epochs=3", "weights/best.pt: 3", "./a/b=4", "C:\\x\\y=3", "epochs: 100",
        "we are now saying that the number is: 3", "45%|████▌     | 45/100 [00:12<00:15, 3.6it/s]",
        "Accuracy: 9910/10000", "x==3", "x!=3", "a<=3", "loss 0.34", "memory: 12GB", "batch: 5/10", "seed: 42",
        "val: Fast image access (ping: 0.0±0.0 ms, read: 1502.6±1441.3 MB/s, size: 20.9 KB)",
        "87 images, 0 backgrounds, 0 corrupt: 100% ━━━━━━━ 87/87 1.2Kit/s 0.1s", "Overriding model.yaml nc=80 with nc=3",
        "optimizer: 'optimizer=auto' found, ignoring 'lr0=0.01' and", "YOLO11n summary (fused): 100 layers, 2,582,737 parameters",
        "sha256=12ab", "date: 2024-01-01", "train:  45%|███  | 45/100 [00:12<00:15]", "",
    ],
)  # fmt: skip
def test_what_is_no_metric_is_left_alone(line) -> None:
    assert read(line + "\n") == []


def test_plain_loop_with_its_epoch_on_a_line_of_its_own() -> None:
    text = "Epoch 1\n-----\nloss: 0.5\nval_loss: 0.6\n\nEpoch 2\n-----\nloss: 0.4\nval_loss: 0.5\n"
    assert curves(text) == {"loss": [(1, 0.5), (2, 0.4)], "val_loss": [(1, 0.6), (2, 0.5)]}


def test_steps_that_begin_anew_with_each_epoch_are_carried_on() -> None:
    text = "".join(f"epoch {epoch} step {step} loss: 0.5\n" for epoch in (1, 2) for step in (10, 20, 30))
    assert [step for step, _ in curves(text)["loss"]] == [10, 20, 30, 40, 50, 60]


def test_keras_counts_batches_on_and_gives_validation_its_epoch() -> None:
    epoch = (
        "Epoch {0}/2\n 1/10 [=>......] - ETA: 3s - loss: 0.5 - accuracy: 0.5\b\b\b\r 2/10 [==>.....] - ETA: 3s - loss: 0.4 "
        "- accuracy: 0.6\r10/10 [========] - 1s 45ms/step - loss: 0.3 - accuracy: 0.7 - val_loss: 0.4\n"
    )
    found = curves(epoch.format(1) + epoch.format(2))
    assert [step for step, _ in found["loss"]] == [1, 2, 10, 11, 12, 20]
    assert found["val_loss"] == [(1, 0.4), (2, 0.4)]
    assert set(found) == {"loss", "accuracy", "val_loss"}


def test_keras_with_one_line_an_epoch_gives_epochs() -> None:
    text = "".join(f"Epoch {n}/2\n10/10 - 1s - 45ms/step - loss: 0.3 - val_loss: 0.4\n" for n in (1, 2))
    assert curves(text) == {"loss": [(1, 0.3), (2, 0.3)], "val_loss": [(1, 0.4), (2, 0.4)]}


def test_keras_3_in_colour() -> None:
    text = (
        "Epoch 1/2\n\x1b[1m 1/10\x1b[0m \x1b[32m━━\x1b[0m\x1b[37m━━━━━\x1b[0m \x1b[1m3s\x1b[0m 45ms/step - loss: 0.5\r"
        "\x1b[1m10/10\x1b[0m \x1b[32m━━━━━━━\x1b[0m \x1b[1m1s\x1b[0m 45ms/step - loss: 0.4 - val_loss: 0.7\n"
    )
    assert curves(text) == {"loss": [(1, 0.5), (10, 0.4)], "val_loss": [(1, 0.7)]}


def test_tqdm_gives_its_postfix_and_neither_rate_nor_percentage() -> None:
    bar = "Epoch {0}:  {1}%|████▌     | {1}/100 [00:12<00:15, 3.6it/s, loss=0.345, acc=0.8]\r"
    found = curves(bar.format(1, 45) + bar.format(1, 46) + bar.format(2, 1))
    assert found == {"loss": [(45, 0.345), (46, 0.345), (101, 0.345)], "acc": [(45, 0.8), (46, 0.8), (101, 0.8)]}


def test_tqdm_without_an_epoch_is_carried_on_when_the_bar_begins_anew() -> None:
    bar = " {0}%|██  | {0}/100 [00:12<00:15, 3.6it/s, loss=0.3]\r"
    assert [step for step, _ in curves("".join(bar.format(n) for n in (50, 100, 50, 100)))["loss"]] == [
        50,
        100,
        150,
        200,
    ]
    assert curves("7it [00:12, 3.6it/s, loss=0.3]\r") == {"loss": [(7, 0.3)]}


def test_lightning_bar() -> None:
    text = (
        "Epoch 0:  45%|████▌   | 45/100 [00:12<00:15,  3.60it/s, v_num=0, train_loss_step=0.345]\r"
        "Epoch 0: 100%|████████| 100/100 [00:20<00:00,  3.60it/s, v_num=0, train_loss_step=0.3, val_loss=0.5]\n"
    )
    assert curves(text) == {"train_loss_step": [(45, 0.345), (100, 0.3)], "val_loss": [(0, 0.5)]}


def test_hugging_face_dicts_count_fractions_of_epochs() -> None:
    text = (
        "{'loss': 0.34, 'grad_norm': 1.2, 'learning_rate': 5e-05, 'epoch': 0.5}\n"
        "{'loss': 0.3, 'grad_norm': 1.1, 'learning_rate': 4e-05, 'epoch': 1.0}\n"
        "{'eval_loss': 0.4, 'epoch': 1.0}\n"
    )
    found = curves(text)
    assert found["loss"] == [(None, 0.34), (None, 0.3)]
    assert found["learning_rate"] == [(None, 5e-05), (None, 4e-05)]
    assert found["eval_loss"] == [(1, 0.4)]
    assert "epoch" not in found


def test_json_lines_are_flattened_and_nothing_is_evaluated() -> None:
    text = '{"epoch": 1, "loss": 0.3, "val": {"acc": 0.5, "deep": {"x": NaN}}, "ok": true, "list": [1, 2]}\n'
    assert str(read(text)) == "[('loss', 0.3, 1), ('val.acc', 0.5, 1), ('val.deep.x', nan, 1)]"
    text = (
        "{'step': 2, 'loss': tensor(0.25, device='cuda:0'), 'val': {'acc': np.float64(0.6)}, 'a': (3, 4), 'b': True}\n"
    )
    assert read(text) == [("loss", 0.25, 2), ("val.acc", 0.6, 2)]
    assert read('{"loss": __import__("os").system("false")}\n') == []
    assert read("{" * 9_000 + "}\n") == []
    assert read('{"a":' * 1_000 + '{"loss": 1.5}' + "}" * 1_000 + "\n") == []
    assert read(f'{{"big": {"9" * 400}, "loss": 1.5}}\n')[-1] == ("loss", 1.5, None)


def test_mmdetection_counts_iterations_over_epochs() -> None:
    line = (
        "2024-01-01 12:00:01,123 - mmdet - INFO - Epoch [{}][50/7330]\tlr: 2.000e-03, eta: 1 day, 3:00:00, time: 0.5, "
        "data_time: 0.1, memory: 1234, loss: 1.23\n"
    )
    found = curves(line.format(1) + line.format(2))
    assert found["loss"] == [(50, 1.23), (7380, 1.23)]
    assert set(found) == {"lr", "time", "data_time", "memory", "loss"}


def test_detectron2() -> None:
    line = "[01/01 12:00:00 d2.utils.events]:  eta: 0:01:02  iter: 19  total_loss: 1.2  loss_cls: 0.3  lr: 1.6e-05  max_mem: 2213M\n"
    assert read(line) == [("total_loss", 1.2, 19), ("loss_cls", 0.3, 19), ("lr", 1.6e-05, 19)]


def test_torch_example_mnist() -> None:
    assert read("Train Epoch: 1 [640/60000 (1%)]\tLoss: 2.300039\n") == [("Loss", 2.300039, 640)]
    assert read("Train Epoch: 2 [640/60000 (1%)]\tLoss: 2.3\n") == [("Loss", 2.3, 60640)]


ULTRALYTICS = """
      Epoch    GPU_mem   box_loss   cls_loss   dfl_loss  Instances       Size
        {0}/3         0G      9.999      9.999      9.999         12        640:  50% ━━━━━━━━━━━━ 4/8 2.1it/s 3.8s\r\
        {0}/3         0G      2.345      3.456      1.567         12        640: 100% ━━━━━━━━━━━━ 8/8 2.1it/s 3.8s
                 Class     Images  Instances      Box(P          R      mAP50  mAP50-95): 100% ━━━━━━━━━━━━ 1/1 2.0it/s
                   all        128        929      0.675      0.512      0.601      0.402
"""


def test_ultralytics_tables_are_read_by_epoch() -> None:
    found = curves(ULTRALYTICS.format(1) + ULTRALYTICS.format(2) + "Results saved to runs/detect/train\n")
    assert found == {
        "box_loss": [(1, 2.345), (2, 2.345)], "cls_loss": [(1, 3.456), (2, 3.456)], "dfl_loss": [(1, 1.567), (2, 1.567)],
        "P": [(1, 0.675), (2, 0.675)], "R": [(1, 0.512), (2, 0.512)], "mAP50": [(1, 0.601), (2, 0.601)],
        "mAP50-95": [(1, 0.402), (2, 0.402)],
    }  # fmt: skip


def test_yolov5_tables() -> None:
    text = (
        "     Epoch   gpu_mem       box       obj       cls    labels  img_size\n"
        "       0/2     3.58G    0.0449    0.0389    0.0179       189       640: 100%|██████████| 8/8 [00:04<00:00,  1.7it/s]\n"
        "               Class     Images     Labels          P          R     mAP@.5 mAP@.5:.95: 100%|███| 4/4 [00:02<00:00]\n"
        "                 all        128        929      0.566      0.54       0.55      0.35\n"
    )
    found = curves(text)
    assert found["box"] == [(0, 0.0449)]
    assert found["mAP_.5_.95"] == [(0, 0.35)]
    assert set(found) == {"box", "obj", "cls", "P", "R", "mAP_.5", "mAP_.5_.95"}


def test_scikit_learn_and_fastai_tables_and_verbose_lines() -> None:
    text = "      Iter       Train Loss   Remaining Time \n         1           1.2345            0.05s\n         2           1.1            0.04s\n"
    assert curves(text) == {"Train Loss": [(1, 1.2345), (2, 1.1)]}
    text = (
        "epoch     train_loss  valid_loss  accuracy  time    \n0         0.69        0.5         0.8       00:12     \n"
    )
    assert curves(text) == {"train_loss": [(0, 0.69)], "valid_loss": [(0, 0.5)], "accuracy": [(0, 0.8)]}
    assert curves("-- Epoch 2\nNorm: 1.02, Bias: 0.1, Avg. loss: 0.3\n")["Avg. loss"] == [(2, 0.3)]


def test_a_table_ends_and_lines_after_it_are_read_again() -> None:
    text = "epoch  train_loss  valid_loss\n0  0.69  0.5\n" + "some words\n" * 30 + "1  0.5  0.4\nloss: 0.1\n"
    assert curves(text) == {"train_loss": [(0, 0.69)], "valid_loss": [(0, 0.5)], "loss": [(0, 0.1)]}


# --- names ------------------------------------------------------------------------------------------------------


def test_korean_names_stay_apart_and_the_same() -> None:
    found = MetricLines().feed("손실: 0.3, 정확도=0.8 val_손실: 3\n손실: 0.2\n".encode())
    names = [measurement.name for measurement in found]
    assert len(set(names)) == 3
    assert names[0] == names[3]
    assert all(name == legal_metric_name(name) for name in names)
    assert names[2].startswith("val")


# --- the user's patterns ----------------------------------------------------------------------------------------


def test_a_pattern_gives_its_groups_and_replaces_what_is_recognised() -> None:
    found = MetricLines([r"loss (?P<loss>[\d.]+)", r"acc=(?P<acc>\d)"]).feed(b"Epoch 3 loss 0.34 acc=0.8 f1: 0.5\n")
    assert [(m.name, m.value, m.step, m.asked) for m in found] == [
        ("loss", 0.34, 3, True),
        ("acc", 0.0, 3, True),
        ("f1", 0.5, 3, False),
    ]


def test_a_pattern_can_name_step_and_name() -> None:
    assert read("at 7 we have 0.5\n", r"at (?P<step>\d+) we have (?P<loss>[\d.]+)") == [("loss", 0.5, 7)]
    assert read("E4 0.5\nloss 0.4\n", r"E(?P<epoch>\d+) (?P<x>[\d.]+)", r"loss (?P<loss>[\d.]+)") == [
        ("x", 0.5, 4),
        ("loss", 0.4, 4),
    ]
    pattern = r"<(?P<name>\w+)> (?P<value>[\d.]+%?)"
    assert read("step 2 <a> 0.5 <b> 45%\n", pattern) == [("a", 0.5, 2), ("b", 45.0, 2)]
    assert read("loss: x, acc: 0.5\n", r"loss: (?P<loss>\w+)") == [("acc", 0.5, None)]


def test_without_recognition_only_patterns_count_but_steps_are_still_seen() -> None:
    assert read("Epoch 3\nloss 0.5 acc: 0.4\n", r"loss (?P<loss>[\d.]+)", automatic=False) == [("loss", 0.5, 3)]
    assert read("Epoch 3 acc: 0.4\n", automatic=False) == []


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("loss: (", "no regular expression"),
        ("loss: ([0-9]+)", "needs a named group"),
        (r"(?P<step>\d+)", "only step"),
        (r"(?P<x>(a+)+)b", "too slow"),
        (r"loss: (?P<x>(\d+)+)$", "too slow"),
        (r"(?P<x>(\w+\s?)*)=", "too slow"),
    ],
)
def test_a_pattern_that_cannot_be_used_is_named(pattern, words) -> None:
    begin = time.monotonic()
    with pytest.raises(InputError, match=words) as caught:
        MetricLines([pattern])
    assert pattern[:40] in str(caught.value).replace("\\\\", "\\")
    assert time.monotonic() - begin < 10


@pytest.mark.parametrize("threaded", [False, True])
def test_a_pattern_that_is_slow_on_long_lines_does_not_hold_up_a_training(threaded) -> None:
    pattern = r"(?P<x>\d+).*a.*b.*c.*d$"
    seen: list[object] = []

    def wrapped() -> None:
        lines = MetricLines([pattern])
        for _ in range(30):
            seen.extend(lines.feed(("1" + "abcd" * 2_400 + "\n" + "loss: 0.5\n").encode()))
        seen.extend(lines.remarks)

    begin = time.monotonic()
    if threaded:
        thread = threading.Thread(target=wrapped)
        thread.start()
        thread.join()
    else:
        wrapped()
    assert time.monotonic() - begin < 30
    assert seen.count(Measurement("loss", 0.5)) == 30
    assert pattern in str(seen[-1]).replace("\\\\", "\\")


def test_a_single_search_without_end_is_broken_off() -> None:
    pattern = r"(?P<x>zz(?:y|yy)+)x"  # slow behind "zz" only, which the trial can't guess
    lines = MetricLines([pattern])
    begin = time.monotonic()
    found = lines.feed(b"zz" + b"y" * 90 + b"\nloss: 0.5\n")
    assert time.monotonic() - begin < 30
    assert found == [Measurement("loss", 0.5)]
    assert "given up" in lines.remarks[0]


# --- bytes ------------------------------------------------------------------------------------------------------


def test_broken_bytes_and_endless_lines_are_bounded() -> None:
    assert read(b"\xff\xfe loss: 0.5 \x80\n") == [("loss", 0.5, None)]
    assert read(b"loss: 0.5, " + b"x" * 20_000 + b" acc: 0.4\nacc: 0.3") == [("loss", 0.5, None), ("acc", 0.3, None)]
    assert read(b"loss: 0.5" + b" x" * 2_000 + b"\nwords, no" + b" x" * 2_000) == [("loss", 0.5, None)]
    lines = MetricLines()
    chunk = b"loss: 0.5 and so on, " * 3_200
    tracemalloc.start()
    for _ in range(3_000):  # 200 MB
        lines.feed(chunk)
    found = lines.close()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 0 < len(found) < 1_000
    assert peak < 4_000_000


def test_lines_that_never_repeat_do_not_fill_the_memory() -> None:
    lines = MetricLines()
    tracemalloc.start()
    for number in range(1_200):
        word = "".join(chr(97 + number // 26**place % 26) for place in range(4))
        lines.feed(f"{word} Epoch {number}/9 {word}_loss: 0.5 {word * 50} {number}/100 [00:01<00:02, x=1]\n".encode())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8_000_000


PIECES = st.sampled_from(
    [
        b"\n", b"\r", b"\r\n", b"loss: 0.5", b"acc=0.8", b" ", b", ", b"Epoch 3/10", b"step 12", b"iter: 4 ", b"nan", b"inf", b": ",
        b"=", b"1.2.3", b"12:34:56", b"T12:5", b"\xff", b"\xed\x95", "손실".encode(), b"\x1b[32m", b"\x1b", b"\0", b"\b", b"{", b"}",
        b'{"epoch": 2, "loss": 1}', b"{'loss': 0.3, 'epoch': 0.5}", b"45%|##   | 45/100 [00:12<00:15, 3.6it/s, loss=0.345]",
        b"[12]\t", b"epoch  train_loss  valid_loss", b"0  0.5  0.6", b"1/3 0G 2.3 3.4", b"ms/step", b"tensor(", b"x" * 10_001, b"poster 3 ",
        b" 1/10 [==] - loss: 0.3", ULTRALYTICS.encode(), b"Inf", b"naN: nAn", b"-.5e3", b"(", b"'", b'"', b"Linear(a=3",
    ]
)  # fmt: skip
TEXTS = st.one_of(
    st.binary(max_size=300), st.lists(st.one_of(PIECES, st.binary(max_size=4)), max_size=40).map(b"".join)
)


@settings(max_examples=250, deadline=None)
@given(TEXTS, st.lists(st.integers(0, 2_000), max_size=8), st.booleans())
@example(b"T12:0.5 poster 3\nstep 2\n", [17], False)
@example(b"x: nAn y: 1\nnan\n", [12], False)
def test_the_same_bytes_give_the_same_measurements_however_they_are_cut(data, cuts, asked) -> None:
    patterns = [r"(?P<name>\w+)-(?P<value>\S+)"] if asked else []
    whole, cut = MetricLines(patterns), MetricLines(patterns)
    expected = whole.feed(data) + whole.close()
    places = sorted({0, len(data), *(place for place in cuts if place < len(data))})
    found = [m for start, end in itertools.pairwise(places) for m in cut.feed(data[start:end])] + cut.close()
    assert repr(found) == repr(expected)
    assert all(m.name == legal_metric_name(m.name) and isinstance(m.value, float) for m in found)
    assert all(m.step is None or (isinstance(m.step, int) and abs(m.step) < 2**62) for m in found)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 99), st.floats(-1e9, 1e9)), min_size=1, max_size=30))
def test_every_figure_of_a_plain_loop_is_found(rows) -> None:
    text = "".join(f"step {step}: loss={value!r} acc: {value:.4f}\n" for step, value in rows)
    expected = [
        (name, number, step)
        for step, value in rows
        for name, number in (("loss", value), ("acc", float(f"{value:.4f}")))
    ]
    assert read(text) == expected


def test_a_million_lines_are_read_in_seconds() -> None:
    chunk = b"".join(b"step %d: loss=0.345 acc=0.8\n" % step for step in range(20_000))
    lines = MetricLines()
    begin = time.process_time()
    assert sum(len(lines.feed(chunk)) for _ in range(5)) == 200_000
    assert time.process_time() - begin < 5  # a tenth of a million needs 0.3 s
