"""Verbs about the metrics store: metrics query, summary, trend, compare, export."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from guardianflow.text.option_values import moment_of
from guardianflow.verbs.frame import Json, full_run_id, verb

if TYPE_CHECKING:
    from guardianflow.dashboard.aggregates import Labelled
    from guardianflow.dashboard.metrics_store import MetricsStore

__all__ = ["metrics_app"]

metrics_app = typer.Typer(
    name="metrics",
    help="Measurements in the metrics store: rows, figures, trends, comparisons, export.",
    invoke_without_command=True,
)

MetricNames = Annotated[list[str] | None, typer.Option("--metric", "-m", help="Metric name; may be repeated.")]
Metric = Annotated[str, typer.Argument(metavar="METRIC", help="Metric name, such as map50.")]
OfModel = Annotated[str | None, typer.Option("--model", help="Registered model name.")]
OfVersion = Annotated[str | None, typer.Option("--version", help="Its version.")]
OfSite = Annotated[str | None, typer.Option("--site", help="Site name.")]
OfCamera = Annotated[str | None, typer.Option("--camera", help="Camera name.")]
OfExperiment = Annotated[str | None, typer.Option("--experiment", "-e", help="Experiment name.")]
OfRun = Annotated[str | None, typer.Option("--run", metavar="RUN_ID", help="Run id.")]
OfSource = Annotated[
    str | None, typer.Option("--source", help="Who measured it: training, inference, service, system …")
]
Start = Annotated[str | None, typer.Option("--start", metavar="TIME", help="From this time on (ISO 8601).")]
End = Annotated[str | None, typer.Option("--end", metavar="TIME", help="Before this time (ISO 8601).")]


def _store() -> MetricsStore:
    from guardianflow.core.config import Settings
    from guardianflow.dashboard.metrics_store import MetricsStore

    return MetricsStore(Settings().database_url)


def _where(*, start: str | None, end: str | None, run: str | None = None, **labels: str | None) -> Labelled:
    """The filters of a question, as typed."""
    times = {name: moment_of(text) for name, text in (("start", start), ("end", end)) if text}
    return cast("Labelled", {**labels, **times, "run_id": full_run_id(run) if run else None})


def _show(frame: Any, *, as_json: bool, **more: Any) -> None:
    from guardianflow import listing
    from guardianflow.console import print_json, print_table

    table = listing.figures_table(frame)
    if as_json:
        print_json({**more, "rows": table.items})
    else:
        print_table(table.columns, table.rows, empty=table.empty)


@verb
def query(
    context: typer.Context,
    metric: MetricNames = None,
    model: OfModel = None,
    site: OfSite = None,
    experiment: OfExperiment = None,
    run: OfRun = None,
    start: Start = None,
    end: End = None,
    limit: Annotated[int, typer.Option(help="At most so many, the newest.", min=1)] = 50,
    invalid: Annotated[bool, typer.Option("--invalid", help="Show values that are no numbers, too.")] = False,
    json: Json = False,
) -> None:
    """Show single measurements, the newest last."""
    if context.invoked_subcommand is not None:
        return
    from guardianflow import listing
    from guardianflow.console import print_json, print_table

    where = _where(run=run, start=start, end=end, model=model, site=site, experiment=experiment)
    table = listing.metrics_table(_store().query_metrics(**where, metric=metric, limit=limit, include_invalid=invalid))
    if json:
        print_json({"metrics": table.items})
    else:
        print_table(table.columns, table.rows, empty=table.empty)


@metrics_app.command("summary")
@verb
def summary(
    metric: MetricNames = None,
    model: OfModel = None,
    version: OfVersion = None,
    site: OfSite = None,
    camera: OfCamera = None,
    experiment: OfExperiment = None,
    run: OfRun = None,
    source: OfSource = None,
    start: Start = None,
    end: End = None,
    json: Json = False,
) -> None:
    """Show count, mean, range and quantiles of each metric by model, version, site and camera."""
    where = _where(
        run=run, start=start, end=end, model=model, version=version, site=site, camera=camera,
        experiment=experiment, source=source,
    )  # fmt: skip
    _show(_store().summary(**where, metric=metric), as_json=json)


@metrics_app.command("trend")
@verb
def trend(
    metric: Metric,
    model: OfModel = None,
    version: OfVersion = None,
    site: OfSite = None,
    camera: OfCamera = None,
    experiment: OfExperiment = None,
    run: OfRun = None,
    source: OfSource = None,
    start: Start = None,
    end: End = None,
    by: Annotated[list[str] | None, typer.Option("--by", help="A line for each value of this label.")] = None,
    points: Annotated[int, typer.Option(help="At most so many time buckets a line.", min=1)] = 30,
    json: Json = False,
) -> None:
    """Show how a metric went: its figures in each time bucket; a gap stays a gap."""
    where = _where(
        run=run, start=start, end=end, model=model, version=version, site=site, camera=camera,
        experiment=experiment, source=source,
    )  # fmt: skip
    frame = _store().trend(metric, by=by or (), points=points, **where)
    _show(frame, as_json=json, metric=metric, bucket_s=frame.attrs.get("bucket_s"))


@metrics_app.command("compare")
@verb
def compare(
    metric: Metric,
    by: Annotated[str, typer.Option("--by", help="What is compared: model, version, site, camera …")] = "version",
    baseline: Annotated[str | None, typer.Option("--baseline", help="What the others are held against.")] = None,
    model: OfModel = None,
    version: OfVersion = None,
    site: OfSite = None,
    camera: OfCamera = None,
    experiment: OfExperiment = None,
    source: OfSource = None,
    start: Start = None,
    end: End = None,
    json: Json = False,
) -> None:
    """Show models, versions or sites side by side, against a baseline."""
    where = _where(
        start=start, end=end, model=model, version=version, site=site, camera=camera,
        experiment=experiment, source=source,
    )  # fmt: skip
    from guardianflow.console import say
    from guardianflow.core.metrics import CATALOGUE

    frame = _store().comparison(metric, by=by, baseline=baseline, **where)
    _show(frame, as_json=json, metric=metric, by=by, baseline=baseline)
    if metric in CATALOGUE and len(frame) > 1:
        say(f"{CATALOGUE[metric].description}; better: {CATALOGUE[metric].direction.value}")


@metrics_app.command("export")
@verb
def export(
    target: Annotated[str, typer.Argument(metavar="FILE", help="Parquet file, or s3://bucket/key; it is replaced.")],
    metric: MetricNames = None,
    model: OfModel = None,
    site: OfSite = None,
    experiment: OfExperiment = None,
    start: Start = None,
    end: End = None,
    json: Json = False,
) -> None:
    """Write measurements to a Parquet file."""
    from guardianflow.console import print_json, say

    where = _where(start=start, end=end, model=model, site=site, experiment=experiment)
    rows = _store().export_to_parquet(target, **where, metric=metric)
    if json:
        print_json({"file": str(target), "rows": rows})
    else:
        say(f"{rows:,} measurements in {target}")


metrics_app.callback(invoke_without_command=True)(query)
metrics_app.command("query")(query)
