from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import nbformat
import pytest

from guardianflow.exceptions import InputError, NotFoundError
from guardianflow.execution.engine.notebook import execute_notebook
from guardianflow.execution.engine.report import render_html

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def page(notebooks, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("그림 {x}") / "figures.ipynb"
    found = execute_notebook(notebooks / "draws_figures.ipynb", output).html
    assert found is not None
    return found


def test_nothing_in_the_page_loads_from_elsewhere(page):
    html = page.read_text(encoding="utf-8")
    markup = re.sub(r"(<script[^>]*>).*?(</script>)", r"\1\2", html, flags=re.DOTALL)
    assert re.findall(r"<script\b[^>]*\bsrc", markup) == []
    assert re.findall(r"<(?:link|img|iframe)\b[^>]*(?:href|src)\s*=\s*[\"']?(?:https?:)?//", markup) == []
    assert "default-src 'none'" in markup


def test_plotlys_script_is_embedded_once(page):
    html = page.read_text(encoding="utf-8")
    assert html.count("plotly.js v") == 1
    assert html.count("Plotly.newPlot(") == 2


def test_a_page_without_figures_carries_no_plotly(notebooks, tmp_path):
    path = tmp_path / "plain.ipynb"
    shutil.copy(notebooks / "cell_raises.ipynb", path)
    page = render_html(path)
    assert page.stat().st_size < 1_000_000
    assert "guardianflow:plotly" not in page.read_text()


def test_a_label_cannot_end_the_script(page):
    drawn = re.findall(r"Plotly\.newPlot\(.*?</script>", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert "\\u003c/script>\\u003cb>한글" in drawn[0]


def test_widgets_that_need_a_network_fall_back_to_text(tmp_path):
    data = {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}, "text/plain": "100%|██| 3/3"}
    cell = nbformat.v4.new_code_cell("bar", outputs=[nbformat.v4.new_output("display_data", data)])
    notebook = nbformat.v4.new_notebook(cells=[cell])
    notebook.metadata["widgets"] = {"application/vnd.jupyter.widget-state+json": {"state": {}}}
    nbformat.write(notebook, tmp_path / "a.ipynb")
    page = render_html(tmp_path / "a.ipynb").read_text()
    assert "100%|██| 3/3" in page
    assert "html-manager" not in page


def test_what_is_no_notebook_is_refused(tmp_path):
    with pytest.raises(NotFoundError, match="no notebook at"):
        render_html(tmp_path / "absent.ipynb")
    (tmp_path / "text.ipynb").write_text("not json")
    with pytest.raises(InputError, match="no valid notebook"):
        render_html(tmp_path / "text.ipynb")


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is missing: apt-get install chromium")
def test_a_browser_without_network_draws_the_figures(page, tmp_path):
    dom = subprocess.run(
        [
            str(CHROMIUM), "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
            "--disable-component-update", "--disable-sync", "--host-resolver-rules=MAP * ~NOTFOUND",
            f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=5000", "--dump-dom", page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=90,
        check=True,
    ).stdout  # fmt: skip
    body = dom[dom.index("<body") :]
    assert body.count('class="plot-container plotly"') == 2
    assert len(re.findall(r'<path class="js-line"', body)) == 1  # the curve
    assert len(re.findall(r'<g class="point">', body)) == 2  # the bars
    assert "mAP50 한글" in body


def test_a_page_that_is_not_ours_is_not_replaced(notebooks, tmp_path):
    notebook = Path(shutil.copy(notebooks / "completes.ipynb", tmp_path / "analysis.ipynb"))
    (tmp_path / "analysis.html").write_text("<p>my own page</p>")
    with pytest.raises(InputError, match=r"analysis\.html is there already.*move it away"):
        render_html(notebook)
    assert (tmp_path / "analysis.html").read_text() == "<p>my own page</p>"
    (tmp_path / "analysis.html").unlink()
    assert render_html(notebook) == render_html(notebook)  # its own it replaces
