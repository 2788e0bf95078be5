"""Guides of docs/ as a reader follows them: files are written, commands typed, programs run, in their order."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import yaml
from typer.main import get_command

from guardianflow.cli import app

ROOT = Path(__file__).resolve().parents[1]
EXPECTED = re.compile(r"  # exits with (\d)$")
BLOCK = re.compile(r"^```(?P<kind>console|python|py|yaml)\n(?P<text>.*?)^```", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# (?P<name>[\w./-]+\.(?:py|yaml))\n")


def steps(text: str) -> list[tuple[str, str]]:
    """(kind, text) of each block in order: a "file", a "python" program, or each command of a "console" block.

    A block of ``py`` or ``yaml`` is a file where its first line names one, else something to look at.
    """
    found: list[tuple[str, str]] = []
    for block in BLOCK.finditer(text):
        if block["kind"] == "console":
            lines = [line for line in block["text"].splitlines() if line.strip()]
            assert all(line.startswith("$ ") for line in lines), f"a line of a console block lacks `$ `: {lines}"
            found += [("console", line[2:]) for line in lines]
        elif block["kind"] == "python":
            found.append(("python", block["text"]))
        elif FILE.match(block["text"]):
            found.append(("file", block["text"]))
    return found


def follow(guide: Path, folder: Path) -> dict[str, str]:
    """Do all of it, from ``folder``.

    Returns:
        Command or program → what it printed on stdout.

    Raises:
        AssertionError: One ended other than the guide says.
    """
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("GUARDIANFLOW_", "MLFLOW_"))}
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", "")])
    outputs: dict[str, str] = {}
    for kind, text in steps(guide.read_text(encoding="utf-8")):
        if kind == "file":
            name = FILE.match(text)
            assert name
            place = folder / name["name"]
            place.parent.mkdir(exist_ok=True)
            place.write_text(text, encoding="utf-8")
            continue
        expected = EXPECTED.search(text)
        words = shlex.split(EXPECTED.sub("", text)) if kind == "console" else ["python", "-c", text]
        if words[0] == "cd":
            folder = folder / words[1]
            continue
        done = subprocess.run(
            words, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == (int(expected[1]) if expected else 0), f"{text}\n{done.stdout}\n{done.stderr}"
        outputs[text] = done.stdout
    return outputs


def parse(guide: Path) -> int:
    """What ``follow`` does as far as it costs nothing: each command is parsed, each file and program is read.

    Returns:
        How many commands there are.

    Raises:
        AssertionError: The command line has no such verb, argument or option, or a scenario file is none.
    """
    commands = 0
    for kind, text in steps(guide.read_text(encoding="utf-8")):
        if kind == "console":
            words = shlex.split(EXPECTED.sub("", text))
            commands += words[0] == "guardianflow"
            assert words[0] in {"cd", "guardianflow"}, f"not tried: {text}"
            if words[0] == "guardianflow":
                _parse(words[1:], text)
        elif text.partition("\n")[0].endswith(".yaml"):
            assert isinstance(yaml.safe_load(text), dict), text
        else:
            compile(text, str(guide), "exec")
    return commands


def _parse(words: list[str], text: str) -> None:
    try:
        context = get_command(app).make_context("guardianflow", words)
        while hasattr(context.command, "resolve_command") and (rest := [*context._protected_args, *context.args]):
            name, verb, words = context.command.resolve_command(context, rest)
            context = verb.make_context(name, words, parent=context)
    except Exception as error:
        raise AssertionError(f"{text}: {error}") from error
