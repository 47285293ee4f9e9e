"""Every object key in the store, and no key anywhere else.

uploads/<file name>                             what people drop
sets/<asset>/<partition>/<identity>/<file>      files of a committed set
sets/<asset>/<partition>/<identity>/manifest.json
current/<asset>/<partition>.json                which identity readers get
cache/<file>                                    can be made again at any time
"""

from __future__ import annotations

import re

UPLOADS = "uploads/"
SETS = "sets/"
CURRENT = "current/"
CACHE = "cache/"
MANIFEST = "manifest.json"
#: The partition of an asset that has none.
UNPARTITIONED = "all"

_PART = re.compile(r"[a-zA-Z0-9_-][a-zA-Z0-9_.-]{0,199}")


class LayoutError(ValueError):
    """A part of a key that could lead elsewhere."""


def _part(value: str) -> str:
    if not _PART.fullmatch(value) or ".." in value:
        raise LayoutError(f"{value!r} cannot be part of an object key")
    return value


def set_prefix(asset: str, partition: str, identity: str) -> str:
    """Where a set's files lie; ends with a slash."""
    return f"{SETS}{_part(asset)}/{_part(partition)}/{_part(identity)}/"


def set_file(asset: str, partition: str, identity: str, name: str) -> str:
    """One file of a set; ``name`` may have folders."""
    inside = "/".join(_part(p) for p in name.split("/"))
    return set_prefix(asset, partition, identity) + inside


def manifest(asset: str, partition: str, identity: str) -> str:
    """A set's manifest, written last."""
    return set_prefix(asset, partition, identity) + MANIFEST


def parse_manifest(key: str) -> tuple[str, str, str] | None:
    """(asset, partition, identity) if ``key`` is a manifest's."""
    parts = key.split("/")
    if len(parts) == 5 and parts[0] + "/" == SETS and parts[4] == MANIFEST:
        return parts[1], parts[2], parts[3]
    return None


def current(asset: str, partition: str) -> str:
    """The pointer to the set that readers get."""
    return f"{CURRENT}{_part(asset)}/{_part(partition)}.json"
