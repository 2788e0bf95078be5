"""What all results share: a form in plain JSON types, and the way back from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from guardianflow.files.run_folder import read_result
from guardianflow.text.nearest_names import NearestNames
from guardianflow.text.plain import plain

__all__ = ["Result"]


class Result(NearestNames):
    """What a run hands back; subclasses are frozen dataclasses, their fields JSON-able but for paths."""

    answers: ClassVar[tuple[str, ...]] = ()
    """Fields that ``--json`` shows beside figures, verdict and remarks."""

    if TYPE_CHECKING:  # a subclass has each as a field or as a property

        @property
        def metrics(self) -> Mapping[str, float]: ...

        @property
        def verdict(self) -> Any: ...

    @property
    def model_uri(self) -> str | None:
        """What to load the model by; ``None`` where there is none."""
        model = getattr(self, "model", None)
        return model if isinstance(model, str) and model else None

    def __repr__(self) -> str:
        return f"{type(self).__name__} of run {getattr(self, 'run_id', '')[:12]}: {self.verdict}"

    def to_dict(self) -> dict[str, Any]:
        """The result as plain JSON types."""
        values = {each.name: plain(getattr(self, each.name)) for each in fields(self)}  # type: ignore[arg-type]
        said = {"metrics": self.metrics, "model_uri": self.model_uri, "verdict": self.verdict, "answers": self.answers}
        return {**values, **plain(said)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`to_dict`."""
        known = {each.name: each.type for each in fields(cls) if each.name in values}  # type: ignore[arg-type]
        return cls(**{name: _typed(values[name], str(kind)) for name, kind in known.items()})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The result of a finished run, from its folder.

        Raises:
            NotFoundError: The run left no result.
        """
        return cls.from_dict(read_result(folder))


def _typed(value: Any, kind: str) -> Any:
    if kind == "Path":
        return Path(value)
    return [Path(item) for item in value] if kind == "Sequence[Path]" else value
