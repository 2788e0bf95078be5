"""The trends page as a widget: which figure, of which model, where, and how far back."""

from __future__ import annotations

from typing import Any

import ipywidgets

from guardianflow.core.config import Settings
from guardianflow.dashboard.page_frame import metric_name, top_html
from guardianflow.dashboard.trends import SPANS, USUAL_SPAN_S, Trends, trends
from guardianflow.dashboard.trends_page import headline, lines_html
from guardianflow.text.messages import span
from guardianflow.widgets.page import Page, classed, offer

__all__ = ["TrendsPanel"]


class TrendsPanel(Page):
    """How a figure went over time, place by place. It only reads.

    Example:
        ``TrendsPanel()`` as the last line of a cell.
    """

    def __init__(self, settings: Settings | None = None, *, language: str | None = None, **options: Any) -> None:
        self._top, self._lines = ipywidgets.HTML(), ipywidgets.HTML()
        self._metric, self._model, self._site, self._span = (ipywidgets.Dropdown() for _ in range(4))
        self._choosers = (self._metric, self._model, self._site, self._span)
        self._row = classed(ipywidgets.HBox(self._choosers), "gf-decide")
        self._drawing = False
        super().__init__(settings, language=language, **options)
        for chooser in self._choosers:
            chooser.observe(self._chosen, "value")

    def draw(self) -> None:
        """Read and show; what was chosen stays chosen."""
        self._drawing = True
        found = trends(
            self.settings,
            metric=self._metric.value or "",
            model=self._model.value or "",
            site=self._site.value or "",
            span_s=self._span.value or USUAL_SPAN_S,
        )
        title = headline(found, self.language)
        self._top.value = top_html(title, page="trends", now=found.now, language=self.language, links=self.links)
        self._lines.value = lines_html(found, self.language)
        self._offer(found)
        self.show(self._top, *([self._row] if found.metric else []), self._lines)
        self._drawing = False

    def _offer(self, found: Trends) -> None:
        names = [(metric_name(name, self.language), name) for name in found.metrics]
        offer(self._metric, names, found.metric)
        for chooser, every, choices in (
            (self._model, "trends.all_models", found.models),
            (self._site, "trends.all_sites", found.sites),
        ):
            offer(chooser, [(self.say(every), ""), *((name, name) for name in choices)], chooser.value or "")
        spans = [(self.say("time.last", span=span(seconds, self.language)), seconds) for seconds in SPANS]
        offer(self._span, spans, int(found.span_s))

    def _chosen(self, _change: object) -> None:
        if not self._drawing:
            self.draw()
