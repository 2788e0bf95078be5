"""What runners share whose check finds data and models for their work."""

from __future__ import annotations

from typing import Generic, TypeVar

from guardianflow.data.dataset import Dataset, check_dataset, read_dataset, require_usable
from guardianflow.exceptions import InputError
from guardianflow.runners._base import R, Runner, S
from guardianflow.vision.class_names import compare_classes
from guardianflow.vision.model_artifacts import ModelFile

__all__ = ["PreparedRunner"]

P = TypeVar("P")


class PreparedRunner(Runner[S, R], Generic[S, R, P]):
    """A runner whose check hands on what it found, for the work."""

    _prepared: P | None = None

    def _checked(self) -> P:
        if self._prepared is None:
            self.check()
        assert self._prepared is not None  # noqa: S101 - check() sets it or raises
        return self._prepared

    def _labelled(
        self, model: ModelFile, data_yaml: str, split: str, *, by_number: bool
    ) -> tuple[Dataset, int, tuple[str, ...]]:
        """The images that a model is scored on, how many there are, and what is to be remarked of both."""
        dataset = read_dataset(data_yaml)
        self.require_classes(dataset.names)
        images = len(dataset.images(split))
        if not images:
            raise InputError(f"split {split!r} of {data_yaml} has no images; pass --split with one that has")
        said = compare_classes(model, dataset, by_number=by_number)
        report = check_dataset(dataset, splits=(split,))
        require_usable(report, allow_bad=100)  # bad images are left out and counted
        return dataset, images, (*model.remarks, *said, *report.remarks())
