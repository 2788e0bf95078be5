"""docker-compose.yml, read as what can be started on this machine.

Read of the compose specification is what our file uses: interpolation, services with entrypoint, command, environment,
ports, volumes, dependencies, restart and health check. What a container has for itself alone is put where it is here:
a named volume in a folder, a service's host name at 127.0.0.1, ``0.0.0.0`` at the address that ports are published on.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from dotenv import dotenv_values

from guardianflow.core.config import ENV_FILE
from guardianflow.exceptions import ConfigError, NotFoundError

__all__ = ["COMPOSE_FILE", "HOME", "Health", "Service", "Stack", "read_stack", "stack_environment"]

COMPOSE_FILE = "docker-compose.yml"
HOME = "guardianflow-stack"
"""The folder beside it that holds volumes, logs and state of services that run without Docker."""

_VARIABLE = re.compile(
    r"\$(?:(?P<escaped>\$)|(?P<plain>[A-Za-z_]\w*)"
    r"|\{(?P<name>[A-Za-z_]\w*)(?:(?P<rule>:?[-?+])(?P<word>[^}]*))?\})"
)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(us|ms|s|m|h)")
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_HERE = "127.0.0.1"


@dataclass(frozen=True)
class Health:
    """When a service is well.

    Attributes:
        test: The command that says so, by exit code 0.
        interval_s: Seconds between two tests.
        start_interval_s: The same until the first one that succeeds.
        timeout_s: After which a test has failed.
        retries: So many failures in a row make it unhealthy.
        start_period_s: Failures count only later than this after the start.
    """

    test: tuple[str, ...]
    interval_s: float = 30.0
    start_interval_s: float = 1.0
    timeout_s: float = 30.0
    retries: int = 3
    start_period_s: float = 0.0


@dataclass(frozen=True)
class Service:
    """One service, in this machine's terms.

    Attributes:
        name: In the file.
        image: What it runs in with Docker; says which programs are meant.
        command: Entrypoint and command.
        environment: What the service itself sets; nothing else of the caller's reaches it.
        depends_on: Service → ``service_started``, ``service_healthy`` or ``service_completed_successfully``.
        restart: ``no`` or ``unless-stopped``.
        stop_signal: What ends it in good order.
        health: How to know that it is well; ``None``: it runs.
        ports: Published ports.
        volumes: Path in the container → path here.
    """

    name: str
    image: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    depends_on: Mapping[str, str]
    restart: str
    stop_signal: str
    health: Health | None
    ports: tuple[int, ...]
    volumes: Mapping[str, Path]


@dataclass(frozen=True)
class Stack:
    """The services of a file, each after those that it depends on.

    Attributes:
        folder: Where the file lies.
        home: Where volumes, logs and state are.
        bind: The address that ports are published on.
        environment: What the file was read with: ``.env`` and the environment.
        services: Name → service.
    """

    folder: Path
    home: Path
    bind: str
    environment: Mapping[str, str] = field(repr=False)
    services: Mapping[str, Service] = field(repr=False)

    @property
    def host(self) -> str:
        """Where this machine reaches what is published."""
        return _HERE if self.bind in {"0.0.0.0", "::"} else self.bind  # noqa: S104 - compared with

    def need(self, name: str) -> str:
        """A value of ``.env``.

        Raises:
            ConfigError: It is missing.
        """
        value = self.environment.get(name)
        if not value:
            raise ConfigError(f"{name} is missing in {self.folder / ENV_FILE}. Call: guardianflow stack init")
        return value


def stack_environment(folder: Path) -> dict[str, str]:
    """What ``.env`` says, under what the environment says, as compose has it."""
    file = folder / ENV_FILE
    values = {key: value or "" for key, value in dotenv_values(file).items()} if file.is_file() else {}
    return {**values, **os.environ}


def read_stack(folder: str | Path, *, home: Path | None = None) -> Stack:
    """Read the stack of a folder.

    Args:
        folder: Where docker-compose.yml and ``.env`` lie.
        home: Where volumes, logs and state go. Default: :data:`HOME` in ``folder``.

    Raises:
        NotFoundError: There is no docker-compose.yml.
        ConfigError: It can't be read; a variable that it needs is missing; services depend on each other in a circle.
    """
    folder = Path(folder).expanduser().resolve()
    path = folder / COMPOSE_FILE
    if not path.is_file():
        raise NotFoundError(f"there is no {COMPOSE_FILE} in {folder}. `guardianflow stack init` makes one")
    environment = stack_environment(folder)
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
        interpolated = _interpolated({key: data.get(key) or {} for key in ("services", "volumes")}, environment)
        home = home or folder / HOME
        bind = environment.get("STACK_BIND") or _HERE
        reader = _Reader(folder, home, bind, set(interpolated["services"]), set(interpolated["volumes"]))
        services = {name: reader.service(name, raw) for name, raw in interpolated["services"].items()}
    except (yaml.YAMLError, UnicodeDecodeError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"{path} can't be read as a compose file: {' '.join(str(error).split())}. Correct it, or take it anew "
            "with `guardianflow stack init` in an empty folder"
        ) from error
    return Stack(folder, home, bind, environment, {name: services[name] for name in _ordered(services, path)})


class _Reader:
    """Turns what stands in the file into services of this machine."""

    def __init__(self, folder: Path, home: Path, bind: str, names: set[str], volumes: set[str]) -> None:
        self._folder = folder
        self._home = home
        self._bind = bind
        self._volumes = volumes
        # A host is followed by its port, or stands alone: the user name in postgresql://mlflow:…@ is none.
        alternatives = "|".join(map(re.escape, sorted(names, key=len, reverse=True)))
        self._host = re.compile(rf"(?<![\w.-])(?:{alternatives})(?=:\d{{1,5}}(?![\w@]))")
        self._option = re.compile(rf"(?<==)(?:{alternatives})$")

    def service(self, name: str, raw: Mapping[str, Any]) -> Service:
        volumes = dict(map(self._volume, raw.get("volumes", ())))
        environment = raw.get("environment") or {}
        if isinstance(environment, list):
            environment = dict(item.partition("=")[::2] for item in environment)
        depends = raw.get("depends_on") or {}
        if isinstance(depends, list):
            depends = {each: {"condition": "service_started"} for each in depends}

        def here(text: object) -> str:
            return self._here(str(text), volumes)

        return Service(
            name=name,
            image=str(raw.get("image", "")),
            command=tuple(map(here, (*_words(raw.get("entrypoint")), *_words(raw.get("command"))))),
            environment={str(key): here("" if value is None else value) for key, value in environment.items()},
            depends_on={each: str(rule["condition"]) for each, rule in depends.items()},
            restart=str(raw.get("restart", "no")),
            stop_signal=str(raw.get("stop_signal", "SIGTERM")),
            health=_health(raw.get("healthcheck"), here),
            ports=tuple(int(str(port).rpartition(":")[2]) for port in raw.get("ports", ())),
            volumes=volumes,
        )

    def _volume(self, text: str) -> tuple[str, Path]:
        source, _, rest = text.partition(":")
        target = rest.removesuffix(":ro").removesuffix(":rw")
        if source in self._volumes:
            return target, self._home / "volumes" / source
        return target, (self._folder / source).resolve()

    def _here(self, text: str, volumes: Mapping[str, Path]) -> str:
        text = self._option.sub(_HERE, self._host.sub(_HERE, text))
        text = text.replace("0.0.0.0", self._bind)  # noqa: S104 - taken out, not listened on
        for inside, place in volumes.items():
            text = re.sub(rf"(?<![\w./-]){re.escape(inside)}(?![\w.-])", str(place).replace("\\", r"\\"), text)
        return text


def _words(value: object) -> list[str]:
    if value is None:
        return []
    return shlex.split(value) if isinstance(value, str) else [str(each) for each in value]  # type: ignore[attr-defined]


def _health(raw: Mapping[str, Any] | None, here: Callable[[object], str]) -> Health | None:
    if not raw or raw.get("disable"):
        return None
    test = raw["test"]
    words = ["sh", "-c", test] if isinstance(test, str) else [str(each) for each in test]
    if words[0] == "NONE":
        return None
    words = ["sh", "-c", *words[1:]] if words[0] == "CMD-SHELL" else words[1:] if words[0] == "CMD" else words
    names = {key: f"{key}_s" for key in ("interval", "start_interval", "timeout", "start_period") if key in raw}
    times = {keyword: _seconds(raw[key]) for key, keyword in names.items()}
    return Health(tuple(map(here, words)), retries=int(raw.get("retries", 3)), **times)


def _seconds(text: object) -> float:
    parts = _DURATION.findall(str(text))
    if "".join(map("".join, parts)) != str(text):
        raise ValueError(f"{text!r} is no duration such as 500ms, 5s or 1m30s")
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def _interpolated(value: Any, environment: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return _VARIABLE.sub(lambda match: _value(match, environment), value)
    if isinstance(value, dict):
        return {key: _interpolated(each, environment) for key, each in value.items()}
    if isinstance(value, list):
        return [_interpolated(each, environment) for each in value]
    return value


def _value(match: re.Match[str], environment: Mapping[str, str]) -> str:
    if match["escaped"]:
        return "$"
    name, rule, word = match["plain"] or match["name"], match["rule"] or "", match["word"] or ""
    value = environment.get(name)
    given = value if value or (value is not None and not rule.startswith(":")) else None
    if rule.endswith("+"):
        return word if given is not None else ""
    if given is not None:
        return given
    if rule.endswith("?"):
        raise ConfigError(f"{name} {word or 'is missing'} (it belongs into {ENV_FILE}, which no commit holds)")
    return word if rule.endswith("-") else ""


def _ordered(services: Mapping[str, Service], path: Path) -> Iterator[str]:
    """Names, each after those that it depends on; else as in the file."""
    done: set[str] = set()
    while len(done) < len(services):
        ready = [name for name, each in services.items() if name not in done and done.issuperset(each.depends_on)]
        if not ready:
            raise ConfigError(
                f"{path}: {', '.join(sorted(set(services) - done))} wait for each other, or for a service that isn't "
                "there. Mend their depends_on"
            )
        yield ready[0]
        done.add(ready[0])
