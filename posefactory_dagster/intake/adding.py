"""Take files into the upload folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from posefactory_dagster.intake import uploads
from posefactory_dagster.settings import environment
from posefactory_dagster.slugs import SlugError, character_slug
from posefactory_dagster.storage import layout
from posefactory_dagster.storage.sets import CommittedSets, file_sha256
from posefactory_dagster.storage.store import StoreError


@dataclass(frozen=True)
class Added:
    """A file that was taken in.

    Attributes:
        file: as the user named it.
        key: of the upload.
        skin: whether it holds one; otherwise it is a motion.
        clips: the names of its animations, as far as they are known before inspection.
        twin: another key whose upload has the same content.
    """

    file: str
    key: str
    skin: bool
    clips: list[str] = field(default_factory=list)
    twin: str | None = None


def add_files(
    sets: CommittedSets,
    files: Sequence[Path],
    name: str | None = None,
    *,
    replace: bool = False,
    check: Callable[[Path], None] | None = None,
) -> tuple[list[Added], list[str]]:
    """Take each file in that is sound; the others are errors and change nothing.

    Args:
        name: the key to give, for one file; by default the file's name gives it.
        replace: whether a file takes the place of another one of its key.
        check: raises ``UploadError`` for a file that is not wanted.
    """
    added, errors = [], []
    for file in files:
        try:
            key = _add_file(sets, file, name, replace, check)
            skin = not uploads.holds_no_geometry(file)
            clips = uploads.clips(file, file.name)
            added.append(Added(str(file), key, skin, clips, _twin(sets, key, file)))
        except (uploads.UploadError, SlugError, StoreError) as error:
            errors.append(str(error))
        except OSError as error:
            errors.append(f"{file}: cannot be read ({error.strerror})")
    return added, errors


def _add_file(
    sets: CommittedSets,
    file: Path,
    name: str | None,
    replace: bool,
    check: Callable[[Path], None] | None,
) -> str:
    if not file.is_file():
        raise uploads.UploadError(
            f"{file}: {'a folder; name files' if file.is_dir() else 'no such file'}"
        )
    uploads.check_file(file, file.name, environment().max_upload_mb)
    if check is not None:
        check(file)
    key = character_slug(name if name is not None else file.stem)
    existing = uploads.uploads_by_key(sets.store).get(key, [])
    if existing and _same_content(sets, existing[0], file):
        return key
    mine = layout.upload(f"{key}{file.suffix.lower()}")
    others = [u for u in existing if u.object_key != mine]
    if others:
        raise uploads.UploadError(
            f"{file.name}: the key {key!r} belongs to {others[0].file_name!r} already; give another with --name"
        )
    if existing and not replace:
        raise uploads.UploadError(
            f"{file.name}: another file has the key {key!r} already; give another with --name, or take its "
            "place with --replace"
        )
    with sets.scratch() as scratch:
        shutil.copyfile(file, scratch / "upload")
        sets.store.put_files({mine: scratch / "upload"})
    return key


def _twin(sets: CommittedSets, key: str, file: Path) -> str | None:
    """Another key whose upload has the same content."""
    for other, found in sorted(uploads.uploads_by_key(sets.store).items()):
        if other != key and len(found) == 1 and _same_content(sets, found[0], file):
            return other
    return None


def _same_content(sets: CommittedSets, upload: uploads.Upload, file: Path) -> bool:
    return upload.size == file.stat().st_size and file_sha256(
        uploads.fetch(sets.store, upload)
    ) == file_sha256(file)
