"""Move a project from one store to another, as often as it takes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from posefactory_dagster.storage import layout
from posefactory_dagster.storage.sets import REPAIR, CommittedSets, DamagedSet, SetRef
from posefactory_dagster.storage.store import DamagedObject, Store, StoreError

#: Written once and never changed, so that what is there is right: images before the locks that name them.
WRITTEN_ONCE = (
    layout.CASTS,
    layout.MOTIONS,
    layout.VARIANTS,
    layout.LOCKS,
    layout.DECISIONS,
    layout.LEDGER,
)
#: Files of one set on the way at a time.
BATCH = 64


@dataclass
class Copied:
    """What a copy did: objects and bytes that went over, and what was there already.

    ``clashes`` are uploads and decisions of another content; ``kept`` pointers to newer sets, which the source does not
    know; ``damaged`` sets that are not what their manifests say.
    """

    sets: int = 0
    uploads: int = 0
    variants: int = 0
    found: int = 0
    bytes: int = 0
    clashes: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)


def copy_store(source: Store, target: Store, replace: bool = False) -> Iterator[tuple[str, Copied]]:
    """Copy uploads, variants with their locks, committed sets and pointers; yields what is being copied, and the count so far.

    A set goes over files first and manifest last, so one that was cut off does not exist at the target;
    a second copy finds what is there and takes the rest. No set and no upload at the target is
    overwritten: an upload of another content under the same name is reported and left. Readers at the target
    then get the sets that readers at the source get, but where the target has gone on by itself.

    Args:
        replace: there too.

    Raises:
        StoreError: a store cannot be read or written. A set that is damaged at the source is named and left there.
    """
    done = Copied()
    there = {item.key: item for item in target.list(layout.UPLOADS)}
    for item in sorted(source.list(layout.UPLOADS), key=lambda i: i.key):
        yield item.key, done
        if item.key in there:
            if target.digest(item.key) == source.digest(item.key):
                done.found += 1
            else:
                done.clashes.append(item.key)
            continue
        _carry(source, target, {item.key: None})
        done.uploads += 1
        done.bytes += item.size
    for prefix in WRITTEN_ONCE:
        have_keys = {item.key for item in target.list(prefix)}
        if prefix == layout.DECISIONS:  # people write these, and may have changed one
            both = [i.key for i in source.list(prefix) if i.key in have_keys]
            done.clashes += [k for k in both if source.digest(k) != target.digest(k)]
        new = sorted(
            (i for i in source.list(prefix) if i.key not in have_keys), key=lambda i: i.key
        )
        for start in range(0, len(new), BATCH):
            yield new[start].key, done
            part = new[start : start + BATCH]
            _carry(source, target, {item.key: None for item in part})
            done.variants += len(part)
            done.bytes += sum(item.size for item in part)
    sets, theirs = CommittedSets(source), CommittedSets(target)
    have = set(theirs.all())
    for ref in sorted(sets.all(), key=lambda r: (r.asset, r.partition, r.identity)):
        yield f"{ref.asset} {ref.partition} {ref.identity}", done
        if ref in have:
            done.found += 1
            continue
        try:
            done.bytes += _copy_set(sets, ref, target)
            done.sets += 1
        except DamagedObject as error:  # the others are copied all the same
            done.damaged.append(f"{ref.asset} {ref.partition} {ref.identity}: {error}")
    for item in sorted(source.list(layout.CURRENT), key=lambda i: i.key):
        yield item.key, done
        pointer = layout.parse_current(item.key)
        mine = sets.readable(*pointer) if pointer else None
        if pointer is None or mine is None:
            continue
        if theirs.find(mine.ref) is None:  # it is damaged here, so it did not go over
            continue
        held = theirs.readable(*pointer)
        newer = held is not None and held.created_at > mine.created_at
        if held is not None and newer and sets.find(held.ref) is None and not replace:
            done.kept.append(item.key)
            continue
        theirs.publish(mine.ref)
    yield "done", done


def _copy_set(sets: CommittedSets, ref: SetRef, target: Store) -> int:
    committed = sets.find(ref)
    manifest = sets.store.get_bytes(layout.manifest(ref.asset, ref.partition, ref.identity))
    if committed is None or manifest is None:
        return 0  # gone since it was listed
    prefix = f"{layout.set_prefix(ref.asset, ref.partition, ref.identity)}{committed.attempt}/"
    there = {item.key: item.size for item in target.list(prefix)}
    missing = {
        committed.key(name): entry["sha256"]
        for name, entry in committed.files.items()
        if there.get(committed.key(name)) != entry["size"]
    }
    keys = list(missing)
    try:
        for start in range(0, len(keys), BATCH):
            _carry(sets.store, target, {k: missing[k] for k in keys[start : start + BATCH]})
    except FileNotFoundError as error:
        raise DamagedSet(f"{error}: missing from a committed set; {REPAIR}") from error
    with ThreadPoolExecutor(8) as pool:
        arrived = dict(zip(committed.files, pool.map(target.digest, map(committed.key, committed.files)), strict=True))  # fmt: skip
    for name, entry in committed.files.items():
        found = arrived[name]
        if found is None or found.sha256 != entry["sha256"]:
            target.delete([committed.key(name)])
            raise StoreError(
                f"{target.address(committed.key(name))}: did not arrive whole; copy again"
            )
    target.create_bytes(layout.manifest(ref.asset, ref.partition, ref.identity), manifest)
    return sum(entry["size"] for entry in committed.files.values())


def _carry(source: Store, target: Store, sha256: Mapping[str, str | None]) -> None:
    """Copy objects under their own keys, by way of a local folder of the target."""
    scratch = target.scratch()
    try:
        files = {}
        for number, (key, path) in enumerate(source.local_paths(sha256).items()):
            files[key] = Path(shutil.copyfile(path, scratch / str(number)))
        target.put_files(files)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
