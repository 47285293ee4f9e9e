"""Uploads: which file a key means, and what is wrong with a file before Blender opens it."""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from posefactory_dagster.characters.documents import ASSET, known_facts
from posefactory_dagster.plans import Inputs, NotPlanned
from posefactory_dagster.settings import environment, project_settings
from posefactory_dagster.slugs import SlugError, character_slug, split_key
from posefactory_dagster.storage import layout
from posefactory_dagster.storage.sets import CommittedSets, SetRef, file_sha256, identity_of
from posefactory_dagster.storage.store import Store

#: Raised when inspection means something else, so that all characters are inspected again.
INSPECTION_VERSION = 3
BINARY_MAGIC = b"Kaydara FBX Binary  \x00"
SMALLEST_FBX = 100
#: This byte of a binary file is 1 where its numbers are big-endian.
BIG_ENDIAN_AT = 22


class UploadError(ValueError):
    """An upload that cannot become a character; the text names file, fault and next step."""


@dataclass(frozen=True)
class Upload:
    """A file in the upload folder."""

    key: str
    file_name: str
    object_key: str
    size: int
    mark: str


def scan_uploads(store: Store) -> tuple[dict[str, list[Upload]], list[str]]:
    """All FBX uploads by the key that their names give, and what is wrong with those that give none.

    Two files under one key are a clash. Whatever does not end in ``.fbx`` is left out.
    """
    found: dict[str, list[Upload]] = {}
    unusable = [f"uploads/{text}" for text in store.not_objects(layout.UPLOADS)]
    for item in store.list(layout.UPLOADS):
        name = item.key[len(layout.UPLOADS) :]
        if not name.lower().endswith(".fbx"):
            continue
        if "/" in name:
            unusable.append(f"{name!r} lies in a folder; move it up into uploads")
            continue
        try:
            key = character_slug(PurePosixPath(name).stem)
        except SlugError as error:
            unusable.append(f"{name!r} is left out: {error}")
            continue
        found.setdefault(key, []).append(Upload(key, name, item.key, item.size, item.mark))
    return found, sorted(unusable)


def uploads_by_key(store: Store) -> dict[str, list[Upload]]:
    """All FBX uploads by the key that their names give; see ``scan_uploads``."""
    return scan_uploads(store)[0]


def fetch(store: Store, upload: Upload) -> Path:
    """A local path of an upload's content, to be read only.

    Raises:
        UploadError: it was taken away meanwhile.
    """
    try:
        return store.local_paths({upload.object_key: None})[upload.object_key]
    except FileNotFoundError as error:
        raise UploadError(f"{upload.file_name}: it is gone; upload it again") from error


def failures_to_tell(
    sets: CommittedSets, standing: Mapping[str, Mapping[str, str]]
) -> dict[str, str]:
    """Why keys failed. That a motion goes no further than inspection is no failure.

    Args:
        standing: reasons by asset, then by key.
    """
    told: dict[str, str] = {}
    for asset, reasons in standing.items():
        for key, why in reasons.items():
            facts = known_facts(sets.readable(ASSET, key))
            if asset == ASSET or facts is None or not facts.is_motion:
                told.setdefault(key, why)
    return told


def clash_text(uploads: list[Upload]) -> str:
    """What to say when several files give one key."""
    names = ", ".join(repr(u.file_name) for u in sorted(uploads, key=lambda u: u.file_name))
    return f"{names} all give the key {uploads[0].key!r}; rename all but one, nothing was touched"


def find_upload(found: dict[str, list[Upload]], slug: str) -> Upload:
    """The upload of a skin or motion.

    Raises:
        UploadError: there is none, or several share the key.
    """
    uploads = found.get(slug, [])
    if not uploads:
        raise UploadError(
            f"{slug}: no such upload; add it with `posefactory characters add {slug}.fbx`, or forget it with "
            f"`posefactory characters remove {slug}`"
        )
    if len(uploads) > 1:
        raise UploadError(clash_text(uploads))
    return uploads[0]


def check_size(size: int, name: str, max_mb: float) -> None:
    """Refuse a file by its size in bytes alone, before it is fetched from anywhere.

    Raises:
        UploadError: it is too large.
    """
    if size > max_mb * 1e6:
        raise UploadError(
            f"{name}: {size / 1e6:.1f} MB, over the limit of {max_mb:g} MB; "
            "reduce it, or raise POSEFACTORY_MAX_UPLOAD_MB"
        )


def check_file(path: Path, name: str, max_mb: float) -> None:
    """Find in a second what Blender would find in ten.

    Raises:
        UploadError: too large, empty, truncated, or no FBX at all.
    """
    size = path.stat().st_size
    check_size(size, name, max_mb)
    if size == 0:
        raise UploadError(f"{name}: the file is empty; upload it again")
    with path.open("rb") as file:
        head = file.read(4096)
    if head.startswith(BINARY_MAGIC):
        if size < SMALLEST_FBX:
            raise UploadError(f"{name}: truncated FBX of {size} bytes; upload it again")
        if head[BIG_ENDIAN_AT] == 0:  # of the other kind, Blender is the judge
            _check_length(path, name, size)
        return
    # An ASCII file usually begins with a comment that names FBX, and need not.
    if b"\x00" not in head and (b"FBXHeaderExtension" in head or b"; FBX" in head[:200]):
        return
    raise UploadError(
        f"{name}: not an FBX file, whatever its name says; export as FBX (binary, 7.x)"
    )


def _check_length(path: Path, name: str, size: int) -> None:
    """A binary FBX names the end of each top-level record; the last real one must lie in the file."""
    with path.open("rb") as file:
        file.seek(23)
        version = int.from_bytes(file.read(4), "little")
        width = 8 if version >= 7500 else 4
        position = 27
        while True:
            file.seek(position)
            field = file.read(width)
            end = int.from_bytes(field, "little")
            if len(field) == width and end == 0:
                return
            if len(field) < width or not position < end <= size:
                raise UploadError(
                    f"{name}: truncated or damaged FBX ({size} bytes, and more are announced); "
                    "upload it again"
                )
            position = end


def looks_like_motion(path: Path) -> bool:
    """Whether an FBX holds no geometry, judged by its bytes; a hint, Blender has the last word."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return data.find(b"\x00\x01Geometry") < 0 and data.find(b"Geometry::") < 0
    except (OSError, ValueError):
        return False


@dataclass(frozen=True)
class CharacterPlan:
    """What a key's `character` set is made from."""

    key: str
    skin: Upload
    motion: Upload | None
    inputs: dict[str, Any]
    identity: str


class CharacterPlanner:
    """Plans `character`: the files that a key means, by their contents. ``plans`` keeps what was planned, by key."""

    asset = ASSET

    def __init__(self, store: Store) -> None:
        self._store = store
        self._found = uploads_by_key(store)
        self._max_mb = environment().max_upload_mb
        self._takes = project_settings().takes
        self.plans: dict[str, CharacterPlan] = {}

    def __call__(self, key: str, inputs: Inputs) -> SetRef:
        try:
            self.plans[key] = plan(self._store, self._found, key, self._max_mb, self._takes)
        except (UploadError, SlugError, OSError) as error:
            raise NotPlanned(str(error)) from error
        return SetRef(ASSET, key, self.plans[key].identity)


def plan(
    store: Store,
    found: dict[str, list[Upload]],
    key: str,
    max_mb: float,
    takes: Mapping[str, str] | None = None,
) -> CharacterPlan:
    """Resolve a key to its files and its identity.

    Args:
        takes: by the name of a skin or a motion, which of the file's animations plays.

    Raises:
        UploadError, SlugError: the key or a file is at fault.
    """
    skin_slug, motion_slug = split_key(key)
    skin = find_upload(found, skin_slug)
    motion = find_upload(found, motion_slug) if motion_slug else None
    inputs: dict[str, Any] = {}
    for role, upload in (("skin", skin), ("motion", motion)):
        if upload is None:
            continue
        check_size(upload.size, upload.file_name, max_mb)
        path = fetch(store, upload)
        check_file(path, upload.file_name, max_mb)
        inputs[role] = {
            "file_name": upload.file_name,
            "sha256": file_sha256(path),
            "size": path.stat().st_size,
        }
        if take := (takes or {}).get(upload.key):
            inputs[role]["take"] = take
    contents = {role: value["sha256"] for role, value in inputs.items()}
    contents |= {f"{role}_take": v["take"] for role, v in inputs.items() if "take" in v}
    identity = identity_of(ASSET, contents, {"inspection_version": INSPECTION_VERSION})
    return CharacterPlan(key, skin, motion, inputs, identity)
