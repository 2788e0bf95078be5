"""Backends whose answer can be read off the image: what a test of the pipeline feeds."""

from __future__ import annotations

import threading
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from guardianflow.vision.backends._base import Backend, BackendInfo, Ticket, check_images

CLASSES = 3
SIDE = 64


def painted(shade: int, *, width: int = 64, height: int = 48) -> npt.NDArray[np.uint8]:
    """An image of one shade."""
    return np.full((height, width, 3), shade, np.uint8)


class PaintedBackend(Backend):
    """Finds one box in the middle of each image; its score is the image's shade / 255, its class shade modulo 3.

    Args:
        seconds: Of a forward pass.
        fail_at: The forward pass that raises, counted from 0.
    """

    def __init__(self, *, seconds: float = 0.0, fail_at: int | None = None) -> None:
        super().__init__()
        self.seconds = seconds
        self.fail_at = fail_at
        self.batches: list[int] = []
        self.threads: set[str] = set()

    @property
    def info(self) -> BackendInfo:
        return BackendInfo("painted", "1", "paper", "fp32", "fp32", (0, 3, SIDE, SIDE), 1, 1)

    def forward(self, images: npt.NDArray[Any]) -> npt.NDArray[Any]:
        check_images(images, batch=1 << 16, imgsz=SIDE)
        self.threads.add(threading.current_thread().name)
        self.batches.append(len(images))
        if self.fail_at == len(self.batches) - 1:
            raise RuntimeError("the device is on fire")
        time.sleep(self.seconds)
        shades = np.rint(images[:, 0, SIDE // 2, SIDE // 2] * 255)
        raw = np.zeros((len(images), 4 + CLASSES, 5), np.float32)
        raw[:, :4] = np.array([SIDE / 2, SIDE / 2, 16, 8], np.float32)[:, None]
        raw[np.arange(len(images)), 4 + shades.astype(int) % CLASSES, 2] = shades / 255
        return raw

    def close(self) -> None:
        pass


class AsyncPaintedBackend(PaintedBackend):
    """Computes in a thread of its own, as a GPU would; takes note when its input changes under its hands."""

    def __init__(self, *, seconds: float = 0.0, fail_at: int | None = None, requests: int = 1) -> None:
        super().__init__(seconds=seconds, fail_at=fail_at)
        self.requests = requests
        self.most_in_flight = 0
        self.input_changed = False
        self._pool = ThreadPoolExecutor(requests)
        self._jobs: deque[tuple[Ticket, Future[npt.NDArray[Any]], npt.NDArray[Any], npt.NDArray[Any]]] = deque()

    @property
    def info(self) -> BackendInfo:
        return BackendInfo("painted", "1", "paper", "fp32", "fp32", (0, 3, SIDE, SIDE), 1, self.requests)

    def submit(self, images: npt.NDArray[Any]) -> Ticket:
        ticket = Ticket(self._submitted)
        self._submitted += 1
        self._jobs.append((ticket, self._pool.submit(self.forward, images), images, images.copy()))
        self.most_in_flight = max(self.most_in_flight, len(self._jobs))
        return ticket

    def collect(self, ticket: Ticket) -> npt.NDArray[Any]:
        oldest, job, images, copy = self._jobs.popleft()
        assert ticket == oldest
        output = job.result()
        self.input_changed |= not np.array_equal(images, copy)
        return output

    def in_flight(self) -> int:
        """Batches submitted and not collected."""
        return len(self._jobs)

    def close(self) -> None:
        self._pool.shutdown()
