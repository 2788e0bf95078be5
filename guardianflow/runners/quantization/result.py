"""What a quantization hands back: both models, what was gained and lost, and how a notebook shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guardianflow.plots import quantization as plots
from guardianflow.plots.class_changes import plot_class_changes
from guardianflow.runners._result import Result
from guardianflow.runners.quantization.comparison import VariantFacts, quantization_verdict
from guardianflow.text.command_lines import command
from guardianflow.text.printable import escape
from guardianflow.views.next_steps import NextStep, NextSteps
from guardianflow.views.result_page import format_metric, remarks_html, run_link, table_html

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

__all__ = ["DAMAGE_PAGE", "CalibrationView", "DamageView", "QuantizationResult"]

DAMAGE_PAGE = "damage.html"

Row = Mapping[str, Any]


@dataclass(frozen=True, repr=False)
class QuantizationResult(Result):
    """A finished quantization.

    Attributes:
        run_id: The MLflow run.
        experiment: Experiment name.
        status: ``"FINISHED"``, or ``"FAILED"`` where the damage report failed it.
        original: The model as it was: backend, precision, size, figures, figures by class.
        quantized: The variant, with the same keys.
        comparison: Pairs of figures, ratios, speeds, agreement, whether it passed and why not.
        folder: The run's folder.
        model: What to load it by: ``models:/NAME/4`` where it was registered, else ``runs:/RUN_ID/model/…``.
        model_file: The artifact, from the run's folder.
        damage: The damage report.
        calibration: Calibration images and their fingerprint; empty where none were needed.
        dataset: File, fingerprint, split, images.
        facts: What the quantizer did.
        metrics: What was logged.
        remarks: What a reader should know of the data and of how it was measured, a sentence each.
        tracking_uri: MLflow, with the password masked.
    """

    answers = ("model", "original", "quantized", "comparison")

    run_id: str
    experiment: str
    status: str
    original: VariantFacts
    quantized: VariantFacts
    comparison: Row
    folder: Path
    model: str = ""
    model_file: str = ""
    damage: Row = field(default_factory=dict)
    calibration: Row = field(default_factory=dict)
    dataset: Row = field(default_factory=dict)
    facts: Row = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    remarks: Sequence[str] = ()
    tracking_uri: str = ""

    @property
    def verdict(self) -> str:
        """What it brought and cost, in plain sentences."""
        return quantization_verdict(self.quantized, self.comparison, self.damage)

    @property
    def path(self) -> Path:
        """The artifact on this machine."""
        return self.folder / self.model_file

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, with the figures of each class."""
        return {**super().to_dict(), "per_class": list(self.quantized.get("per_class", []))}

    def plot_tradeoff(self) -> Figure:
        """Accuracy against latency: original, fp32 on the same runtime, quantized."""
        return plots.plot_tradeoff(plots.tradeoff_points(self.comparison))

    def plot_classes(self) -> Figure:
        """What each class lost or won, with the interval that chance explains."""
        return plot_class_changes(plots.class_changes(self.damage))

    def plot_costs(self) -> Figure:
        """Size, latency and images a second beside the original's."""
        return plots.plot_costs(plots.cost_bars(self.comparison))

    def plot_boxes(self) -> Figure:
        """How many boxes both models show, and how their confidence moved."""
        return plots.plot_box_changes(plots.box_changes(self.damage))

    def show_damage(self) -> DamageView:
        """The damage report."""
        return DamageView(self)

    def next_steps(self) -> NextSteps:
        """What to do with this variant now."""
        steps = []
        if self.model.startswith("models:/"):
            name = self.model.removeprefix("models:/").rpartition("/")[0]
            steps.append(NextStep.promote("Ask the gate to put it in charge", name))
        data, measured = str(self.dataset.get("data_yaml", "data.yaml")), self.model or self.run_id
        infer = command("infer", "--model", measured, "--data", data)
        python = f"InferenceRunner({self.experiment!r}, {measured!r}, {data!r}).run()"
        steps.append(NextStep("Measure it as it is served", infer, python))
        steps.append(NextStep.again("Quantize once more from the same parameters", self.run_id))
        return NextSteps(steps)

    def _repr_html_(self) -> str:
        link = run_link(self.tracking_uri, self.run_id)
        title = f"{self.quantized['backend']} {self.quantized['precision']}"
        state = "passed" if self.comparison.get("passed") else "not passed"
        return (
            f"<h4>Quantization to {escape(title)} · {state}</h4>"
            f'<p style="font-size:1.15em">{escape(self.verdict)}</p>'
            f"{comparison_table_html(self.original, self.quantized, self.comparison)}{remarks_html(self.remarks)}"
            f"<p>Run {link} · model <code>{escape(self.model)}</code><br>"
            f"Files in <code>{escape(str(self.folder))}</code></p>"
        )


@dataclass(frozen=True)
class DamageView:
    """The damage report as a page."""

    result: QuantizationResult

    def _repr_html_(self) -> str:
        page = self.result.folder / DAMAGE_PAGE
        return page.read_text(encoding="utf-8") if page.is_file() else "<p>No damage report was kept.</p>"


@dataclass(frozen=True)
class CalibrationView:
    """The calibration images: how many, which classes they show, what was left out."""

    facts: Row

    def _repr_html_(self) -> str:
        facts = self.facts
        if not facts:
            return "<p>Halving weights takes no calibration images.</p>"
        classes = ", ".join(f"{escape(name)} on {count:,}" for name, count in facts["classes"].items())
        skipped = "".join(f"<li>{escape(item['name'])}: {escape(item['reason'])}</li>" for item in facts["skipped"])
        return (
            f"<p><b>{facts['count']:,}</b> of {facts['available']:,} images of <code>{escape(facts['split'])}</code>, "
            f"drawn by seed {facts['seed']}, letterboxed to {facts['imgsz']} px: {classes}.<br>"
            f"Fingerprint <code>{facts['fingerprint'][:16]}…</code></p>"
            f"{f'<p>Skipped:</p><ul>{skipped}</ul>' if skipped else ''}"
        )


_ROWS = ("map50_95", "map50", "precision", "recall", "latency_ms_p50", "latency_ms_p95", "model_size_mb")


def comparison_table_html(original: VariantFacts, quantized: VariantFacts, comparison: Row) -> str:
    """Original and quantized side by side, then the speeds that were measured in turns."""
    rows = [_figure_row(name, comparison[name]) for name in _ROWS if name in comparison]
    figures = table_html(rows, ("", _title(original), _title(quantized), "change"))
    speeds = [_speed_cells(row, comparison["speed_ratios"]) for row in comparison.get("speeds", ())]
    said = "Images a second from file to boxes, measured in turns in one run; the range is that of the rounds."
    return figures + (f"<p>{said}</p>{table_html(speeds)}" if speeds else "")


def _title(side: VariantFacts) -> str:
    executed = side["precision_executed"] or side["precision"]
    return f"{side['backend']} {executed}"


def _figure_row(name: str, pair: Row) -> tuple[str, ...]:
    before, after = pair["original"], pair["quantized"]
    if name in {"model_size_mb", "latency_ms_p50", "latency_ms_p95"}:
        change = f"{pair['ratio']:.2f}× less" if pair["ratio"] and pair["ratio"] >= 1 else _times(pair)
    else:
        change = f"{after - before:+.3f}"
        if "low" in pair:
            change += f" ({pair['low']:+.3f} to {pair['high']:+.3f})"
    return name, format_metric(name, before), format_metric(name, after), change


def _times(pair: Row) -> str:
    return f"{1 / pair['ratio']:.2f}× more" if pair["ratio"] else "–"


def _speed_cells(row: Row, ratios: Mapping[str, Row]) -> tuple[str, ...]:
    if row["status"] != "ok":
        return (row["label"], "–", str(row["reason"] or row["status"]))
    ratio = ratios.get(row["role"])
    span = f"{min(row['rounds']):.0f} to {max(row['rounds']):.0f}" if len(row["rounds"]) > 1 else ""
    said = f"the quantized model does {ratio['ratio']:.2f}× of it" if ratio else ""
    return (row["label"], f"{row['images_per_s']:.0f} images/s", span, said)
