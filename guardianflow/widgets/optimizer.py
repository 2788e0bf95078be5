"""The optimizer page as a widget: alerts, advice to decide on, what was done and whether it helped."""

from __future__ import annotations

from functools import partial
from typing import Any

import ipywidgets

from guardianflow.core.config import Settings
from guardianflow.dashboard.alerts import Alert
from guardianflow.dashboard.decisions import Decisions, decisions
from guardianflow.dashboard.optimizer_page import alerts_html, done_html, headline, recommendation_html
from guardianflow.dashboard.page_frame import dead_html, paragraphs, top_html
from guardianflow.dashboard.recommendations import Recommendation, State
from guardianflow.text.printable import escape
from guardianflow.widgets.page import DecidingPage, classed, refill

__all__ = ["OptimizerPanel"]

_BUTTONS = {State.OPEN: "optimizer.apply", State.WAITING: "optimizer.put_in_charge", State.FAILED: "optimizer.go_on"}


class OptimizerPanel(DecidingPage):
    """Alerts and recommendations; who may decide (:mod:`guardianflow.widgets.page`) applies or dismisses.

    Example:
        ``OptimizerPanel()`` as the last line of a cell.
    """

    def __init__(self, settings: Settings | None = None, *, language: str | None = None, **options: Any) -> None:
        self._top, self._title, self._alerts, self._done = (ipywidgets.HTML() for _ in range(4))
        self._advice = ipywidgets.VBox()
        self._shown: tuple[Any, ...] | None = None
        super().__init__(settings, language=language, **options)

    def draw(self) -> None:
        """Read and show; what somebody is typing stays unless the advice itself has changed."""
        found = decisions(self.settings)
        self._found = found
        title = self.say("page.dead") if found.trouble else headline(found, self.language)
        top = top_html(title, page="optimizer", now=found.now, language=self.language, links=self.links)
        self._top.value = top + (dead_html(found.trouble, self.language) if found.trouble else "")
        if found.trouble:
            self.show(self._top)
            return
        self._alerts.value = alerts_html(found, self.language)
        self._done.value = done_html(found, self.language)
        self._draw_advice(found)
        who = (self.key_row,) if found.advice else ()
        self.show(self._top, self._title, *who, self._advice, self._said, self._alerts, self._done)

    def _draw_advice(self, found: Decisions) -> None:
        stand = tuple((item, alert.state) for item, alert in found.advice)
        if stand == self._shown:
            return
        self._shown = stand
        nothing = "" if found.advice else paragraphs([self.say("optimizer.no_advice")], "gf-soft gf-card")
        self._title.value = f"<h2>{escape(self.say('optimizer.advice'))}</h2>{nothing}"
        refill(self._advice, [self._card(item, alert) for item, alert in found.advice])

    def _card(self, item: Recommendation, alert: Alert) -> ipywidgets.Widget:
        text = ipywidgets.HTML(recommendation_html(item, alert, self._found.now, self.language))
        parts = [text]
        if item.state in _BUTTONS:
            why = ipywidgets.Text(placeholder=self.say("optimizer.reason"), continuous_update=False)
            apply = self.button(partial(self._apply, item.id), self.say(_BUTTONS[item.state]), style="primary")
            dismiss = self.button(partial(self._dismiss, item.id, why), self.say("optimizer.dismiss"))
            parts.append(classed(ipywidgets.HBox([apply, dismiss, why]), "gf-decide"))
        return classed(ipywidgets.VBox(parts), "gf-card", "gf-small", "gf-advised")

    def _apply(self, number: int) -> str:
        from guardianflow.dashboard.automation import AutoOptimizer

        key = self.require("operator")
        optimizer = AutoOptimizer(settings=self.settings)
        found = optimizer.start(number, actor=key.name, may_promote=key.may("promoter"))
        if found.state == State.APPLYING:
            return self.say("optimizer.started", id=number, name=found.actor)
        return self.say("optimizer.already", id=number, state=self.say(f"done.{found.state}"))

    def _dismiss(self, number: int, why: ipywidgets.Text) -> str:
        from guardianflow.dashboard.automation import AutoOptimizer

        key = self.require("operator")
        AutoOptimizer(settings=self.settings).dismiss(number, actor=key.name, reason=why.value)
        return self.say("optimizer.dismissed", id=number, name=key.name)
