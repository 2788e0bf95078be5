"""Which evaluations two versions can be compared by, and where there are none, how to make them."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from guardianflow.core.config import Settings
from guardianflow.exceptions import NotFoundError
from guardianflow.registry.evaluations import EvaluationRow, Evaluations
from guardianflow.registry.model_records import ModelVersion
from guardianflow.runs.run_records import RunRecords
from guardianflow.state.database import Database

__all__ = ["Common", "EvidenceSearch", "first_difference"]

_TRAINING_SPLIT = "train"


@dataclass(frozen=True)
class Common:
    """Evaluations of two versions on the same images.

    Attributes:
        candidate: Its evaluation; ``None`` where there is none to compare by.
        champion: Its evaluation; ``None`` for the first champion.
        missing: What is missing, and the commands that make it.
    """

    candidate: EvaluationRow | None = None
    champion: EvaluationRow | None = None
    missing: str = ""


class EvidenceSearch:
    """Looks for evidence of versions as they are served.

    Evaluations on training images don't count, nor do those by another backend, precision or image size
    than the version is served with.

    Args:
        settings: Where the state database is.
        evaluations: The index of evidence.
    """

    def __init__(self, settings: Settings, evaluations: Evaluations) -> None:
        self._settings = settings
        self._evaluations = evaluations

    def common(self, candidate: ModelVersion, champion: ModelVersion | None) -> Common:
        """Evaluations on the same images: the candidate's own dataset first, then most images, then newest."""
        mine = self.served(candidate)
        mine.sort(key=lambda row: (row.dataset_fingerprint == candidate.dataset_fingerprint, row.images), reverse=True)
        if champion is None:
            return Common(mine[0]) if mine else Common(missing=self._nothing(candidate))
        theirs = self.served(champion)
        for row in mine:
            for other in theirs:
                if other.subject == row.subject:
                    return Common(row, other)
        if mine and theirs:
            return Common(missing=self._nothing_common(candidate, champion, mine[0], theirs[0]))
        lacking = [version for version, rows in ((candidate, mine), (champion, theirs)) if not rows]
        return Common(missing="; ".join(self._nothing(version) for version in lacking))

    def timings(
        self, candidate: ModelVersion, champion: ModelVersion
    ) -> tuple[tuple[EvaluationRow, EvaluationRow] | None, str]:
        """The newest latencies of both under the same conditions; else why there are none."""
        mine, theirs = self._timed(candidate), self._timed(champion)
        for row in mine:
            for other in theirs:
                if other.conditions == row.conditions:
                    return (row, other), ""
        if mine and theirs:
            differs = first_difference(mine[0].conditions, theirs[0].conditions)
            return None, f"the two were timed under other conditions ({differs}), so their latencies say nothing"
        lacking = [version for version, rows in ((candidate, mine), (champion, theirs)) if not rows]
        named = " and ".join(f"version {version.version}" for version in lacking)
        return None, f"{named} was never timed by a benchmark: {self.command(lacking[0])}"

    def timing(self, version: ModelVersion) -> EvaluationRow | None:
        """The newest latencies of a version."""
        return next((row for row in self._timed(version) if "latency_ms_p95" in row.metrics), None)

    def command(self, version: ModelVersion, *, on: ModelVersion | None = None) -> str:
        """The command that gathers evidence of a version, on the data of another one if that is given."""
        served = version.serving
        words = ["guardianflow", "infer", "--model", version.uri, "--data", self._data_of(on or version)]
        words += ["--backends", served.backend, "--precision", served.precision]
        if served.imgsz:
            words += ["--imgsz", str(served.imgsz)]
        return f"`{' '.join(shlex.quote(word) if word != _SOME_DATA else word for word in words)}`"

    def served(self, version: ModelVersion) -> list[EvaluationRow]:
        """Its evaluations as it is served, newest first; those on training images don't count."""
        served = version.serving
        return [
            row
            for row in self._evaluations.find(sha256=version.sha256)
            if (row.backend, row.precision) == (served.backend, served.precision)
            and served.imgsz in (0, row.imgsz)
            and row.split != _TRAINING_SPLIT
        ]

    def _timed(self, version: ModelVersion) -> list[EvaluationRow]:
        return [row for row in self.served(version) if row.metrics.get("latency_ms_p50", 0) > 0]

    def _nothing(self, version: ModelVersion) -> str:
        return (
            f"version {version.version} was never evaluated as it is served ({version.serving.conditions}), "
            f"so nothing is known of it; gather it: {self.command(version)}"
        )

    def _nothing_common(
        self, candidate: ModelVersion, champion: ModelVersion, mine: EvaluationRow, theirs: EvaluationRow
    ) -> str:
        return (
            f"version {candidate.version} and champion {champion.version} were never evaluated on the same images "
            f"(the newest: {_images(mine)} against {_images(theirs)}); evaluate the champion where the candidate "
            f"was: {self.command(champion, on=candidate)}"
        )

    def _data_of(self, version: ModelVersion) -> str:
        """The data.yaml that a version was trained on, if its run is known here."""
        try:
            record = RunRecords(Database.open(self._settings.database_url)).get(version.run_id)
        except NotFoundError:
            return _SOME_DATA
        return str(record.parameters.get("data_yaml") or _SOME_DATA)


_SOME_DATA = "…/data.yaml"


def _images(row: EvaluationRow) -> str:
    protocol = ", ".join(f"{key} {value}" for key, value in sorted(row.protocol.items()))
    return f"{row.images} {row.split} images of dataset {row.dataset_fingerprint[:12]} ({protocol or 'no protocol'})"


def first_difference(mine: Sequence[str], theirs: Sequence[str]) -> str:
    """The first of two evaluations' conditions that differs, as "this against that"."""
    for one, other in zip(mine, theirs, strict=False):
        if one != other:
            return f"{one} against {other.partition('=')[2] or 'none'}"
    return "one of them is not described"
