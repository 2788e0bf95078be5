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

__all__ = ["RULES_FILE", "SILENT", "STATISTICS", "AlertRule", "AlertRules", "OptimizerLimits"]

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
