"""What a script declares and what its command line gives, read without running it."""

from __future__ import annotations

import argparse
import ast
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from guardianflow.adapters.wrap.commands import Command, read_command
from guardianflow.adapters.wrap.parameters.script_parameters import declared_in, read_declared, resolve_parameters

SCRIPTS = Path(__file__).parent / "scripts"


def resolved(script: Path | str, *args: str, **options: Any) -> Any:
    command = read_command(str(script), args, working_dir=SCRIPTS)
    return resolve_parameters(command, working_dir=SCRIPTS, **options)


def of_source(source: str, *args: str, folder: Path, **options: Any) -> Any:
    (folder / "script.py").write_text(source, encoding="utf-8")
    command = read_command("script.py", args, working_dir=folder)
    return resolve_parameters(command, working_dir=folder, **options)


# -- argparse -----------------------------------------------------------------------------------

LINES: list[list[str]] = [
    ["data"],
    ["data", "-l0.5", "--no-amp", "-vv", "--si", "1", "2", "3"],
    ["--lr=0.25", "--out", "x y/자료", "--train-b", "4", "--no-augment", "data", "--depth", "3"],
    ["-vl", "0.1", "--width", "-0.5", "--", "data"],
]


@pytest.mark.parametrize("words", LINES, ids=" ".join)
def test_values_are_those_that_the_script_itself_sees(words: list[str]) -> None:
    result = subprocess.run(
        [sys.executable, SCRIPTS / "torch_loop.py", *words], capture_output=True, text=True, check=True
    )
    seen = ast.literal_eval(result.stdout)
    read = resolved("torch_loop.py", *words)
    seen.pop("device")  # taken from the environment, so not known
    assert {name: str(value) for name, value in read.values.items()} == seen


def test_defaults_come_from_constants_groups_loops_and_functions() -> None:
    declared = read_declared(SCRIPTS / "torch_loop.py")
    by_name = {one.name: one for one in declared.parameters}
    assert declared.style == "argparse"
    assert by_name["lr"].default == 1e-3
    assert by_name["lr"].flags == ("--lr", "-l")
    assert by_name["lr"].help == "learning rate"
    assert by_name["epochs"].default == 6
    assert by_name["momentum"].default == 0.9
    assert by_name["out"].default == "runs/exp"
    assert by_name["seed"].default == 7
    assert by_name["train_batch"].default == 8
    assert (by_name["amp"].flags, by_name["amp"].off_flags) == (("--amp",), ("--no-amp",))
    assert by_name["data"].flags == ()
    assert by_name["data"].required
    assert not by_name["device"].has_default
    assert [one for one in declared.remarks if "--device" in one and "os.environ" in one]


def test_origins_tell_defaults_from_what_was_given() -> None:
    read = resolved("torch_loop.py", "data", "--lr", "0.5", "--lr-typo", "3")
    assert read.origins["lr"] == "command line"
    assert read.origins["epochs"] == "default"
    assert read.origins["seed"] == "default"
    assert read.values["lr_typo"] == 3
    assert read.origins["lr_typo"] == "command line"
    assert read.values["data"] == "data"


def test_a_wrong_command_line_is_a_remark_and_its_values_are_kept() -> None:
    read = resolved("torch_loop.py", "--lr", "fast", "--epochs", "3")
    assert read.values["lr"] == "fast"
    assert read.values["epochs"] == 3
    assert [one for one in read.remarks if "doesn't fit" in one]


SUBCOMMANDS = """
import argparse
parser = argparse.ArgumentParser()
parser.add_argument("--seed", type=int, default=1)
sub = parser.add_subparsers(dest="mode", required=True)
def add_train():
    p = sub.add_parser("train")
    p.add_argument("--lr", type=float, default=0.1)
    p.set_defaults(func=add_train)
add_train()
sub.add_parser("test").add_argument("--split", default="val")
args = parser.parse_args()
"""


def test_parameters_of_a_subcommand_count_only_where_it_is_named(tmp_path: Path) -> None:
    names = [one.name for one in declared_in(SUBCOMMANDS).parameters]
    assert names == ["seed", "train.lr", "test.split"]
    read = of_source(SUBCOMMANDS, "train", "--lr", "3", folder=tmp_path)
    assert read.values == {"seed": 1, "command": "train", "lr": 3.0}
    assert of_source(SUBCOMMANDS, "test", folder=tmp_path).values == {"seed": 1, "command": "test", "split": "val"}


def test_options_are_read_wherever_the_script_declares_them() -> None:
    source = """
from argparse import ArgumentParser as AP
class Base:
    def initialize(self, parser):
        parser.add_argument("--base", type=int, default=1)
        return parser
class Train(Base):
    def initialize(self, parser):
        parser = Base.initialize(self, parser)
        parser.add_argument("--lr", type=float, default=1e-2)
        return parser
    def parse(self):
        parser = AP(parents=[common()])
        parser = self.initialize(parser)
        self.parser = parser
        self.parser.add_argument("--own", action="store_true")
        return self.parser.parse_args()
def common():
    p = AP(add_help=False)
    p.add_argument("--common", default="c")
    return p
if __name__ == "__main__":
    opt = Train().parse()
"""
    declared = declared_in(source)
    assert [(one.name, one.default) for one in declared.parameters] == [
        ("base", 1), ("lr", 0.01), ("own", False), ("common", "c"),
    ]  # fmt: skip
    assert declared.remarks == ()


def test_two_parsers_of_one_command_line_share_it(tmp_path: Path) -> None:
    source = """
import argparse
config_parser = parser = argparse.ArgumentParser(add_help=False)
parser.add_argument("-c", "--config", default="")
parser = argparse.ArgumentParser()
parser.add_argument("data_dir", nargs="?")
parser.add_argument("--lr", type=float, default=0.1)
def parse():
    first, rest = config_parser.parse_known_args()
    return parser.parse_args(rest)
if __name__ == "__main__":
    args = parse()
"""
    read = of_source(source, "/d", "-c", "x.yml", "--lr", "2", folder=tmp_path)
    assert read.values == {"config": "x.yml", "data_dir": "/d", "lr": 2.0}


def test_a_parser_in_another_file_behind_a_launcher_is_read(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("from opts import get\nget().parse_args()\n")
    (tmp_path / "opts.py").write_text(
        "import argparse\nfrom more.data import add\n"
        "def get():\n    p = argparse.ArgumentParser()\n    p.add_argument('--lr', type=float, default=0.1)\n"
        "    add(p)\n    return p\n"
    )
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "data.py").write_text("def add(p):\n    p.add_argument('--batch', type=int, default=8)\n")
    words = ("--nproc_per_node", "2", "train.py", "--batch", "3")
    command = Command("binary", ("/bin/torchrun", *words), None, words)
    read = resolve_parameters(command, working_dir=tmp_path)
    assert read.values == {"lr": 0.1, "batch": 3, "nproc_per_node": 2}
    assert read.origins["lr"] == "default"


def test_what_is_only_known_when_it_runs_is_a_remark_and_no_invention() -> None:
    source = """
import argparse, torch
N = 4
N += torch.cuda.device_count()
names = ["a"]
names.append("b")
if torch.cuda.is_available():
    batch = 64
else:
    batch = 8
parser = argparse.ArgumentParser()
parser.add_argument("--workers", type=int, default=N)
parser.add_argument("--name", choices=names)
parser.add_argument("--batch", default=batch)
for key, value in vars(torch).items():
    parser.add_argument(f"--{key}", default=value)
add_more(parser)
args = parser.parse_args()
"""
    declared = declared_in(source)
    by_name = {one.name: one for one in declared.parameters}
    assert not by_name["workers"].has_default
    assert not by_name["batch"].has_default
    remarks = "\n".join(declared.remarks)
    assert "name of an argument is computed" in remarks


def test_dataclasses_behind_a_parser_become_options() -> None:
    read = resolved(
        "hf_train.py", "--model_name", "resnet", "--tie", "false", "--layers", "3", "4", "--output_dir", "o"
    )
    assert read.values == {
        "model_name": "resnet", "hidden": 128, "tie": False, "layers": [3, 4], "cache": None, "output_dir": "o",
    }  # fmt: skip
    assert [one for one in read.remarks if "TrainingArguments" in one]


# -- click, typer, fire -------------------------------------------------------------------------


def test_click_options_of_the_named_subcommand() -> None:
    read = resolved(
        "click_train.py", "--quiet", "train", "-l", "0.5", "-n", "3", "-t", "a", "--tag=b", "data", "--fast"
    )
    assert read.values == {
        "verbose": False, "command": "train", "data": "data", "lr": 0.5, "optimizer": "sgd", "tag": ["a", "b"],
        "epochs": 3, "fast": True,
    }  # fmt: skip
    assert read.origins["optimizer"] == "default"
    assert read.origins["lr"] == "command line"
    declared = {one.name: one for one in read.declared.parameters}
    assert read.declared.style == "click"
    assert declared["train.epochs"].required
    assert declared["evaluate.split"].default == "val"


def test_click_flags_that_stand_for_a_value(tmp_path: Path) -> None:
    source = """
import click
@click.command()
@click.option("-v", "--verbose", count=True)
@click.option("--upper", "mode", flag_value="upper", default=True)
@click.option("--lower", "mode", flag_value="lower")
@click.option("--size", nargs=2, type=int, default=(1, 2))
@click.argument("files", nargs=-1)
def main(**options): pass
main()
"""
    read = of_source(source, "-vv", "--lower", "a", "b", "--size", "3", "4", folder=tmp_path)
    assert read.values == {"verbose": 2, "mode": "lower", "size": [3, 4], "files": ["a", "b"]}
    assert of_source(source, folder=tmp_path).values == {"verbose": 0, "size": [1, 2], "files": []}


def test_typer_signature_in_its_three_spellings() -> None:
    read = resolved("typer_train.py", "d", "--no-amp", "-t", "a", "-n", "7", "--optimizer", "adam")
    assert read.values == {
        "data": "d", "lr": 0.1, "optimizer": "adam", "amp": False, "tags": ["a"], "epochs": 7, "name": None
    }  # fmt: skip
    declared = {one.name: one for one in read.declared.parameters}
    assert declared["epochs"].help == "passes"
    assert declared["amp"].off_flags == ("--no-amp",)


def test_typer_apps_have_subcommands_and_a_callback() -> None:
    read = resolved("typer_app.py", "--seed", "3", "train", "--batch", "2")
    assert read.values == {"seed": 3, "command": "train", "epochs": 3, "batch_size": 2}
    assert resolved("typer_app.py", "check-data").values == {"seed": 1, "command": "check-data", "path": "data"}


def test_fire_takes_a_function_by_name_and_by_place() -> None:
    assert resolved("fire_train.py", "d", "0.5", "--epochs=4").values == {
        "data": "d", "lr": 0.5, "epochs": 4, "name": "a",
    }  # fmt: skip


# -- nothing declared ---------------------------------------------------------------------------


def line_of(*args: str) -> dict[str, Any]:
    command = Command("binary", ("/bin/x", *args), None, args)
    return resolve_parameters(command, working_dir=SCRIPTS).values


def test_ultralytics_words_are_typed_parameters() -> None:
    assert line_of("detect", "train", "data=coco8.yaml", "epochs=3", "imgsz=320", "lr0=1e-3", "amp=False") == {
        "data": "coco8.yaml", "epochs": 3, "imgsz": 320, "lr0": 0.001, "amp": False, "arg.1": "detect", "arg.2": "train"
    }  # fmt: skip


def test_hydra_overrides_keep_their_dotted_names() -> None:
    assert line_of("model.lr=0.1", "+x=1", "++y=[1,2]", "db@store=sql") == {
        "model.lr": 0.1, "x": 1, "y": [1, 2], "db@store": "sql"
    }  # fmt: skip


def test_options_of_an_unknown_program() -> None:
    assert line_of("--lr", "-0.1", "--out=a b", "--fast", "-j8", "--tag", "x", "--tag", "y", "--", "--raw") == {
        "lr": -0.1, "out": "a b", "fast": True, "j": 8, "tag": ["x", "y"], "arg.1": "--raw"
    }  # fmt: skip


def test_numbers_that_are_names_stay_text() -> None:
    assert line_of("run=007", "sha=1e400000", "id=123456789012345678901234") == {
        "run": "007", "sha": "1e400000", "id": "123456789012345678901234"
    }  # fmt: skip


# -- constants ----------------------------------------------------------------------------------


def test_constants_are_taken_on_request_only() -> None:
    assert "LR" not in resolved("torch_loop.py", "d").values
    read = resolved("torch_loop.py", "d", constants=True)
    assert read.values["LR"] == 1e-3
    assert read.values["EPOCHS"] == 6
    assert read.values["api_url"] == "https://example.org"
    assert read.values["Config.momentum"] == 0.9
    assert read.values["Config.weight_decay"] == 5e-4
    assert read.origins["LR"] == "constant"


def test_a_constant_that_changes_is_none(tmp_path: Path) -> None:
    source = "A = 1\nA = 2\nB = [1]\nB.append(2)\nC = 3\nfor C in range(3): pass\nD = 4\n_E = 6\n"
    assert of_source(source, folder=tmp_path, constants=True).values == {"D": 4}


# -- texts that nobody wrote for us -------------------------------------------------------------

STRANGE = {
    "python 2": "print 'x'\nimport argparse\n",
    "null bytes": "import argparse\0\n",
    "nested": "(" * 5_000 + ")" * 5_000,
    "long sum": "import argparse\nx = " + "+".join(["1"] * 100_000),
    "deep attribute": "import argparse\nparse_args = a" + ".b" * 20_000,
    "bomb": "import argparse\n" + "".join(f"x{n + 1} = [x{n}] * 10\n" for n in range(12)).replace("[x0]", "[1]")
    + "p = argparse.ArgumentParser()\np.add_argument('--x', default=x12)\np.parse_args()",
    "power": "import argparse\np = argparse.ArgumentParser()\np.add_argument('--x', default=9**9**9)\np.parse_args()",
    "repeat": "X = 'a' * 10**10\nY = 1 << 10**9\nZ = '%999999999d' % 1\n"
    "import argparse\nargparse.ArgumentParser().parse_args()",
    "recursive": "import argparse\ndef f(p):\n    p.add_argument('--x')\n    f(p)\n"
    "p = argparse.ArgumentParser()\nf(p)\np.parse_args()",
    "endless bases": "import argparse\nclass A(B): pass\nclass B(A):\n"
    "  def f(self):\n    p = argparse.ArgumentParser()\nA().f()",
    "empty": "",
}  # fmt: skip


@pytest.mark.parametrize("kind", STRANGE)
def test_a_strange_text_ends_in_a_remark_or_in_nothing(kind: str, tmp_path: Path) -> None:
    read = of_source(STRANGE[kind], "--x", "1", folder=tmp_path, constants=True)
    assert all(len(str(one)) <= 200_000 for one in read.values.values())
    assert read.values["x"] in (1, "1")


def test_what_is_no_python_3_says_so() -> None:
    (remark,) = declared_in("print 'x'\n").remarks
    assert "not Python 3" in remark
    assert "line 1" in remark


def test_encodings_are_read_as_the_first_line_says(tmp_path: Path) -> None:
    script = tmp_path / "학습 script.py"
    source = "# -*- coding: euc-kr -*-\nimport argparse\np = argparse.ArgumentParser()\n"
    source += "p.add_argument('--name', default='학습')\np.parse_args()\n"
    script.write_bytes(source.encode("euc-kr"))
    assert read_declared(script).parameters[0].default == "학습"
    script.write_bytes(source.replace("euc-kr", "utf-8").encode("euc-kr"))
    declared = read_declared(script)
    assert declared.style == "none"
    assert "can't be read as text" in declared.remarks[0]


def test_large_missing_and_odd_files_are_left_out_with_a_reason(tmp_path: Path) -> None:
    large = tmp_path / "large.py"
    large.write_text("x = 1\n" * 400_000)
    assert "larger than 2 MB" in read_declared(large).remarks[0]
    assert "can't be read" in read_declared(tmp_path / "none.py").remarks[0]
    assert "no regular file" in read_declared(tmp_path).remarks[0]


# -- against argparse itself --------------------------------------------------------------------

_NAMES = st.sampled_from(["lr", "epochs", "batch-size", "batch-norm", "out", "x", "data_dir", "weight-decay", "v"])
_TEXTS = st.text("abcXYZ019_./가", min_size=1, max_size=6).filter(lambda text: not text.startswith("-"))
_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "int": st.integers(-1000, 1000),
    "float": st.floats(-10, 10, allow_nan=False).map(lambda x: round(x, 4)),
    "str": _TEXTS,
}  # fmt: skip


@st.composite
def arguments(draw: st.DrawFn) -> tuple[str, list[str]]:
    """A call of add_argument as text, and words that a command line may hold for it."""
    name = draw(_NAMES)
    action = draw(
        st.sampled_from(
            ["store", "store", "store", "store_true", "store_false", "count", "append", "bool", "store_const"]
        )
    )
    flag = f"--{name}"
    short = flag[: draw(st.integers(3, 12))]
    words = [repr(flag)] + ([repr(f"-{name[0]}")] if draw(st.booleans()) else [])
    if draw(st.booleans()):
        words.append(f"dest={draw(st.sampled_from(['one', 'two', 'x', 'lr']))!r}")
    given: list[str] = []
    wanted = draw(st.booleans())
    if action == "bool":
        words.append("action=argparse.BooleanOptionalAction")
        words += [f"default={draw(st.booleans())}"] if draw(st.booleans()) else []
        given = [draw(st.sampled_from([flag, short, f"--no-{name}"]))]
    elif action in {"store_true", "store_false", "count"}:
        words.append(f"action={action!r}")
        words += ["default=2"] if action == "count" and draw(st.booleans()) else []
        given = [short] * draw(st.integers(1, 2))
    elif action == "store_const":
        words += [f"action={action!r}", f"const={draw(_VALUES['int'])}"]
        given = [flag]
    else:
        kind = draw(st.sampled_from(["int", "float", "str"]))
        value = _VALUES[kind]
        words += [f"type={kind}"] + ([f"action={action!r}"] if action == "append" else [])
        nargs = draw(st.sampled_from([None, None, "?", "*", "+", 2])) if action == "store" else None
        count = {None: 1, "?": draw(st.integers(0, 1)), "*": draw(st.integers(0, 3)), "+": 2, 2: 2}[nargs]
        words += [f"nargs={nargs!r}"] if nargs is not None else []
        words += ["const=5"] if nargs == "?" and draw(st.booleans()) else []
        if draw(st.booleans()):
            default = draw(value)
            many = nargs in ("*", "+", 2) or action == "append"
            written = [default] if many else draw(st.sampled_from([default, str(default)]))
            words.append(f"default={written!r}")
        elif draw(st.integers(0, 5)) == 0:
            words.append("default=argparse.SUPPRESS")
        texts = [str(draw(value)) for _ in range(count)]
        joined = count == 1 and draw(st.booleans())
        given = [f"{short}={texts[0]}"] if joined else [short, *texts]
    return f"parser.add_argument({', '.join(words)})", given if wanted else []


@st.composite
def scripts(draw: st.DrawFn) -> tuple[str, list[str]]:
    calls = draw(st.lists(arguments(), max_size=5, unique_by=lambda call: call[0].split("'")[1]))
    source = ["import argparse", f"parser = argparse.ArgumentParser(allow_abbrev={draw(st.booleans())})"]
    positional = draw(st.sampled_from([None, "int", "str"]))
    kept: list[list[str]] = []
    for text, words in calls:
        source.append(text)
        kept.append(words)
    head: list[str] = []
    if positional:
        source.append(f"parser.add_argument('source', type={positional})")
        head = [str(draw(_VALUES[positional]))]
    order = draw(st.permutations(kept))
    argv = head + [word for words in order for word in words]
    return "\n".join(source) + "\nif __name__ == '__main__':\n    args = parser.parse_args()\n", argv


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(made=scripts())
def test_values_equal_those_of_argparse_for_any_parser(made: tuple[str, list[str]], tmp_path: Path) -> None:
    source, argv = made
    names: dict[str, Any] = {"__name__": "script"}
    try:
        exec(compile(source, "script", "exec"), names)  # our own text
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(argparse.ArgumentParser, "error", lambda self, message: (_ for _ in ()).throw(ValueError))
            expected = vars(names["parser"].parse_args(argv))
    except (ValueError, TypeError, AttributeError, argparse.ArgumentError):
        reject()  # the same flag twice, two kinds of argument for one name, a line that this parser refuses
    read = of_source(source, *argv, folder=tmp_path)
    assert read.values == expected, (source, argv)
    assert {name: type(value) for name, value in read.values.items()} == {n: type(v) for n, v in expected.items()}
