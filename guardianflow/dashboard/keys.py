"""Keys of the API and the pages: who may ask for what.

A key is ``gf_<id>_<secret>`` with a secret of 256 random bits. The state database holds its name, its role and the
secret's SHA-256 (a random secret needs no slow hash), never the secret. Names are given once: they are the actors of
the ledger.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from guardianflow.exceptions import InputError, NotFoundError, RefusedError
from guardianflow.state.database import Database
from guardianflow.state.tables import api_keys
from guardianflow.text.names import validate_name

__all__ = ["ROLES", "Key", "Keys"]

ROLES = {
    "viewer": "reads",
    "ingester": "also sends figures",
    "operator": "also acknowledges alerts, applies and dismisses recommendations",
    "promoter": "also promotes and rolls back",
}
"""A ladder: each role may what those before it may."""

_LADDER = tuple(ROLES)
_TOKEN = re.compile(r"gf_([0-9a-f]{16})_([0-9a-f]{64})", re.ASCII)
_NOBODY = "0" * 64


@dataclass(frozen=True)
class Key:
    """A key without its secret.

    Attributes:
        id: The middle of the token, by which it is found.
        name: Who holds it; the actor of what is done with it.
        role: One of :data:`ROLES`.
        created: When it was made.
        created_by: Who made it.
        revoked: Since when it opens nothing any more.
    """

    id: str
    name: str
    role: str
    created: datetime
    created_by: str
    revoked: datetime | None = None

    def may(self, role: str) -> bool:
        """Whether it holds this role or a higher one."""
        return self.revoked is None and _LADDER.index(self.role) >= _LADDER.index(role)

    def require(self, role: str) -> None:
        """Let pass who holds this role or a higher one.

        Raises:
            RefusedError: It does not.
        """
        if not self.may(role):
            raise RefusedError(
                f"this needs the role {role}; key {self.name!r} is {self.role}, which {ROLES[self.role]}. "
                f"Ask who keeps this server: `guardianflow keys create NAME --role {role}`"
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "id": self.id,
            "name": self.name,
            "role": self.role,
            "created": self.created.isoformat(),
            "created_by": self.created_by,
            "revoked": self.revoked.isoformat() if self.revoked else None,
        }


class Keys:
    """The keys in a state database.

    Args:
        database: Where they are.
        clock: What time it is, time-zone aware.
    """

    def __init__(self, database: Database, *, clock: Callable[[], datetime] | None = None) -> None:
        self._database = database
        self._clock = clock or (lambda: datetime.now(UTC))

    def create(self, name: str, role: str, *, by: str, token: str | None = None) -> tuple[Key, str]:
        """Make a key.

        Args:
            name: Who will hold it; never given twice, since the ledger names it.
            role: One of :data:`ROLES`.
            by: Who makes it.
            token: ``gf_<16 hex digits>_<64 hex digits>``, made elsewhere. Default: a new one.

        Returns:
            The key, and its token: it can't be shown again.

        Raises:
            InputError: An unknown role, a name that is not allowed or was given before, no such token.
        """
        name = validate_name(name, "key name")
        if role not in ROLES:
            raise InputError(f"there is no role {role!r}; roles: {', '.join(f'{key} ({ROLES[key]})' for key in ROLES)}")
        match = _TOKEN.fullmatch(token or f"gf_{secrets.token_hex(8)}_{secrets.token_hex(32)}")
        if match is None:
            raise InputError("a key's token is gf_, 16 hex digits, _, 64 hex digits")
        key, secret = Key(match[1], name, role, self._clock().astimezone(UTC), by), match[2]
        row = {field: getattr(key, field) for field in ("id", "name", "role", "created", "created_by")}
        try:
            with self._database.write() as connection:
                connection.execute(sa.insert(api_keys).values(**row, secret_sha256=_hash(secret)))
        except sa.exc.IntegrityError as error:
            raise InputError(
                f"a key named {name!r} was made before, and names in the ledger must stay clear. "
                "Choose another name; `guardianflow keys list` shows those taken."
            ) from error
        return key, f"gf_{key.id}_{secret}"

    def list(self) -> list[Key]:
        """Every key, revoked ones too, in the order in which they were made."""
        with self._database.read() as connection:
            rows = connection.execute(sa.select(api_keys).order_by(api_keys.c.created, api_keys.c.name)).all()
        return [_key(row) for row in rows]

    def any(self) -> bool:
        """Whether a key was ever made; revoking the last one opens nothing."""
        with self._database.read() as connection:
            return connection.execute(sa.select(api_keys.c.id).limit(1)).first() is not None

    def revoke(self, name: str) -> Key:
        """Make a key open nothing from now on; revoking it again changes nothing.

        Raises:
            NotFoundError: No key has this name.
        """
        name = validate_name(name, "key name")
        mine = api_keys.c.name == name
        with self._database.write() as connection:
            connection.execute(
                sa.update(api_keys).where(mine, api_keys.c.revoked.is_(None)).values(revoked=self._clock())
            )
            row = connection.execute(sa.select(api_keys).where(mine)).first()
        if row is None:
            known = ", ".join(key.name for key in self.list()) or "none yet"
            raise NotFoundError(f"there is no key named {name!r}; known: {known}")
        return _key(row)

    def check(self, token: str) -> Key | None:
        """The key of a token, or ``None`` where it is none, unknown, wrong or revoked."""
        match = _TOKEN.fullmatch(token)
        if match is None:
            return None
        with self._database.read() as connection:
            row = connection.execute(sa.select(api_keys).where(api_keys.c.id == match[1])).first()
        same = hmac.compare_digest(_hash(match[2]), row.secret_sha256 if row else _NOBODY)
        return _key(row) if same and row is not None and row.revoked is None else None


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _key(row: sa.Row[Any]) -> Key:
    return Key(row.id, row.name, row.role, row.created, row.created_by, row.revoked)
