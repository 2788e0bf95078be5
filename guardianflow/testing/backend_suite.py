"""What every inference backend must do: subclass the suite, open yours and say what it must give.

Example:
    ::

        class TestMyBackend(BackendSuite):
            @pytest.fixture(scope="class")
            def open_backend(self):
                def open_it(**options):
                    return MyBackend(model, BackendOptions(imgsz=self.imgsz, **options))

                return open_it

            @pytest.fixture(scope="class")
            def reference(self):
                return lambda images: known_output(images)
"""

# ruff: noqa: S101, D102 - tests assert, and the name of a test is its sentence

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from guardianflow.exceptions import InputError
from guardianflow.vision.backends._base import Backend, Ticket

__all__ = ["BackendSuite"]

Opener = Callable[..., Backend]
Reference = Callable[[NDArray[Any]], NDArray[Any]]


class BackendSuite:
    """Behaviour that holds for every backend.

    Attributes:
        imgsz: Side of the images that are fed.
        batch: Most images in a call.
        executed: What the backend must say it computes at.
        box_tolerance: Greatest difference of a coordinate from the reference, in pixels.
        score_tolerance: Greatest difference of a score.
        end_to_end: The model selects its boxes itself.
    """

    imgsz = 64
    batch = 4
    executed = "fp32"
    box_tolerance = 0.01
    score_tolerance = 1e-3
    end_to_end = False

    @pytest.fixture(scope="class")
    def open_backend(self) -> Opener:
        """Opens the backend with :class:`BackendOptions` given by name; give your own."""
        raise NotImplementedError("define the fixture open_backend in the subclass")

    @pytest.fixture(scope="class")
    def reference(self) -> Reference:
        """What the model gives for images, from another implementation; give your own."""
        raise NotImplementedError("define the fixture reference in the subclass")

    @pytest.fixture(scope="class")
    def backend(self, open_backend: Opener) -> Iterator[Backend]:
        """One that stays open for the tests that leave it as it is."""
        with open_backend(batch=self.batch) as opened:
            yield opened

    @pytest.fixture(scope="class")
    def images(self) -> NDArray[Any]:
        """A batch of images, no two alike: coarse noise with blocks of colour."""
        chance = np.random.default_rng(7)
        coarse = chance.random((self.batch, 3, 8, 8))
        smooth = coarse.repeat(self.imgsz // 8, axis=2).repeat(self.imgsz // 8, axis=3)
        noise = chance.random((self.batch, 3, self.imgsz, self.imgsz)) * 0.2
        return np.ascontiguousarray(smooth * 0.8 + noise, np.float32)

    def check(self, output: NDArray[Any], expected: NDArray[Any]) -> None:
        """Hold an output against the reference's, boxes in pixels and scores apart."""
        assert output.dtype == np.float32
        assert output.flags.c_contiguous
        assert output.shape == expected.shape
        if self.end_to_end:
            for ours, theirs in zip(output, expected, strict=True):
                self._check_rows(ours, theirs)
            return
        assert np.abs(output[:, :4] - expected[:, :4]).max() <= self.box_tolerance
        assert np.abs(output[:, 4:] - expected[:, 4:]).max() <= self.score_tolerance

    def _check_rows(self, output: NDArray[Any], expected: NDArray[Any]) -> None:
        """Boxes of nearly the same score may change places, and the last ones may fall out."""
        assert np.abs(np.sort(output[:, 4]) - np.sort(expected[:, 4])).max() <= self.score_tolerance
        sure = expected[expected[:, 4] > expected[:, 4].min() + 2 * self.score_tolerance]
        assert len(sure) > len(expected) / 2, "most scores are the same: it proves nothing"
        near = np.abs(sure[:, None] - output[None]) <= [*[self.box_tolerance] * 4, self.score_tolerance, 0]
        assert near.all(axis=2).any(axis=1).all()

    def test_it_gives_what_the_reference_gives(
        self, backend: Backend, images: NDArray[Any], reference: Reference
    ) -> None:
        expected = reference(images)
        scores = expected[..., 4] if self.end_to_end else expected[:, 4:]

        assert scores.std() > 2 * self.score_tolerance, "the reference says the same of everything: it proves nothing"
        assert np.abs(expected[0] - expected[1]).max() > 2 * self.box_tolerance, "two images look alike to the model"
        self.check(backend.forward(images), expected)

    def test_a_smaller_batch_gives_the_same_as_within_a_whole_one(
        self, backend: Backend, images: NDArray[Any], reference: Reference
    ) -> None:
        expected = reference(images)
        for size in (1, self.batch - 1, self.batch, 1):
            self.check(backend.forward(images[:size]), expected[:size])
        self.check(backend.forward(images[1:2]), expected[1:2])

    def test_images_stay_as_they_were_and_may_be_read_only(
        self, backend: Backend, images: NDArray[Any], reference: Reference
    ) -> None:
        given = images.copy()
        given.flags.writeable = False
        self.check(backend.forward(given), reference(images))

        assert np.array_equal(given, images)

    def test_an_output_is_the_callers_and_outlives_the_next_ones(
        self, backend: Backend, images: NDArray[Any], reference: Reference
    ) -> None:
        kept = [backend.forward(images[number : number + 1]) for number in range(self.batch)]
        views = [output[:, :2] for output in kept]
        self.check(np.concatenate(kept), reference(images))
        before = [view.copy() for view in views]
        del kept
        for _ in range(3):
            backend.forward(np.zeros_like(images[:1]))

        assert all(np.array_equal(view, copy) for view, copy in zip(views, before, strict=True))

    def test_batches_submitted_are_collected_in_order(
        self, backend: Backend, images: NDArray[Any], reference: Reference
    ) -> None:
        expected = reference(images)
        numbers = [number % self.batch for number in range(3 * self.batch + 1)]  # more than are at work at once
        batches = [images[number : number + 1] for number in numbers]
        tickets = [backend.submit(batch) for batch in batches]
        for ticket, number in zip(tickets, numbers, strict=True):
            self.check(backend.collect(ticket), expected[number : number + 1])

    def test_a_pass_in_between_disturbs_nothing(
        self, backend: Backend, images: NDArray[Any], reference: Reference
    ) -> None:
        expected = reference(images)
        ticket = backend.submit(images[:1])
        self.check(backend.forward(images[1:2]), expected[1:2])
        self.check(backend.collect(ticket), expected[:1])

    def test_tickets_are_taken_in_the_order_of_submission_only(self, backend: Backend, images: NDArray[Any]) -> None:
        first, second = backend.submit(images[:1]), backend.submit(images[1:2])
        with pytest.raises(InputError, match="order of submission"):
            backend.collect(second)
        backend.collect(first)
        with pytest.raises(InputError, match="order of submission"):
            backend.collect(first)
        backend.collect(second)
        with pytest.raises(InputError, match="nothing is waiting"):
            backend.collect(Ticket(0))

    def test_another_thread_may_use_it(self, backend: Backend, images: NDArray[Any], reference: Reference) -> None:
        outputs: list[NDArray[Any]] = []
        thread = threading.Thread(target=lambda: outputs.append(backend.forward(images)))
        thread.start()
        thread.join(120)
        self.check(outputs[0], reference(images))

    @pytest.mark.parametrize(
        ("broken", "message"),
        [
            (lambda images: images.astype(np.float64), "float32"),
            (lambda images: (images * 255).astype(np.uint8), "float32"),
            (lambda images: images[0], "shape"),
            (lambda images: images[:, :1], "shape"),
            (lambda images: images[:, :, :32, :32].copy(), "letterbox"),
            (lambda images: images.transpose(0, 2, 3, 1).copy(), "shape"),
            (lambda images: images.transpose(0, 1, 3, 2), "C order"),
            (lambda images: images[:0], "hold 1 to"),
            (lambda images: np.concatenate([images, images]), "larger batch"),
            (lambda images: images.tolist(), "list"),
        ],
        ids=["float64", "uint8", "one image", "grey", "small", "HWC", "view", "empty", "too many", "list"],
    )
    def test_what_is_no_batch_is_refused_and_the_next_one_works(
        self, backend: Backend, images: NDArray[Any], broken: Callable[[Any], Any], message: str
    ) -> None:
        with pytest.raises(InputError, match=message):
            backend.forward(broken(images))
        with pytest.raises(InputError, match=message):
            backend.collect(backend.submit(broken(images)))
        assert np.isfinite(backend.forward(images)).all()

    def test_it_says_what_it_really_is(self, backend: Backend) -> None:
        info = backend.info

        assert info.precision_executed == self.executed
        assert info.input_shape[1:] == (3, self.imgsz, self.imgsz)
        assert info.input_shape[0] in {0, self.batch}
        assert all((info.backend, info.version, info.device, info.precision_asked))
        assert info.requests >= 1
        assert json.loads(json.dumps(info.to_dict()))["precision_executed"] == self.executed

    def test_it_closes_twice_and_then_refuses(self, open_backend: Opener, images: NDArray[Any]) -> None:
        with open_backend(batch=self.batch) as backend:
            ticket = backend.submit(images)  # closing with a batch at work neither hangs nor crashes
            backend.close()
        backend.close()
        with pytest.raises(InputError, match="closed"):
            backend.forward(images)
        with pytest.raises(InputError, match="closed"):
            backend.collect(ticket)
        with pytest.raises(InputError, match="closed"):
            backend.collect(backend.submit(images))
        assert backend.info.precision_executed == self.executed
