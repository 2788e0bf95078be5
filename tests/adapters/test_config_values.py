"""Config files that a command line names are read and flattened, within caps."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from guardianflow.adapters.wrap.commands import Command
from guardianflow.adapters.wrap.parameters.config_values import MAX_LEAVES, config_files, read_config_files
from guardianflow.adapters.wrap.parameters.script_parameters import resolve_parameters

BOMB = "a0: &a0 [1]\n" + "".join(f"a{n + 1}: &a{n + 1} [{','.join([f'*a{n}'] * 9)}]\n" for n in range(9))


def read(folder: Path, *words: str) -> Any:
    command = Command("binary", ("/bin/x", *words), None, words)
    return resolve_parameters(command, working_dir=folder)


def test_each_format_is_flattened_under_its_files_name(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "model:\n  lr: 1e-3\n  sizes: [1, 2]\nnames: {0: cat, 1: 고양이}\n", encoding="utf-8"
    )
    (tmp_path / "b.toml").write_text("[opt]\nname = 'sgd'\nwhen = 2024-01-02\n")
    (tmp_path / "c c.json").write_text('\ufeff{"x": {"y": null, "z": true}}', encoding="utf-8")
    result = read(tmp_path, "--config", "a.yaml", "cfg=b.toml", f"--c={tmp_path / 'c c.json'}")
    assert {name: value for name, value in result.values.items() if name.startswith("config.")} == {
        "config.a.model.lr": 0.001, "config.a.model.sizes": "[1, 2]", "config.a.names.0": "cat",
        "config.a.names.1": "고양이", "config.b.opt.name": "sgd", "config.b.opt.when": "2024-01-02",
        "config.c c.x.y": None, "config.c c.x.z": True,
    }  # fmt: skip
    assert result.origins["config.a.model.lr"] == "config a.yaml"
    assert result.remarks == ()


def test_a_file_glued_to_its_option_is_found_where_the_script_declares_it(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("lr: 2\n")
    script = tmp_path / "s.py"
    script.write_text("import argparse\np = argparse.ArgumentParser()\np.add_argument('-c')\np.parse_args()\n")
    command = Command("python", ("python", "s.py", "-cc.yaml"), script, ("-cc.yaml",))
    assert resolve_parameters(command, working_dir=tmp_path).values == {"c": "c.yaml", "config.c.lr": 2}


def test_two_files_of_one_name_are_kept_apart(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "c.json").write_text(json.dumps({"from": folder}))
    values = read(tmp_path, "a/c.json", "b/c.json").values
    assert values["config.c.from"] == "a"
    assert values["config.c_2.from"] == "b"


def test_broken_files_are_remarks_and_the_others_are_read(tmp_path: Path) -> None:
    bad = {
        "broken.yaml": "a: [1\n", "bomb.yaml": BOMB, "list.yaml": "- 1\n",
        "broken.json": "{", "deep.json": "[" * 100_000, "broken.toml": "a = ",
        "large.json": " " * (1 << 20) + "1",
    }  # fmt: skip
    for name, text in bad.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "latin.json").write_bytes(b'{"a": "\xe9"}')
    (tmp_path / "good.yaml").write_text("a: 1\n")
    result = read(tmp_path, *bad, "latin.json", "good.yaml")
    assert {name: value for name, value in result.values.items() if name.startswith("config.")} == {"config.good.a": 1}
    assert len(result.remarks) == len(bad) + 1
    assert all(any(name in remark for remark in result.remarks) for name in bad)


def test_what_people_write_into_yaml_is_read_and_a_bad_value_costs_itself_alone(tmp_path: Path) -> None:
    text = (
        "base: &base {lr: 0.1, opt: sgd}\nmore: &more {lr: 9, wd: 0}\n"
        "train:\n  <<: *base\n  lr: 0.5\nboth:\n  <<: [*base, *more]\n"
        "model: !Net {width: 8}\nkey: !env HOME\nrun: !!python/object/apply:os.system [ls]\n"
        "when: 2024-99-99\nshared: *base\nloop: &loop {self: 1}\n? [1, 2]\n: x\nlr: 1\nlr: 2\n"
    )
    (tmp_path / "c.yaml").write_text(text)
    result = read_config_files([tmp_path / "c.yaml"])
    assert {name.removeprefix("config.c."): value for name, value in result.values.items()} == {
        "base.lr": 0.1, "base.opt": "sgd", "more.lr": 9, "more.wd": 0, "train.lr": 0.5, "train.opt": "sgd",
        "both.lr": 0.1, "both.opt": "sgd", "both.wd": 0, "model.width": 8, "key": "HOME", "run": '["ls"]',
        "shared.lr": 0.1, "shared.opt": "sgd", "loop.self": 1, "a list or mapping": "x", "lr": 2,
    }  # fmt: skip
    (remark,) = result.remarks
    assert "when in line 11 can't be built" in remark


def test_a_file_with_many_values_is_cut_with_a_remark(tmp_path: Path) -> None:
    (tmp_path / "many.json").write_text(json.dumps({f"k{n}": n for n in range(1_000)}))
    result = read_config_files([tmp_path / "many.json"])
    assert len(result.values) == MAX_LEAVES
    assert "has 1000 values" in result.remarks[0]


def test_only_existing_regular_files_count(tmp_path: Path) -> None:
    (tmp_path / "folder.yaml").mkdir()
    os.mkfifo(tmp_path / "pipe.yaml")
    words = ["folder.yaml", "pipe.yaml", "none.yaml", "a\0.yaml", "x" * 5_000 + ".yaml", "notes.txt", "", 3]
    assert config_files(words, tmp_path) == []


def test_a_dataset_counts_as_a_config_file(tmp_path: Path) -> None:
    (tmp_path / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [cat, dog]\n")
    values = read(tmp_path, "detect", "train", "data=data.yaml").values
    assert values["config.data.names"] == '["cat", "dog"]'
    assert values["data"] == "data.yaml"
