"""Find new and changed files in the upload folder; plain Python, used by the upload sensor."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from posefactory_dagster.intake import uploads as intake
from posefactory_dagster.storage.sets import file_sha256
from posefactory_dagster.storage.store import Store

#: New files taken up by one tick; the rest wait for the next, so that a tick stays short.
MOST_NEW = 500
#: Files are fetched and read for so long in one tick; Dagster ends a tick after 60 s.
MOST_SECONDS = 2.0
#: Files fetched side by side.
BATCH = 16


@dataclass
class UploadCursor:
    """What earlier ticks saw. ``pending``: seen once, perhaps still being copied, by key;
    ``taken``: handed over, as [fingerprint, sha256] by key; ``asked``: how many runs were asked for;
    ``told``: digests of the faults that were reported and are still there."""

    pending: dict[str, str] = field(default_factory=dict)
    taken: dict[str, list[str]] = field(default_factory=dict)
    asked: int = 0
    told: list[str] = field(default_factory=list)

    @classmethod
    def from_cursor(cls, cursor: str | None) -> UploadCursor:
        """Parse a cursor that ``to_cursor`` wrote; an empty cursor if there is none."""
        values: dict[str, Any] = json.loads(cursor) if cursor else {}
        return cls(
            values.get("pending", {}),
            values.get("taken", {}),
            values.get("asked", 0),
            values.get("told", []),
        )

    def to_cursor(self) -> str:
        """The cursor as a JSON string."""
        return json.dumps(dataclasses.asdict(self), separators=(",", ":"))


@dataclass(frozen=True)
class Finding:
    """The keys whose files are new or changed, by whether these hold geometry.

    ``clips``: of files whose animations are known without Blender, their names by key. ``errors`` is what is wrong in the folder, ``news`` what of it was not reported yet; ``waiting`` files were seen for the
    first time.
    """

    with_geometry: list[str]
    without: list[str]
    clips: dict[str, list[str]]
    errors: list[str]
    news: list[str]
    waiting: int


def look(
    store: Store, cursor: UploadCursor, made_from: Callable[[str], str | None], max_mb: float
) -> Finding:
    """Compare the upload folder with ``cursor``, update the cursor, and return what changed.

    A file counts once two looks in a row find it unchanged: until then it may be half-copied. A
    touched file with the same content is no news.

    Args:
        made_from: the sha256 of the file that a registered key's present set was made from; None if there is none.
    """
    found, errors = intake.scan_uploads(store)
    ready: list[intake.Upload] = []
    pending: dict[str, str] = {}
    for key, uploads in sorted(found.items()):
        if len(uploads) > 1:
            errors.append(intake.clash_text(uploads))
            continue
        upload = uploads[0]
        mark = _fingerprint(upload)
        if cursor.taken.get(key, [""])[0] == mark:
            continue
        if cursor.pending.get(key) == mark and len(ready) < MOST_NEW:
            ready.append(upload)
        else:
            pending[key] = mark
    cursor.pending = pending
    # What is gone is forgotten, so that the same file dropped once more is news.
    cursor.taken = {key: mark for key, mark in cursor.taken.items() if key in found}
    changed: list[str] = []
    bare_keys: set[str] = set()
    clips: dict[str, list[str]] = {}
    started = time.monotonic()
    for start in range(0, len(ready), BATCH):
        batch = ready[start : start + BATCH]
        if time.monotonic() - started > MOST_SECONDS:
            cursor.pending |= {u.key: _fingerprint(u) for u in batch}
            continue
        for upload, (digest, bare, names, fault) in zip(
            batch, _read(store, batch, max_mb), strict=True
        ):
            if fault:
                errors.append(fault)
            before = cursor.taken.get(upload.key)
            cursor.taken[upload.key] = [_fingerprint(upload), digest]
            if digest and before is not None and before[1] == digest:
                continue
            changed.append(upload.key)
            clips[upload.key] = names
            if bare:
                bare_keys.add(upload.key)
    # What was taken in by other ways is no news: a run would find it committed.
    changed = [k for k in changed if made_from(k) != cursor.taken[k][1] or not cursor.taken[k][1]]
    faults = {hashlib.sha256(e.encode()).hexdigest()[:16]: e for e in errors}
    news = [text for mark, text in faults.items() if mark not in cursor.told]
    cursor.told = list(faults)
    return Finding(
        with_geometry=[k for k in changed if k not in bare_keys],
        without=[k for k in changed if k in bare_keys],
        clips={k: names for k, names in clips.items() if k in changed},
        errors=errors,
        news=news,
        waiting=len(cursor.pending),
    )


def _read(
    store: Store, batch: Sequence[intake.Upload], max_mb: float
) -> Iterator[tuple[str, bool, list[str], str]]:
    """For each upload: its sha256, whether it holds no geometry, its animations as far as they are known, and what is wrong with it.

    One over the limit is not read: the run refuses it, and says so.
    """
    wanted = [u for u in batch if u.size <= max_mb * 1e6]
    try:
        paths = store.local_paths({u.object_key: None for u in wanted})
    except FileNotFoundError:  # one was taken away meanwhile: which, the single looks below say
        paths = {}
    for upload in batch:
        if upload not in wanted:
            yield "", False, [], ""
            continue
        try:
            path = paths.get(upload.object_key) or intake.fetch(store, upload)
            name = upload.file_name
            yield (
                file_sha256(path),
                intake.holds_no_geometry(path, name),
                intake.clips(path, name),
                "",
            )
        except (
            Exception
        ) as error:  # whatever is wrong with one file must not stop the others for ever
            yield "", False, [], f"{upload.file_name}: cannot be read ({error}); upload it again"


def _fingerprint(upload: intake.Upload) -> str:
    text = f"{upload.file_name}|{upload.mark}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]
