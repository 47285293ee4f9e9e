"""Committed sets: a manifest written last makes a set exist.

A set's identity is a digest of what made it (inputs and settings), never of chance: asking for the
same thing again finds it. A second set under the same name and another identity lies beside the
first, until readers are pointed to it and `gc` takes the older one.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from posefactory_dagster.storage import layout
from posefactory_dagster.storage.store import DISK_ERRORS, LocalStore, Store, explain_disk

IDENTITY_LENGTH = 20


def identity_of(asset: str, inputs: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """The digest of what makes a set; equal for equal JSON."""
    text = json.dumps([asset, inputs, settings], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:IDENTITY_LENGTH]


def file_sha256(path: Path) -> str:
    """Hex digest of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class SetRef:
    """The name of a set: which asset, partition and identity."""

    asset: str
    partition: str
    identity: str


@dataclass(frozen=True)
class CommittedSet:
    """A set that exists. ``files`` maps each name to {sha256, size}; ``facts`` are its numbers."""

    ref: SetRef
    inputs: Mapping[str, Any]
    settings: Mapping[str, Any]
    files: Mapping[str, Mapping[str, Any]]
    facts: Mapping[str, Any]
    created_at: str
    _store: Store = field(repr=False, compare=False)

    def path(self, name: str) -> Path:
        """A local path of one of its files, to be read only.

        Raises:
            KeyError: the manifest does not name that file.
        """
        if name not in self.files:
            raise KeyError(f"{name} is not in set {self.ref}")
        ref = self.ref
        return self._store.local_path(layout.set_file(ref.asset, ref.partition, ref.identity, name))


@dataclass(frozen=True)
class Damage:
    """What `verify` found wrong with a set."""

    ref: SetRef
    file: str
    fault: str


class CommittedSets:
    """All sets of a store."""

    def __init__(self, store: Store) -> None:
        self.store = store

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A local folder to make a set's files in; gone afterwards, whatever happened."""
        folder = self.store.scratch()
        try:
            yield folder
        except OSError as error:
            if error.errno in DISK_ERRORS:  # copying uploads, writing pictures or tables
                raise explain_disk(error, Path(self.store.describe())) from error
            raise
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def commit(
        self,
        ref: SetRef,
        folder: Path,
        *,
        inputs: Mapping[str, Any],
        settings: Mapping[str, Any],
        facts: Mapping[str, Any],
    ) -> CommittedSet:
        """Move the files under ``folder`` into the store and make them a set, manifest last.

        If the set exists already it is returned as it is: who committed first has won.
        """
        if (found := self.find(ref)) is not None:
            return found
        files = {}
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            name = path.relative_to(folder).as_posix()
            files[name] = {"sha256": file_sha256(path), "size": path.stat().st_size}
            self.store.put_file(layout.set_file(ref.asset, ref.partition, ref.identity, name), path)
        manifest = {
            "asset": ref.asset,
            "partition": ref.partition,
            "identity": ref.identity,
            "created_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "inputs": inputs,
            "settings": settings,
            "facts": facts,
            "files": files,
        }
        key = layout.manifest(ref.asset, ref.partition, ref.identity)
        self.store.put_bytes(key, json.dumps(manifest, indent=1, sort_keys=True).encode())
        committed = self.find(ref)
        assert committed is not None
        return committed

    def find(self, ref: SetRef) -> CommittedSet | None:
        """The set, if it is committed."""
        data = self.store.get_bytes(layout.manifest(ref.asset, ref.partition, ref.identity))
        if data is None:
            return None
        manifest = json.loads(data)
        return CommittedSet(
            ref=ref,
            inputs=manifest["inputs"],
            settings=manifest["settings"],
            files=manifest["files"],
            facts=manifest["facts"],
            created_at=manifest["created_at"],
            _store=self.store,
        )

    def publish(self, ref: SetRef) -> None:
        """Let readers of (asset, partition) get this set from now on."""
        data = json.dumps({"identity": ref.identity}).encode()
        key = layout.current(ref.asset, ref.partition)
        if self.store.get_bytes(key) != data:
            self.store.put_bytes(key, data)

    def current(self, asset: str, partition: str) -> CommittedSet | None:
        """The set that readers get, or None."""
        data = self.store.get_bytes(layout.current(asset, partition))
        if data is None:
            return None
        return self.find(SetRef(asset, partition, json.loads(data)["identity"]))

    def all(self) -> Iterator[SetRef]:
        """Every committed set."""
        for item in self.store.list(layout.SETS):
            parsed = layout.parse_manifest(item.key)
            if parsed:
                yield SetRef(*parsed)

    def verify(self) -> Iterator[tuple[SetRef, list[Damage]]]:
        """Check each set's files against its manifest, set by set."""
        for ref in sorted(self.all(), key=lambda r: (r.asset, r.partition, r.identity)):
            committed = self.find(ref)
            damages = []
            for name, entry in committed.files.items() if committed else ():
                path = committed.path(name) if committed else Path()
                if not path.is_file():
                    damages.append(Damage(ref, name, "missing"))
                elif path.stat().st_size != entry["size"]:
                    damages.append(Damage(ref, name, "another size"))
                elif file_sha256(path) != entry["sha256"]:
                    damages.append(Damage(ref, name, "another checksum"))
            yield ref, damages

    def drop(self, ref: SetRef) -> int:
        """Remove a set, manifest first, so that it stops existing at once; bytes freed."""
        prefix = layout.set_prefix(ref.asset, ref.partition, ref.identity)
        items = list(self.store.list(prefix))
        self.store.delete(layout.manifest(ref.asset, ref.partition, ref.identity))
        for item in items:
            self.store.delete(item.key)
        return sum(item.size for item in items)

    def collect_garbage(self, grace_s: float, dry_run: bool = False) -> tuple[list[str], int]:
        """Remove sets that nobody points to, files without a manifest, and left-over scratch.

        Whatever was touched within ``grace_s`` seconds stays, as a run may still use it; so do the
        sets that a current set was made from.

        Returns:
            What went (prefixes), and the bytes freed.
        """
        now = time.time()
        keep = set()
        for item in list(self.store.list(layout.CURRENT)):
            asset, partition = item.key[len(layout.CURRENT) :].removesuffix(".json").split("/")
            committed = self.current(asset, partition)
            if committed:
                keep.add(committed.ref)
                keep |= {SetRef(*r) for r in committed.inputs.get("sets", [])}
        newest: dict[str, float] = {}
        sizes: dict[str, int] = {}
        for item in self.store.list(layout.SETS):
            parts = item.key.split("/")
            prefix = "/".join(parts[:4])
            newest[prefix] = max(newest.get(prefix, 0.0), item.modified)
            sizes[prefix] = sizes.get(prefix, 0) + item.size
        removed, freed = [], 0
        for prefix in sorted(newest):
            _, asset, partition, identity = prefix.split("/")
            ref = SetRef(asset, partition, identity)
            if ref in keep or now - newest[prefix] < grace_s:
                continue
            removed.append(prefix)
            freed += sizes[prefix]
            if not dry_run:
                self.drop(ref)
        if isinstance(self.store, LocalStore) and not dry_run:
            self.store.sweep_scratch(now - grace_s)
        return removed, freed
