"""What people see: the pages in a real browser."""

from __future__ import annotations

from typing import Any

import pytest

from guardianflow.dashboard.fleet import fleet
from guardianflow.dashboard.recommendations import Recommendations
from tests.browser.conftest import WAIT_MS, Pages, width_of


def test_the_first_page_tells_of_the_sites_in_words_and_leads_to_all_pages(pages: Pages, look: Any) -> None:
    page = look(f"{pages.url}/", width=390)
    assert page.inner_text("h1") == "1 of 3 sites is unwell, 1 unknown, the rest well."
    assert "Harbour north: Camera gate: accuracy (mAP50) 0.58" in page.inner_text(".gf")
    assert width_of(page) == (390, 390)
    page.click("section a[href='fleet.ipynb']")
    page.wait_for_selector("section.unwell", timeout=WAIT_MS)
    card = page.inner_text("section.unwell")
    assert "Accuracy (mAP50) 0.58, should be at least 0.75." in card
    assert "Train the model again on its pictures as they are now." in card
    assert "Camera dock-2: nothing heard since" in page.inner_text("section.unknown")
    signs = page.eval_on_selector_all(".gf-head > .gf-pill", "all => all.map(one => one.innerText)")
    assert {"!\nunwell", "?\nunknown", "✓\nwell"} <= {text.strip() for text in signs}
    assert look.strange == []


def test_trends_say_what_moved_and_follow_the_choice(pages: Pages, look: Any) -> None:
    page = look(pages.page("trends"), width=390)
    assert page.inner_text("h1").startswith("Harbour north · gate: accuracy (mAP50) fell from 0.8")
    assert page.locator(".gf-line svg").count() == 4
    assert width_of(page) == (390, 390)
    page.select_option(".gf-decide select >> nth=2", label="Mill street")
    page.wait_for_function("document.querySelectorAll('section').length === 1")
    assert page.inner_text("h1") == "Accuracy (mAP50): nothing moved in the last 30 days."
    assert look.strange == []


@pytest.mark.parametrize(("width", "locale"), [(390, "en-US"), (390, "ko-KR"), (1400, "ko-KR")])
def test_nothing_hangs_over_the_edge(pages: Pages, look: Any, width: int, locale: str) -> None:
    html = pages.scene.settings.work_dir.parent / f"fleet-{width}-{locale}.html"
    html.write_text(fleet(pages.scene.settings).to_html(locale[:2]), encoding="utf-8")
    page = look(html.as_uri(), width=width)
    assert width_of(page) == (width, width)


def test_the_browsers_language_is_the_pages(pages: Pages, look: Any) -> None:
    page = look(pages.page("optimizer"), width=390, locale="ko-KR")
    assert page.inner_text("h1") == "경보 2건. 결정할 권고 1건."
    assert width_of(page) == (390, 390)


def test_only_a_key_that_may_decides(pages: Pages, look: Any) -> None:
    scene = pages.scene
    page = look(pages.page("optimizer"), selector=".gf-decide button")

    def state() -> str:
        return Recommendations(scene.database).list()[0].state

    def dismiss(role: str) -> str:
        key = scene.key(role) if role else ""
        page.fill("input[type=password]", key)
        page.press("input[type=password]", "Tab")
        holder = f"Kim {role}" if role else "Everybody"
        page.wait_for_function("words => document.querySelector('.gf-key').innerText.includes(words)", arg=holder)
        page.fill(".gf-decide input", "the lamp is being mended")
        page.press(".gf-decide input", "Tab")
        before = page.inner_text(".gf-page")
        page.click(".gf-decide button:nth-of-type(2)")
        page.wait_for_function("before => document.querySelector('.gf-page').innerText !== before", arg=before)
        return str(page.inner_text(".gf-advice"))

    page.click("summary")
    assert "data_yaml: harbour/data.yaml" in page.inner_text("pre")
    assert "deciding needs the role operator" in dismiss("")
    assert "this needs the role operator; key 'Kim viewer' is viewer" in dismiss("viewer")
    assert state() == "open"
    assert "Recommendation 1 was dismissed for Kim operator." in dismiss("operator")
    assert state() == "dismissed"
    page.wait_for_selector("text=Nothing waits for a decision.")
    assert "the lamp is being mended" in page.inner_text(".gf-page").lower()
    assert look.strange == []
