"""Names that are safe in a path, an object key and a partition key."""

from __future__ import annotations

import re

from anyascii import anyascii

#: Between a skin's and a motion's slug in a cast's key, for people; code reads a cast's recipe. Slugs never hold it.
CAST_SEPARATOR = "__"


class SlugError(ValueError):
    """A name from which no key can be made."""


def safe_slug(value: str, max_length: int = 64, allow_dots: bool = False) -> str:
    """Make ``value`` safe as one part of a path or key.

    Other scripts are transliterated; ``..``, ``/`` and ``\\`` are dropped; whatever is not in
    ``[a-zA-Z0-9_-]`` (with ``allow_dots`` also ``.``) becomes ``_``; runs of ``_`` collapse; ``_`` and
    ``.`` are stripped from the ends; over-long values are cut and stripped again.

    Raises:
        SlugError: nothing is left.
    """
    text = anyascii(value)
    before = None
    while before != text:  # dropping one part can bring the next one about, as in ".\\./"
        before = text
        text = text.replace("..", "").replace("/", "").replace("\\", "")
    text = re.sub(r"[^a-zA-Z0-9_.-]" if allow_dots else r"[^a-zA-Z0-9_-]", "_", text)
    text = re.sub(r"_+", "_", text).strip("_.")[:max_length].strip("_.")
    if not text:
        raise SlugError(f"{value!r}: no letter or digit to make a key of; give it a name")
    return text


def character_slug(value: str) -> str:
    """The key that a file's name gives.

    Raises:
        SlugError: as ``safe_slug``, and for a key that a command line would take for an option.
    """
    slug = safe_slug(value)
    if slug.startswith("-"):
        raise SlugError(f"{value!r}: a key may not begin with a dash; give it another name")
    return slug


def cast_key(skin: str, motion: str) -> str:
    """The key of ``motion`` cast on ``skin``; both are slugs."""
    return f"{skin}{CAST_SEPARATOR}{motion}"
