"""The font of all text in pictures. It comes with our packages: a new machine has none with Hangul."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

__all__ = ["curve_families", "font_file"]


@lru_cache(maxsize=1024)
def font_file(text: str = "") -> Path:
    """A font file that has every letter of a text, for Pillow and whoever else draws with one font.

    Args:
        text: What is to be drawn.

    Returns:
        Noto Sans KR, which comes along (Latin, Greek, Cyrillic, Hangul, kana, Korean Han characters). For letters that
        it lacks an installed font, where there is one that has them all.
    """
    own = _own_file()
    return next((file for file in _files() if _draws(file, text)), own)


def curve_families() -> list[str]:
    """Family names for matplotlib's ``font.family``: as set now, with ours for the letters those lack."""
    import matplotlib as mpl
    from matplotlib import font_manager

    manager, own = font_manager.fontManager, str(_own_file())
    known = manager.ttflist
    if known[0].fname != own:
        manager.addfont(own)
        known.insert(0, known.pop())  # before an installed font of the same name
    families = mpl.rcParams["font.family"]
    return [*families, *({known[0].name} - {*families})]


def _own_file() -> Path:
    from pylopdf_fonts_ko import sans_path

    return sans_path()


def _files() -> Iterator[Path]:
    yield _own_file()
    from matplotlib import font_manager

    known = font_manager.fontManager.ttflist  # among them matplotlib's "Last Resort", whose letters are all boxes
    yield from sorted({Path(entry.fname) for entry in known if "Last Resort" not in entry.name})


def _draws(file: Path, text: str) -> bool:
    from matplotlib.ft2font import FT2Font

    try:
        font = FT2Font(str(file))
    except (OSError, RuntimeError):  # removed since the list was made, or damaged
        return False
    return all(font.get_char_index(ord(letter)) for letter in text)
