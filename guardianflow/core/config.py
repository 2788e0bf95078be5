"""Settings: where runs, models and state live.

Precedence, highest first: arguments of :class:`Settings` > environment > ``.env`` >
``guardianflow.toml`` > defaults. ``guardianflow doctor`` prints each value and where it came from.

Nothing here opens a connection or creates a folder.
"""

from __future__ import annotations

import difflib
import getpass
import os
import re
import tomllib
from collections.abc import Iterable, Mapping, MutableMapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import unquote

from pydantic import Field, PrivateAttr, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from guardianflow.core.agreements import NamedServer, logins_beside, server_of
from guardianflow.exceptions import ConfigError
from guardianflow.text.printable import escape

__all__ = [
    "CONFIG_FILE",
    "ENV_FILE",
    "SettingOrigin",
    "Settings",
    "env_names",
    "find_config_file",
    "find_env_file",
    "find_workspace",
    "mask_secrets",
    "sqlite_path",
    "sqlite_url",
]

CONFIG_FILE = "guardianflow.toml"
ENV_FILE = ".env"
DEFAULT_WORK_DIR = "guardianflow-work"
_SOURCE = Path(__file__).resolve().parents[2]
CHECKOUT = _SOURCE if (_SOURCE / "notebooks" / "templates").is_dir() else None
"""The source checkout that this package is used from; ``None`` where it is installed."""

# Greedy up to the last "@": a password that should have been percent-encoded must not show its tail.
_URL_PASSWORD = re.compile(r"(?P<head>[a-z][a-z0-9+.-]*://[^\s:/@]*):(?P<secret>\S+)@", re.IGNORECASE)
_QUERY_SECRET = re.compile(r"(?P<head>[?&](?:ssl)?(?:password|passwd|pwd|token|secret)=)[^&\s]+", re.IGNORECASE)


def mask_secrets(text: str) -> str:
    """Replace by ``***`` the passwords of all URLs in a text: ``user:password@`` and ``?password=``."""
    return _QUERY_SECRET.sub(r"\g<head>***", _URL_PASSWORD.sub(r"\g<head>:***@", text))


_SQLITE_URL = re.compile(r"^(?P<scheme>sqlite(?:\+\w+)?):///(?P<path>[^?]*)(?P<query>\?.*)?$", re.DOTALL)


def sqlite_url(path: Path) -> str:
    """The URL of a SQLite file, as SQLAlchemy 2.1 and MLflow read it.

    Spaces and letters of any script stay as they are; only the three signs that mean something in
    a URL are encoded.
    """
    text = path.as_posix()
    for sign in "%?#":
        text = text.replace(sign, f"%{ord(sign):02X}")
    return f"sqlite:///{text}"


def sqlite_path(url: str) -> Path | None:
    """The file behind a ``sqlite:///`` URL; ``None`` for another database or one in memory."""
    match = _SQLITE_URL.match(url)
    if match is None or match["path"] in ("", ":memory:") or match["path"].startswith("file:"):
        return None
    return Path(unquote(match["path"]))


def _here() -> Path:
    try:
        return Path.cwd()
    except FileNotFoundError as error:
        raise ConfigError("the current folder no longer exists. Change into another one and try again.") from error


def find_config_file(start: Path | None = None) -> Path | None:
    """The nearest ``guardianflow.toml`` in ``start`` (default: the current folder) or above it."""
    here = (start or _here()).resolve()
    for folder in (here, *here.parents):
        candidate = folder / CONFIG_FILE
        if candidate.is_file():
            return candidate
    return None


def find_workspace(start: Path | None = None) -> Path | None:
    """The folder that ``start`` (default: the current folder) belongs to, so that all below it share one work folder.

    It is the nearest one with a ``guardianflow.toml``, else the source checkout.
    """
    here = (start or _here()).resolve()
    file = find_config_file(here)
    if file is not None:
        return file.parent
    return CHECKOUT if CHECKOUT and here.is_relative_to(CHECKOUT) else None


def find_env_file(start: Path | None = None) -> Path | None:
    """The nearest ``.env``, from ``start`` (default: the current folder) up to the workspace's folder.

    Outside a workspace only ``start`` itself counts: a ``.env`` further up belongs to something else.
    """
    here = (start or _here()).resolve()
    last = find_workspace(here) or here
    for folder in (here, *here.parents):
        candidate = folder / ENV_FILE
        if candidate.is_file():
            return candidate
        if folder == last:
            break
    return None


class SettingOrigin:
    """Names of the layers a value can come from, highest first."""

    INIT = "argument"
    ENV = "environment"
    DOTENV = ENV_FILE
    TOML = CONFIG_FILE
    DEFAULT = "default"


class Settings(BaseSettings):
    """Everything that decides where data goes; the embedded default needs no server.

    Attributes:
        mlflow_tracking_uri: ``MLFLOW_TRACKING_URI``. Default ``sqlite:///<work_dir>/mlflow.db``.
        mlflow_tracking_username: ``MLFLOW_TRACKING_USERNAME``, ``…_PASSWORD``, ``…_TOKEN``: for a server that asks.
        mlflow_s3_endpoint_url: ``MLFLOW_S3_ENDPOINT_URL``, for artifacts on SeaweedFS or another S3.
        aws_access_key_id: ``AWS_ACCESS_KEY_ID``; the other three of AWS go by their usual names, too.
        work_dir: ``GUARDIANFLOW_WORK_DIR``. Notebooks, weights and the embedded databases.
        experiments_base: ``GUARDIANFLOW_EXPERIMENTS_BASE``. The folder of the user's own code.
        templates: ``GUARDIANFLOW_TEMPLATES``. A folder of the user's own template notebooks: ``train.ipynb`` in it is
            executed instead of the one that came with this version, and so on. Default: none.
        database_url: ``GUARDIANFLOW_DATABASE_URL``. Default ``sqlite:///<work_dir>/guardianflow.db``.
        actor: ``GUARDIANFLOW_ACTOR``. Who is written into the ledger. Default: the login name.
        language: ``GUARDIANFLOW_LANGUAGE``. Of the pages: ``en``, ``ko``; empty: what the browser asks for.
        gate: ``GUARDIANFLOW_GATE``. ``evidence``: a promotion must show that it is no step back; ``off``.
        gate_margin: mAP50-95 that a smaller or faster candidate may lose at most.
        gate_latency_ratio: Median latency that a candidate may have at most, as a multiple of the champion's.
        gate_size_ratio: The same for the size of the file.
        gate_latency_ms_p95: 95th percentile of the latency, in ms, that no champion may exceed; 0: none.
        gate_size_mb: Size, in millions of bytes, that no champion may exceed; 0: none.
        gate_override_actors: Who may force a promotion; empty: everybody. A list, or names with commas.

    Raises:
        ConfigError: A value can't be used; the message names the setting, its layer and the rule.
    """

    model_config = SettingsConfigDict(
        # The prefix keeps a foreign DATABASE_URL or ACTOR out; names that are not ours are aliases below.
        env_prefix="GUARDIANFLOW_",
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        populate_by_name=True,
    )

    mlflow_tracking_uri: str = Field("", validation_alias="MLFLOW_TRACKING_URI")
    mlflow_tracking_username: str | None = Field(None, validation_alias="MLFLOW_TRACKING_USERNAME")
    mlflow_tracking_password: SecretStr | None = Field(None, validation_alias="MLFLOW_TRACKING_PASSWORD")
    mlflow_tracking_token: SecretStr | None = Field(None, validation_alias="MLFLOW_TRACKING_TOKEN")
    mlflow_s3_endpoint_url: str | None = Field(None, validation_alias="MLFLOW_S3_ENDPOINT_URL")
    aws_access_key_id: SecretStr | None = Field(None, validation_alias="AWS_ACCESS_KEY_ID")
    aws_secret_access_key: SecretStr | None = Field(None, validation_alias="AWS_SECRET_ACCESS_KEY")
    aws_session_token: SecretStr | None = Field(None, validation_alias="AWS_SESSION_TOKEN")
    aws_default_region: str | None = Field(None, validation_alias="AWS_DEFAULT_REGION")
    work_dir: Path = Field(Path(DEFAULT_WORK_DIR))
    experiments_base: Path = Field(Path())
    templates: Path | None = None
    database_url: str = Field("")
    actor: str = Field("")
    language: Literal["", "en", "ko"] = ""
    gate: Literal["evidence", "off"] = "evidence"
    gate_margin: float = Field(0.02, ge=0, le=1)
    gate_latency_ratio: float = Field(1.5, gt=0)
    gate_size_ratio: float = Field(3.0, gt=0)
    gate_latency_ms_p95: float = Field(0.0, ge=0)
    gate_size_mb: float = Field(0.0, ge=0)
    gate_override_actors: Annotated[list[str], NoDecode] = Field(default_factory=list)

    _origins: dict[str, str] = PrivateAttr(default_factory=dict)
    _files: dict[str, Path | None] = PrivateAttr(default_factory=dict)

    def __init__(self, **values: Any) -> None:
        _refuse_unknown(values, type(self), "Settings() has no argument")
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise ConfigError(_explain(error, type(self), _find_origins(type(self), values))) from error
        self._origins.update(_find_origins(type(self), values))
        self._files.update({SettingOrigin.DOTENV: find_env_file(), SettingOrigin.TOML: find_config_file()})
        for name in ("work_dir", "experiments_base", "templates"):
            if getattr(self, name) is not None:
                self._fix(name, _absolute(getattr(self, name), self._base_of(name)))
        for name, file in (("mlflow_tracking_uri", "mlflow.db"), ("database_url", "guardianflow.db")):
            url = getattr(self, name)
            fixed = _absolute_url(url, self._base_of(name)) if url else sqlite_url(self.work_dir / file)
            self._fix(name, fixed)
        self._fix("actor", self.actor or _login_name())

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic's looks in the current folder only
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - no such layer
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The precedence, highest first."""
        return (init_settings, env_settings, _dotenv_source(settings_cls), _toml_source(settings_cls))

    @field_validator("mlflow_tracking_uri", "database_url")
    @classmethod
    def _known_scheme(cls, value: str) -> str:
        if value and not re.match(r"^[a-z][a-z0-9+.-]+:", value, re.IGNORECASE) and value != "databricks":
            raise ValueError("must be a URL such as sqlite:///folder/file.db, postgresql://… or http://…")
        return value

    @field_validator("gate_override_actors", mode="before")
    @classmethod
    def _names_with_commas(cls, value: object) -> object:
        return [name for part in value.split(",") if (name := part.strip())] if isinstance(value, str) else value

    @property
    def origins(self) -> dict[str, str]:
        """Setting → the layer its value came from (see :class:`SettingOrigin`)."""
        return {name: self._origins.get(name, SettingOrigin.DEFAULT) for name in type(self).model_fields}

    @cached_property
    def runs_dir(self) -> Path:
        """``<work_dir>/runs``: one folder per run, with its notebook, weights and logs."""
        return self.work_dir / "runs"

    @property
    def is_embedded(self) -> bool:
        """Whether MLflow is the embedded SQLite file (no server to ask)."""
        return self.mlflow_tracking_uri.startswith("sqlite:")

    def describe(self) -> list[dict[str, str]]:
        """Each setting as ``{"name", "env", "value", "origin"}``, secrets masked."""
        rows = []
        for name, env in env_names(type(self)).items():
            value = getattr(self, name)
            shown = str(value) if isinstance(value, SecretStr) else mask_secrets(_as_text(value))
            rows.append({"name": name, "env": env, "value": shown, "origin": self.origins[name]})
        return rows

    def __dir__(self) -> list[str]:  # completion shows our names, not pydantic's
        return sorted({*super().__dir__()} - {*dir(BaseSettings)})

    def __repr_args__(self) -> list[tuple[str, str]]:  # what a notebook keeps holds no password
        return [(row["name"], row["value"]) for row in self.describe()]

    def _repr_html_(self) -> str:
        rows = (
            "".join(f'<td style="text-align:left">{escape(row[name])}</td>' for name in ("name", "value", "origin"))
            for row in self.describe()
        )
        return f"<table>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"

    def named_servers(self) -> list[NamedServer]:
        """The servers elsewhere that a file of the folder names."""
        return [named for name in _KEYS if (named := self._named(name)) is not None]

    def require_agreement(self, name: str) -> None:
        """Make sure that the user has agreed to a server, where a file names it and logins of his would be sent there.

        Args:
            name: ``mlflow_tracking_uri``, ``mlflow_s3_endpoint_url`` or ``database_url``.

        Raises:
            ConfigError: He has not; the message has the command.
        """
        if (named := self._named(name)) is not None:
            named.require()

    def as_environment(self) -> dict[str, str]:
        """The environment, secrets included, in which other processes have exactly these settings.

        Raises:
            ConfigError: As :meth:`require_agreement`: those processes could not tell who has named a server.
        """
        for name in _KEYS:
            self.require_agreement(name)
        values = {env: getattr(self, name) for name, env in env_names(type(self)).items()}
        return {
            env: value.get_secret_value() if isinstance(value, SecretStr) else _as_text(value)
            for env, value in values.items()
            if value is not None
        }

    def export(self, environment: MutableMapping[str, str] | None = None) -> list[str]:
        """Hand what opens MLflow and S3 to libraries that read only the environment (mlflow, boto3).

        What is set there already stays as it is.

        Args:
            environment: Where to write; default ``os.environ``.

        Returns:
            The names that were written.

        Raises:
            ConfigError: As :meth:`require_agreement`.
        """
        for name in ("mlflow_tracking_uri", "mlflow_s3_endpoint_url"):
            self.require_agreement(name)
        target = os.environ if environment is None else environment
        written = []
        for name in _EXPORTED:
            value = getattr(self, name)
            env = env_names(type(self))[name]
            if value is None or target.get(env):
                continue
            target[env] = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
            written.append(env)
            if target is os.environ and (file := self._file_of(name)):
                _handed[env, target[env]] = file
        return written

    def _named(self, name: str) -> NamedServer | None:
        url, file = getattr(self, name) or "", self._file_of(name)
        server = server_of(url)
        if file is None or not server:
            return None
        env = env_names(type(self))
        files = {env[key]: self._file_of(key) for key in _KEYS[name] if getattr(self, key) is not None}
        others = [f"{key} of {at}" for key, at in files.items() if at not in (None, file)]
        own = [key for key, at in files.items() if at == file]
        given = {key: value for key, value in os.environ.items() if files.get(key) is None}
        return NamedServer(file, env[name], mask_secrets(server), (*others, *logins_beside(name, url, given, own)))

    def _file_of(self, name: str) -> Path | None:
        """The file that a value stands in; ``None`` where whoever started us gave it."""
        origin, env = self.origins[name], env_names(type(self))[name]
        if origin == SettingOrigin.ENV:
            return _handed.get((env, os.environ.get(env, "")))
        file = self._files.get(origin)
        return file.resolve() if file else None

    def _fix(self, name: str, value: object) -> None:
        self.__dict__[name] = value

    def _base_of(self, name: str) -> Path:
        """The folder that a relative path counts from: the file's, if it stands in a file.

        The default counts from the workspace too, so that all its sub-folders share one work_dir.
        """
        origin = self.origins[name]
        here = _here()
        if origin in (SettingOrigin.TOML, SettingOrigin.DEFAULT):
            return find_workspace(here) or here
        file = find_env_file(here) if origin == SettingOrigin.DOTENV else None
        return file.parent if file else here


_LOGIN = ("mlflow_tracking_username", "mlflow_tracking_password", "mlflow_tracking_token")
_S3_KEYS = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
_KEYS = {"mlflow_tracking_uri": _LOGIN, "mlflow_s3_endpoint_url": _S3_KEYS, "database_url": ()}
_EXPORTED = (*_LOGIN, "mlflow_s3_endpoint_url", *_S3_KEYS, "aws_default_region")
_handed: dict[tuple[str, str], Path] = {}  # what we put into this process's environment: the file that it came from


def env_names(cls: type[Settings] = Settings) -> dict[str, str]:
    """Setting → the environment variable that sets it."""
    prefix = cls.model_config.get("env_prefix", "")
    return {
        name: info.validation_alias if isinstance(info.validation_alias, str) else f"{prefix}{name.upper()}"
        for name, info in cls.model_fields.items()
    }


def _as_text(value: object) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value))
    return "" if value is None else str(value)


def _absolute(path: Path, base: Path) -> Path:
    path = path.expanduser()
    return path if path.is_absolute() else (base / path).resolve()


def _absolute_url(url: str, base: Path) -> str:
    path = sqlite_path(url)
    if path is None or path.is_absolute():
        return url
    match = _SQLITE_URL.match(url)
    query = match["query"] if match else None
    return sqlite_url(_absolute(path, base)) + (query or "")


def _login_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def _dotenv_source(settings_cls: type[BaseSettings]) -> PydanticBaseSettingsSource:
    path = find_env_file()
    if path is None:
        return InitSettingsSource(settings_cls, init_kwargs={})
    try:
        return DotEnvSettingsSource(settings_cls, env_file=path)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text ({error.reason}). Save it as UTF-8, or move it away.") from error
    except OSError as error:
        raise ConfigError(f"{path} can't be read ({error.strerror}). Check its permissions.") from error


def _toml_source(settings_cls: type[BaseSettings]) -> PydanticBaseSettingsSource:
    path = find_config_file()
    if path is None:
        return InitSettingsSource(settings_cls, init_kwargs={})
    try:
        values = tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}. Correct the line, or move the file away.") from error
    except OSError as error:
        raise ConfigError(f"{path} can't be read ({error.strerror}). Check its permissions.") from error
    _refuse_unknown(values, settings_cls, f"{path} has an unknown key")
    return InitSettingsSource(settings_cls, init_kwargs=values)


def _refuse_unknown(names: Iterable[str], cls: type[BaseSettings], what: str) -> None:
    known = list(cls.model_fields)
    for name in names:
        if name in known:
            continue
        plain = name.lower().removeprefix("guardianflow_")
        close = difflib.get_close_matches(plain, known, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise ConfigError(f"{what}: {name!r}; {hint}Known: {', '.join(known)}.")


def _find_origins(cls: type[Settings], values: Mapping[str, Any]) -> dict[str, str]:
    layers: list[tuple[str, Mapping[str, Any]]] = [
        (SettingOrigin.INIT, values),
        (SettingOrigin.ENV, EnvSettingsSource(cls)()),
        (SettingOrigin.DOTENV, _dotenv_source(cls)()),
        (SettingOrigin.TOML, _toml_source(cls)()),
    ]
    found: dict[str, str] = {}
    for name, env in env_names(cls).items():
        for origin, layer in layers:
            if name in layer or env in layer:
                found[name] = origin
                break
    return found


def _explain(error: ValidationError, cls: type[Settings], origins: Mapping[str, str]) -> str:
    fields = {env: name for name, env in env_names(cls).items()}
    parts = []
    for item in error.errors():
        key = str(item["loc"][0]) if item["loc"] else "settings"
        name = fields.get(key, key)
        secret = name.startswith(("aws_", "mlflow_tracking_p", "mlflow_tracking_t"))
        shown = "(hidden)" if secret else repr(mask_secrets(str(item.get("input"))))
        message = item["msg"].removeprefix("Value error, ")
        parts.append(f"{name} = {shown} (from {origins.get(name, SettingOrigin.DEFAULT)}): {message}")
    return "; ".join(parts) + ". `guardianflow doctor` shows where each value comes from."
