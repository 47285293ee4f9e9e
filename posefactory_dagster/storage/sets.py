"""Committed sets: a set exists once its manifest, written last, exists.

A set's identity is a digest of what made it (inputs and settings), never of chance: asking for the
same thing again finds it. A second set under the same name and another identity lies beside the
first, until readers are pointed to it and `gc` takes the older one.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import logging
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from posefactory_dagster.storage import layout
from posefactory_dagster.storage.store import (
    DISK_ERRORS,
    DamagedObject,
    Store,
    StoredObject,
    explain_disk,
)

IDENTITY_LENGTH = 20
VERIFY_BATCH = 64
FactsT = TypeVar("FactsT", bound=BaseModel)

REPAIR = (
    "posefactory store verify --repair drops damaged sets, posefactory run --stale makes them again"
)
log = logging.getLogger(__name__)


def identity_of(asset: str, inputs: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """The digest of a set's inputs and settings; equal for equal JSON."""
    text = json.dumps([asset, inputs, settings], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:IDENTITY_LENGTH]


def text_digest(text: str) -> str:
    """A short digest, the same in every process."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


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
    """A set that exists. ``files`` maps each name to {sha256, size}; ``facts`` are its numbers.

    ``attempt`` names the try that made it: two runs may race for a set, and one of them wins.
    """

    ref: SetRef
    attempt: str
    inputs: Mapping[str, Any]
    settings: Mapping[str, Any]
    files: Mapping[str, Mapping[str, Any]]
    facts: Mapping[str, Any]
    created_at: str
    _store: Store = field(repr=False, compare=False)

    def path(self, name: str) -> Path:
        """A local path of one of its files, to be read only; see ``paths``."""
        return self.paths([name])[name]

    def paths(self, names: Iterable[str]) -> dict[str, Path]:
        """Local paths of some of its files, fetched side by side where the store is elsewhere.

        Raises:
            KeyError: the manifest does not name a file.
            StoreError: a file is not what the manifest says, or cannot be fetched.
        """
        names = list(names)
        unknown = [n for n in names if n not in self.files]
        if unknown:
            raise KeyError(f"{unknown[0]} is not in set {self.ref}")
        keys = {name: self.key(name) for name in names}
        try:
            found = self._store.local_paths({keys[n]: self.files[n]["sha256"] for n in names})
            paths = {name: found[keys[name]] for name in names}
            broken = [n for n, p in paths.items() if p.stat().st_size != self.files[n]["size"]]
        except FileNotFoundError as error:
            raise DamagedSet(
                f"{error.filename or error}: missing from a committed set; {REPAIR}"
            ) from error
        if broken:
            raise DamagedSet(f"{self.address(broken[0])}: damaged, of another size; {REPAIR}")
        return paths

    def at_hand(self, name: str) -> Path | None:
        """Where one of its files lies on this machine already, if it does; unchecked."""
        return self._store.at_hand(self.key(name))

    def same(self, name: str, path: Path) -> bool:
        """Whether a local file has the content of one of its files."""
        said = self.files[name]
        return bool(path.stat().st_size == said["size"] and file_sha256(path) == said["sha256"])

    def made_from(self, source: CommittedSet) -> bool:
        """Whether this set was made from ``source``."""
        ref = source.ref
        sources = [list(s) for s in self.inputs.get("sets", [])]
        return [ref.asset, ref.partition, ref.identity] in sources

    def facts_as(self, model: type[FactsT]) -> FactsT:
        """Its facts as a room's model, which may be of an older version.

        Raises:
            DamagedSet: the manifest says something else.
        """
        try:
            return model.model_validate(dict(self.facts))
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise DamagedSet(
                f"{self.address()}: its facts are malformed ({place}: {first['msg']}); {REPAIR}"
            ) from error

    def key(self, name: str) -> str:
        """The object key of one of its files."""
        ref = self.ref
        return layout.set_file(ref.asset, ref.partition, ref.identity, self.attempt, name)

    def address(self, name: str = "") -> str:
        """Where a person finds the set's files, or one of them."""
        return self._store.address(self.key(name or "x").removesuffix("" if name else "/x"))


@dataclass(frozen=True)
class Damage:
    """What `verify` found wrong with a set."""

    ref: SetRef
    file: str
    fault: str


@dataclass(frozen=True)
class Unreadable:
    """An object that is not what its key says, with the fault."""

    key: str
    fault: str


def _parse_any(key: str) -> tuple[str, ...] | None:
    return layout.parse_manifest(key) or layout.parse_set_file(key)


class DamagedSet(DamagedObject):
    """Files of a committed set are missing or changed."""


class DamagedManifest(DamagedObject):
    """A manifest cannot be parsed."""


class DamagedPointer(DamagedObject):
    """A pointer under ``current/`` cannot be parsed."""


#: Says what is wrong with the content of a set whose files are what its manifest says; None if nothing is.
Validator = Callable[["CommittedSet"], str | None]


def _sound(manifest: Any) -> bool:
    """Whether a parsed manifest has all fields of the right types."""
    return (
        isinstance(manifest, dict)
        and all(isinstance(manifest.get(n), dict) for n in ("inputs", "settings", "files", "facts"))
        and all(isinstance(manifest.get(n), str) for n in ("attempt", "created_at"))
        and all(
            isinstance(f, dict)
            and isinstance(f.get("sha256"), str)
            and isinstance(f.get("size"), int)
            for f in manifest["files"].values()
        )
    )


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
                raise explain_disk(error, self.store.address()) from error
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
        paths = {
            p.relative_to(folder).as_posix(): p for p in sorted(folder.rglob("*")) if p.is_file()
        }
        files = {
            name: {"sha256": file_sha256(path), "size": path.stat().st_size}
            for name, path in paths.items()
        }
        attempt = secrets.token_hex(4)
        self.store.put_files(
            {
                layout.set_file(ref.asset, ref.partition, ref.identity, attempt, name): path
                for name, path in paths.items()
            }
        )
        return self.commit_uploaded(
            ref, attempt, files, inputs=inputs, settings=settings, facts=facts
        )

    def commit_uploaded(
        self,
        ref: SetRef,
        attempt: str,
        files: Mapping[str, Mapping[str, Any]],
        *,
        inputs: Mapping[str, Any],
        settings: Mapping[str, Any],
        facts: Mapping[str, Any],
    ) -> CommittedSet:
        """Make a set of files that lie in the store already, under ``attempt``.

        The manifest is written only if there is none; who loses that race gets the winner's set.
        """
        manifest = {
            "asset": ref.asset,
            "partition": ref.partition,
            "identity": ref.identity,
            "attempt": attempt,
            "created_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "inputs": inputs,
            "settings": settings,
            "facts": facts,
            "files": files,
        }
        key = layout.manifest(ref.asset, ref.partition, ref.identity)
        written = self.store.create_bytes(
            key, json.dumps(manifest, indent=1, sort_keys=True).encode()
        )
        committed = self.find(ref)
        assert committed is not None
        if not written:
            log.warning(
                "%s %s: another run committed this set first; its files are used, ours are dropped",
                ref.asset,
                ref.partition,
            )
            if committed.attempt != attempt:  # both may have found the same worker's files
                self._drop_attempt(ref, attempt)
        return committed

    def _drop_attempt(self, ref: SetRef, attempt: str) -> None:
        prefix = f"{layout.set_prefix(ref.asset, ref.partition, ref.identity)}{attempt}/"
        self.store.delete([item.key for item in self.store.list(prefix)])

    def find(self, ref: SetRef) -> CommittedSet | None:
        """The set, if it is committed.

        Raises:
            DamagedManifest: something is there, and it is no manifest.
        """
        key = layout.manifest(ref.asset, ref.partition, ref.identity)
        data = self.store.get_bytes(key)
        if data is None:
            return None
        try:
            manifest = json.loads(data)
            if not _sound(manifest):
                raise TypeError("its shape is not that of a manifest")
            return CommittedSet(
                ref=ref,
                attempt=manifest["attempt"],
                inputs=manifest["inputs"],
                settings=manifest["settings"],
                files=manifest["files"],
                facts=manifest["facts"],
                created_at=manifest["created_at"],
                _store=self.store,
            )
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise DamagedManifest(
                f"{self.store.address(key)}: cannot be read ({error!r}); {REPAIR}"
            ) from error

    def publish(self, ref: SetRef) -> None:
        """Let readers of (asset, partition) get this set from now on."""
        data = json.dumps({"identity": ref.identity}).encode()
        key = layout.current(ref.asset, ref.partition)
        if self.store.get_bytes(key) != data:
            self.store.put_bytes(key, data)

    def current(self, asset: str, partition: str) -> CommittedSet | None:
        """The set that readers get, or None.

        Raises:
            DamagedManifest, DamagedPointer: something is there, and it is neither.
        """
        identity = self._pointed(layout.current(asset, partition))
        return None if identity is None else self.find(SetRef(asset, partition, identity))

    def readable(self, asset: str, partition: str) -> CommittedSet | None:
        """The set that readers get, or None; one that is damaged counts as none, and the log says so."""
        if not layout.is_part(partition):  # a key that was registered elsewhere has no set
            return None
        try:
            return self.current(asset, partition)
        except (DamagedManifest, DamagedPointer) as error:
            log.warning("%s %s: %s", asset, partition, error)
            return None

    def _pointed(self, key: str) -> str | None:
        """The identity that a pointer names; None without one."""
        data = self.store.get_bytes(key)
        if data is None:
            return None
        try:
            identity = json.loads(data)["identity"]
            if isinstance(identity, str) and layout.is_part(identity):
                return identity
        except (ValueError, KeyError, TypeError, RecursionError):
            pass
        raise DamagedPointer(f"{self.store.address(key)}: points to no set; {REPAIR}")

    def all(self) -> Iterator[SetRef]:
        """Every committed set."""
        for item in self.store.list(layout.SETS):
            parsed = layout.parse_manifest(item.key)
            if parsed:
                yield SetRef(*parsed)

    def of_asset(self, asset: str) -> list[CommittedSet]:
        """Every committed set of an asset that can be read, newest first."""
        found = []
        for ref in self.all():
            try:
                committed = self.find(ref) if ref.asset == asset else None
            except DamagedManifest as error:
                log.warning("%s", error)
                continue
            if committed is not None:
                found.append(committed)
        return sorted(found, key=lambda s: s.created_at, reverse=True)

    def damages(
        self, committed: CommittedSet, tell: Callable[[int, int], None] = lambda done, total: None
    ) -> Iterator[Damage]:
        """Check a set's files against its manifest, reading them where they lie.

        Args:
            tell: hears how many files are done, and of how many.
        """
        done = 0
        with ThreadPoolExecutor(self.store.readers) as pool:
            # Many at a time, as handing over one file costs as much as reading a small one.
            names = list(committed.files)
            some = [names[i : i + VERIFY_BATCH] for i in range(0, len(names), VERIFY_BATCH)]
            for found in pool.map(lambda mine: [self._check(committed, n) for n in mine], some):
                done += len(found)
                tell(done, len(committed.files))
                yield from (d for d in found if d is not None)

    def verify(
        self, validators: Mapping[str, Validator] | None = None
    ) -> Iterator[tuple[SetRef, list[Damage]]]:
        """Check each set's files against its manifest, set by set, reading them where they lie; then each pointer.

        Args:
            validators: what else to ask of the sets of an asset whose files are sound.
        """
        for ref in sorted(self.all(), key=lambda r: (r.asset, r.partition, r.identity)):
            try:
                committed = self.find(ref)
            except DamagedManifest:
                yield ref, [Damage(ref, layout.MANIFEST, "cannot be read")]
                continue
            if committed is not None:
                found = list(self.damages(committed))
                validate = (validators or {}).get(ref.asset)
                if not found and validate and (fault := validate(committed)):
                    found = [Damage(ref, layout.MANIFEST, fault)]
                yield ref, found
        for item in sorted(self.store.list(layout.CURRENT), key=lambda i: i.key):
            pointer = layout.parse_current(item.key)
            if pointer is None:
                continue
            try:
                if self.current(*pointer) is not None:
                    continue
                ref = SetRef(*pointer, self._pointed(item.key) or "")
                yield ref, [Damage(ref, layout.MANIFEST, "missing, and readers are pointed to it")]
            except DamagedManifest:  # said above
                continue
            except DamagedPointer:
                ref = SetRef(*pointer, "")
                yield ref, [Damage(ref, item.key, "a pointer that points to no set")]

    def unreadable(self) -> Iterator[Unreadable]:
        """Keys under ``current/`` and ``sets/`` that no set could have: `set_aside` takes them out of the way."""
        for prefix, parse in ((layout.CURRENT, layout.parse_current), (layout.SETS, _parse_any)):
            for item in sorted(self.store.list(prefix), key=lambda i: i.key):
                if parse(item.key) is None:
                    yield Unreadable(item.key, "not the name of anything of Pose Factory's")

    def set_aside(self, key: str) -> None:
        """Move an object that cannot be read out of the way, so that it can still be looked at."""
        data = self.store.get_bytes(key)
        if data is not None:
            self.store.put_bytes(layout.set_aside(key), data)
            self.store.delete([key])

    def drop(self, ref: SetRef) -> None:
        """Remove a set, manifest first, so that it stops existing at once; and a pointer to it."""
        pointer = layout.current(ref.asset, ref.partition)
        try:
            pointed = self._pointed(pointer)
        except DamagedPointer:
            pointed = ref.identity
        if not ref.identity:  # there is no set, only a pointer to none
            self.store.delete([pointer])
            return
        prefix = layout.set_prefix(ref.asset, ref.partition, ref.identity)
        manifest = layout.manifest(ref.asset, ref.partition, ref.identity)
        keys = [i.key for i in self.store.list(prefix) if i.key != manifest]
        self.store.delete([manifest, *keys, *([pointer] if pointed == ref.identity else [])])

    def _check(self, committed: CommittedSet, name: str) -> Damage | None:
        entry = committed.files[name]
        found = self.store.digest(committed.key(name))
        if found is None:
            return Damage(committed.ref, name, "missing")
        if found.size != entry["size"]:
            return Damage(committed.ref, name, "another size")
        if found.sha256 != entry["sha256"]:
            return Damage(committed.ref, name, "another checksum")
        return None

    def _keep_with_inputs(self, ref: SetRef, keep: set[SetRef]) -> None:
        """Add a set and all that it was made from, back to the uploads."""
        if ref in keep:
            return
        keep.add(ref)
        try:
            committed = self.find(ref)
            sources = [SetRef(*s) for s in committed.inputs.get("sets", [])] if committed else []
        except (DamagedManifest, TypeError):  # said by verify; what it needs cannot be known
            return
        for source in sources:
            self._keep_with_inputs(source, keep)

    def collect_garbage(self, grace_s: float, dry_run: bool = False) -> tuple[list[str], int]:
        """Remove sets that nobody points to, attempts that became no set, and left-over scratch.

        Whatever was touched within ``grace_s`` seconds stays, as a run may still use it; so do the
        sets that a current set was made from.

        Returns:
            What went (prefixes), and the bytes freed.
        """
        now = time.time()
        keep: set[SetRef] = set()
        for item in list(self.store.list(layout.CURRENT)):
            pointer = layout.parse_current(item.key)
            try:
                identity = self._pointed(item.key) if pointer else None
            except DamagedPointer:  # said by verify
                continue
            if pointer and identity:
                self._keep_with_inputs(SetRef(*pointer, identity), keep)
        # By set: the manifest, if there is one, then the files of each attempt.
        found: dict[SetRef, dict[str, list[StoredObject]]] = {}
        for item in self.store.list(layout.SETS):
            if manifest := layout.parse_manifest(item.key):
                found.setdefault(SetRef(*manifest), {}).setdefault("", []).append(item)
            elif file := layout.parse_set_file(item.key):
                found.setdefault(SetRef(*file[:3]), {}).setdefault(file[3], []).append(item)
        removed, freed = [], 0
        for ref in sorted(found, key=lambda r: (r.asset, r.partition, r.identity)):
            groups = found[ref]
            if ref in keep:
                try:
                    committed = self.find(ref)
                except DamagedManifest:
                    continue
                groups.pop("", None)
                groups.pop(committed.attempt if committed else "", None)
            if "" in groups:  # a set goes as a whole, manifest first, so that it ends at once
                groups = {"": groups.pop("") + [i for g in groups.values() for i in g]}
            for name, items in sorted(groups.items()):
                if now - max(i.modified for i in items) < grace_s:
                    continue
                removed.append(layout.set_prefix(ref.asset, ref.partition, ref.identity) + name)
                freed += sum(i.size for i in items)
                if not dry_run:
                    self.store.delete([i.key for i in items])
        # Orders and messages of workers that nobody cleared away; what was asked and how it went stays.
        stale = [
            i
            for i in self.store.list(layout.JOBS)
            if layout.parse_job_traffic(i.key) and now - i.modified >= grace_s
        ]
        stale += [i for i in self.store.list(layout.RESERVED) if now - i.modified >= grace_s]
        freed += sum(i.size for i in stale)
        removed += sorted({"/".join(i.key.split("/")[:3]) for i in stale})
        if not dry_run:
            self.store.delete([i.key for i in stale])
            self.store.sweep_scratch(now - grace_s)
            self.store.sweep_dead()
        return removed, freed
