"""What must not be written down: secrets among parameters, found by their names and in URLs.

Parameters go into MLflow, into our records and into notebooks, where many people read them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from guardianflow.text.names import free_name

__all__ = ["MASK", "flatten_params", "is_secret_name", "redact", "secret_places"]

MASK = "***"

# `token` counts as the last word only: `hf_token` is one, `tokenizer` and `max_tokens` are not.
_SECRET_NAME = re.compile(
    r"passw(or)?d|passphrase|secret|credential|authorization|cookie"
    r"|(api|access|private|account|encryption)[_\-. ]?key|(^|[^A-Za-z])token$|[a-z]Token$",
    re.IGNORECASE,
)
_FLAG = re.compile(r"^(?P<name>-{1,2}[\w.\-]+|[\w.\-]+)=(?P<value>.+)$", re.DOTALL)
_MAX_VALUE = 500


def is_secret_name(name: str) -> bool:
    """Whether what stands under this name is a secret: ``API_KEY``, ``db.password``; not ``tokenizer``."""
    return _SECRET_NAME.search(name) is not None


def redact(params: Mapping[str, Any]) -> dict[str, Any]:
    """A copy as plain JSON types, without secrets.

    What stands under a secret-like name (``hf_token``, ``db.password``) becomes ``***``, at any depth;
    so does the word after ``--password``, the value of ``--password=x``, and the password in a URL.
    """
    return {str(key): _clean(str(key), value) for key, value in params.items()}


def secret_places(params: Mapping[str, Any]) -> list[str]:
    """Dotted names of the parameters that hold a secret, or the mask of one that was taken out."""
    return list(_differences(params, redact(params), ""))


def flatten_params(params: Mapping[str, Any]) -> dict[str, str]:
    """``{"a": {"b": 1}}`` → ``{"a.b": "1"}``, under names that MLflow accepts.

    Values are cut at 500 characters, ``None`` is left out. Two names that become the same one are
    kept apart by a number at the end.
    """
    from guardianflow.core.metrics import legal_metric_name

    flat: dict[str, str] = {}
    for name, value in _leaves(params, ""):
        text = json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, (list, tuple)) else str(value)
        key = free_name(legal_metric_name(name), flat)
        flat[key] = text if len(text) <= _MAX_VALUE else text[: _MAX_VALUE - 1] + "…"
    return flat


def _leaves(params: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in params.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        elif value is not None:
            yield f"{prefix}{key}", value


def _clean(name: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return redact(value)
    # A secret may be a number, too; `use_token=True` is none.
    if is_secret_name(name) and value not in (None, "") and not isinstance(value, bool):
        return MASK
    if isinstance(value, (list, tuple, set, frozenset)):
        return _clean_list(list(value))
    if isinstance(value, str):
        return _clean_text(value)
    return value if value is None or isinstance(value, (bool, int, float)) else _masked(str(value))


def _clean_list(values: Sequence[Any]) -> list[Any]:
    cleaned = []
    for place, value in enumerate(values):
        before = values[place - 1] if place else None
        follows_flag = isinstance(before, str) and before.startswith("-") and "=" not in before
        cleaned.append(_clean(before if follows_flag and isinstance(before, str) else "", value))
    return cleaned


def _clean_text(text: str) -> str:
    flag = _FLAG.match(text)
    if flag and is_secret_name(flag["name"]):
        return f"{flag['name']}={MASK}"
    return _masked(text)


def _differences(given: Any, cleaned: Any, place: str) -> Iterator[str]:
    if isinstance(given, Mapping) and isinstance(cleaned, Mapping):
        for key, value in given.items():
            yield from _differences(value, cleaned[str(key)], f"{place}.{key}" if place else str(key))
    elif isinstance(given, (list, tuple)) and isinstance(cleaned, list):
        for index, (old, new) in enumerate(zip(given, cleaned, strict=True)):
            yield from _differences(old, new, f"{place}[{index}]")
    elif isinstance(cleaned, str) and (cleaned == MASK or f":{MASK}@" in cleaned or f"={MASK}" in cleaned):
        yield place


def _masked(text: str) -> str:
    # Imported here: the supervisor of a wrapped script needs this module, and is started with every one of them.
    from guardianflow.core.config import mask_secrets

    return mask_secrets(text)
