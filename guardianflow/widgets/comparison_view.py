"""Two or more runs or versions held against each other, as a widget: the sentence, the table, the plots."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import ipywidgets

from guardianflow.core.config import Settings, mask_secrets
from guardianflow.core.registry import ModelRegistry
from guardianflow.dashboard.page_frame import dead_html, paragraphs, top_html
from guardianflow.exceptions import GuardianFlowError
from guardianflow.execution.comparison import ComparisonResult, ComparisonRunner
from guardianflow.execution.comparison_subjects import comparable
from guardianflow.plots.comparison import overlaid_curves, plot_overlaid_curves
from guardianflow.plots.live import LIVE_STYLE, live
from guardianflow.registry.evaluations import Evaluations
from guardianflow.scenario.experiment_design import ComparisonScenario
from guardianflow.text.printable import escape
from guardianflow.views.comparison_page import headline_html
from guardianflow.views.result_page import remarks_html, table_html
from guardianflow.widgets.page import Page, classed, offer, refill

__all__ = ["ComparisonView"]

_CHOICES = 3
_EXPERIMENT = ComparisonScenario.usual_experiment


class ComparisonView(Page):
    """Which of two or more models is better, by how much, and whether chance explains it. It only reads.

    Args:
        subjects: Runs (by id), versions (``models:/gate/2``, ``models:/gate@champion``) or model files, the one that
            the others are held against first; left out, they are chosen on the page.
        settings: Where they are. Default: the environment's.
        language: ``"en"`` or ``"ko"``. Default: the setting, else what the browser asks for.

    Example:
        ``ComparisonView(["models:/gate@champion", "models:/gate@candidate"])`` as the last line of a cell.
    """

    slow = True

    def __init__(
        self, subjects: Sequence[str] = (), settings: Settings | None = None, *, language: str | None = None,
        **options: Any,
    ) -> None:  # fmt: skip
        self._subjects, self._chooses = tuple(subjects), not subjects
        self._shown: tuple[Any, ...] = ()
        self._drawing = False
        self._top, self._found = ipywidgets.HTML(), ipywidgets.HTML()
        self._plots = ipywidgets.VBox()
        self._choices = [ipywidgets.Dropdown() for _ in range(_CHOICES)]
        self._row = classed(ipywidgets.HBox(self._choices), "gf-decide")
        super().__init__(settings, language=language, **options)
        for choice in self._choices:
            choice.observe(lambda _: None if self._drawing else self.draw(), "value")

    def draw(self) -> None:
        """Read and show; compared is anew only what has changed."""
        self._drawing = True
        title = self.say("compare.title")
        top = top_html(
            title, page="compare", now=datetime.now(UTC), language=self.language, links=self.links, more=LIVE_STYLE
        )
        try:
            settings = self.settings or Settings()
            choices = self._offer(settings) if self._chooses else ()
            self._draw_found(settings)
            self._top.value = top
            self.show(self._top, *choices, self._found, self._plots)
        except GuardianFlowError as error:
            self._top.value = top + dead_html(mask_secrets(str(error)), self.language)
            self.show(self._top)
        finally:
            self._drawing = False

    def _offer(self, settings: Settings) -> tuple[ipywidgets.Widget, ...]:
        options = comparable(settings)
        nothing = [(self.say("compare.nothing"), "")]
        for place, choice in enumerate(self._choices):
            chosen = choice.value
            first = options[place][1] if place < len(options) and place < 2 else ""
            offer(
                choice, options if place == 0 and options else [*nothing, *options], first if chosen is None else chosen
            )
        self._subjects = tuple(dict.fromkeys(choice.value for choice in self._choices if choice.value))
        return (self._row,)

    def _draw_found(self, settings: Settings) -> None:
        stand = [(state.name, state.gen) for state in ModelRegistry(settings).list_models()]
        asked = (self._subjects, stand, [row.id for row in Evaluations(settings).find()])
        if asked == self._shown:
            return
        if not self.looked_at:  # it takes seconds, and the page is to be there first
            self._say(self.say("compare.working"))
            return
        self._shown = asked
        if len(self._subjects) < 2:
            self._say(self.say("compare.two"))
            return
        try:
            runner = ComparisonRunner(list(self._subjects), experiment_name=_EXPERIMENT, settings=settings)
            result, curves = runner.look()
        except GuardianFlowError as error:
            self._say(mask_secrets(str(error)))
            return
        self._found.value = found_html(result)
        named = [(f"{row['name']} · {row['label']}", each) for row, each in zip(result.subjects, curves, strict=True)]
        figures = [result.plot_classes(), plot_overlaid_curves(*overlaid_curves(named))]
        refill(
            self._plots, [classed(ipywidgets.VBox([live(each, self.room)]), "gf-card", "gf-plot") for each in figures]
        )

    def _say(self, text: str) -> None:
        self._found.value = f'<div class="gf-card">{paragraphs([text], "")}</div>'
        refill(self._plots, [])


def found_html(result: ComparisonResult) -> str:
    """The sentence of each pair with its interval on a ruler, the table, and what a reader should know."""
    head = headline_html(result.subjects, result.comparisons, confidence=result.confidence)
    table, data = table_html(result.table.rows, result.table.columns), result.dataset
    on = f"On the same {data['images']:,} images of {data['split']}, dataset {str(data['fingerprint'])[:12]}."
    return (
        f'<div class="gf-card">{head}<div class="gf-scroll">{table}</div>{remarks_html(result.remarks)}'
        f'<p class="gf-soft">{escape(on)}</p></div>'
    )
