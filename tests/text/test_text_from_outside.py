"""What others wrote (a server, a file, a script) is read, never obeyed: by a terminal, a page, a plot or a log."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
import unicodedata
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output
from rich.console import Console
from rich.progress import Progress
from typer.testing import CliRunner

from guardianflow import console, exceptions
from guardianflow.cli import app
from guardianflow.doctor import Check, DoctorReport, render
from guardianflow.exceptions import GuardianFlowError, InputError
from guardianflow.execution.engine.report import render_html
from guardianflow.plots.benchmark import latency_spreads, plot_latency
from guardianflow.plots.comparison import change_rows
from guardianflow.plots.dataset import dataset_figures, plot_dataset
from guardianflow.text.frozen import Frozen
from guardianflow.text.printable import escape, in_json, visible

ORDERS = {
    "a colour": "\x1b[31m",
    "the clipboard": "\x1b]52;c;Y3VybA==\x07",
    "a link": "\x1b]8;;https://evil.example\x1b\\",
    "a bell": "\a",
    "a backspace": "\b\b\b",
    "a line over the line": "\rall is well",
    "8-bit CSI": "\x9b2J",
    "8-bit OSC": "\x9d0;title\x9c",
    "text turned around": "\u202egnp.exe",
    "an isolate": "\u2066",
    "another line end": "\u2028",
    "half a character": "\udc80",
    "zero width": "\u200b",
    "a tag": "\U000e0041",
    "delete": "\x7f",
}
HOSTILE = "gate " + " ".join(ORDERS.values())


def unprintable(text: str) -> list[str]:
    return [
        f"{ord(sign):x}"
        for sign in text
        if unicodedata.category(sign) in ("Cc", "Cf", "Cs", "Zl", "Zp") and sign not in "\n\t"
    ]


# --- the terminal -----------------------------------------------------------------------------------


def show_everything(text: str) -> None:
    console.say(f"error: {text}")
    console.put(text)
    console.print_lines([(text, text)])
    console.print_table([text], [[text], [InputError(text)]], title=text)
    console.print_table(["a"], [], empty=text)
    console.print_json({text: text})
    check = Check("mlflow", "fail", text, text)
    render(DoctorReport(({"env": "GUARDIANFLOW_ACTOR", "value": text, "origin": text},), (check,), 1.0))


@pytest.mark.parametrize("order", ORDERS)
def test_a_terminal_is_shown_what_is_invisible(order: str, capsys: pytest.CaptureFixture[str]) -> None:
    show_everything(f"the server says {ORDERS[order]} here")
    shown = capsys.readouterr()
    assert unprintable(shown.out) == unprintable(shown.err) == []
    assert "the server says \\" in shown.err
    assert shown.out.count("the server says \\") >= 8


def test_a_bar_shows_a_note_as_text() -> None:
    screen = Console(file=io.StringIO(), width=200)
    note = f"[red]loss[/red] [link=https://evil.example]x[/link] {HOSTILE}\nforged"
    with Progress(console.note_column("note"), console=screen) as progress:
        progress.add_task("", note=note)
    shown = screen.file.getvalue()  # type: ignore[attr-defined]
    assert "[red]loss[/red] [link=https://evil.example]x[/link] gate \\x1b[31m" in shown
    assert "\\nforged" in shown
    assert unprintable(shown) == []


def test_json_is_exact_and_harmless(capsys: pytest.CaptureFixture[str]) -> None:
    console.print_json({HOSTILE: [HOSTILE, "한글 é"]})
    shown = capsys.readouterr().out
    assert unprintable(shown) == []
    assert json.loads(shown) == {HOSTILE: [HOSTILE, "한글 é"]}
    assert "한글 é" in shown
    assert json.loads(in_json(json.dumps(HOSTILE))) == HOSTILE


LOGS = """
import logging, warnings
import guardianflow.cli as cli
def app():
    logging.getLogger("mlflow").warning("the server says %s", {text!r} + "\\nERROR forged")
    try:
        raise ValueError({text!r})
    except ValueError:
        logging.getLogger("guardianflow.x").exception("broken")
    warnings.warn({text!r})
    raise RuntimeError({text!r})
cli.app = app
cli.main()
"""


def test_what_is_logged_warned_of_or_breaks_is_text_and_a_message_is_one_line() -> None:
    text = HOSTILE.replace("\udc80", "")
    done = subprocess.run([sys.executable, "-c", LOGS.format(text=text)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert unprintable(done.stderr) == []
    lines = done.stderr.splitlines()
    assert lines[0].startswith("WARNING the server says gate \\x1b[31m")
    assert lines[0].endswith("\\nERROR forged")
    assert "ERROR broken" in lines
    assert any(line.startswith("RuntimeError: gate \\x1b[31m") for line in lines)


# --- errors, whoever shows them -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", [getattr(exceptions, name) for name in exceptions.__all__])
def test_the_text_of_an_error_is_printable_and_else_as_it_was(kind: type[GuardianFlowError]) -> None:
    assert unprintable(str(kind(HOSTILE))) == []
    assert str(kind("the rule\nand what broke it")) == "the rule\nand what broke it"
    assert kind(HOSTILE).args == (HOSTILE,)


@pytest.fixture
def server() -> Iterator[str]:
    """An MLflow that says no with orders for the terminal in its answer."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"error_code": "PERMISSION_DENIED", "message": HOSTILE}).encode()
            self.send_response(403)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815 - as http.server calls it

        def log_message(self, *_: object) -> None: ...

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{running.server_address[1]}"
    running.shutdown()
    running.server_close()


def test_a_servers_answer_reaches_nobody_as_an_order(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    monkeypatch.setenv("GUARDIANFLOW_WORK_DIR", str(tmp_path))
    answer = CliRunner().invoke(app, ["register", "gate", "--run", "abc", "--json"])
    assert answer.exit_code == 2
    assert unprintable(answer.stdout + answer.stderr) == []
    assert "\\x1b]52;c;" in answer.stderr
    assert json.loads(answer.stdout)["exit_code"] == 2


def test_names_of_files_are_shown_as_text_and_kept_exactly(tmp_path: Path) -> None:
    name = os.fsdecode(b"train_\xff_\x1b]0;x\x07_\xe2\x80\xae.py")
    (tmp_path / name).write_text("import torch\nmodel.train()\nfor epoch in range(3):\n    loss.backward()\n")
    shown = CliRunner().invoke(app, ["scan", str(tmp_path)])
    assert shown.exit_code == 0, shown.output
    assert "train_\\udcff_\\x1b]0;x\\x07_\\u202e.py" in shown.output
    assert unprintable(shown.stdout + shown.stderr) == []
    document = CliRunner().invoke(app, ["scan", str(tmp_path), "--json"])
    assert unprintable(document.stdout) == []
    assert name in json.dumps(json.loads(document.stdout), ensure_ascii=False) or "udcff" in document.stdout


# --- pages and plots ----------------------------------------------------------------------------------


def test_on_a_page_markup_is_text_and_nothing_is_invisible() -> None:
    text = f"<img src=x onerror=alert(1)> \"'& {HOSTILE}"
    for html in (escape(text), Frozen({text: text})._repr_html_()):
        assert unprintable(html) == []
        assert "<img" not in html
    assert escape("a\r\nb\n") == "a\nb\n"


def test_the_page_of_a_notebook_shows_what_its_outputs_hide(tmp_path: Path) -> None:
    text = HOSTILE.replace("\udc80", "")
    outputs = [
        new_output("stream", name="stdout", text=text),
        new_output("error", ename="ValueError", evalue=text, traceback=[text]),
        new_output("display_data", data={"text/plain": text}),
    ]
    path = tmp_path / "run.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell("x = 1", outputs=outputs)]), path)
    page = render_html(path).read_text(encoding="utf-8")
    assert unprintable(page) == []
    assert "\\u202egnp.exe" in page


def test_in_a_plot_names_are_neither_markup_nor_formulas() -> None:
    name = f"<b>fat</b> $\\alpha$ %{{x}} {HOSTILE}"
    counts = {"train": {name: 3}}
    row = {"label": name, "status": "ok", "mode": "single_stream", "metrics": dict.fromkeys(
        ("latency_ms_p50", "latency_ms_p95", "latency_ms_p99"), 1.0)}  # fmt: skip
    dataset = plot_dataset(dataset_figures(counts, [(name, 30.0, 40.0)], imgsz=640))
    benchmark = plot_latency(latency_spreads([row]))
    for figure in (dataset, benchmark):
        drawn = json.dumps(json.loads(figure.to_json()), ensure_ascii=False)
        assert "&lt;b&gt;fat&lt;/b&gt; &#36;" in drawn
        assert "<b>fat" not in drawn
        assert "$" not in drawn
        assert unprintable(drawn) == []
    change = {"name": name, "champion": 0.1, "candidate": 0.2, "difference": 0.1, "low": 0.0, "high": 0.2}
    for found in change_rows([change | {"per_class": [change]}] * 2):
        assert "<b>fat" not in found.name


def test_what_is_visible_stays(capsys: pytest.CaptureFixture[str]) -> None:
    plain = "한글 日本語 Grüße — “quoted” 🚀"
    assert visible(f"{plain}\ta\n") == f"{plain}\ta\n"
    console.say(plain)
    assert plain in capsys.readouterr().err
