"""The registry page as a widget: versions and evidence, what the gate says, promotion and rollback with a reason."""

from __future__ import annotations

from typing import Any

import ipywidgets

from guardianflow.core.config import Settings, mask_secrets
from guardianflow.core.registry import ModelRegistry
from guardianflow.dashboard import registry_page as page
from guardianflow.dashboard.page_frame import dead_html, top_html
from guardianflow.exceptions import GuardianFlowError, InputError
from guardianflow.registry.gate import OFF, Verdict
from guardianflow.text.printable import escape
from guardianflow.widgets.page import DecidingPage, classed, offer

__all__ = ["RegistryPanel"]

_EVERY_MS = 5_000


class RegistryPanel(DecidingPage):
    """A model's versions, what the gate says of one, and the two moves; who may decide promotes and rolls back.

    Panels that are open at once see each other's moves within seconds.

    Args:
        name: Which model; left out, it is chosen on the page.
        settings: Where the ledger is. Default: the environment's.
        language: ``"en"`` or ``"ko"``. Default: the setting, else what the browser asks for.
        every_ms: How often it is drawn anew.

    Example:
        ``RegistryPanel("gate")`` as the last line of a cell.
    """

    slow = True

    def __init__(
        self, name: str | None = None, settings: Settings | None = None, *, language: str | None = None,
        every_ms: int = _EVERY_MS,
    ) -> None:  # fmt: skip
        self._name, self._chooses = name, name is None
        self._verdict: Verdict | None = None
        self._judged: tuple[Any, ...] = ()
        self._suggested: str | None = None
        self._drawing = False
        self._top, self._versions, self._title, self._gate, self._ledger = (ipywidgets.HTML() for _ in range(5))
        self._models, self._choice = ipywidgets.Dropdown(), ipywidgets.Dropdown()
        self._models_row, self._choice_row = (_row(each) for each in (self._models, self._choice))
        self._why, self._moves = ipywidgets.Text(continuous_update=False), _row()
        self._promote, self._force, self._back = (
            self.button(decide, style=style)
            for decide, style in ((self._promoted, "primary"), (self._forced, "danger"), (self._rolled_back, "warning"))
        )
        super().__init__(settings, language=language, every_ms=every_ms)
        self._models.observe(lambda _: self._chosen(), "value")
        self._choice.observe(lambda _: self._chosen(), "value")

    # --- showing ----------------------------------------------------------------------------------

    def draw(self) -> None:
        """Read and show; what somebody types or has chosen stays."""
        self._drawing = True
        try:
            self._draw(page.model_stand(self.settings, self._name))
        finally:
            self._drawing = False

    def _draw(self, stand: page.ModelStand) -> None:
        if self._chooses and stand.names and self._name not in stand.names:
            self._name = stand.names[0]
            stand = page.model_stand(self.settings, self._name)
        top = top_html(
            page.headline(stand, self._name, self.language), page="registry", now=stand.now, language=self.language,
            links=self.links,
        )  # fmt: skip
        self._top.value = top + (dead_html(stand.trouble, self.language) if stand.trouble else "")
        chooser = (self._models_row,) if self._chooses and len(stand.names) > 1 else ()
        offer(self._models, [(name, name) for name in stand.names], self._name)
        if stand.state is None:
            self.show(self._top, *chooser)
            return
        self._versions.value = page.versions_html(stand, self.language)
        self._ledger.value = page.ledger_html(stand.moves, stand.now, self.language)
        self._follow(stand)
        self._ask_gate(stand)
        self._offer_moves(stand)
        self.show(
            self._top, *chooser, self._versions, self._title, self._choice_row, self._gate, self.key_row,
            self._moves, self._said, self._ledger,
        )  # fmt: skip

    def _follow(self, stand: page.ModelStand) -> None:
        """The versions to choose from; the choice follows the candidate until somebody chooses another one."""
        chosen, suggested = self._choice.value, stand.next
        gone = stand.state is None or chosen == stand.state.champion or stand.version(chosen) is None
        value = suggested if gone or chosen == self._suggested else chosen
        self._suggested = suggested
        held = {each.version: [self.say(f"alias.{alias}") for alias in each.aliases] for each in stand.versions}
        options = [
            (" · ".join([self.say("registry.version", version=number), *aliases]), number)
            for number, aliases in held.items()
        ]
        offer(self._choice, options, value)

    def _ask_gate(self, stand: page.ModelStand) -> None:
        """What the gate says of the chosen version; asked again once there is other evidence."""
        settings, number = self.settings or Settings(), str(self._choice.value)
        asked = (number, stand.state, page.evidence_of(settings, stand, number))
        self._title.value = f"<h2>{escape(self.say('registry.gate'))}</h2>"
        if asked == self._judged:
            return
        self._verdict = None
        self._gate.value = page.verdict_html(None, self.language, said=self.say("registry.asking"))
        if not self.looked_at:
            return  # it takes seconds, and the page is to be there first
        self._judged = asked
        try:
            self._verdict = page.heard(settings, stand, number)
            said = self.say("registry.gate_off" if settings.gate == OFF else "registry.is_in_charge")
        except GuardianFlowError as error:
            said = mask_secrets(str(error))
        self._gate.value = page.verdict_html(self._verdict, self.language, said=said)

    def _offer_moves(self, stand: page.ModelStand) -> None:
        assert stand.state is not None  # noqa: S101 - the caller looked
        self._why.placeholder = self.say("registry.why")
        self._promote.description = self.say("registry.promote", version=self._choice.value)
        self._force.description = self.say("registry.force", version=self._choice.value)
        self._back.description = self.say("registry.roll_back", version=stand.state.rollback or "")
        refused = self._verdict is not None and not self._verdict.passed
        offered = [
            (self._promote, self._choice.value != stand.state.champion),
            (self._force, refused and self._may_force()),
            (self._back, stand.state.rollback is not None),
        ]
        self._moves.children = (self._why, *(button for button, there in offered if there))

    def _may_force(self) -> bool:
        """Whether to show the button; the registry asks again when it is pressed."""
        settings, key = self.settings or Settings(), self.holding()
        named = settings.gate_override_actors
        return key is not None and key.may("promoter") and (not named or key.name in named)

    def _chosen(self) -> None:
        if self._drawing:
            return
        if self._chooses:
            self._name = self._models.value
        self.told("")
        self.draw()

    # --- deciding ---------------------------------------------------------------------------------

    def _promoted(self) -> str:
        return self._put_in_charge(force=False)

    def _forced(self) -> str:
        return self._put_in_charge(force=True)

    def _put_in_charge(self, *, force: bool) -> str:
        registry, why = self._registry()
        made = registry.promote(str(self._name), self._choice.value, force=force, reason=why)
        return self._done("registry.promoted", made.version, registry)

    def _rolled_back(self) -> str:
        registry, why = self._registry()
        made = registry.rollback(str(self._name), reason=why)
        return self._done("registry.rolled_back", made.version, registry)

    def _registry(self) -> tuple[ModelRegistry, str]:
        """The registry as who decides may use it, and the reason that was typed."""
        key = self.require("promoter")
        why = str(self._why.value).strip()
        if not why:
            raise InputError(self.say("registry.say_why"))
        self.told(self.say("registry.working"))
        return ModelRegistry(self.settings, actor=key.name), why

    def _done(self, key: str, version: str, registry: ModelRegistry) -> str:
        self._why.value = ""
        return self.say(key, version=version, name=self._name, actor=registry.actor)


def _row(*parts: ipywidgets.Widget) -> ipywidgets.Widget:
    return classed(ipywidgets.HBox(parts), "gf-decide")
