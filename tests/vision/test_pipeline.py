"""From images to detections: order, defects in the middle, early ends, and what is told of the time."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from guardianflow.exceptions import InputError, ParameterError
from guardianflow.vision._ultralytics import import_ultralytics
from guardianflow.vision.backends._base import Backend, BackendOptions
from guardianflow.vision.backends.catalog import open_backend
from guardianflow.vision.pipeline.pipeline import ImageDetections, Pipeline, PipelineConfig
from tests.vision.backends.small_models import model_file, weights
from tests.vision.painted import SIDE, AsyncPaintedBackend, PaintedBackend, painted

SHADES = [10, 200, 30, 250, 50, 60, 170, 80, 90, 100, 110]
KINDS: dict[str, Callable[[], PaintedBackend]] = {
    "sync": PaintedBackend,
    "async": AsyncPaintedBackend,
    "async-4": lambda: AsyncPaintedBackend(seconds=0.002, requests=4),
}


def pipeline(backend: Backend, **changes: Any) -> Pipeline:
    return Pipeline(backend, PipelineConfig(imgsz=SIDE, **changes))


def shades_of(results: list[ImageDetections]) -> list[int | None]:
    return [None if found.error else round(float(found.scores[0]) * 255) for found in results]


def readers_alive() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("read-ahead")]


@pytest.fixture(autouse=True)
def no_reader_is_left() -> Iterator[None]:
    yield
    assert readers_alive() == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("batch", "read_ahead", "readers"), [(1, 0, 1), (4, 0, 1), (1, 2, 1), (4, 2, 1), (1, 3, 3), (3, 1, 2), (16, 2, 2)]
)
def test_results_come_in_order_whatever_is_done_at_once(kind: str, batch: int, read_ahead: int, readers: int) -> None:
    backend = KINDS[kind]()
    with backend:
        run = pipeline(backend, batch=batch, read_ahead=read_ahead, readers=readers)
        for _ in range(2):  # the second one in used buffers
            results = list(run.detect(painted(shade) for shade in SHADES))
            assert shades_of(results) == SHADES
            assert [found.index for found in results] == list(range(len(SHADES)))
            assert [int(found.labels[0]) for found in results] == [shade % 3 for shade in SHADES]
            assert all((found.width, found.height, found.source) == (64, 48, None) for found in results)
    sizes = [min(batch, len(SHADES) - place) for place in range(0, len(SHADES), batch)]
    assert sorted(backend.batches) == sorted(sizes * 2)
    assert not getattr(backend, "input_changed", False)


def test_boxes_are_in_pixels_of_the_original_image() -> None:
    (found,) = pipeline(PaintedBackend()).detect([painted(255, width=640, height=320)])
    # 16 x 8 in the middle of a square of 64, of which the image takes 64 x 32
    np.testing.assert_allclose(found.boxes, [[240, 120, 400, 200]])


def write(path: Path, shade: int) -> Path:
    path.write_bytes(cv2.imencode(".png", painted(shade))[1].tobytes())
    return path


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("batch", "read_ahead"), [(1, 0), (3, 0), (1, 2), (3, 2)])
def test_a_corrupt_image_is_reported_and_the_rest_goes_on(
    kind: str, batch: int, read_ahead: int, tmp_path: Path
) -> None:
    files = [write(tmp_path / f"사진 {place}.png", shade) for place, shade in enumerate(SHADES)]
    broken = {2, 3, 4, 5, 10}  # with a batch of 3 one batch is empty of images
    for place in broken:
        files[place].write_bytes(files[place].read_bytes()[:40])
    with KINDS[kind]() as backend:
        run = pipeline(backend, batch=batch, read_ahead=read_ahead)
        results = list(run.detect(files))
        sent = sum(backend.batches)
    assert shades_of(results) == [None if place in broken else shade for place, shade in enumerate(SHADES)]
    assert [found.source for found in results] == files
    for place in broken:
        assert files[place].name in str(results[place].error)
        assert results[place].boxes.shape == (0, 4)
    assert sent == len(SHADES) - len(broken)
    assert run.stages.images == len(SHADES)
    assert (run.stages.forward[sorted(broken)] == 0).all()


def test_without_a_readable_image_the_device_isnt_asked(tmp_path: Path) -> None:
    backend = AsyncPaintedBackend()
    with backend:
        results = list(pipeline(backend, batch=2).detect([tmp_path / "a.jpg", tmp_path / "b.jpg", tmp_path / "c.jpg"]))
        assert len(list(pipeline(backend).detect([]))) == 0
    assert all(found.error for found in results)
    assert backend.batches == []


@pytest.mark.parametrize("kind", KINDS)
def test_an_early_close_ends_the_threads_and_the_pipeline_can_go_on(kind: str) -> None:
    with KINDS[kind]() as backend:
        run = pipeline(backend, batch=2, readers=2)
        results = run.detect(itertools.repeat(painted(99)))
        assert shades_of([next(results)]) == [99]
        results.close()  # type: ignore[attr-defined]
        assert readers_alive() == []
        assert getattr(backend, "in_flight", lambda: 0)() == 0
        assert shades_of(list(run.detect(painted(shade) for shade in SHADES))) == SHADES


@pytest.mark.parametrize("read_ahead", [0, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_what_the_source_raises_is_raised_after_what_came_before(kind: str, read_ahead: int) -> None:
    def source() -> Iterator[npt.NDArray[np.uint8]]:
        yield from (painted(shade) for shade in SHADES[:5])
        raise ValueError("the camera was unplugged")

    with KINDS[kind]() as backend:
        run = pipeline(backend, batch=2, read_ahead=read_ahead)
        results = run.detect(source())
        assert shades_of([next(results) for _ in range(5)]) == SHADES[:5]
        with pytest.raises(ValueError, match="unplugged"):
            next(results)
        assert len(list(run.detect([painted(1)]))) == 1


@pytest.mark.parametrize("kind", [PaintedBackend, AsyncPaintedBackend])
def test_what_the_device_raises_is_raised_and_the_pipeline_can_go_on(kind: type[PaintedBackend]) -> None:
    with kind(fail_at=2) as backend:
        run = pipeline(backend)
        results = run.detect(painted(shade) for shade in SHADES)
        with pytest.raises(RuntimeError, match="on fire"):
            list(results)
        assert shades_of(list(run.detect(painted(shade) for shade in SHADES))) == SHADES


@pytest.mark.parametrize("requests", [1, 4])
def test_reading_ahead_is_bounded(requests: int) -> None:
    drawn = 0

    def source() -> Iterator[npt.NDArray[np.uint8]]:
        nonlocal drawn
        for _ in range(200):
            drawn += 1
            yield painted(7)

    with AsyncPaintedBackend(requests=requests) as backend:
        run = pipeline(backend, batch=2, read_ahead=3, readers=2)
        results = run.detect(source())
        next(results)
        time.sleep(0.2)
        at_work = max(2, requests)
        assert drawn <= 2 * (1 + 3 + at_work)
        assert drawn > 2 * 3
        results.close()  # type: ignore[attr-defined]
        assert backend.most_in_flight <= at_work


def test_the_device_is_fed_before_a_result_is_handed_out() -> None:
    with AsyncPaintedBackend(seconds=0.01) as backend:
        results = pipeline(backend).detect(painted(shade) for shade in SHADES * 4)
        in_flight = []
        for _ in range(20):
            next(results)
            time.sleep(0.005)
            in_flight.append(backend.in_flight())
        results.close()  # type: ignore[attr-defined]
    assert max(in_flight) == 1  # a batch was at work while this one was looked at
    assert sum(in_flight) > 10


def test_the_backend_stays_in_the_callers_thread() -> None:
    backend = PaintedBackend()
    list(pipeline(backend, readers=2).detect(painted(shade) for shade in SHADES))
    assert backend.threads == {threading.current_thread().name}


def test_one_image_alone_gives_the_same_and_its_stages(tmp_path: Path) -> None:
    file = write(tmp_path / "a.png", 180)
    run = pipeline(PaintedBackend(seconds=0.01), batch=4)
    (expected,) = run.detect([file])
    found, row = run.detect_one(file)
    assert (found.source, found.index, found.width, found.height) == (file, 0, 64, 48)
    np.testing.assert_array_equal(found.boxes, expected.boxes)
    np.testing.assert_array_equal(found.scores, expected.scores)
    assert 10 <= row.forward < 200
    assert min(row.decode, row.preprocess, row.postprocess) > 0
    assert row.total == pytest.approx(row.decode + row.preprocess + row.forward + row.postprocess)
    found, row = run.detect_one(tmp_path / "none.png")
    assert found.error
    assert row.forward == 0


def slow_source(count: int, seconds: float) -> Iterator[npt.NDArray[np.uint8]]:
    for _ in range(count):
        time.sleep(seconds)
        yield painted(100)


@pytest.mark.parametrize("backend", [PaintedBackend(seconds=0.02), AsyncPaintedBackend(seconds=0.02)])
def test_reading_overlaps_the_forward_pass_and_no_time_is_counted_twice(backend: PaintedBackend) -> None:
    with backend:
        ahead = pipeline(backend)
        list(ahead.detect(slow_source(15, 0.02)))
        in_turn = pipeline(backend, read_ahead=0)
        list(in_turn.detect(slow_source(15, 0.02)))
    for run in (ahead, in_turn):
        assert run.stages.decode.sum() >= 15 * 20  # a source's own time is decoding
        assert 15 * 20 <= run.stages.forward.sum() <= run.stages.wall_s * 1000
        assert run.stages.images == 15
    assert in_turn.stages.wall_s >= 15 * 0.04
    assert ahead.stages.wall_s < 0.85 * in_turn.stages.wall_s


def test_time_in_the_queue_of_the_device_is_no_forward_time() -> None:
    with AsyncPaintedBackend(seconds=0.02) as backend:
        run = pipeline(backend)
        list(run.detect(painted(shade) for shade in SHADES))
        assert backend.most_in_flight == 2
    assert 0.02 * 0.9 * len(SHADES) <= run.stages.forward.sum() / 1000 <= run.stages.wall_s


def test_a_batch_shares_its_forward_time_among_its_images() -> None:
    run = pipeline(PaintedBackend(seconds=0.04), batch=4)
    list(run.detect(painted(shade) for shade in SHADES[:4]))
    assert run.stages.forward.sum() == pytest.approx(40, abs=30)
    assert len(set(run.stages.forward)) == 1


def test_a_second_detect_at_once_is_refused() -> None:
    run = pipeline(PaintedBackend())
    first = run.detect(painted(shade) for shade in SHADES)
    next(first)
    with pytest.raises(InputError, match="one thing at a time"):
        next(run.detect([painted(1)]))
    with pytest.raises(InputError, match="one thing at a time"):
        run.detect_one(painted(1))
    assert len(list(first)) == len(SHADES) - 1


def test_pixels_of_another_kind_are_an_error_of_that_image_alone() -> None:
    images: list[Any] = [painted(10), np.zeros((4, 4)), painted(30)]
    results = list(pipeline(PaintedBackend()).detect(images))
    assert shades_of(results) == [10, None, 30]
    assert "image 1" in str(results[1].error)


class _Broken(PaintedBackend):
    def __init__(self, output: npt.NDArray[np.float32]) -> None:
        super().__init__()
        self.output = output

    def forward(self, images: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return self.output


def test_an_output_for_another_number_of_images_is_refused() -> None:
    with pytest.raises(InputError, match="has the shape"):
        list(pipeline(_Broken(np.zeros((2, 7, 10), np.float32))).detect([painted(1)]))


def test_numbers_that_are_none_are_counted() -> None:
    output = np.zeros((1, 7, 10), np.float32)
    output[0, 4, :4] = np.nan
    run = pipeline(_Broken(output))
    assert len(next(run.detect([painted(1)]))) == 0
    assert run.not_finite == 4


@pytest.mark.parametrize(
    "changes", [{"batch": 0}, {"imgsz": 0}, {"confidence": 1.5}, {"iou": -0.1}, {"readers": 0}, {"read_ahead": -1}]
)
def test_settings_that_make_no_sense_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ParameterError, match=next(iter(changes))):
        PipelineConfig(**changes)


ENDLESS = """
import itertools
from guardianflow.vision.pipeline.pipeline import Pipeline, PipelineConfig
from tests.vision.painted import *
backend = AsyncPaintedBackend(seconds=0.01)
run = Pipeline(backend, PipelineConfig(imgsz=64, readers=2))
for place, found in enumerate(run.detect(itertools.repeat(painted(9)))):
    if place == 20:
        print("ready", flush=True)
"""


def test_ctrl_c_ends_it_at_once() -> None:
    root = str(Path(__file__).resolve().parents[2])
    process = subprocess.Popen(
        [sys.executable, "-c", ENDLESS], cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert time.monotonic() - began < 3
    assert "KeyboardInterrupt" in errors
    assert process.returncode == -signal.SIGINT


@pytest.mark.parametrize("end_to_end", [False, True])
def test_a_real_model_finds_what_ultralytics_finds(end_to_end: bool) -> None:
    rng = np.random.default_rng(0)
    sizes = [(40, 70), (64, 64), (90, 60), (20, 33), (128, 128)]
    images = [cv2.resize(rng.integers(0, 256, (6, 6, 3), np.uint8), size) for size in sizes]
    architecture = "yolo26n" if end_to_end else "yolo11n"
    model = model_file(architecture, end_to_end=end_to_end)
    with open_backend(model, backend="torch", options=BackendOptions(device="cpu", batch=2, imgsz=64)) as backend:
        config = PipelineConfig(imgsz=64, confidence=0.25, batch=2, multi_label=False)
        results = list(Pipeline(backend, config).detect(images))
    theirs = import_ultralytics().YOLO(str(weights(architecture, end_to_end=end_to_end)))
    options: dict[str, Any] = {"imgsz": 64, "conf": 0.25, "iou": 0.7, "rect": False, "device": "cpu", "verbose": False}
    if end_to_end:
        options["nms"] = False  # else Ultralytics takes the model's other head
    assert min(map(len, results)) > 5
    for image, found in zip(images, results, strict=True):
        expected = theirs.predict(image, **options)[0].boxes
        assert found.labels.tolist() == expected.cls.int().tolist()
        np.testing.assert_allclose(found.scores, expected.conf.numpy(), atol=1e-4)
        np.testing.assert_allclose(found.boxes, expected.xyxy.numpy(), atol=0.02)
