"""Alert rules as a YAML file says them: which figure of a series, held against which bound, for how long."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guardianflow.core.config import Settings
from guardianflow.core.metrics import CATALOGUE, Direction, legal_metric_name
from guardianflow.exceptions import ConfigError
from guardianflow.files.yaml_safety import load_yaml_mapping
from guardianflow.text.names import validate_name
from guardianflow.text.printable import printable

__all__ = ["RULES_FILE", "SILENT", "STATISTICS", "AlertRule", "AlertRules", "OptimizerLimits", "span_text"]

RULES_FILE = "alerts.yaml"
SILENT = "silent"
"""What stands as metric of a rule about series that stopped reporting."""

STATISTICS = ("last", "mean", "p50", "p95", "min", "max")
_SHIPPED = Path(__file__).with_name(RULES_FILE)
_WHEN = re.compile(r"(?P<metric>\S.*?)\s*(?P<op><=|>=|<|>)\s*(?P<bound>\S+)")
_OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    "<": lambda value, bound: value < bound,
    "<=": lambda value, bound: value <= bound,
    ">": lambda value, bound: value > bound,
    ">=": lambda value, bound: value >= bound,
}
_UNITS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
_DURATION = re.compile("".join(rf"(?:(?P<{unit}>\d{{1,9}}){unit})?" for unit in _UNITS), re.ASCII)
_LONGEST = 3_650 * 86_400


@dataclass(frozen=True)
class AlertRule:
    """When a series is not as it should be. A series is what a model, site and camera reported.

    Attributes:
        name: Unique among the rules.
        metric: What is looked at; :data:`SILENT` for a rule about series that stopped reporting.
        op: ``<``, ``<=``, ``>`` or ``>=``.
        bound: What the value is held against, in the metric's unit; of a silence rule ``after`` in seconds.
        source: Which figures count: ``"inference"`` (measured on labelled images), ``"service"`` (live) …
        statistic: Which figure of the window is the value, of :data:`STATISTICS`.
        window_s: How far back figures count; of a silence rule, how long a series is remembered.
        at_least: With fewer figures in the window the value is unknown.
        for_s: How long it must hold before the alert fires.
        keep_firing_for_s: How long it must have stopped before a firing alert is resolved.
        advise: Actions to advise, the best first; may be empty.
    """

    name: str
    metric: str
    op: str
    bound: float
    source: str
    statistic: str = "last"
    window_s: float = 3_600.0
    at_least: int = 1
    for_s: float = 0.0
    keep_firing_for_s: float = 0.0
    advise: tuple[str, ...] = ()

    @property
    def is_silence(self) -> bool:
        """Whether it is about series that stopped reporting."""
        return self.metric == SILENT

    @property
    def when(self) -> str:
        """``"map50 < 0.75"``, or ``"silent"``."""
        return SILENT if self.is_silence else f"{self.metric} {self.op} {self.bound:g}"

    def holds(self, value: float) -> bool:
        """Whether the rule's sentence is true of a value."""
        return _OPERATORS[self.op](value, self.bound)


@dataclass(frozen=True)
class OptimizerLimits:
    """How much may be done without asking anew.

    Attributes:
        cooldown_s: The same action for the same model not again within so many seconds.
        daily_budget: So many applications within 24 hours.
    """

    cooldown_s: float = 86_400.0
    daily_budget: int = 3


@dataclass(frozen=True)
class AlertRules:
    """The rules of a file.

    Attributes:
        rules: In the file's order.
        limits: The file's section ``optimizer``.
        text: The file, for showing.
        path: Where it lies.
        remarks: What stands there and is probably not what was meant.
    """

    rules: tuple[AlertRule, ...]
    limits: OptimizerLimits = OptimizerLimits()
    text: str = ""
    path: Path | None = None
    remarks: tuple[str, ...] = ()

    @classmethod
    def load(cls, path: str | Path | None = None, *, settings: Settings | None = None) -> AlertRules:
        """Read a rules file.

        Args:
            path: The file. Default: ``alerts.yaml`` in the work folder where there is one, else the shipped rules.
            settings: Where the work folder is. Default: the environment's.

        Raises:
            ConfigError: One sentence with the file, the line, what stands there and what to write.
            DatasetError: It can't be read as YAML.
        """
        file = Path(path).expanduser() if path is not None else (settings or Settings()).work_dir / RULES_FILE
        if path is None and not file.exists():
            file = _SHIPPED
        lines: dict[tuple[str, ...], int] = {}
        values = load_yaml_mapping(file, what="rules file", lines=lines)
        reader = _Reader(file, lines)
        reader.only(values, (), ("rules", "optimizer"))
        rules = tuple(reader.rules(values.get("rules")))
        limits = reader.limits(values.get("optimizer"))
        text = file.read_text(encoding="utf-8-sig")
        return cls(rules=rules, limits=limits, text=text, path=file, remarks=tuple(_remarks(rules, file)))

    def get(self, name: str) -> AlertRule | None:
        """The rule of a name, or ``None``."""
        return next((rule for rule in self.rules if rule.name == name), None)


def span_text(seconds: float) -> str:
    """Seconds as a rules file writes them: ``"1d12h"``."""
    parts, rest = "", round(seconds)
    for unit, size in _UNITS.items():
        count, rest = divmod(rest, size)
        parts += f"{count}{unit}" if count else ""
    return parts or "0s"


def _remarks(rules: tuple[AlertRule, ...], file: Path) -> Iterator[str]:
    """Rules that can be meant as they stand, and seldom are."""
    if not rules:
        yield f"{printable(file)} holds no rule, so no alert will ever come of it"
    for rule in rules:
        known = CATALOGUE.get(rule.metric)
        begin = f"rule {rule.name} ({rule.when})"
        if known is None and not rule.is_silence:
            close = difflib.get_close_matches(rule.metric, CATALOGUE, n=1)
            yield f"{begin}: {rule.metric} is no metric of ours" + (f"; did you mean {close[0]}?" if close else "")
        elif known and known.direction is (Direction.LOWER if rule.op.startswith("<") else Direction.HIGHER):
            yield f"{begin} fires while the figure is good: of {rule.metric}, {known.direction.value} is better"
        elif known and known.unit == "percent" and 0 < rule.bound < 1:
            yield f"{begin}: {rule.metric} is a percentage of 0-100, and the bound is {rule.bound:g} %"


class _Reader:
    """Reads values of a rules file; every fault names the file and the line."""

    def __init__(self, file: Path, lines: Mapping[tuple[str, ...], int]) -> None:
        self._file = file
        self._lines = lines

    def rules(self, values: Any) -> Iterator[AlertRule]:
        """The rules, each with a name of its own."""
        if not isinstance(values, list):
            raise self._fault(("rules",), "rules must be a list of rules, each beginning with `- name: …`", values)
        seen: dict[str, int] = {}
        for number, value in enumerate(values):
            place = ("rules", str(number))
            rule = self._rule(value, place)
            line = self._line(place)
            if seen.setdefault(rule.name, line) != line:
                raise self._fault((*place, "name"), f"the rule of line {seen[rule.name]} has that name, too", rule.name)
            yield rule

    def limits(self, values: Any) -> OptimizerLimits:
        """The section ``optimizer``."""
        place = ("optimizer",)
        if values is None:
            return OptimizerLimits()
        self.only(values, place, ("cooldown", "daily_budget"))
        usual = OptimizerLimits()
        return OptimizerLimits(
            cooldown_s=self._duration(values, place, "cooldown", usual.cooldown_s),
            daily_budget=self._count(values, place, "daily_budget", usual.daily_budget, least=0),
        )

    def only(self, values: Any, place: tuple[str, ...], known: tuple[str, ...]) -> None:
        """Refuse what is no mapping, and keys that nobody reads."""
        if not isinstance(values, dict):
            raise self._fault(place, f"it must hold lines such as `{known[0]}: …`", values)
        for key in values:
            if key not in known:
                close = difflib.get_close_matches(str(key), known, n=1)
                hint = f"did you mean {close[0]}? " if close else ""
                raise self._fault(
                    (*place, str(key)), f"there is no such key here; {hint}known: {', '.join(known)}", key
                )

    def _rule(self, values: Any, place: tuple[str, ...]) -> AlertRule:
        if not isinstance(values, dict):
            raise self._fault(place, "a rule holds lines such as `name: …`", values)
        when = self._text(values, place, "when")
        if when.strip() == SILENT:
            self.only(values, place, ("name", "when", "source", "after", "remember"))
            after = self._duration(values, place, "after", None)
            remember = self._duration(values, place, "remember", 30 * 86_400.0)
            if not 0 < after < remember:
                raise self._fault(
                    (*place, "after"), "after must be longer than 0 s and shorter than remember", values["after"]
                )
            metric, op, bound = SILENT, ">", after
            rest: dict[str, Any] = {"window_s": remember}
        else:
            names = ("name", "when", "source", "statistic", "window", "at_least", "for", "keep_firing_for", "advise")
            self.only(values, place, names)
            metric, op, bound = self._comparison(when, (*place, "when"))
            rest = {
                "statistic": self._one_of(values, place, "statistic", STATISTICS),
                "window_s": self._duration(values, place, "window", 3_600.0, least=1.0),
                "at_least": self._count(values, place, "at_least", 1, least=1),
                "for_s": self._duration(values, place, "for", 0.0),
                "keep_firing_for_s": self._duration(values, place, "keep_firing_for", 0.0),
                "advise": self._names(values, place, "advise"),
            }
        name = validate_name(self._text(values, place, "name"), f"{self._where((*place, 'name'))}: rule name")
        source = self._text(values, place, "source")
        return AlertRule(name=name, metric=metric, op=op, bound=bound, source=source, **rest)

    def _comparison(self, text: str, place: tuple[str, ...]) -> tuple[str, str, float]:
        match = _WHEN.fullmatch(text.strip())
        try:
            bound = float(match["bound"]) if match else math.nan
        except ValueError:
            bound = math.nan
        if match is None or not math.isfinite(bound) or match["metric"] != legal_metric_name(match["metric"]):
            raise self._fault(place, "when must be a metric, one of < <= > >= and a number, or `silent`", text)
        known = CATALOGUE.get(match["metric"])
        if known and known.unit == "fraction" and bound > 1:
            advice = f"{known.name} is a fraction of 0-1; write {bound / 100:g} for {bound:g} %"
            raise self._fault(place, advice, text)
        return match["metric"], match["op"], bound

    def _text(self, values: Mapping[Any, Any], place: tuple[str, ...], key: str) -> str:
        value = values.get(key)
        if not isinstance(value, str) or not value.strip():
            missing = "is missing" if key not in values else "must be text"
            raise self._fault((*place, key), f"{key} {missing}; a word such as no or 7 is text in quotes", value)
        return value

    def _one_of(self, values: Mapping[Any, Any], place: tuple[str, ...], key: str, known: tuple[str, ...]) -> str:
        value = values.get(key, known[0])
        if value not in known:
            raise self._fault((*place, key), f"{key} must be one of {', '.join(known)}", value)
        return str(value)

    def _count(self, values: Mapping[Any, Any], place: tuple[str, ...], key: str, usual: int, *, least: int) -> int:
        value = values.get(key, usual)
        if type(value) is not int or not least <= value <= 1_000_000:
            raise self._fault((*place, key), f"{key} must be a whole number of at least {least}", value)
        return value

    def _duration(
        self, values: Mapping[Any, Any], place: tuple[str, ...], key: str, usual: float | None, *, least: float = 0.0
    ) -> float:
        """Prometheus' form: ``1d12h``, ``90s``; a bare number has no unit, and only 0 needs none."""
        value = values.get(key, usual)
        if key not in values and usual is not None:
            return usual
        match = _DURATION.fullmatch("0s" if value in (0, "0") and value is not False else str(value))
        parts = {unit: int(text) for unit, text in match.groupdict().items() if text} if match else {}
        seconds = float(sum(_UNITS[unit] * count for unit, count in parts.items()))
        if not parts or not least <= seconds <= _LONGEST:
            raise self._fault((*place, key), f"{key} must be a duration such as 90s, 10m, 1h30m or 7d", value)
        return seconds

    def _names(self, values: Mapping[Any, Any], place: tuple[str, ...], key: str) -> tuple[str, ...]:
        found = values.get(key, [])
        if not isinstance(found, list) or not all(isinstance(name, str) and name.isidentifier() for name in found):
            raise self._fault((*place, key), f"{key} must be a list of actions such as [roll_back, retrain]", found)
        if len(set(found)) < len(found):
            raise self._fault((*place, key), f"{key} names an action twice", found)
        return tuple(found)

    def _line(self, place: tuple[str, ...]) -> int:
        known = next((place[:count] for count in range(len(place), 0, -1) if place[:count] in self._lines), None)
        return self._lines[known] if known else 1

    def _where(self, place: tuple[str, ...]) -> str:
        return f"{printable(self._file)}:{self._line(place)}"

    def _fault(self, place: tuple[str, ...], rule: str, value: Any) -> ConfigError:
        shown = "nothing" if value is None else printable(repr(value))
        return ConfigError(f"{self._where(place)}: {rule}; there stands {shown}")
