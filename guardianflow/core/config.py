"""Settings: where runs, models and state live.

Precedence, highest first: arguments of :class:`Settings` > environment > ``.env`` >
``guardianflow.toml`` > defaults. ``guardianflow doctor`` prints each value and where it came from.

Nothing here opens a connection or creates a folder.
"""

from __future__ import annotations

import getpass
import re
import tomllib
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from pydantic import AliasChoices, Field, PrivateAttr, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from guardianflow.exceptions import ConfigError

__all__ = ["CONFIG_FILE", "SettingOrigin", "Settings", "find_config_file", "mask_secrets"]

CONFIG_FILE = "guardianflow.toml"
DEFAULT_WORK_DIR = "guardianflow-work"

_URL_PASSWORD = re.compile(r"(?P<head>[a-z][a-z0-9+.-]*://[^\s:/@]*):(?P<secret>[^\s@]+)@", re.IGNORECASE)


def mask_secrets(text: str) -> str:
    """Replace the password in every ``scheme://user:password@host`` of a text by ``***``."""
    return _URL_PASSWORD.sub(r"\g<head>:***@", text)


def find_config_file(start: Path | None = None) -> Path | None:
    """The nearest ``guardianflow.toml`` in ``start`` (default: the current folder) or above it."""
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        candidate = folder / CONFIG_FILE
        if candidate.is_file():
            return candidate
    return None


class SettingOrigin:
    """Names of the layers a value can come from, highest first."""

    INIT = "argument"
    ENV = "environment"
    DOTENV = ".env"
    TOML = CONFIG_FILE
    DEFAULT = "default"


def _named(env_name: str) -> AliasChoices:
    """The setting's environment name, and its field name for arguments and TOML."""
    field = env_name.lower().removeprefix("guardianflow_")
    return AliasChoices(env_name, field)


class Settings(BaseSettings):
    """Everything that decides where data goes; the embedded default needs no server.

    Attributes:
        mlflow_tracking_uri: ``MLFLOW_TRACKING_URI``. Default ``sqlite:///<work_dir>/mlflow.db``.
        mlflow_s3_endpoint_url: ``MLFLOW_S3_ENDPOINT_URL``, for artifacts on SeaweedFS or another S3.
        aws_access_key_id: ``AWS_ACCESS_KEY_ID``.
        aws_secret_access_key: ``AWS_SECRET_ACCESS_KEY``.
        aws_session_token: ``AWS_SESSION_TOKEN``.
        aws_default_region: ``AWS_DEFAULT_REGION``.
        work_dir: ``GUARDIANFLOW_WORK_DIR``. Notebooks, weights and the embedded databases.
        experiments_base: ``GUARDIANFLOW_EXPERIMENTS_BASE``. The folder of the user's own code.
        database_url: ``GUARDIANFLOW_DATABASE_URL``. Default ``sqlite:///<work_dir>/guardianflow.db``.
        actor: ``GUARDIANFLOW_ACTOR``. Who is written into the ledger. Default: the login name.

    Raises:
        ConfigError: A value can't be used; the message names the setting, its layer and the rule.
    """

    model_config = SettingsConfigDict(
        env_file=".env",
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        populate_by_name=True,
    )

    mlflow_tracking_uri: str = Field("", validation_alias=_named("MLFLOW_TRACKING_URI"))
    mlflow_s3_endpoint_url: str | None = Field(None, validation_alias=_named("MLFLOW_S3_ENDPOINT_URL"))
    aws_access_key_id: SecretStr | None = Field(None, validation_alias=_named("AWS_ACCESS_KEY_ID"))
    aws_secret_access_key: SecretStr | None = Field(None, validation_alias=_named("AWS_SECRET_ACCESS_KEY"))
    aws_session_token: SecretStr | None = Field(None, validation_alias=_named("AWS_SESSION_TOKEN"))
    aws_default_region: str | None = Field(None, validation_alias=_named("AWS_DEFAULT_REGION"))
    work_dir: Path = Field(Path(DEFAULT_WORK_DIR), validation_alias=_named("GUARDIANFLOW_WORK_DIR"))
    experiments_base: Path = Field(Path("."), validation_alias=_named("GUARDIANFLOW_EXPERIMENTS_BASE"))
    database_url: str = Field("", validation_alias=_named("GUARDIANFLOW_DATABASE_URL"))
    actor: str = Field("", validation_alias=_named("GUARDIANFLOW_ACTOR"))

    _origins: dict[str, str] = PrivateAttr(default_factory=dict)

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise ConfigError(_explain(error, type(self))) from error
        self._origins.update(_find_origins(type(self), values))
        base = self._base_folder()
        for name in ("work_dir", "experiments_base"):
            self._fix(name, _absolute(getattr(self, name), base[name]))
        self._fix("mlflow_tracking_uri", self.mlflow_tracking_uri or f"sqlite:///{self.work_dir}/mlflow.db")
        self._fix("database_url", self.database_url or f"sqlite:///{self.work_dir}/guardianflow.db")
        self._fix("actor", self.actor or _login_name())

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The precedence, highest first."""
        return (init_settings, env_settings, dotenv_settings, _toml_source(settings_cls))

    @field_validator("mlflow_tracking_uri", "database_url")
    @classmethod
    def _known_scheme(cls, value: str) -> str:
        if value and not re.match(r"^[a-z][a-z0-9+.-]*:", value, re.IGNORECASE) and value != "databricks":
            raise ValueError("must be a URL such as sqlite:///folder/file.db, postgresql://… or http://…")
        return value

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
        for name, info in type(self).model_fields.items():
            value = getattr(self, name)
            shown = "" if value is None else str(value)
            if not isinstance(value, SecretStr):
                shown = mask_secrets(shown)
            alias = info.validation_alias
            env = str(alias.choices[0]) if isinstance(alias, AliasChoices) else name.upper()
            rows.append({"name": name, "env": env, "value": shown, "origin": self.origins[name]})
        return rows

    def _fix(self, name: str, value: object) -> None:
        self.__dict__[name] = value

    def _base_folder(self) -> dict[str, Path]:
        config = find_config_file()
        here = Path.cwd()
        return {
            name: config.parent if config and self.origins[name] in _TOML_RELATIVE else here
            for name in ("work_dir", "experiments_base")
        }


# A relative path in the file, and the default beside it, count from the file's folder, so that
# every sub-folder of a workspace shares one work_dir.
_TOML_RELATIVE = (SettingOrigin.TOML, SettingOrigin.DEFAULT)


def _absolute(path: Path, base: Path) -> Path:
    path = path.expanduser()
    return path if path.is_absolute() else (base / path).resolve()


def _login_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def _toml_source(settings_cls: type[BaseSettings]) -> PydanticBaseSettingsSource:
    path = find_config_file()
    if path is None:
        return InitSettingsSource(settings_cls, init_kwargs={})
    try:
        return TomlConfigSettingsSource(settings_cls, toml_file=path)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}. Correct the line, or move the file away.") from error
    except OSError as error:
        raise ConfigError(f"{path} can't be read ({error.strerror}). Check its permissions.") from error


def _find_origins(cls: type[Settings], values: dict[str, Any]) -> dict[str, str]:
    from pydantic_settings import EnvSettingsSource

    layers: list[tuple[str, dict[str, Any]]] = [
        (SettingOrigin.INIT, values),
        (SettingOrigin.ENV, EnvSettingsSource(cls)()),
        (SettingOrigin.DOTENV, DotEnvSettingsSource(cls)()),
        (SettingOrigin.TOML, _toml_source(cls)()),
    ]
    found: dict[str, str] = {}
    for name, info in cls.model_fields.items():
        alias = info.validation_alias
        keys = {name, *(str(choice) for choice in alias.choices)} if isinstance(alias, AliasChoices) else {name}
        for origin, layer in layers:
            if keys & set(layer):
                found[name] = origin
                break
    return found


def _explain(error: ValidationError, cls: type[Settings]) -> str:
    parts = []
    for item in error.errors():
        field = str(item["loc"][0]) if item["loc"] else "settings"
        parts.append(f"setting {field} = {mask_secrets(str(item.get('input')))!r}: {item['msg']}")
    return "; ".join(parts) + ". `guardianflow doctor` shows where each value comes from."


def sqlite_path(url: str) -> Path | None:
    """The file behind a ``sqlite:///`` URL, or ``None`` for another database."""
    if not url.startswith("sqlite"):
        return None
    path = unquote(urlsplit(url).path)
    return Path(path[1:]) if path.startswith("/") else Path(path)
