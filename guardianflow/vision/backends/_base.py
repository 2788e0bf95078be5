"""What every inference backend does, and what it says of itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, NewType, Self

from guardianflow.exceptions import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Backend", "BackendInfo", "BackendOptions", "Ticket", "check_images", "check_open", "check_turn", "one_line"]

Ticket = NewType("Ticket", int)
"""Stands for a batch that was submitted; counts up from 0."""


@dataclass(frozen=True)
class BackendOptions:
    """How a backend is opened.

    Attributes:
        precision: What to compute at: ``fp32``, ``bf16``, ``fp16`` or ``int8``; see the catalogue for who can.
        device: ``""`` chooses (a GPU where the backend can use one, else the CPU); else ``"cpu"``, ``"0"``,
            ``"cuda:0"``.
        batch: Most images in one call.
        imgsz: Side of the square input, in pixels.
        threads: CPU threads; 0 leaves the runtime the choice.
        hint: ``"latency"`` or ``"throughput"``, where the runtime makes a difference.
        requests: Batches at work at once, where the runtime can; 0 leaves it the choice.
        compiled: Whether torch compiles the model; ``None``: where it wins.
    """

    precision: str = "fp32"
    device: str = ""
    batch: int = 1
    imgsz: int = 640
    threads: int = 0
    hint: str = "latency"
    requests: int = 0
    compiled: bool | None = None


@dataclass(frozen=True)
class BackendInfo:
    """What a backend really is, read back from the runtime after it was opened.

    Attributes:
        backend: Name in the catalogue.
        version: Of the runtime.
        device: Where it computes, as a person reads it.
        precision_asked: From the options.
        precision_executed: What the runtime says it computes the convolutions at.
        input_shape: (batch, 3, side, side); 0 where the runtime takes any.
        threads: CPU threads; 0 where the runtime doesn't say.
        requests: Batches at work at once.
        details: Further facts, in words.
    """

    backend: str
    version: str
    device: str
    precision_asked: str
    precision_executed: str
    input_shape: tuple[int, ...]
    threads: int
    requests: int
    details: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {**asdict(self), "input_shape": list(self.input_shape), "details": dict(self.details)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """What :meth:`to_dict` made."""
        return cls(**{**values, "input_shape": tuple(values["input_shape"])})


class Backend(ABC):
    """A model in a runtime, ready to be fed.

    Images are float32, (B, 3, S, S), RGB from 0 to 1, C-contiguous, with B at most ``options.batch``.
    The output is float32: the raw head (B, 4 + classes, anchors) with boxes as xywh in pixels of the input
    and one score a class, or of an end-to-end model (B, N, 6) with xyxy, score and label. An output is the
    caller's: it doesn't change when the backend goes on. Images handed to :meth:`submit` must not be changed
    before they are collected. A backend belongs to one thread at a time.

    A runtime that works on several batches at once overrides :meth:`submit` and :meth:`collect`; for the
    others a batch is computed when it is collected.
    """

    _info: BackendInfo

    def __init__(self) -> None:
        self._submitted = 0
        self._waiting: deque[tuple[Ticket, NDArray[Any]]] = deque()

    @property
    def info(self) -> BackendInfo:
        """What the runtime says of itself."""
        return self._info

    @abstractmethod
    def forward(self, images: NDArray[Any]) -> NDArray[Any]:
        """The model's output for a batch.

        Raises:
            InputError: The images are not what the contract says, or the backend was closed.
        """

    def submit(self, images: NDArray[Any]) -> Ticket:
        """Hand over a batch, to be collected later.

        Raises:
            InputError: As with :meth:`forward`.
        """
        ticket = Ticket(self._submitted)
        self._submitted += 1
        self._waiting.append((ticket, images))
        return ticket

    def collect(self, ticket: Ticket) -> NDArray[Any]:
        """The output of a batch that was submitted; in the order of submission.

        Raises:
            InputError: It isn't the oldest one that wasn't collected yet.
        """
        check_turn(ticket, self._waiting[0][0] if self._waiting else None)
        return self.forward(self._waiting.popleft()[1])

    @abstractmethod
    def close(self) -> None:
        """Let go of the model and its memory; may be called again."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def one_line(error: BaseException) -> str:
    """What a runtime complains of, as part of a sentence."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def check_open(is_open: bool) -> None:
    """Refuse to work with a backend that was closed.

    Raises:
        InputError: It was.
    """
    if not is_open:
        raise InputError("the backend was closed, and its model is gone; open it again with open_backend")


def check_images(images: NDArray[Any], *, batch: int, imgsz: int) -> None:
    """Refuse a batch that isn't what the contract says.

    Args:
        images: What was handed over.
        batch: Most images that are allowed.
        imgsz: Side that they must have.

    Raises:
        InputError: Wrong type, shape, order in memory, or number of images.
    """
    dtype, shape = getattr(images, "dtype", None), tuple(getattr(images, "shape", ()))
    if str(dtype) != "float32":
        msg = f"images must be a float32 array with values from 0 to 1, they are {dtype or type(images).__name__}"
        raise InputError(msg)
    if len(shape) != 4 or shape[1:] != (3, imgsz, imgsz):
        msg = f"images must have the shape (B, 3, {imgsz}, {imgsz}), they have {shape}; letterbox them to {imgsz} first"
        raise InputError(msg)
    if not 1 <= shape[0] <= batch:
        msg = f"a batch must hold 1 to {batch} images, this one holds {shape[0]}; open the backend with a larger batch"
        raise InputError(msg)
    if not images.flags.c_contiguous:
        msg = "images must lie in memory in C order, these are a view of another order; pass np.ascontiguousarray(…)"
        raise InputError(msg)


def check_turn(ticket: Ticket, oldest: Ticket | None) -> None:
    """Refuse a ticket that isn't the oldest one.

    Raises:
        InputError: It isn't.
    """
    if oldest is None:
        raise InputError(f"ticket {ticket} can't be collected: nothing is waiting; submit a batch first")
    if ticket != oldest:
        raise InputError(f"tickets are collected in the order of submission: {oldest} is next, not {ticket}")
