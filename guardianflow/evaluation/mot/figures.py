"""The figures of multi-object tracking: HOTA, CLEAR and Identity, and how those of several parts become one.

Formulas and combination are trackeval's (github.com/JonathonLuiten/TrackEval): the figures of several sequences come
from the sums of their counts, and the association parts of HOTA are averaged by true positives. Fractions are 0–1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Self, TypeVar, cast

import numpy as np

from guardianflow.evaluation.mot.sequences import Floats
from guardianflow.text.plain import Row

__all__ = ["ALPHAS", "Clear", "Hota", "Identity", "MotFigures"]

ALPHAS: Floats = np.arange(0.05, 0.99, 0.05)
"""(19,) the localisation thresholds that HOTA averages over."""

_Kind = TypeVar("_Kind", "Hota", "Clear", "Identity")


def _averaged(kind: type[_Kind], parts: Sequence[_Kind]) -> _Kind:
    """Each fraction the plain mean over the parts, each count the sum."""
    values: dict[str, Any] = {}
    for item in fields(kind):
        column = [getattr(part, item.name) for part in parts]
        values[item.name] = sum(column) if item.name in kind.COUNTS else np.mean(column, axis=0)
        if values[item.name].__class__ is np.float64:
            values[item.name] = float(values[item.name])
    return kind(**values)


@dataclass(frozen=True, eq=False)
class Hota(Row):
    """Higher order tracking accuracy (Luiten et al., IJCV 2021), by localisation threshold (:data:`ALPHAS`).

    Attributes:
        tp: (19,) matched boxes.
        fn: (19,) labelled boxes without a match.
        fp: (19,) predicted boxes without a match.
        deta: (19,) tp / (tp + fn + fp).
        assa: (19,) mean over matches of the Jaccard index of their two tracks.
        detre: (19,) tp / (tp + fn).
        detpr: (19,) tp / (tp + fp).
        assre: (19,) mean over matches of the share of the labelled track that this predicted track covers.
        asspr: (19,) mean over matches of the share of the predicted track that this labelled track covers.
        loca: (19,) mean IoU of the matches; 1 where there are none.
        hota: (19,) √(deta · assa).
        owta: (19,) √(detre · assa), open-world tracking accuracy.
        hotaloca_0: hota · loca at the lowest threshold.
    """

    COUNTS: ClassVar[frozenset[str]] = frozenset({"tp", "fn", "fp"})

    tp: Floats
    fn: Floats
    fp: Floats
    deta: Floats
    assa: Floats
    detre: Floats
    detpr: Floats
    assre: Floats
    asspr: Floats
    loca: Floats
    hota: Floats
    owta: Floats
    hotaloca_0: float

    @classmethod
    def of(
        cls, *, tp: Floats, fn: Floats, fp: Floats, assa: Floats, assre: Floats, asspr: Floats, iou_sum: Floats
    ) -> Self:
        """The figures that follow from the counts and the association parts."""
        detre, detpr = tp / np.maximum(1, tp + fn), tp / np.maximum(1, tp + fp)
        deta = tp / np.maximum(1, tp + fn + fp)
        loca = np.maximum(1e-10, iou_sum) / np.maximum(1e-10, tp)
        hota, owta = np.sqrt(deta * assa), np.sqrt(detre * assa)
        return cls(tp, fn, fp, deta, assa, detre, detpr, assre, asspr, loca, hota, owta, float(hota[0] * loca[0]))

    @classmethod
    def combined(cls, parts: Sequence[Hota]) -> Self:
        """The figures of several sequences or classes, by their boxes."""
        zero = np.zeros(len(ALPHAS))
        tp, fn, fp = (sum((getattr(part, name) for part in parts), zero) for name in ("tp", "fn", "fp"))
        weighted = {
            name: sum((getattr(part, name) * part.tp for part in parts), zero) for name in ("assa", "assre", "asspr")
        }
        means = {name: total / np.maximum(1.0, tp) for name, total in weighted.items()}
        return cls.of(tp=tp, fn=fn, fp=fp, iou_sum=sum((part.loca * part.tp for part in parts), zero), **means)

    def to_dict(self) -> dict[str, Any]:
        """Means over the thresholds, the figures at the lowest one, and all by threshold."""
        arrays = {item.name: getattr(self, item.name) for item in fields(self) if item.name != "hotaloca_0"}
        summary = {name: float(value.mean()) for name, value in arrays.items() if name not in self.COUNTS}
        return {
            **summary,
            "hota_0": float(self.hota[0]),
            "loca_0": float(self.loca[0]),
            "hotaloca_0": self.hotaloca_0,
            "by_alpha": {
                "alpha": [round(float(alpha), 2) for alpha in ALPHAS],
                **{name: value.tolist() for name, value in arrays.items()},
            },
        }


@dataclass(frozen=True)
class Clear(Row):
    """CLEAR MOT (Bernardin & Stiefelhagen 2008) with MOTChallenge's conventions.

    Attributes:
        frames: Of the sequences.
        tp: Matched boxes.
        fn: Labelled boxes without a match.
        fp: Predicted boxes without a match.
        idsw: Matches whose labelled track was last matched with another predicted track.
        mt: Labelled tracks matched in more than 80% of their boxes.
        pt: In 20–80%.
        ml: In less than 20%.
        frag: How often a labelled track's matches begin again after a gap. Frames without any labelled box are no gap.
        motp_sum: Sum of the matches' IoU.
        mota: (tp - fp - idsw) / labelled boxes; may be negative.
        motp: Mean IoU of the matches, 1 is best.
        moda: (tp - fp) / labelled boxes.
        smota: (motp_sum - fp - idsw) / labelled boxes.
        motal: As mota with log10(idsw).
        recall: tp / labelled boxes.
        precision: tp / predicted boxes.
        f1: Of both.
        mtr: mt as a share of the labelled tracks.
        ptr: The same of pt.
        mlr: The same of ml.
        fp_per_frame: False positives a frame.
    """

    COUNTS: ClassVar[frozenset[str]] = frozenset({"frames", "tp", "fn", "fp", "idsw", "mt", "pt", "ml", "frag"})

    frames: int
    tp: int
    fn: int
    fp: int
    idsw: int
    mt: int
    pt: int
    ml: int
    frag: int
    motp_sum: float
    mota: float
    motp: float
    moda: float
    smota: float
    motal: float
    recall: float
    precision: float
    f1: float
    mtr: float
    ptr: float
    mlr: float
    fp_per_frame: float

    @classmethod
    def of(
        cls, *, frames: int, tp: int, fn: int, fp: int, idsw: int, mt: int, pt: int, ml: int, frag: int, motp_sum: float
    ) -> Self:
        """The figures that follow from the counts; 0 where there is nothing to divide by."""
        labelled, tracks = max(1, tp + fn), max(1, mt + pt + ml)
        switches = math.log10(idsw) if idsw else 0.0
        return cls(
            frames, tp, fn, fp, idsw, mt, pt, ml, frag, motp_sum,
            mota=(tp - fp - idsw) / labelled,
            motp=motp_sum / max(1, tp),
            moda=(tp - fp) / labelled,
            smota=(motp_sum - fp - idsw) / labelled,
            motal=(tp - fp - switches) / labelled,
            recall=tp / labelled,
            precision=tp / max(1, tp + fp),
            f1=tp / max(1.0, tp + 0.5 * fn + 0.5 * fp),
            mtr=mt / tracks,
            ptr=pt / tracks,
            mlr=ml / tracks,
            fp_per_frame=fp / max(1, frames),
        )  # fmt: skip


@dataclass(frozen=True)
class Identity(Row):
    """Identity figures (Ristani et al. 2016): each labelled track has one predicted track for the whole sequence.

    Attributes:
        idtp: Boxes of the tracks so paired that match.
        idfn: Labelled boxes that don't.
        idfp: Predicted boxes that don't.
        idf1: idtp / (idtp + (idfp + idfn) / 2).
        idr: idtp / labelled boxes.
        idp: idtp / predicted boxes.
    """

    COUNTS: ClassVar[frozenset[str]] = frozenset({"idtp", "idfn", "idfp"})

    idtp: int
    idfn: int
    idfp: int
    idf1: float
    idr: float
    idp: float

    @classmethod
    def of(cls, *, idtp: int, idfn: int, idfp: int) -> Self:
        """The figures that follow from the counts; 0 where there is nothing to divide by."""
        return cls(
            idtp, idfn, idfp,
            idf1=idtp / max(1.0, idtp + 0.5 * idfp + 0.5 * idfn),
            idr=idtp / max(1, idtp + idfn),
            idp=idtp / max(1, idtp + idfp),
        )  # fmt: skip

    @classmethod
    def combined(cls, parts: Sequence[Identity]) -> Self:
        """The figures of several sequences or classes, by their counts."""
        return cls.of(**{name: sum(getattr(part, name) for part in parts) for name in cls.COUNTS})


@dataclass(frozen=True, eq=False)
class MotFigures(Row):
    """All figures of one sequence, one class, or of several together.

    Attributes:
        hota: ``None`` where the evaluator has no HOTA.
        clear: CLEAR MOT.
        identity: IDF1 and its parts.
        gt_boxes: Labelled boxes that were scored.
        gt_tracks: Labelled identities, counted in each sequence and class.
        tracker_boxes: Predicted boxes that were scored.
        tracker_tracks: Predicted identities, counted in each sequence and class.
    """

    hota: Hota | None
    clear: Clear
    identity: Identity
    gt_boxes: int
    gt_tracks: int
    tracker_boxes: int
    tracker_tracks: int

    @classmethod
    def combined(cls, parts: Sequence[MotFigures], *, same_frames: bool = False) -> MotFigures:
        """By boxes: every box counts the same, whatever its sequence or class.

        Args:
            parts: At least one.
            same_frames: The parts are classes of the same frames, which count once.
        """
        sums = {name: sum(getattr(part.clear, name) for part in parts) for name in (*Clear.COUNTS, "motp_sum")}
        if same_frames:
            sums["frames"] = max(part.clear.frames for part in parts)
        identity = Identity.combined([part.identity for part in parts])
        return cls._joined(parts, _hotas(parts, Hota.combined), Clear.of(**sums), identity)

    @classmethod
    def averaged(cls, parts: Sequence[MotFigures]) -> MotFigures:
        """By classes of the same frames: fractions are the plain mean over the classes, counts their sum."""
        clear = _averaged(Clear, [part.clear for part in parts])
        return cls._joined(
            parts,
            _hotas(parts, lambda hotas: _averaged(Hota, hotas)),
            replace(clear, frames=max(part.clear.frames for part in parts)),
            _averaged(Identity, [part.identity for part in parts]),
        )

    @classmethod
    def _joined(cls, parts: Sequence[MotFigures], hota: Hota | None, clear: Clear, identity: Identity) -> MotFigures:
        counts = ("gt_boxes", "gt_tracks", "tracker_boxes", "tracker_tracks")
        return cls(hota, clear, identity, **{name: sum(getattr(part, name) for part in parts) for name in counts})

    def metrics(self) -> dict[str, float]:
        """Figures by the names of the metrics catalogue; those that the evaluator lacks are left out."""
        hota = {} if self.hota is None else {name: getattr(self.hota, name).mean() for name in ("hota", "deta", "assa")}
        clear = {name: getattr(self.clear, name) for name in ("idsw", "fp", "fn", "mt", "ml", "frag")}
        found = {**hota, "mota": self.clear.mota, "motp": self.clear.motp, "idf1": self.identity.idf1, **clear}
        return {name: float(value) for name, value in found.items()}

    def to_dict(self) -> dict[str, Any]:
        """Everything, as plain JSON; without ``hota`` where the evaluator has none."""
        return {name: value for name, value in super().to_dict().items() if value is not None}


def _hotas(parts: Sequence[MotFigures], join: Any) -> Hota | None:
    found = [part.hota for part in parts]
    return None if None in found else cast(Hota, join(found))
