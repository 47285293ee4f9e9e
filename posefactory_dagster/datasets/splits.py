"""Which split a character belongs to: decided by its name alone, so it never moves."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from posefactory_dagster.settings import DatasetSettings
from posefactory_dagster.slugs import split_key

SPLITS = ("train", "val", "test")


def split_of_skin(skin: str, settings: DatasetSettings) -> str:
    """The split of a skin, whatever other characters there are."""
    digest = hashlib.sha256(f"{settings.split_seed}:{skin}".encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    if place < settings.test_fraction:
        return "test"
    if place < settings.test_fraction + settings.val_fraction:
        return "val"
    return "train"


def assign(skin_sha256: Mapping[str, str], settings: DatasetSettings) -> dict[str, str]:
    """Split of each key.

    All motions of a skin share its split, and so do keys whose skins are the same file: the one
    registered first decides, so that growing the set moves nobody.

    Args:
        skin_sha256: digest of each key's skin file, in the order of registration.
    """
    leader: dict[str, str] = {}
    result = {}
    for key, digest in skin_sha256.items():
        skin, _ = split_key(key)
        result[key] = split_of_skin(leader.setdefault(digest, skin), settings)
    return result
