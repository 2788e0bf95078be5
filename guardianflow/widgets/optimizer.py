"""The optimizer page as a widget: alerts, advice to decide on, what was done and whether it helped.

What a browser sends is believed nowhere. Which recommendation a button is about stands in this process, and each
decision asks the state database what the typed key may do, at the moment of the decision.
"""

from __future__ import annotations

from functools import partial
from html import escape
from typing import Any

import ipywidgets

from guardianflow.core.config import Settings, mask_secrets
from guardianflow.dashboard.alerts import Alert
from guardianflow.dashboard.decisions import Decisions, decisions
from guardianflow.dashboard.keys import Key, Keys
from guardianflow.dashboard.optimizer_page import alerts_html, done_html, headline, recommendation_html
from guardianflow.dashboard.page_frame import dead_html, paragraphs, top_html
from guardianflow.dashboard.recommendations import Recommendation, State
from guardianflow.exceptions import GuardianFlowError, RefusedError
from guardianflow.state.database import Database
from guardianflow.text.messages import say
from guardianflow.widgets.page import LINKS, Page

__all__ = ["OptimizerPanel"]

_BUTTONS = {State.OPEN: "optimizer.apply", State.WAITING: "optimizer.put_in_charge", State.FAILED: "optimizer.go_on"}


class OptimizerPanel(Page):
    """Alerts and recommendations; who types a key with the role for it may apply or dismiss.

    Example:
        ``OptimizerPanel()`` as the last line of a cell.
    """

    def __init__(self, settings: Settings | None = None, *, language: str | None = None, **options: Any) -> None:
        self._top, self._alerts, self._done, self._said, self._holder = (ipywidgets.HTML() for _ in range(5))
        self._key = ipywidgets.Password(placeholder="gf_…", continuous_update=False)
        self._advice = ipywidgets.VBox()
        self._shown: tuple[Any, ...] | None = None
        super().__init__(settings, language=language, **options)
        self.add_class("gf")
        self.add_class("gf-page")
        self._key.observe(lambda _: self._name_holder(), "value")
        self._name_holder()

    def draw(self) -> None:
        """Read and show; what somebody is typing stays unless the advice itself has changed."""
        found = decisions(self.settings)
        self._found = found
        title = say("page.dead", self.language) if found.trouble else headline(found, self.language)
        top = top_html(title, page="optimizer", now=found.now, language=self.language, links=LINKS)
        self._top.value = top + (dead_html(found.trouble, self.language) if found.trouble else "")
        if found.trouble:
            self.show(self._top)
            return
        self._alerts.value = alerts_html(found, self.language)
        self._done.value = done_html(found, self.language)
        self._draw_advice(found)
        self.show(self._top, self._advice, self._said, self._alerts, self._done)

    def _draw_advice(self, found: Decisions) -> None:
        stand = tuple((item, alert.state) for item, alert in found.advice)
        if stand == self._shown:
            return
        self._shown = stand
        title = escape(say("optimizer.advice", self.language))
        old = self._advice.children
        if not found.advice:
            nothing = paragraphs([say("optimizer.no_advice", self.language)], "gf-soft")
            parts = [ipywidgets.HTML(f'<h2>{title}</h2><div class="gf-card">{nothing}</div>')]
        else:
            cards = [self._card(item, alert) for item, alert in found.advice]
            parts = [ipywidgets.HTML(f"<h2>{title}</h2>"), self._key_row(), *cards]
        self._advice.children = parts
        for part in old:
            _close(part, keep=(self._key, self._holder))

    def _key_row(self) -> ipywidgets.Widget:
        label = ipywidgets.HTML(f"<b>{escape(say('optimizer.key', self.language))}</b>")
        return _classed(ipywidgets.HBox([label, self._key, self._holder]), "gf-key")

    def _card(self, item: Recommendation, alert: Alert) -> ipywidgets.Widget:
        text = ipywidgets.HTML(recommendation_html(item, alert, self._found.now, self.language))
        parts = [text]
        if item.state in _BUTTONS:
            apply = ipywidgets.Button(description=say(_BUTTONS[item.state], self.language), button_style="primary")
            dismiss = ipywidgets.Button(description=say("optimizer.dismiss", self.language))
            why = ipywidgets.Text(placeholder=say("optimizer.reason", self.language), continuous_update=False)
            apply.on_click(partial(self._decide, item.id, None))
            dismiss.on_click(partial(self._decide, item.id, why))
            parts.append(_classed(ipywidgets.HBox([apply, dismiss, why]), "gf-decide"))
        return _classed(ipywidgets.VBox(parts), "gf-card", "gf-small", "gf-advised")

    # --- deciding ---------------------------------------------------------------------------------

    def _decide(self, number: int, why: ipywidgets.Text | None, _button: object) -> None:
        """Apply (without ``why``) or dismiss a recommendation, if the key may."""
        try:
            text = self._decided(number, why)
        except GuardianFlowError as error:
            text = mask_secrets(str(error))
        self._said.value = f'<div class="gf-advice">{escape(text)}</div>'
        self.draw()

    def _decided(self, number: int, why: ipywidgets.Text | None) -> str:
        from guardianflow.dashboard.automation import AutoOptimizer

        key = self._holding()
        if key is None:
            raise RefusedError(say("optimizer.key_needed", self.language))
        key.require("operator")
        optimizer = AutoOptimizer(settings=self.settings)
        if why is not None:
            optimizer.dismiss(number, actor=key.name, reason=why.value)
            return say("optimizer.dismissed", self.language, id=number, name=key.name)
        found = optimizer.start(number, actor=key.name, may_promote=key.may("promoter"))
        if found.state == State.APPLYING:
            return say("optimizer.started", self.language, id=number, name=found.actor)
        return say("optimizer.already", self.language, id=number, state=say(f"done.{found.state}", self.language))

    def _holding(self) -> Key | None:
        """The key that is typed, as the database knows it now."""
        token = str(self._key.value).strip()
        settings = self.settings or Settings()
        return Keys(Database.open(settings.database_url)).check(token) if token else None

    def _name_holder(self) -> None:
        try:
            key = self._holding()
        except GuardianFlowError:  # the page itself will say so
            key = None
        if key is not None:
            text = say("optimizer.key_of", self.language, name=key.name, role=key.role)
        else:
            text = say("optimizer.key_unknown" if self._key.value else "optimizer.key_hint", self.language)
        self._holder.value = f'<span class="gf-soft">{escape(text)}</span>'


def _classed(widget: ipywidgets.Widget, *names: str) -> ipywidgets.Widget:
    for name in names:
        widget.add_class(name)
    return widget


def _close(widget: ipywidgets.Widget, *, keep: tuple[ipywidgets.Widget, ...]) -> None:
    """Close a widget and what is in it: a page that stays open for days must not grow."""
    if widget in keep:
        return
    for child in getattr(widget, "children", ()):
        _close(child, keep=keep)
    widget.close()
