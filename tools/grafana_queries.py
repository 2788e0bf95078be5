r"""The SQL of Grafana's dashboards: PostgreSQL with Grafana's macros (``$__timeFilter``) and variables (``${site}``).

A variable always stands as ``${name:sqlstring}``, which quotes each value. Newer versions of Grafana write a double
quote in it as ``\"``, so both forms are held against a column; ``'*'`` is what *All* stands for.
"""

from __future__ import annotations

from pathlib import Path

from guardianflow.core.metrics import CATALOGUE, Direction
from guardianflow.dashboard.alert_rules import SILENT, AlertRule, AlertRules
from guardianflow.dashboard.site_figures import ACCURACY, LABELLED, LIVE
from guardianflow.runs.run_records import STALE_AFTER

RULES = AlertRules.load(Path(__file__).resolve().parents[1] / "guardianflow" / "dashboard" / "alerts.yaml").rules
ALL = "'*'"
_MOVES = "('promote', 'rollback')"
_HINTS = ", ".join(f"'{spec.name}'" for spec in CATALOGUE.values() if spec.direction is Direction.NEITHER)
SHOWN_LIVE = ("latency_ms_p95", "throughput_fps", "gpu_util")


def rule_of(metric: str, source: str) -> AlertRule | None:
    """The shipped alert rule about a metric."""
    return next((rule for rule in RULES if (rule.metric, rule.source) == (metric, source)), None)


_ACCURACY = rule_of(ACCURACY, LABELLED)
_SILENCE = rule_of(SILENT, LIVE)
assert _ACCURACY
assert _SILENCE
SILENCE_S = int(_SILENCE.bound)


def among(column: str, variable: str) -> str:
    """Whether a column is one of a variable's values."""
    values = f"ANY(ARRAY[${{{variable}:sqlstring}}]::text[])"
    # With '*' the planner drops the whole condition; all in one `&&` would cost seconds on a million rows.
    return f"""('*' = {values} OR {column} = {values} OR replace({column}, '"', '\\"') = {values})"""


PLACES = " AND ".join(among(name, name) for name in ("site", "camera", "model"))


def choices(column: str, table: str = "gf_metric_records", where: str = "true") -> str:
    """What a variable offers."""
    return f"SELECT DISTINCT {column} FROM {table} WHERE {column} <> '' AND {where} ORDER BY 1"


def address(name: str, usual: str) -> str:
    """Where a link leads: what the reading role was given, else this machine."""
    return f"SELECT coalesce(nullif(current_setting('guardianflow.{name}', true), ''), '{usual}')"


def trend(metric: str, source: str, by: str, *, where: str = PLACES) -> str:
    """Means of time buckets: a line a place."""
    return f"""
SELECT $__timeGroupAlias(time, $__interval), coalesce(nullif(concat_ws(' · ', {by}), ''), 'no name') AS metric,
  avg(value) AS value
FROM gf_metric_records
WHERE metric = '{metric}' AND source {source} AND value IS NOT NULL AND $__timeFilter(time) AND {where}
GROUP BY 1, 2 ORDER BY 1, 2""".strip()


PROMOTIONS = f"""
SELECT time, name AS tags,
  concat_ws(' ', name, 'version', champion, 'in charge:', action, 'by', actor) || coalesce(': ' || reason, '') AS text
FROM gf_model_events
WHERE action IN {_MOVES} AND $__timeFilter(time) AND {among("name", "model")}
ORDER BY time""".strip()

# --- the fleet: the same rules as guardianflow/dashboard/fleet.py ---------------------------------------------------

_MOMENT = """to_char({} AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI "UTC"')"""
CAMERAS = f"""
WITH figures AS (
  SELECT site, coalesce(camera, '') AS camera, coalesce(model, '') AS model, metric, source, value, time, id
  FROM gf_metric_records LEFT JOIN gf_model_states ON name = model
  WHERE site <> '' AND value IS NOT NULL AND time <= now() AND (
      metric = '{ACCURACY}' AND source = '{LABELLED}' AND time >= now() - interval '365 days'
      OR metric IN {SHOWN_LIVE} AND source = '{LIVE}' AND time >= now() - interval '1 hour')
    AND (coalesce(version, '') = '' OR champion IS NULL OR version = champion)
), labelled AS (
  SELECT DISTINCT ON (site, camera, model) site, camera, model, value, time
  FROM figures WHERE source = '{LABELLED}' ORDER BY site, camera, model, time DESC, id DESC
), live AS (
  SELECT site, camera, model, metric, percentile_cont(0.5) WITHIN GROUP (ORDER BY value) AS value
  FROM figures WHERE source = '{LIVE}' GROUP BY 1, 2, 3, 4
), seen AS (
  SELECT site, coalesce(camera, '') AS camera, coalesce(model, '') AS model, max(time) AS time
  FROM gf_metric_records
  WHERE source = '{LIVE}' AND site <> '' AND time BETWEEN now() - interval '30 days' AND now() GROUP BY 1, 2, 3
), alerts AS (
  SELECT site, coalesce(camera, '') AS camera, coalesce(model, '') AS model, metric, state, since,
    metric = '{SILENT}' AS silent, metric IN ({_HINTS}) AND facts->>'when' LIKE '% <%' AS hint,
    (facts->>'when') || ' (' || round(value::numeric, 3) || ')' AS said
  FROM gf_alerts WHERE state <> 'resolved' AND site <> ''
), wholes AS (
  SELECT site, camera, model FROM labelled UNION SELECT site, camera, model FROM live
  UNION SELECT site, camera, model FROM seen UNION SELECT site, camera, model FROM alerts
), alone AS (
  SELECT site, max(model) AS only_model FROM wholes WHERE model <> '' GROUP BY site HAVING count(DISTINCT model) = 1
), named AS (
  SELECT site, camera, model AS said_model, coalesce(nullif(model, ''), only_model, '') AS model
  FROM wholes LEFT JOIN alone USING (site)
), parts AS (
  SELECT DISTINCT site, camera, model FROM named
  WHERE camera <> '' OR NOT EXISTS (
    SELECT FROM named AS other WHERE other.site = named.site AND other.model = named.model AND other.camera <> '')
), facts AS (
  SELECT part.*, accuracy.value AS accuracy, accuracy.time AS measured,
    (SELECT max(time) FROM seen JOIN named USING (site, camera) WHERE seen.model = said_model
      AND (site, camera, named.model) = (part.site, part.camera, part.model)) AS last_seen,
    count(*) FILTER (WHERE alert.state = 'firing' AND NOT alert.silent AND NOT alert.hint) AS trouble,
    count(*) FILTER (WHERE alert.silent) AS silent,
    count(*) FILTER (WHERE alert.state = 'firing' AND alert.metric = '{ACCURACY}') AS inaccurate,
    min(alert.since) FILTER (WHERE alert.state = 'firing' AND NOT alert.silent AND NOT alert.hint) AS since,
    string_agg(DISTINCT alert.said, '; ') FILTER (WHERE alert.state = 'firing' AND NOT alert.silent AND NOT alert.hint)
      AS broken
  FROM parts AS part
  LEFT JOIN LATERAL (
    SELECT value, time FROM labelled JOIN named USING (site, camera)
    WHERE labelled.model = said_model AND site = part.site AND named.model = part.model AND camera IN (part.camera, '')
    ORDER BY camera = part.camera DESC, time DESC LIMIT 1) AS accuracy ON true
  LEFT JOIN LATERAL (
    SELECT alerts.* FROM alerts JOIN named USING (site, camera)
    WHERE alerts.model = said_model AND site = part.site AND named.model = part.model AND camera IN (part.camera, '')
  ) AS alert ON true
  GROUP BY part.site, part.camera, part.model, accuracy.value, accuracy.time
), judged AS (
  SELECT *, CASE
      WHEN trouble > 0 THEN 'broken'
      WHEN silent > 0 OR last_seen < now() - interval '{SILENCE_S} seconds' THEN 'silent'
      WHEN accuracy IS NULL THEN 'not measured'
      WHEN measured < now() - interval '{_ACCURACY.window_s:.0f} seconds' THEN 'measured long ago'
      WHEN inaccurate = 0 AND accuracy {_ACCURACY.op} {_ACCURACY.bound} THEN 'pending'
      ELSE 'well' END AS reason
  FROM facts
), cameras AS (
  SELECT site, camera, model, champion AS version,
    CASE reason WHEN 'broken' THEN 'unwell' WHEN 'well' THEN 'well' ELSE 'unknown' END AS state,
    CASE reason WHEN 'broken' THEN broken WHEN 'well' THEN 'measured, and no rule is broken'
      WHEN 'silent' THEN 'nothing heard since ' || coalesce({_MOMENT.format("last_seen")}, 'it is watched')
      WHEN 'not measured' THEN 'never measured here with the version in charge'
      WHEN 'measured long ago' THEN 'last measured ' || {_MOMENT.format("measured")}
      ELSE '{_ACCURACY.when}, for less time than the rule asks' END AS why,
    since, accuracy AS map50, measured, last_seen,
    {", ".join(f'''(SELECT max(value) FROM live JOIN named USING (site, camera) WHERE live.model = said_model
      AND (site, camera, named.model) = (judged.site, judged.camera, judged.model) AND metric = '{name}') AS {name}'''
      for name in SHOWN_LIVE)}
  FROM judged LEFT JOIN gf_model_states ON name = model
)""".strip()  # fmt: skip
_WORST = "CASE state WHEN 'unwell' THEN 0 WHEN 'unknown' THEN 1 ELSE 2 END"

CAMERA_TABLE = f"""{CAMERAS}
SELECT * FROM cameras WHERE {PLACES} ORDER BY {_WORST}, site, camera"""

SITE_STATES = f"""{CAMERAS}, sites AS (
  SELECT site, (array_agg(state ORDER BY {_WORST}))[1] AS state,
    string_agg(DISTINCT nullif(concat_ws(': ', nullif(camera, ''), why), ''), '; ') FILTER (WHERE state <> 'well')
      AS why, min(since) AS since, string_agg(DISTINCT concat_ws(' version ', model, version), ', ') AS models,
    count(*) AS cameras, min(map50) AS map50, min(measured) AS measured, max(last_seen) AS last_seen
  FROM cameras WHERE {PLACES} GROUP BY site
)
"""
SITE_TABLE = f"""{SITE_STATES}
SELECT site, state, coalesce(why, 'measured, and no rule is broken') AS why, since, models, cameras, map50, measured,
  last_seen FROM sites ORDER BY {_WORST}, site"""
SITE_COUNTS = f"""{SITE_STATES}
SELECT count(*) FILTER (WHERE state = 'unwell') AS unwell, count(*) FILTER (WHERE state = 'unknown') AS unknown,
  count(*) FILTER (WHERE state = 'well') AS well FROM sites"""

# --- a model --------------------------------------------------------------------------------------------------------

ALIASES = f"""
SELECT name AS model, champion, candidate, rollback, updated FROM gf_model_states
WHERE {among("name", "model")} ORDER BY name""".strip()
VERSIONS = f"""
SELECT v.name AS model, v.version, CASE v.version WHEN s.champion THEN 'in charge' WHEN s.candidate THEN 'candidate'
    WHEN s.rollback THEN 'rollback' ELSE v.status END AS state,
  v.created, v.created_by, v.format, v.backend, v.precision, v.imgsz, v.size_bytes / 1e6 AS model_size_mb,
  (v.metrics->>'map50')::float AS map50, (v.metrics->>'map50_95')::float AS map50_95, v.run_id
FROM gf_model_versions v LEFT JOIN gf_model_states s ON s.name = v.name
WHERE {among("v.name", "model")} AND v.status <> 'deleted' ORDER BY v.created DESC""".strip()
LEDGER = f"""
SELECT time, name AS model, action, version, champion, actor, reason FROM gf_model_events
WHERE {among("name", "model")} AND $__timeFilter(time) ORDER BY id DESC LIMIT 500""".strip()
EVALUATIONS = f"""
SELECT e.time, v.name AS model, v.version, left(e.dataset_fingerprint, 8) AS dataset, e.split, e.images, e.backend,
  e.precision, e.imgsz, e.device, (e.metrics->>'map50')::float AS map50, (e.metrics->>'map50_95')::float AS map50_95
FROM gf_model_evaluations e JOIN gf_model_versions v ON v.sha256 = e.sha256
WHERE {among("v.name", "model")} AND $__timeFilter(e.time) ORDER BY e.time DESC LIMIT 500""".strip()
MEASURED = f"{PLACES} AND {among('version', 'version')} AND {among('source', 'source')}"
_ROWS = ", ".join(f"('{spec.name}', '{spec.unit}', '{spec.direction.value}')" for spec in CATALOGUE.values())
SUMMARY = f"""
SELECT metric, version, site, camera, source, count, mean, min, max, quantiles[1] AS p50, quantiles[2] AS p95, invalid,
  last[3] AS last, last_time, unit, better
FROM (
  SELECT metric, version, site, camera, source, count(value) AS count, avg(value) AS mean, min(value) AS min,
    max(value) AS max, percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY value) AS quantiles,
    count(invalid) AS invalid, max(time) FILTER (WHERE value IS NOT NULL) AS last_time,
    max(ARRAY[extract(epoch FROM time)::float, id, value]) FILTER (WHERE value IS NOT NULL) AS last
  FROM gf_metric_records WHERE $__timeFilter(time) AND {MEASURED} GROUP BY 1, 2, 3, 4, 5
) AS measured LEFT JOIN (VALUES {_ROWS}) AS catalogue(metric, unit, better) USING (metric)
ORDER BY 1, 2, 3, 4, 5""".strip()

# --- trainings ------------------------------------------------------------------------------------------------------

_RUNS = f"""
WITH runs AS (
  SELECT run_id, experiment, kind, reason, actor, host, heartbeat, started, ended, progress,
    CASE WHEN status = 'RUNNING' AND heartbeat < now() - interval '{STALE_AFTER.total_seconds():.0f} seconds'
    THEN 'SILENT' ELSE status END AS state
  FROM gf_run_records
  WHERE started <= $__timeTo() AND coalesce(ended, now()) >= $__timeFrom() AND {among("experiment", "experiment")}
)""".strip()
RUN_COUNTS = f"""{_RUNS}
SELECT {", ".join(f"count(*) FILTER (WHERE state = '{state.upper()}') AS {state}"
  for state in ("running", "silent", "finished", "failed", "killed"))} FROM runs"""  # fmt: skip
RUNS = f"""{_RUNS}
SELECT started, experiment, kind, state, ((progress->>'done')::float + coalesce((progress->>'part')::float, 0))
    / nullif((progress->>'total')::float, 0) AS progress, coalesce(reason, progress->>'note') AS note, actor, host,
  extract(epoch FROM coalesce(ended, heartbeat) - started) AS seconds, run_id
FROM runs ORDER BY state <> 'RUNNING', started DESC LIMIT 500"""
RESULT_METRICS = ("map50", "map50_95", "precision", "recall", "train_seconds", "train_images_per_s", "peak_gpu_mem_mb")
RESULTS = f"""
SELECT max(time) AS ended, experiment, model, {", ".join(f"max(value) FILTER (WHERE metric = '{name}') AS {name}"
  for name in RESULT_METRICS)}, run_id
FROM gf_metric_records
WHERE source = 'training' AND tags->>'epoch' = 'final' AND $__timeFilter(time) AND {among("experiment", "experiment")}
GROUP BY experiment, model, run_id ORDER BY 1 DESC LIMIT 500""".strip()  # fmt: skip
_TRAININGS = f"""runs JOIN experiments USING (experiment_id)
  WHERE runs.lifecycle_stage = 'active' AND {among("experiments.name", "experiment")}
    AND start_time <= $__unixEpochTo() * 1000::bigint
    AND (end_time IS NULL OR end_time >= $__unixEpochFrom() * 1000::bigint)"""
CURVE_NAMES = f"""
SELECT DISTINCT key FROM latest_metrics WHERE run_uuid IN (SELECT run_uuid FROM {_TRAININGS}) ORDER BY 1""".strip()
CURVES = f"""
SELECT DISTINCT ON (step, run) step, concat_ws(' ', run.name, left(run_uuid, 6)) AS run, value
FROM metrics JOIN (SELECT run_uuid, runs.name FROM {_TRAININGS}
  ORDER BY start_time DESC LIMIT 12) AS run USING (run_uuid)
WHERE NOT is_nan AND {among("key", "curve")}
ORDER BY step, run, timestamp DESC""".strip()

# --- alerts ---------------------------------------------------------------------------------------------------------

ALERT_COUNTS = f"""
SELECT count(*) FILTER (WHERE state = 'firing') AS firing, count(*) FILTER (WHERE state = 'pending') AS pending,
  count(*) FILTER (WHERE state = 'firing' AND acked IS NULL) AS known_to_nobody,
  (SELECT count(*) FROM gf_recommendations WHERE state IN ('open', 'waiting', 'failed') AND {PLACES})
    AS advice_to_decide
FROM gf_alerts WHERE {PLACES}""".strip()
_FOUND = "id, state, rule, facts->>'when' AS \"when\", value, model, site, camera"
OPEN_ALERTS = f"""
SELECT {_FOUND}, since, fired, acked_by FROM gf_alerts
WHERE state <> 'resolved' AND {PLACES} ORDER BY state, since""".strip()
PAST_ALERTS = f"""
SELECT {_FOUND}, fired, resolved, extract(epoch FROM resolved - fired) AS seconds, ended_by, acked_by FROM gf_alerts
WHERE state = 'resolved' AND fired <= $__timeTo() AND resolved >= $__timeFrom() AND {PLACES}
ORDER BY resolved DESC LIMIT 500""".strip()
FIRING = f"""
SELECT moment AS time, rule AS metric, count(*) AS value
FROM generate_series($__timeFrom()::timestamptz, least($__timeTo()::timestamptz, now()),
    make_interval(secs => $__interval_ms / 1000.0)) AS moment
  JOIN gf_alerts ON fired <= moment AND (resolved IS NULL OR resolved > moment)
WHERE {PLACES} GROUP BY 1, 2 ORDER BY 1, 2""".strip()
ADVICE = f"""
SELECT id, state, action, model, site, camera, facts->>'why' AS why, created, actor,
  coalesce(outcome->>'said', reason) AS what_came_of_it
FROM gf_recommendations
WHERE (created <= $__timeTo() AND created >= $__timeFrom() OR state IN ('open', 'applying', 'waiting', 'failed'))
  AND {PLACES} ORDER BY id DESC LIMIT 500""".strip()
