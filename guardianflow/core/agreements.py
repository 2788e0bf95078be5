"""Servers that a file of a folder names, and whether the user has agreed that they get what is his.

A folder comes from anywhere: with a clone, in an archive. Its settings may say where runs go; the user's own logins,
which stand in his environment and his home, go there once he has agreed. That is kept per user, by file and server.
"""

from __future__ import annotations

import contextlib
import json
import logging
import netrc
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from guardianflow.exceptions import ConfigError

__all__ = ["NamedServer", "agree", "logins_beside", "server_of"]

log = logging.getLogger(__name__)

# Strictly: what this doesn't know is elsewhere, for libraries read odd URLs in different ways.
_HERE = re.compile(
    r"//(?:[^@/\\?#\s]*@)?(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])?(?::\d+)?(?:/[^\\?#\s]*)?", re.IGNORECASE
)
_HARMLESS = re.compile(r"(?:(?:sslmode|connect_timeout|application_name|options)=[^&]*(?:&|$))*")  # others name hosts
_LOGIN = re.compile(r"//(?P<name>[^/:\\?#\s]*)(?P<password>:[^/\\?#\s]*)?@")
_NO_SERVER = {"sqlite", "databricks", "file"}  # Databricks' hosts stand in the user's own profile

_TRACKING_WAYS = ("MLFLOW_TRACKING_AUTH", "MLFLOW_TRACKING_AWS_SIGV4", "MLFLOW_TRACKING_CLIENT_CERT_PATH")
_VARIABLES = {
    "mlflow_tracking_uri": (
        "MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", *_TRACKING_WAYS,
    ),
    "mlflow_s3_endpoint_url": (
        "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    ),
    "database": ("PGPASSWORD", "PGPASSFILE", "PGSERVICE"),
}  # fmt: skip
_FILES = {
    "mlflow_tracking_uri": ("~/.mlflow/credentials",),
    "mlflow_s3_endpoint_url": ("~/.aws/credentials", "~/.aws/config"),
    "database": ("~/.pgpass",),
}
_WHOLE = {  # where these stand in the server's own file: what of the user's would go along all the same
    "mlflow_tracking_uri": (("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"), _TRACKING_WAYS),
    "mlflow_s3_endpoint_url": (("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), ("AWS_SESSION_TOKEN",)),
}
_remarked: set[NamedServer] = set()


@dataclass(frozen=True)
class NamedServer:
    """A server elsewhere that a file of a folder names.

    Attributes:
        file: The file.
        variable: The setting, as the environment calls it.
        server: Where it is, without a login.
        logins: The user's own that would be sent there.
    """

    file: Path
    variable: str
    server: str
    logins: tuple[str, ...] = ()

    @property
    def is_agreed(self) -> bool:
        """Whether the user has agreed to it."""
        return [str(self.file), self.server] in _agreements()

    def require(self) -> None:
        """Let nothing of the user's be sent to a server that he didn't agree to; remark where it is only data.

        Raises:
            ConfigError: A login of his would be sent there.
        """
        if self.is_agreed:
            return
        if self.logins:
            raise ConfigError(
                f"{self.file} names a server ({self.variable} = {self.server}) that would be sent your "
                f"{', '.join(self.logins)}; nothing was sent. If you know both, agree to it once with "
                f"`guardianflow doctor --trust`; else set {self.variable} yourself, in the environment"
            )
        if self not in _remarked:
            _remarked.add(self)
            log.warning(
                "%s has what is recorded sent to %s (%s); agree to it with `guardianflow doctor --trust`",
                self.file, self.server, self.variable,
            )  # fmt: skip


def server_of(url: str) -> str:
    """The server of a URL, without a login; empty where it is this machine, or none."""
    scheme, _, rest = url.partition(":")
    place, _, query = rest.partition("?")
    odd = not _HARMLESS.fullmatch(query)
    if scheme.partition("+")[0].lower() in _NO_SERVER or (_HERE.fullmatch(place) and not odd):
        return ""
    plain = _LOGIN.sub("//", f"{scheme}:{place}", count=1)
    if odd or re.search(r"[\\\s]", plain):
        return f"{plain}?{query}"
    return "/".join(plain.split("/")[:3])


def logins_beside(setting: str, url: str, given: Mapping[str, str], own: Collection[str] = ()) -> tuple[str, ...]:
    """What stands in the user's environment and home, and would be sent to a server.

    Args:
        setting: ``mlflow_tracking_uri``, ``mlflow_s3_endpoint_url`` or ``database_url``.
        url: Its value.
        given: The user's environment.
        own: The variables whose values stand in the file that names the server.
    """
    if not url.lower().startswith(("http:", "https:")):
        login = _LOGIN.search(url)
        if (login and login["password"]) or "password=" in url:
            return ()  # the server's own
        setting = "database"
    names, files = _VARIABLES[setting], _FILES[setting]
    whole, more = _WHOLE.get(setting, ((), ()))
    if whole and set(whole) <= set(own):
        names, files = more, ()
    found = [name for name in names if given.get(name)]
    found += [name for name in files if Path(name).expanduser().is_file()]
    return tuple(found + (_netrc(url) if setting == "mlflow_tracking_uri" else []))


def _netrc(url: str) -> list[str]:
    name = os.environ.get("NETRC", "~/.netrc")  # requests reads it by itself
    with contextlib.suppress(OSError, ValueError, netrc.NetrcParseError):
        if netrc.netrc(str(Path(name).expanduser())).authenticators(urlsplit(url).hostname or ""):
            return [name]
    return []


def agree(named: NamedServer) -> None:
    """Remember that the user agrees.

    Raises:
        ConfigError: It can't be written.
    """
    path = _file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps([str(named.file), named.server]) + "\n")
    except OSError as error:
        raise ConfigError(f"{path} can't be written ({error.strerror}), so no agreement can be kept") from error


def _file() -> Path:
    return Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser() / "guardianflow" / "trusted.jsonl"


def _agreements() -> list[object]:
    found = []
    with contextlib.suppress(OSError):
        for line in _file().read_text(encoding="utf-8", errors="replace").splitlines():
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
    return found
