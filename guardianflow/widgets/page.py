"""What the pages share: their language, that they look again while somebody looks at them, and who may decide.

In a notebook the kernel is its owner's, who acts under the settings' actor. Under Voila every visitor reaches a kernel,
so there the role of the key that is typed decides, and the state database is asked at each decision.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import anywidget
import ipywidgets
import traitlets

from guardianflow.core.config import Settings, mask_secrets
from guardianflow.dashboard.keys import ROLES, Key, Keys
from guardianflow.exceptions import GuardianFlowError, RefusedError
from guardianflow.state.database import Database
from guardianflow.text.messages import language_of, say
from guardianflow.text.printable import escape

__all__ = ["LINKS", "SERVED", "DecidingPage", "Page", "classed", "is_served", "offer", "refill"]

LINKS = {
    "start": "start.ipynb",
    "fleet": "fleet.ipynb",
    "optimizer": "optimizer.ipynb",
    "trends": "trends.ipynb",
    "registry": "registry.ipynb",
    "compare": "compare.ipynb",
}
"""Page → its address, from one to the other under Voila."""

SERVED = "GUARDIANFLOW_PAGES_SERVED"
"""Set by the server of the pages for the kernels that it starts: visitors have no hand on a kernel's environment."""

_EVERY_MS = 30_000
_USUAL_ROOM = 900


class _Heartbeat(anywidget.AnyWidget):  # type: ignore[misc]
    """Counts in the browser, as long as the page is open there; the first time as soon as it is shown, if wanted."""

    _esm = """
    export default {
      render({ model, el }) {
        el.style.display = "none";
        const beat = () => {
          const first = el.closest(".gf-page")?.firstElementChild;
          if (first) model.set("room", first.clientWidth);
          model.set("beat", model.get("beat") + 1);
          model.save_changes();
        };
        const soon = setTimeout(() => model.get("at_once") && beat(), 50);
        const timer = setInterval(beat, model.get("every_ms"));
        return () => {
          clearTimeout(soon);
          clearInterval(timer);
        };
      },
    };
    """
    every_ms = traitlets.Int(_EVERY_MS).tag(sync=True)
    at_once = traitlets.Bool(False).tag(sync=True)
    beat = traitlets.Int(0).tag(sync=True)
    room = traitlets.Int(0).tag(sync=True)


class Page(ipywidgets.VBox):  # type: ignore[misc]
    """A page that is drawn anew every half minute. The browser counts: a page that was closed asks for nothing.

    Args:
        settings: Where the figures are. Default: the environment's.
        language: ``"en"`` or ``"ko"``. Default: the setting, else what the browser asks for.
        every_ms: How often it is drawn anew.
    """

    slow = False
    """Whether it has parts that take seconds: these wait until somebody looks at the page (:attr:`looked_at`)."""

    def __init__(
        self, settings: Settings | None = None, *, language: str | None = None, every_ms: int = _EVERY_MS
    ) -> None:
        self.settings = settings
        self.language = language or _language(settings)
        self.links = LINKS if is_served() else {}
        self._tick = _Heartbeat(every_ms=every_ms, at_once=self.slow)
        super().__init__()
        self.add_class("gf")
        self.add_class("gf-page")
        self.draw()
        self._tick.observe(lambda _: self.draw(), "beat")

    def draw(self) -> None:
        """Read and show."""
        raise NotImplementedError

    @property
    def room(self) -> int:
        """How wide the page is in the browser, px; a plot that is to fill it must be told."""
        return min(max(self._tick.room or _USUAL_ROOM, 280), 2_000)

    @property
    def looked_at(self) -> bool:
        """Whether it is open in a browser."""
        return bool(self._tick.beat)

    def show(self, *parts: Any) -> None:
        """Put these parts on the page."""
        self.children = (*parts, self._tick)

    def say(self, key: str, **values: object) -> str:
        """A sentence in the page's language."""
        return say(key, self.language, **values)


class DecidingPage(Page):
    """A page on which somebody may decide.

    What a browser sends is believed nowhere: what a button is about stands in this process, and who presses it is
    looked up at the moment of the decision.
    """

    def __init__(self, settings: Settings | None = None, *, language: str | None = None, **options: Any) -> None:
        self._said, self._holder = ipywidgets.HTML(), ipywidgets.HTML()
        self._key = ipywidgets.Password(placeholder="gf_…", continuous_update=False)
        self.key_row = classed(ipywidgets.HBox(), "gf-key")
        super().__init__(settings, language=language, **options)
        label = ipywidgets.HTML(f"<b>{escape(self.say('key.title'))}</b>")
        self.key_row.children = (label, self._key, self._holder) if is_served() else (self._holder,)
        self._key.observe(lambda _: self._name_holder(), "value")
        self._name_holder()

    def button(self, decide: Callable[[], str], text: str = "", *, style: str = "") -> ipywidgets.Button:
        """A button that decides; what comes of it, or stands against it, is said on the page."""
        made = ipywidgets.Button(description=text, button_style=style)
        made.on_click(lambda _: self._decide(decide))
        return classed(made, "gf-button")

    def require(self, role: str) -> Key:
        """Who decides, if they may: the holder of the key, as the database knows it now.

        Raises:
            RefusedError: No key is typed, it opens nothing, or its role doesn't reach.
        """
        key = self.holding()
        if key is None:
            raise RefusedError(self.say("key.needed"))
        key.require(role)
        return key

    def told(self, text: str) -> None:
        """Say something below the buttons."""
        self._said.value = f'<div class="gf-advice gf-told" role="status">{escape(text)}</div>' if text else ""

    def _decide(self, decide: Callable[[], str]) -> None:
        try:
            text = decide()
        except GuardianFlowError as error:
            text = mask_secrets(str(error))
        self.told(text)
        self.draw()
        self._name_holder()

    def holding(self) -> Key | None:
        """Who sits before the page, as the database knows them now; ``None`` without a valid key."""
        settings = self.settings or Settings()
        if not is_served():
            return Key("", settings.actor, list(ROLES)[-1], datetime.now(UTC), settings.actor)
        token = str(self._key.value).strip()
        return Keys(Database.open(settings.database_url)).check(token) if token else None

    def _name_holder(self) -> None:
        try:
            key = self.holding()
        except GuardianFlowError:  # the page itself will say so
            key = None
        if key is None:
            text = self.say("key.unknown" if self._key.value else "key.hint")
        else:
            text = self.say("key.of" if is_served() else "key.owner", name=key.name, role=key.role)
        self._holder.value = f'<span class="gf-soft">{escape(text)}</span>'


def is_served() -> bool:
    """Whether this kernel was started for a visitor of pages: by our server, or by a Voila of somebody's own."""
    return SERVED in os.environ or "VOILA_KERNEL_ID" in os.environ


def classed(widget: ipywidgets.Widget, *names: str) -> ipywidgets.Widget:
    """The widget, with classes of the pages' style (:mod:`guardianflow.dashboard.page_frame`)."""
    for name in names:
        widget.add_class(name)
    return widget


def offer(choice: ipywidgets.Dropdown, options: Sequence[tuple[str, Any]], value: Any) -> None:
    """Other options, if they are others; a list that is open in a browser stays open otherwise."""
    if list(choice.options) != list(options):
        choice.options = options
    if choice.value != value and any(value == offered for _, offered in options):
        choice.value = value


def refill(box: ipywidgets.Box, parts: Sequence[ipywidgets.Widget]) -> None:
    """Put other parts into a box, and close those that leave it: a page that is open for days must not grow."""
    old = box.children
    box.children = tuple(parts)
    for widget in old:
        if widget not in parts:
            _close(widget)


def _close(widget: ipywidgets.Widget) -> None:
    for child in getattr(widget, "children", ()):
        _close(child)
    widget.close()


def _language(settings: Settings | None) -> str:
    try:
        setting = (settings or Settings()).language
    except GuardianFlowError:  # the page itself will say so
        setting = ""
    return language_of(setting, os.environ.get("HTTP_ACCEPT_LANGUAGE", ""))
