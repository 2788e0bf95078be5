"""The locks follow pyproject.toml, agree with each other, are hashed, and name no download host."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
LOCKS = ["base", "bootstrap", "build", "dev", "lab", "stack"]
PIN = re.compile(r"^(?P<name>[a-z0-9._-]+)==(?P<version>\S+?)(?: ; (?P<marker>[^\\]+?))? \\$", re.MULTILINE)
HOST = re.compile(r"://|^\s*(?:-i|-f|--(?:extra-)?index|--find-links|--trusted-host)|@ *file:", re.MULTILINE)


def text_of(name: str) -> str:
    return (ROOT / "requirements" / f"{name}.lock").read_text(encoding="utf-8")


def pins_in(text: str) -> dict[str, str]:
    """Package → version, or both versions joined where markers fork."""
    pins: dict[str, str] = {}
    for found in PIN.finditer(text):
        name = canonicalize_name(found["name"])
        pins[name] = f"{pins[name]} {found['version']}" if name in pins else found["version"]
    return pins


def unhashed_in(text: str) -> list[str]:
    """Requirements whose next line isn't a sha256."""
    lines = [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]
    return [
        line
        for line, following in zip(lines, [*lines[1:], ""], strict=True)
        if not line.startswith(" ") and not following.lstrip().startswith("--hash=sha256:")
    ]


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def unmet(requirements: list[str], pins: dict[str, str]) -> list[str]:
    """The requirements that no pin satisfies (our own extras are looked at by themselves)."""
    missing = []
    for requirement in map(Requirement, requirements):
        name = canonicalize_name(requirement.name)
        versions = pins.get(name, "").split()
        if name != "guardianflow" and not any(map(requirement.specifier.contains, versions)):
            missing.append(str(requirement))
    return missing


def test_every_lock_is_known() -> None:
    assert sorted(path.stem for path in (ROOT / "requirements").glob("*.lock")) == LOCKS


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_names_no_host(name: str) -> None:
    assert HOST.findall(text_of(name)) == []


@pytest.mark.parametrize("line", ["--index-url https://x/simple", "-f wheels", "a @ file:///b", "--find-links w"])
def test_a_host_would_be_found(line: str) -> None:
    assert HOST.findall(f"{text_of('build')}{line}\n")


@pytest.mark.parametrize("name", LOCKS)
def test_every_requirement_is_hashed(name: str) -> None:
    text = text_of(name)
    assert unhashed_in(text) == []
    assert pins_in(text)
    assert unhashed_in(text + "loose==1.0\n") == ["loose==1.0"]


def test_the_locks_satisfy_pyproject() -> None:
    metadata = project()["project"]
    extras = metadata["optional-dependencies"]
    assert unmet(metadata["dependencies"], pins_in(text_of("base"))) == []
    assert unmet(extras["dev"] + extras["gpu"] + extras["postgres"] + extras["s3"], pins_in(text_of("dev"))) == []
    assert unmet(extras["lab"] + extras["dashboard"], pins_in(text_of("lab"))) == []


def test_the_build_locks_satisfy_their_groups() -> None:
    groups = project()["dependency-groups"]
    assert unmet(groups["build"] + project()["build-system"]["requires"], pins_in(text_of("build"))) == []
    assert unmet(groups["bootstrap"], pins_in(text_of("bootstrap"))) == []


def test_an_unmet_requirement_would_be_found() -> None:
    pins = pins_in(text_of("base"))
    assert unmet(["numpy>=99", "no-such-package"], pins) == ["numpy>=99", "no-such-package"]


def test_locks_that_are_installed_together_agree() -> None:
    base, dev, lab, build = (pins_in(text_of(name)) for name in ("base", "dev", "lab", "build"))
    assert base.items() <= dev.items()
    assert base.items() <= lab.items()
    for other in (lab, build):
        assert {name: version for name, version in other.items() if name in dev} == {
            name: dev[name] for name in other if name in dev
        }
