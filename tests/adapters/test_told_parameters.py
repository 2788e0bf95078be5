"""Parameters as the script itself saw them, and a script that behaves as if nobody had asked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from guardianflow import GenericWrapper, Settings, WrapResult

ITSELF, TEXT = "the script itself", "its text"
OPTS = (
    "import argparse\n"
    "def get():\n"
    "    p = argparse.ArgumentParser()\n"
    "    for name in ('lr', 'momentum'):\n"
    "        p.add_argument(f'--{name}', type=float, default=0.5)\n"
    "    p.add_argument('--epochs', type=int, default=int('2'))\n"
    "    return p\n"
)
TRAIN = "from opts import get\nprint(sorted(vars(get().parse_args()).items()))\n"
SEEN = (
    "import os, sys, subprocess\n"
    "print(sys.path[1:], os.environ.get('PYTHONPATH'), [n for n in sys.modules if 'guardian' in n])\n"
    "print([getattr(one, '__name__', type(one).__name__) for one in sys.meta_path])\n"
    "print('sitecustomize' in sys.modules, getattr(sys, 'mine', None))\n"
)


def both(
    settings: Settings, folder: Path, files: dict[str, str], program: str, *words: str, **options: Any
) -> WrapResult:
    """Run it plainly and wrapped: it must print the same and end the same."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    wrapper = GenericWrapper("people", program, folder, list(words), settings=settings, **options)
    result = wrapper.run()
    plain = subprocess.run(wrapper.command().argv, cwd=folder, env=_plain(), capture_output=True, check=False)
    logs = [(result.folder / f"{name}.log").read_bytes() for name in ("stdout", "stderr")]
    assert [result.exit_code, *logs] == [plain.returncode, plain.stdout, plain.stderr]
    return result


def _plain() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW")} | {
        "PYTHONUNBUFFERED": "1"
    }


def known_from(result: WrapResult) -> tuple[str, dict[str, str]]:
    origins = json.loads((result.folder / "parameters.json").read_text())
    return origins.pop("from"), origins


# -- whatever the script does ---------------------------------------------------------------------


def test_a_parser_in_another_file_is_seen_as_it_parsed(settings: Settings, folder: Path) -> None:
    result = both(settings, folder, {"opts.py": OPTS, "train.py": TRAIN}, "train.py", "--lr", "3")
    assert result.parameters == {"lr": 3.0, "momentum": 0.5, "epochs": 2}
    origins = {"lr": "command line", "momentum": "default", "epochs": "default"}
    assert known_from(result) == (ITSELF, origins)
    assert not [text for text in result.remarks if "parser" in text]


def test_a_script_with_a_sitecustomize_of_its_own(
    settings: Settings, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder / "mine"), os.environ.get("PYTHONPATH", "")]))
    files = {
        "mine/sitecustomize.py": "import sys\nsys.mine = 'ran'\n",
        "opts.py": OPTS,
        "train.py": TRAIN + SEEN + "subprocess.run([sys.executable, 'child.py'], env={**os.environ}, check=True)\n",
        "child.py": SEEN,
    }
    result = both(settings, folder, files, "train.py")
    assert known_from(result)[0] == ITSELF
    assert "True ran" in result.output["stdout"]


def test_nothing_of_it_is_seen_and_a_crash_looks_the_same(settings: Settings, folder: Path) -> None:
    crash = (
        "import argparse, json\n"
        "p = argparse.ArgumentParser()\n"
        "p.add_argument('--x', type=lambda text: 1 / 0)\n"
        "try:\n    subprocess.run(['/no/such/program'])\nexcept OSError as error:\n    print(error)\n"
        "p.parse_args(['--x', '1'])\n"
    )
    result = both(settings, folder, {"t.py": SEEN + crash}, "t.py")
    assert (result.exit_code, result.reason.endswith("ZeroDivisionError: division by zero")) == (1, True)


def test_a_script_that_replaces_argparse(settings: Settings, folder: Path) -> None:
    files = {
        "argparse.py": "class ArgumentParser:\n    def parse_args(self):\n        return {'lr': 1}\n",
        "t.py": "import argparse\nprint(argparse.ArgumentParser().parse_args(), sorted(vars(argparse))[:1])\n",
        "u.py": "import argparse\n"
        "def mine(self, words=None):\n    return self.parse_known_args(words)[0]\n"
        "argparse.ArgumentParser.parse_args = mine\n"
        "p = argparse.ArgumentParser()\np.add_argument('--lr', type=float, default=1)\nprint(p.parse_args())\n",
    }
    result = both(settings, folder, files, "t.py", "--lr", "2")
    assert (result.parameters, known_from(result)[0]) == ({"lr": 2}, TEXT)
    (folder / "argparse.py").unlink()
    del files["argparse.py"]
    result = both(settings, folder, files, "u.py", "--lr", "2")
    assert (result.parameters, known_from(result)[0]) == ({"lr": 2.0}, ITSELF)


def test_a_script_that_parses_twice(settings: Settings, folder: Path) -> None:
    text = (
        "import argparse\n"
        "first = argparse.ArgumentParser(add_help=False)\nfirst.add_argument('-c', '--config', default='')\n"
        "known, rest = first.parse_known_args()\n"
        "p = argparse.ArgumentParser(parents=[first])\np.add_argument('--lr', type=float, default=0.1)\n"
        "p.set_defaults(lr=0.7)\nprint(p.parse_args(rest))\n"
    )
    result = both(settings, folder, {"t.py": text}, "t.py", "-c", "x")
    assert result.parameters == {"config": "x", "lr": 0.7}


def test_four_ranks_of_one_launcher(settings: Settings, folder: Path) -> None:
    text = (
        "import argparse, os\np = argparse.ArgumentParser()\np.add_argument('--lr', type=float, default=0.1)\n"
        "p.add_argument('--seed', type=int, default=int(os.environ['RANK']))\np.parse_args()\n"
    )
    (folder / "t.py").write_text(text)
    words = ["--standalone", "--nproc_per_node", "4", "t.py", "--lr", "3"]
    result = GenericWrapper("people", "torchrun", folder, words, settings=settings).run()
    assert result.ok, result.output
    assert result.parameters == {"lr": 3.0, "seed": 0, "standalone": True, "nproc_per_node": 4}
    assert [text for text in result.remarks if "rank 3 worked with other values than rank 0: seed=3" in text]


def test_a_python_without_our_package_and_one_that_hears_nobody(settings: Settings, folder: Path) -> None:
    other = str(Path(getattr(sys, "_base_executable", sys.executable)).resolve())
    files = {"opts.py": OPTS, "train.py": TRAIN, "own.py": TRAIN.replace("from opts import get\n", OPTS)}
    result = both(settings, folder, files, "train.py", "--lr", "3", python=other)
    assert (result.parameters["momentum"], known_from(result)[0]) == (0.5, ITSELF)
    deaf = folder / "deaf"
    deaf.write_text(f'#!/bin/sh\nexec "{other}" -I "$@"\n')
    deaf.chmod(0o755)
    result = both(settings, folder, files, "own.py", "--lr", "3", python=str(deaf))
    assert known_from(result) == (TEXT, {"lr": "command line", "epochs": "default"}) or result.parameters["lr"] == 3
    assert [text for text in result.remarks if "didn't tell what its parser handed back" in text]


def test_a_shell_script_and_what_it_starts(settings: Settings, folder: Path) -> None:
    files = {"opts.py": OPTS, "train.py": TRAIN, "go.sh": f'"{sys.executable}" train.py --lr "$1"\n'}
    result = both(settings, folder, files, "go.sh", "4")
    assert result.parameters == {"lr": 4.0, "momentum": 0.5, "epochs": 2, "arg.1": 4}


def test_what_a_script_starts_or_loads_is_not_its_own(settings: Settings, folder: Path) -> None:
    text = (
        "import subprocess, sys\n"
        "subprocess.run([sys.executable, '-m', 'json.tool', '--compact', '-'], input=b'{}')\n"
        "subprocess.run([sys.executable, '-m', 'pytest', '--version'])\n"
    )
    result = both(settings, folder, {"t.py": text}, "t.py", "--lr", "3")
    assert (result.parameters, known_from(result)[0]) == ({"lr": 3}, TEXT)


def test_secrets_and_odd_values_are_kept_as_little_as_others(settings: Settings, folder: Path) -> None:
    text = (
        "import argparse, enum, pathlib, sys\n"
        "class Kind(enum.Enum):\n    A = 'a'\n"
        "class Loud:\n    def __repr__(self): print('asked'); return 'loud'\n"
        "p = argparse.ArgumentParser()\np.add_argument('--api-key')\np.add_argument('--kind', type=Kind)\n"
        "p.add_argument('--out', type=pathlib.Path)\np.add_argument('--n', type=int)\n"
        "p.set_defaults(func=print, loud=Loud(), nested={'deep': [1, (2, {3})]}, nan=float('nan'))\n"
        "loop = []\nloop.append(loop)\np.set_defaults(loop=loop)\np.parse_args()\n"
    )
    words = ["--api-key", "hunter2hunter2", "--kind", "a", "--out", "x/y", "--n", "9" * 400]
    result = both(settings, folder, {"t.py": text}, "t.py", *words)
    found = dict(result.parameters)
    assert str(found.pop("loop")).startswith("[[[")
    assert found == {
        "api_key": "***", "kind": "a", "out": "x/y", "n": "a huge number", "loud": "<Loud>",
        "nested.deep": [1, [2, [3]]], "nan": "nan",
    }  # fmt: skip
    assert not [path for path in result.folder.rglob("*.json") if "hunter2" in path.read_text()]


def test_what_a_script_writes_into_the_notes_is_believed_as_little_as_it_fits(settings: Settings, folder: Path) -> None:
    text = (
        "import argparse, os, pathlib\n"
        "notes = pathlib.Path(os.environ['GUARDIANFLOW_NOTES'])\n"
        "os.mkfifo(notes / '1.notes')\n(notes / '2.notes').symlink_to('/dev/zero')\n"
        "(notes / '3.notes').write_bytes(b'[' * 9_000_000)\n(notes / '4.notes').write_text('{\"values\": 1}\\n()\\n')\n"
        "p = argparse.ArgumentParser()\np.add_argument('--lr', type=float)\np.parse_args()\n"
    )
    (folder / "t.py").write_text(text)
    result = GenericWrapper("people", "t.py", folder, ["--lr", "3"], settings=settings).run()
    assert (result.ok, result.parameters) == (True, {"lr": 3.0})


# -- whatever parses ------------------------------------------------------------------------------

PARSERS = {
    "click": (
        ("import click\n@click.group()\n@click.option('--seed', default=1)\ndef main(seed): pass\n"
        "@main.command()\n@click.option('--lr', default=0.1)\n@click.password_option()\ndef fit(lr, password): pass\n"
        "main()\n"),
        ["--seed", "3", "fit", "--password", "s3cret"],
        {"seed": 3, "command": "fit", "lr": 0.1, "password": "***"},
    ),
    "typer": (
        "import typer\ndef main(data: str, lr: float = 0.1, amp: bool = True): pass\ntyper.run(main)\n",
        ["d", "--no-amp"],
        {"data": "d", "lr": 0.1, "amp": False},
    ),
    "optparse": (
        ("from optparse import OptionParser\np = OptionParser()\np.add_option('--lr', type='float', default=0.1)\n"
        "p.add_option('-n', dest='epochs', type='int', default=3)\np.parse_args()\n"),
        ["-n", "5"],
        {"lr": 0.1, "epochs": 5},
    ),
    "absl": (
        ("from absl import app, flags\nflags.DEFINE_float('lr', 0.1, '')\nflags.DEFINE_bool('amp', True, '')\n"
        "app.run(lambda _: None)\n"),
        ["--noamp"],
        {"lr": 0.1, "amp": False},
    ),
    "fire": (
        "import fire\ndef train(data, lr=0.1, *, epochs=3): pass\nfire.Fire(train)\n",
        ["d", "--lr", "3"],
        {"data": "d", "lr": 3, "epochs": 3},
    ),
    "cyclopts": (
        ("from cyclopts import App\napp = App()\n"
        "@app.default\ndef train(lr: float = 0.1, epochs: int = 3): pass\napp()\n"),
        ["--lr", "3"],
        {"lr": 3.0, "epochs": 3},
    ),
    "docopt": (
        "import docopt\ndocopt.docopt('Usage: t.py [--lr=<x>] DATA\\n\\nOptions:\\n  --lr=<x>  [default: 0.1]\\n')\n",
        ["--lr", "3", "d"],
        {"lr": "3", "DATA": "d"},
    ),
    "hydra": (
        ("import hydra\n@hydra.main(config_path='conf', config_name='train', version_base=None)\n"
        "def main(config): pass\nmain()\n"),
        ["optimizer.lr=3"],
        {"optimizer.lr": 3, "optimizer.name": "sgd", "epochs": 2},
    ),
    "jsonargparse": (
        ("import dataclasses\nfrom jsonargparse import CLI\n"
        "@dataclasses.dataclass\nclass Model:\n    hidden: int = 64\n    act: str = 'relu'\n"
        "def main(lr: float = 0.1, model: Model = Model()): pass\nCLI(main)\n"),
        ["--model.hidden", "3"],
        {"config": None, "lr": 0.1, "model.hidden": 3, "model.act": "relu"},
    ),
    "tyro": (
        ("import dataclasses, tyro\n@dataclasses.dataclass\nclass Opt:\n    lr: float = 0.1\n    wd: float = 0.0\n"
        "def main(data: str, opt: Opt = Opt()): pass\ntyro.cli(main)\n"),
        ["--data", "d", "--opt.lr", "3"],
        {"data": "d", "opt.lr": 3.0, "opt.wd": 0.0},
    ),
    "tap": (
        "from tap import Tap\nclass A(Tap):\n    data: str\n    lr: float = 0.1\nA().parse_args()\n",
        ["--data", "d"],
        {"data": "d", "lr": 0.1},
    ),
    "simple_parsing": (
        ("from dataclasses import dataclass\nfrom simple_parsing import ArgumentParser\n"
        "@dataclass\nclass Opt:\n    lr: float = 0.1\n    name: str = 'sgd'\n"
        "p = ArgumentParser()\np.add_argument('--seed', type=int, default=1)\np.add_arguments(Opt, dest='opt')\n"
        "p.parse_args()\n"),
        ["--lr", "3"],
        {"seed": 1, "opt.lr": 3.0, "opt.name": "sgd"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PARSERS)
def test_each_parser_tells_its_final_values(name: str, settings: Settings, folder: Path) -> None:
    text, words, expected = PARSERS[name]
    config = "epochs: 2\noptimizer: {name: sgd, lr: 0.1}\nhydra: {run: {dir: out}, output_subdir: null}\n"
    result = both(settings, folder, {"t.py": text, "conf/train.yaml": config}, "t.py", *words)
    assert result.ok, result.output
    assert (result.parameters, known_from(result)[0]) == (expected, ITSELF)


LIGHTNING = """
import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.cli import LightningCLI

class Model(LightningModule):
    def __init__(self, width: int = 64, lr: float = 0.1):
        super().__init__()
        self.layer = torch.nn.Linear(1, width)

LightningCLI(Model, run=False)
"""


def test_lightnings_command_line_tells_the_models_and_the_trainers(settings: Settings, folder: Path) -> None:
    (folder / "t.py").write_text(LIGHTNING, encoding="utf-8")
    words = ["--model.lr", "3", "--trainer.max_epochs", "2"]
    result = GenericWrapper("people", "t.py", folder, words, settings=settings).run()
    assert result.ok, result.output
    expected = {"model.lr": 3.0, "model.width": 64, "trainer.max_epochs": 2, "trainer.devices": "auto"}
    assert {name: result.parameters[name] for name in expected} == expected
    assert known_from(result)[0] == ITSELF


def test_a_start_costs_a_script_next_to_nothing(tmp_path: Path) -> None:
    hook = Path(__file__).parents[2] / "guardianflow" / "adapters" / "wrap" / "hook"
    environment = _plain() | {"PYTHONPATH": str(hook), "GUARDIANFLOW_NOTES": str(tmp_path)}
    code = (
        "import os, time\nbegan = time.perf_counter()\ntry:\n    import sitecustomize\nexcept ImportError:\n    pass\n"
    )
    code += "print(time.perf_counter() - began)"
    took = [subprocess.check_output([sys.executable, "-S", "-c", code], env=environment) for _ in range(5)]
    assert min(map(float, took)) < 0.020
