"""Which file the letters in pictures come from, on a machine without any font and without a network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import unicodedata
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from matplotlib.ft2font import FT2Font

from guardianflow.plots.font import font_file
from guardianflow.vision.tracking.clip import _tag

OURS = Path(str(files("pylopdf_fonts_ko") / "NotoSansKR-Regular.otf"))

DRAWN = """
import json, socket, sys, warnings
from pathlib import Path

asked, files = [], []
socket.getaddrinfo = lambda host, *rest, **named: asked.append(str(host)) or []
from PIL import ImageFont
really = ImageFont.truetype
ImageFont.truetype = lambda font, *rest, **named: files.append(str(font)) or really(font, *rest, **named)

import numpy as np
import torch
from guardianflow.vision.training._isolation import isolated
from guardianflow.vision.tracking.clip import write_clip
from guardianflow.vision.pipeline.frames import open_source
from tests.vision.tracked_scene import truth_of, walkers, write_images

out = Path(sys.argv[1])
seen = {}

def note(name):
    seen[name] = sorted(set(files))
    files.clear()

write_clip(open_source(write_images(out / "seq", range(3)), fps=1), truth_of(walkers()), out / "c", names=["", "사람"])
note("clip")

import matplotlib as mpl
from matplotlib.font_manager import FontProperties, findfont
from matplotlib.ft2font import FT2Font
from ultralytics.models.yolo.detect import val
from ultralytics.utils.metrics import ConfusionMatrix

asked.clear()  # Ultralytics asks at its import whether there is a network
warnings.filterwarnings("error", message="Glyph")
before = list(mpl.rcParams["font.family"])
with isolated():
    tried = [findfont(FontProperties(family=[family])) for family in mpl.rcParams["font.family"]]
    seen["curves"] = [file for file in tried if FT2Font(file).get_char_index(ord("가"))]
    matrix = ConfusionMatrix({0: "사람", 1: "차량"})
    matrix.matrix += 1
    matrix.plot(save_dir=out)
    for kind, names, paths in (("names", {0: "사람"}, ["a.jpg"]), ("paths", {0: "car"}, ["정문.jpg"])):
        labels = {"batch_idx": torch.zeros(1), "cls": torch.zeros(1), "bboxes": torch.tensor([[0.5, 0.5, 0.4, 0.4]])}
        val.plot_images(labels, torch.zeros(1, 3, 64, 64), paths, out / f"{kind}.jpg", names)
        assert (out / f"{kind}.jpg").is_file(), "the picture is written when the block is left"
        note(kind)
assert list(mpl.rcParams["font.family"]) == before
seen["asked"] = asked
print(json.dumps(seen))
"""


@pytest.fixture
def bare_environment(tmp_path: Path) -> dict[str, str]:
    """No fonts of the machine, no lists of them, no files of the user's."""
    home = tmp_path / "home"
    home.mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "MPL", "XDG_"))}
    return {
        **kept,
        "HOME": str(home), "YOLO_CONFIG_DIR": str(home), "MPLCONFIGDIR": str(home / "mpl"),
        "FONTCONFIG_FILE": os.devnull, "FONTCONFIG_PATH": str(home),
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }  # fmt: skip


def test_clips_curves_and_ultralytics_pictures_are_drawn_with_the_font_that_comes_along(
    bare_environment: dict[str, str], tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", DRAWN, str(tmp_path)], env=bare_environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen.pop("asked") == []  # no font was fetched
    assert seen == {kind: [str(OURS)] for kind in ("clip", "curves", "names", "paths")}


def test_the_font_has_every_syllable_and_its_parts() -> None:
    font = FT2Font(str(OURS))
    syllables = [chr(code) for code in range(ord("가"), ord("힣") + 1)]
    letters = {*"Aé…×–°яΩ漢あ", *syllables, *unicodedata.normalize("NFD", "".join(syllables))}
    assert [letter for letter in letters if not font.get_char_index(ord(letter))] == []


def test_a_name_as_macos_writes_it_looks_the_same() -> None:
    tags = [_tag(unicodedata.normalize(form, "차량 12"), (0, 0, 0), 20) for form in ("NFC", "NFD")]
    assert np.array_equal(*tags)


def test_letters_that_ours_lacks_come_from_an_installed_font() -> None:
    assert font_file("سيارة") != OURS  # matplotlib brings DejaVu along
    assert font_file("사람 سيارة") == OURS  # no font has both: the box is drawn with what is always there
