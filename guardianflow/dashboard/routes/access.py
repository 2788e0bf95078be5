"""The door of the API: which key, which role, and what is open while there is no key at all."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from guardianflow.core.config import Settings
from guardianflow.dashboard.keys import Key, Keys
from guardianflow.dashboard.routes.problems import refused
from guardianflow.exceptions import RefusedError
from guardianflow.state.database import Database

__all__ = ["MOST_BYTES", "BodyCap", "Door", "is_loopback", "needs", "settings_of"]

MOST_BYTES = 4_000_000
"""Of a request's body: some 5,000 measurements."""

KEYLESS = ("viewer", "ingester")
"""What this machine itself may do while no key was ever made."""

_BEARER = HTTPBearer(auto_error=False, description="`guardianflow keys create NAME --role ROLE` prints one.")
_FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip")


def settings_of(request: Request) -> Settings:
    """The settings of the app that was asked."""
    settings: Settings = request.app.state.settings
    return settings


def is_loopback(host: str | None) -> bool:
    """Whether an address or host name means this machine alone."""
    if not host:
        return False
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.casefold() == "localhost"


@dataclass(frozen=True)
class Door:
    """Lets pass who holds a role; what FastAPI calls before a route.

    Attributes:
        role: The role that the route needs.
    """

    role: str

    def __call__(
        self, request: Request, given: Annotated[HTTPAuthorizationCredentials | None, Security(_BEARER)] = None
    ) -> Key | None:
        """The key, or ``None`` for this machine itself while there is no key.

        Raises:
            HTTPException: 401 without a valid key, 403 with one whose role doesn't reach.
        """
        keys = Keys(Database.open(settings_of(request).database_url))
        if "authorization" not in request.headers:
            self._keyless(request, keys)
            return None
        key = keys.check(given.credentials) if given else None
        if key is None:
            raise refused(
                HTTPStatus.UNAUTHORIZED,
                "this key opens nothing: it is mistyped or was revoked. Send `Authorization: Bearer gf_…`; "
                "`guardianflow keys list` shows which keys are valid",
            )
        try:
            key.require(self.role)
        except RefusedError as error:
            raise refused(HTTPStatus.FORBIDDEN, str(error)) from error
        return key

    def _keyless(self, request: Request, keys: Keys) -> None:
        if keys.any():
            why = "this server asks for a key"
        elif self.role not in KEYLESS:
            why = "this is never done without a key, whose name goes into the ledger"
        elif not _from_here(request):
            why = "there is no key yet, and without one only this machine itself is answered"
        else:
            return
        raise refused(
            HTTPStatus.UNAUTHORIZED,
            f"{why}: `guardianflow keys create NAME --role {self.role}` makes one; send it as "
            "`Authorization: Bearer gf_…`",
        )


def _from_here(request: Request) -> bool:
    """Asked by a program of this machine: not through a proxy, and not by a page of another site in its browser."""
    headers = request.headers
    if not is_loopback(request.client.host if request.client else None) or any(name in headers for name in _FORWARDED):
        return False
    origins = [f"//{headers.get('host', '')}", *headers.getlist("origin")]
    return all(is_loopback(_host_of(origin)) for origin in origins)


def _host_of(origin: str) -> str | None:
    try:
        return urlsplit(origin).hostname
    except ValueError:
        return None


def needs(role: str) -> Any:
    """Let a route be reached only through the door of a role; its value is the key."""
    return Depends(Door(role))


class BodyCap:
    """Refuses a request whose body is larger than :data:`MOST_BYTES`, announced or not, before it is read whole."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > MOST_BYTES:
                raise refused(
                    HTTPStatus.CONTENT_TOO_LARGE if hasattr(HTTPStatus, "CONTENT_TOO_LARGE")
                    else HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                    f"a request may have {MOST_BYTES:,} bytes; send smaller batches",
                )  # fmt: skip
            return message

        await self._app(scope, counted, send)
