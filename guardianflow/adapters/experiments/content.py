"""One reading of an experiments.yaml: its entries, where they stand, and what is odd about it."""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from guardianflow.adapters.experiments.entries import ExperimentEntry, read_entry
from guardianflow.adapters.experiments.fields import MERGE, FieldReader
from guardianflow.adapters.experiments.yaml_text import Node, read_tree
from guardianflow.exceptions import InputError, SchemaTooNewError
from guardianflow.text.printable import printable

__all__ = ["SCHEMA_VERSION", "TOP_KEYS", "Content", "normal_name", "read_content"]

SCHEMA_VERSION = 1
TOP_KEYS = ("schema_version", "experiments", "ignore")
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Content:
    """What a file says.

    Attributes:
        tree: All values with their lines.
        entries: By name, in the file's order.
        ignore: Patterns of scripts that stay out.
        remarks: Unknown keys and the like.
    """

    tree: Node
    entries: Mapping[str, ExperimentEntry] = field(default_factory=dict)
    ignore: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


def read_content(text: str, path: Path, *, known_remarks: Collection[str] = ()) -> Content:
    """Read a file's text.

    Args:
        text: The whole file.
        path: Its name for messages.
        known_remarks: Remarks that somebody has heard already; others are logged as warnings.

    Raises:
        YamlProblem: It is no YAML, or breaks a cap.
        InputError: A value of a wrong kind, or a name that can't be one.
        SchemaTooNewError: A newer GuardianFlow wrote it.
    """
    tree = read_tree(text)
    reader = FieldReader(path)
    top = reader.mapping(tree, "", known=TOP_KEYS)
    _require_version(top.get("schema_version"), reader)
    section = top.get("experiments")
    reader.mapping(section, "experiments", known=None)
    entries: dict[str, ExperimentEntry] = {}
    for pair in section.pairs if section else ():
        if pair.key.text == MERGE:
            raise InputError(
                f"{printable(path)}, line {pair.key.line}: `<<` can't hand on whole experiments; write them out"
            )
        entry = read_entry(pair, reader)
        if entry.name in entries:
            raise InputError(
                f"{printable(path)}, line {entry.line}: the experiment {entry.name!r} is there twice, first "
                f"in line {entries[entry.name].line}; rename one of them"
            )
        entries[entry.name] = entry
    ignore = reader.words(top.get("ignore"), "ignore")
    for remark in reader.remarks:
        if remark not in known_remarks:
            _logger.warning("%s", remark)
    return Content(tree, entries, ignore, tuple(reader.remarks))


def normal_name(name: str) -> str:
    """A name as entries have it: the same letters in whatever form they were typed."""
    return unicodedata.normalize("NFC", str(name))


def _require_version(node: Node | None, reader: FieldReader) -> None:
    if node is None:
        return
    version = node.value
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        reader.fail(node, "schema_version", str(SCHEMA_VERSION))
    if version > SCHEMA_VERSION:
        raise SchemaTooNewError(
            f"{printable(reader.path)}, line {node.line}: schema_version {version} was written by a newer "
            f"GuardianFlow; this one reads up to {SCHEMA_VERSION}. Upgrade GuardianFlow."
        )
