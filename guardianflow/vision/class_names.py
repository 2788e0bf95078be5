"""Class names of a model and of labelled images: compared before anything is counted by their numbers."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from guardianflow.data.dataset import Dataset
from guardianflow.exceptions import ModelFileError
from guardianflow.vision.model_artifacts import ModelFile
from guardianflow.vision.output_layouts import some_names

__all__ = ["compare_classes"]

_APART = re.compile(r"[\s_-]+")


def compare_classes(model: ModelFile, dataset: Dataset, *, by_number: bool = False) -> tuple[str, ...]:
    """Refuse a model whose classes are not those of the data: its figures would mean nothing.

    Names that differ in capitals, spaces and hyphens alone are the same.

    Args:
        model: The model.
        dataset: The labelled images.
        by_number: Class 0 is class 0, whatever either side calls it: somebody said so.

    Returns:
        What is to be remarked.

    Raises:
        ModelFileError: Another number of classes, a name that both have under other numbers, or other names without
            ``by_number``.
    """
    ours, theirs = list(model.names), list(dataset.names)
    if len(ours) != len(theirs):
        raise ModelFileError(
            f"the model {model.path.name} knows {len(ours)} classes ({some_names(ours)}), the data {dataset.yaml_path} "
            f"has {len(theirs)} ({some_names(theirs)}); pass the data.yaml that the model was trained for"
        )
    if ours == theirs:
        return ()
    both = f"the model {model.path.name} and the data {dataset.yaml_path}"
    plain, wanted = [_folded(name) for name in ours], [_folded(name) for name in theirs]
    if plain == wanted:
        return (f"{both} write some class names differently ({_pairs(ours, theirs)}); they are taken for the same",)
    moved = [number for number, name in enumerate(plain) if name in wanted and wanted[number] != name]
    if moved:
        raise ModelFileError(
            f"{both} have the same classes in another order ({some_names(ours)} against {some_names(theirs)}; "
            f"{ours[moved[0]]!r} is {moved[0]} and {wanted.index(plain[moved[0]])}); put the names of the data.yaml in "
            "the model's order, and the label files too"
        )
    if by_number:
        return (
            f"{both} call their classes differently ({_pairs(ours, theirs)}); they are compared by number, as asked",
        )
    own = "names no classes" if model.names_made_up else f"names its classes {some_names(ours)}"
    raise ModelFileError(
        f"the model {model.path.name} {own}, the data {dataset.yaml_path} {some_names(theirs)}; pass the data.yaml "
        "that the model was trained for, or --classes-by-number where class 0 is class 0 all the same, and so on"
    )


def _folded(name: str) -> str:
    return _APART.sub(" ", unicodedata.normalize("NFC", name).casefold()).strip()


def _pairs(ours: Sequence[str], theirs: Sequence[str]) -> str:
    pairs = [f"{mine!r} against {other!r}" for mine, other in zip(ours, theirs, strict=True) if mine != other]
    return some_names(pairs, most=3)
