"""Uploads: which file a key means, and what is wrong with a file before Blender opens it."""

from __future__ import annotations

import mmap
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from blender_scripts.contract import MOTION_ENDINGS
from blender_scripts.errors import InputError
from blender_scripts.formats import bvh_file, gltf_file
from posefactory_dagster.settings import environment, project_settings
from posefactory_dagster.slugs import SlugError, character_slug
from posefactory_dagster.storage import layout
from posefactory_dagster.storage.sets import file_sha256
from posefactory_dagster.storage.store import Store

BINARY_MAGIC = b"Kaydara FBX Binary  \x00"
SMALLEST_FBX = 100
#: This byte of a binary file is 1 where its numbers are big-endian.
BIG_ENDIAN_AT = 22
#: What was said of uploads in this process, by store, key, mark and size.
_described: dict[tuple[str, str, str, int], dict[str, Any]] = {}


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
    """All model and motion files by the key that their names give, and what is wrong with those that give none.

    Two files under one key are a clash. Whatever has another ending (``MOTION_ENDINGS``) is left out.
    """
    found: dict[str, list[Upload]] = {}
    unusable = [f"uploads/{text}" for text in store.not_objects(layout.UPLOADS)]
    for item in store.list(layout.UPLOADS):
        name = item.key[len(layout.UPLOADS) :]
        if not name.lower().endswith(MOTION_ENDINGS):
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
    """All uploads by the key that their names give; see ``scan_uploads``."""
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


def clash_text(uploads: list[Upload]) -> str:
    """What to say when several files give one key."""
    names = ", ".join(repr(u.file_name) for u in sorted(uploads, key=lambda u: u.file_name))
    return f"{names} all give the key {uploads[0].key!r}; rename all but one, nothing was touched"


def find_upload(found: Mapping[str, list[Upload]], slug: str) -> Upload:
    """The upload of a key.

    Raises:
        UploadError: there is none, or several share the key.
    """
    uploads = found.get(slug, [])
    if not uploads:
        raise UploadError(
            f"{slug}: no such upload; add its file with `posefactory characters add`, or forget it with "
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
    """Check a file without Blender: size, kind and structure by its ending.

    Raises:
        UploadError: too large, empty, truncated, or no FBX at all.
    """
    size = path.stat().st_size
    check_size(size, name, max_mb)
    if size == 0:
        raise UploadError(f"{name}: the file is empty; upload it again")
    ending = PurePosixPath(name).suffix.lower()
    if ending not in MOTION_ENDINGS:
        raise UploadError(
            f"{name}: files that can be read end in {', '.join(MOTION_ENDINGS)}; export as one of these"
        )
    if ending != ".fbx":
        try:
            _ = (
                bvh_file.check(path.read_bytes(), name)
                if ending == ".bvh"
                else gltf_file.read(path.read_bytes(), name)
            )
        except InputError as error:
            raise UploadError(str(error)) from error
        return
    with path.open("rb") as file:
        head = file.read(4096)
    if head.startswith(BINARY_MAGIC):
        if size < SMALLEST_FBX:
            raise UploadError(f"{name}: truncated FBX of {size} bytes; upload it again")
        if head[BIG_ENDIAN_AT] == 0:  # of the other kind, Blender is the judge
            _check_length(path, name, size)
        return
    if _is_fbx(head):
        return
    raise UploadError(
        f"{name}: not an FBX file, whatever its name says; export as FBX (binary, 7.x)"
    )


def _is_fbx(head: bytes) -> bool:
    """Whether a file that begins so is an FBX. An ASCII one usually begins with a comment that names it, and need not."""
    is_ascii = b"\x00" not in head and (b"FBXHeaderExtension" in head or b"; FBX" in head[:200])
    return head.startswith(BINARY_MAGIC) or is_ascii


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


def clips(path: Path, name: str) -> list[str]:
    """The names of the animations in a sound file, in its order, as far as they can be told without Blender.

    Those of an FBX are known when it is inspected. A BVH has one without a name.
    """
    ending = PurePosixPath(name).suffix.lower()
    if ending == ".bvh":
        return [""]
    try:
        if ending == ".fbx":
            return []  # its stacks may be empty: what moves, Blender finds
        return gltf_file.clips(gltf_file.read(path.read_bytes(), name)[0])
    except (InputError, OSError):
        return []


def holds_no_geometry(path: Path, name: str = "") -> bool:
    """Whether a file holds no skin, judged by its bytes; a hint, Blender has the last word.

    Args:
        name: what tells its kind by its ending; the path's own name by default.
    """
    ending = PurePosixPath(name or path.name).suffix.lower()
    if ending == ".bvh":
        return True
    try:
        if ending in (".glb", ".gltf", ".vrm"):
            return not gltf_file.has_skin(gltf_file.read(path.read_bytes(), path.name)[0])
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            if not _is_fbx(data[:4096]):
                return False
            return data.find(b"\x00\x01Geometry") < 0 and data.find(b"Geometry::") < 0
    except (OSError, ValueError, InputError):
        return False


def describe(store: Store, upload: Upload) -> dict[str, Any]:
    """What a manifest says of an upload: file_name, sha256, size, and the take that the settings choose for its key.

    Raises:
        UploadError: the file is gone, too large, or cannot be read as what its ending says.
    """
    max_mb = environment().max_upload_mb
    check_size(upload.size, upload.file_name, max_mb)
    # A plan for many casts asks for one file many times; its mark changes with its content, and copies are checked anyway.
    known = (store.address(), upload.object_key, upload.mark, upload.size)
    if known not in _described:
        path = fetch(store, upload)
        check_file(path, upload.file_name, max_mb)
        _described[known] = {
            "file_name": upload.file_name,
            "sha256": file_sha256(path),
            "size": path.stat().st_size,
        }
    described = _described[known]
    take = project_settings().takes.get(upload.key)
    return {**described, "take": take} if take else dict(described)


def copy_unchanged(store: Store, upload: Upload, sha256: str, target: Path) -> None:
    """Copy an upload, and check that its content is still the one with this sha256.

    Raises:
        UploadError: it was replaced in between; kept under the old identity, it would be somebody else.
    """
    shutil.copyfile(fetch(store, upload), target)
    if file_sha256(target) != sha256:
        raise UploadError(f"{upload.file_name}: it was replaced while it was read; run it again")
