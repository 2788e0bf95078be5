"""Runs as they go on, as a widget: state, progress, curve, figures, the log's last lines; and how to end one."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

import ipywidgets

from guardianflow.core.config import Settings, mask_secrets
from guardianflow.dashboard.page_frame import dead_html, top_html
from guardianflow.dashboard.run_page import FollowedRun, follow, headline, run_html, running
from guardianflow.exceptions import GuardianFlowError
from guardianflow.widgets.page import DecidingPage, classed, refill

__all__ = ["RunMonitor"]

_EVERY_MS = 2_000


class RunMonitor(DecidingPage):
    """Follows a run, or all that haven't ended; who may decide cancels one, and is asked again first.

    Args:
        run_id: Which run, by its id or the beginning of it; left out: all that run now, and those that begin.
        settings: Where they are. Default: the environment's.
        language: ``"en"`` or ``"ko"``. Default: the setting, else what the browser asks for.
        every_ms: How often it is drawn anew.

    Example:
        ``RunMonitor()`` as the last line of a cell.
    """

    def __init__(
        self, run_id: str | None = None, settings: Settings | None = None, *, language: str | None = None,
        every_ms: int = _EVERY_MS,
    ) -> None:  # fmt: skip
        self._run_id = run_id
        self._cards: dict[str, _Card] = {}
        self._top, self._list = ipywidgets.HTML(), ipywidgets.VBox()
        super().__init__(settings, language=language, every_ms=every_ms)

    def draw(self) -> None:
        """Read and show; a run that ended while it was watched stays."""
        try:
            settings = self.settings or Settings()
            asked = [self._run_id] if self._run_id else list(dict.fromkeys([*running(settings), *self._cards]))
            found = [follow(settings, run_id) for run_id in asked]
        except GuardianFlowError as error:
            title, trouble, found = self.say("run.none"), mask_secrets(str(error)), []
        else:
            title, trouble = headline(found, self.language), ""
        now = found[0].now if found else datetime.now(UTC)
        top = top_html(title, page="runs", now=now, language=self.language, links=self.links)
        self._top.value = top + (dead_html(trouble, self.language) if trouble else "")
        refill(self._list, [self._card(each).box for each in found])
        who = (self.key_row,) if any(each.runs for each in found) else ()
        self.show(self._top, *who, self._said, self._list)

    def _card(self, found: FollowedRun) -> _Card:
        run_id = found.record.run_id
        if run_id not in self._cards:
            self._cards[run_id] = _Card(self, partial(self._cancelled, run_id))
        self._cards[run_id].show(found, self.language)
        return self._cards[run_id]

    def _cancelled(self, run_id: str) -> str:
        from guardianflow.execution.cancelling import cancel_run

        self.require("operator")
        record = cancel_run(self.settings or Settings(), run_id)
        return self.say("run.cancelling", run=record.run_id[:12])


class _Card:
    """A run with its buttons; the text changes, the buttons stay."""

    def __init__(self, page: DecidingPage, cancel: Callable[[], str]) -> None:
        self._text = ipywidgets.HTML()
        self._asked = False
        ask, no = (ipywidgets.Button(description=page.say(key)) for key in ("run.cancel", "run.go_on"))
        sure = page.button(cancel, page.say("run.really"), style="danger")
        ask.on_click(lambda _: self._ask(True))
        for button in (no, sure):
            button.on_click(lambda _: self._ask(False))
        self._ask_first, self._confirm = (ask,), (ipywidgets.Label(page.say("run.sure")), sure, no)
        self._row = classed(ipywidgets.HBox(), "gf-decide")
        self.box = classed(ipywidgets.VBox([self._text]), "gf-card", "gf-small", "gf-advised")

    def show(self, found: FollowedRun, language: str) -> None:
        """The run as it stands now; only one whose process lives can be cancelled."""
        self._text.value = run_html(found, language)
        ends = found.runs and not found.lost
        self._row.children = self._confirm if self._asked else self._ask_first
        self.box.children = (self._text, self._row) if ends else (self._text,)

    def _ask(self, asked: bool) -> None:
        self._asked = asked
        self._row.children = self._confirm if asked else self._ask_first
