"""Both languages say the same, with the same places."""

from __future__ import annotations

import string

import pytest

from guardianflow.dashboard.actions._base import ACTIONS
from guardianflow.dashboard.recommendations import State
from guardianflow.text.messages import LANGUAGES, MESSAGES, counted, language_of, say, span


def places(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def test_every_message_is_there_in_every_language_with_the_same_places() -> None:
    for key, texts in MESSAGES.items():
        assert len(texts) == len(LANGUAGES), key
        assert all(texts), key
        assert len({frozenset(places(text)) for text in texts}) == 1, key


def test_korean_is_korean_and_english_is_not() -> None:
    def hangul(text: str) -> bool:
        return any("가" <= letter <= "힣" for letter in text)

    for key, (english, korean) in MESSAGES.items():
        assert not hangul(english), key
        words = "".join(part for part, _, _, _ in string.Formatter().parse(english)).strip(" ,;:()")
        assert hangul(korean) or not words, key


def test_what_the_library_calls_by_name_has_words() -> None:
    states = [value for name, value in vars(State).items() if name.isupper() and value != State.OPEN]
    wanted = {f"done.{state}" for state in states} | {f"action.{name}" for name in ACTIONS.names()}
    wanted |= {f"alert.{state}" for state in ("pending", "firing", "resolved")}
    wanted |= {f"ended.{why}" for why in ("recovered", "no_figures", "rule_removed", "new_champion")}
    assert wanted <= set(MESSAGES)


@pytest.mark.parametrize(
    ("setting", "accepted", "language"),
    [
        ("", "", "en"),
        ("", "ko-KR,ko;q=0.9,en;q=0.8", "ko"),
        ("", "de,en;q=0.5,ko;q=0.9", "ko"),
        ("", "en-GB,ko;q=0.3", "en"),
        ("", "fr;q=nonsense,*", "en"),
        ("en", "ko", "en"),
        ("ko", "", "ko"),
    ],
)
def test_the_setting_decides_else_the_browser(setting: str, accepted: str, language: str) -> None:
    assert language_of(setting, accepted) == language


def test_numbers_and_times_read_as_people_say_them() -> None:
    assert counted("fleet.unwell", 1, "en", total=3) == "1 of 3 sites is unwell"
    assert counted("fleet.unwell", 2, "en", total=3) == "2 of 3 sites are unwell"
    assert [span(seconds, "en") for seconds in (5, 60, 3_600, 90_000, 200_000)] == [
        "5 seconds", "1 minute", "1 hour", "25 hours", "2 days",
    ]  # fmt: skip
    assert say("state.unwell", "ko") == "이상"
