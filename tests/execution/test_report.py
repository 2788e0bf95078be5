from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup

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


def executed(tmp_path: Path, *, stopped: bool = False) -> str:
    """The page of a run whose names are hostile; its text without markup of code."""
    new, hostile = nbformat.v4, '<img src=x onerror=alert(1)> "it\'s"'

    def code(source, count=None, outputs=(), tags=()):
        return new.new_code_cell(source, execution_count=count, outputs=[*outputs], metadata={"tags": [*tags]})

    shown = [
        new.new_output("display_data", {"text/plain": "epochs: 100%"}),
        new.new_output("execute_result", {"text/html": "<p>Finds 9 of 10</p>"}, execution_count=3),
    ]
    error = new.new_output("error", ename="InputError", evalue=hostile, traceback=["line 1", "line 2"])
    cells = [
        new.new_markdown_cell("# Training\n\nThis notebook trains."),
        code(f"name = 'a'  # Its name {hostile}\nepochs: int = 100  # Passes\nseed = 0", 1, tags=["parameters"]),
        code(f"name = {hostile!r}\nepochs = 2", 2, tags=["injected-parameters"]),
        new.new_markdown_cell("## The data\n\nRead."),
        code("training.dataset", 2, [new.new_output("execute_result", {"text/plain": "292 images"})]),
        new.new_markdown_cell("## The training\n\nEach epoch."),
        code("result = training.run()\nresult", 3, [error] if stopped else shown),
        new.new_markdown_cell("## How it went <b>\n\nSolid lines."),
        code("result.plot_curves()", None if stopped else 4),
    ]
    notebook = new.new_notebook(cells=cells)
    nbformat.write(notebook, tmp_path / "run.ipynb")
    return render_html(tmp_path / "run.ipynb").read_text(encoding="utf-8").partition("</style>")[2]


def order(page: str, *parts: str) -> bool:
    places = [page.index(part) for part in parts]
    return places == sorted(places)


def test_the_result_stands_first_and_the_parameters_once(tmp_path):
    page = executed(tmp_path)
    assert order(page, "Training</h1>" if "Training</h1>" in page else "Training<", "Finds 9 of 10", "epochs: 100%",
                 "Each epoch.", "How it went", "What was asked", "<td>epochs</td>", "This notebook trains.",
                 "The data", "292 images")  # fmt: skip
    assert "The training</h2>" not in page  # its result needs no heading
    assert "<td>epochs</td><td><b><code>2</code></b></td><td>Passes</td>" in page
    assert "<td>seed</td><td><code>0</code></td>" in page
    assert page.count('<table class="gf-asked">') == 1


def test_code_is_folded_and_names_are_text(tmp_path):
    page = executed(tmp_path)
    assert 'gf-code" open' not in page
    assert page.count('<details class="gf-code">') == 4
    assert "<img" not in page
    assert "Its name &lt;img src=x" in page


def test_a_run_that_stopped_says_where_before_what_was_asked(tmp_path):
    page = executed(tmp_path, stopped=True)
    assert order(page, 'gf-code" open', "In [3]", "InputError", "traceback", "Not run: How it went", "What was asked")
    assert "Solid lines." not in page
    assert "<img" not in page


@pytest.mark.parametrize("kind", ["image/jpeg", "image/webp"])
def test_a_picture_stands_in_the_page_and_says_what_it_shows(tmp_path, kind):
    data = {kind: "AAAA", "text/plain": '1 found in <b>"x"'}
    cell = nbformat.v4.new_code_cell("show()", outputs=[nbformat.v4.new_output("display_data", data)])
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "a.ipynb")
    image = BeautifulSoup(render_html(tmp_path / "a.ipynb").read_text(), "html.parser").find("img")
    assert (image["alt"], image["src"]) == (data["text/plain"], f"data:{kind};base64,AAAA")


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
