"""Object stores: the interface, and a local folder that implements it."""

from __future__ import annotations

import errno
import functools
import hashlib
import os
import shutil
import socket
import stat
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import psutil

#: What a full disk answers (a quota too), and what one that may not be written does.
FULL = (errno.ENOSPC, errno.EDQUOT)
FORBIDDEN = (errno.EACCES, errno.EROFS, errno.EPERM)
DISK_ERRORS = (*FULL, *FORBIDDEN)
REMOTE_SCHEME = "r2://"


class StoreError(RuntimeError):
    """The store cannot be read or written; the text names the next step."""


class DamagedObject(StoreError):
    """An object does not match its checksum."""


@dataclass(frozen=True)
class StoredObject:
    """What a listing says of an object.

    ``modified`` is in seconds since 1970; ``mark`` changes whenever the content may have changed, and
    is no checksum.
    """

    key: str
    size: int
    modified: float
    mark: str


@dataclass(frozen=True)
class Digest:
    """Size in bytes and sha256 (hex) of an object's content, read from where it lies."""

    size: int
    sha256: str


class Store(Protocol):
    """Objects by key. Keys come from `layout.py` only.

    ``readers``: how many threads read objects fastest.
    """

    readers: int

    def put_files(self, files: Mapping[str, Path]) -> None:
        """Take local files over, by key; they are gone from there afterwards. Each whole or not at all."""

    def put_bytes(self, key: str, data: bytes) -> None:
        """Write a small object, whole or not at all."""

    def create_bytes(self, key: str, data: bytes) -> bool:
        """Write a small object if there is none under ``key``; whether it was written now."""

    def get_bytes(self, key: str) -> bytes | None:
        """A small object, or None if there is none."""

    def local_paths(self, sha256: Mapping[str, str | None]) -> dict[str, Path]:
        """Paths on this machine with the content of the named objects, to be read only.

        Args:
            sha256: the checksum of each object that never changes; None for one that may.

        Raises:
            FileNotFoundError: an object is not there.
            StoreError: a transfer failed, or an object is not what its checksum says.
        """

    def at_hand(self, key: str) -> Path | None:
        """Where on this machine the object's content lies already, if it does; unchecked."""

    def digest(self, key: str) -> Digest | None:
        """What lies under ``key``, read anew; None if nothing does."""

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """All objects whose key begins with ``prefix``, in no particular order."""

    def not_objects(self, prefix: str) -> Sequence[str]:
        """What lies under ``prefix`` and cannot be an object, each as text with the reason."""

    def delete(self, keys: Sequence[str]) -> None:
        """Remove objects in this order; no error for those that are gone."""

    def scratch(self) -> Path:
        """A new, empty local folder from which ``put_files`` is cheap."""

    def sweep_scratch(self, older_than: float) -> int:
        """Remove scratch last touched before ``older_than`` (seconds since 1970); how many went."""

    def sweep_dead(self) -> int:
        """Remove scratch of processes of this machine that have ended, as a kill leaves it; how many went."""

    def address(self, key: str = "") -> str:
        """How a person finds the object, or the store itself."""


#: Bytes of a file that is read in one piece.
SMALL = 1 << 20


class LocalStore:
    """A store in a local folder. Files are renamed into place, so a reader never sees a partial file."""

    #: Of small files, more wait for each other; of large ones, hashing goes on beside.
    readers = min(4, os.cpu_count() or 1)

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()

    def put_files(self, files: Mapping[str, Path]) -> None:
        for key, path in files.items():
            target = self._path(key)
            with self._explained():
                target.parent.mkdir(parents=True, exist_ok=True)
                path.replace(target)

    def put_bytes(self, key: str, data: bytes) -> None:
        target = self._path(key)
        with self._explained():
            target.parent.mkdir(parents=True, exist_ok=True)
            self._written(data).replace(target)

    def create_bytes(self, key: str, data: bytes) -> bool:
        target = self._path(key)
        with self._explained():
            target.parent.mkdir(parents=True, exist_ok=True)
            written = self._written(data)
            try:
                os.link(written, target)  # fails if the name is taken, other than a rename
            except FileExistsError:
                return False
            finally:
                written.unlink()
        return True

    def get_bytes(self, key: str) -> bytes | None:
        try:
            return self._path(key).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def local_paths(self, sha256: Mapping[str, str | None]) -> dict[str, Path]:
        paths = {key: self._path(key) for key in sha256}
        for key, wanted in sha256.items():
            if wanted is not None:
                _check_once(paths[key], wanted)
        return paths

    def at_hand(self, key: str) -> Path | None:
        path = self._path(key)
        return path if path.is_file() else None

    def digest(self, key: str) -> Digest | None:
        try:
            with self._path(key).open("rb", buffering=0) as file:
                size = os.fstat(file.fileno()).st_size
                # In one piece where it is small, as there may be hundreds of thousands.
                found = hashlib.sha256(file.read()) if size < SMALL else hashlib.file_digest(file, "sha256")  # fmt: skip
                return Digest(size, found.hexdigest())
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None

    def list(self, prefix: str) -> Iterator[StoredObject]:
        for entry, status in self._entries(prefix):
            key = Path(entry.path).relative_to(self.root).as_posix()
            if key.startswith(prefix) and _why_not(entry.name, status) is None:
                mark = f"{status.st_size}-{status.st_mtime_ns}"
                yield StoredObject(key, status.st_size, status.st_mtime, mark)

    def not_objects(self, prefix: str) -> Sequence[str]:
        found = []
        for entry, status in self._entries(prefix):
            reason = _why_not(entry.name, status)
            if reason is not None:
                name = os.fsencode(entry.name).decode("utf-8", "backslashreplace")
                found.append(f"{name}: {reason}")
        return sorted(found)

    def _entries(self, prefix: str) -> Iterator[tuple[os.DirEntry[str], os.stat_result]]:
        """All entries below the folder of ``prefix`` that are no folders; nothing is opened."""
        folder = self._path(prefix) if prefix.endswith("/") else self._path(prefix).parent
        stack = [folder]
        while stack:
            try:
                entries = list(os.scandir(stack.pop()))
            except (FileNotFoundError, NotADirectoryError):
                continue
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    stack.append(Path(entry.path))
                    continue
                try:
                    yield entry, entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue

    def delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            path = self._path(key)
            path.unlink(missing_ok=True)
            parent = path.parent
            while parent != self.root and parent.is_relative_to(self.root):
                try:
                    parent.rmdir()
                except OSError:
                    break
                parent = parent.parent

    def scratch(self) -> Path:
        with self._explained():
            return new_scratch(self._scratch_root())

    def sweep_scratch(self, older_than: float) -> int:
        return sweep(self._scratch_root(), older_than)

    def sweep_dead(self) -> int:
        return sweep_dead(self._scratch_root())

    def address(self, key: str = "") -> str:
        return str(self._path(key) if key else self.root)

    def _written(self, data: bytes) -> Path:
        """A file with ``data`` on the disk, beside the store's objects."""
        handle, name = tempfile.mkstemp(dir=self._scratch_root())
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        return Path(name)

    def _scratch_root(self) -> Path:
        path = self.root / "scratch"
        path.mkdir(parents=True, exist_ok=True)
        return path

    def _path(self, key: str) -> Path:
        if key.startswith("/") or ".." in key.split("/"):
            raise StoreError(f"{key!r} leads out of the store")
        return self.root / key

    def _explained(self) -> _Explained:
        return _Explained(self.root)


#: What this process has read and found to be what its checksum says, by path and the file's inode, size and time.
_checked: set[tuple[str, int, int, int, str]] = set()


def _check_once(path: Path, sha256: str) -> None:
    """Compare a file with its checksum, unless this process has done so since the file was written.

    Raises:
        FileNotFoundError: there is none.
        DamagedObject: it is another.
    """
    status = path.stat()
    mark = (str(path), status.st_ino, status.st_size, status.st_mtime_ns, sha256)
    if mark in _checked:
        return
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise DamagedObject(
            f"{path}: damaged, not what its checksum says; posefactory store verify --repair drops damaged sets, "
            "posefactory run --stale makes them again"
        )
    _checked.add(mark)


def _why_not(name: str, status: os.stat_result) -> str | None:
    """Why an entry of a folder is no object: only regular files with readable names are."""
    if not stat.S_ISREG(status.st_mode):
        return "not a regular file (a link, a pipe or a device); put the file itself there"
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return "its name is not UTF-8; rename it"
    return None


class _Explained:
    """Converts errors of a full or read-only disk to a ``StoreError`` with the next step."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise explain_disk(error, str(self._root)) from error


def explain_disk(error: OSError, place: str) -> StoreError:
    """The error of a store whose disk refuses, with the next step."""
    advice = "name another with POSEFACTORY_STORE"
    if error.errno in FULL:
        return StoreError(
            f"{place}: the disk is full; free space (posefactory store gc) or {advice}"
        )
    if error.errno in FORBIDDEN:
        return StoreError(f"{place}: the store cannot be written ({error.strerror}); {advice}")
    return StoreError(f"{place}: {error}; {advice}")


@functools.cache
def _processes() -> str:
    """The machine, and the container on it, whose process numbers this process sees."""
    parts = [socket.gethostname()]
    for path in (Path("/etc/machine-id"), Path("/proc/self/ns/pid")):
        try:
            parts.append(str(path.readlink()) if path.is_symlink() else path.read_text())
        except OSError:  # another system, or nothing to read
            continue
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8]


def new_scratch(root: Path) -> Path:
    """An empty folder under ``root``, whose name says which process it belongs to."""
    return Path(tempfile.mkdtemp(dir=root, prefix=f"{_processes()}-{os.getpid()}-"))


def sweep_dead(root: Path) -> int:
    """Remove folders of ``new_scratch`` whose process has ended; those of other machines and containers stay."""
    swept = 0
    for entry in list(os.scandir(root)):
        where, _, rest = entry.name.partition("-")
        number = rest.partition("-")[0]
        if where == _processes() and number.isdecimal() and not psutil.pid_exists(int(number)):
            shutil.rmtree(entry.path, ignore_errors=True)
            swept += 1
    return swept


def sweep(folder: Path, older_than: float) -> int:
    """Remove what lies in ``folder`` and was last touched before ``older_than``; how many went."""
    swept = 0
    for entry in list(os.scandir(folder)):
        path = Path(entry.path)
        if _newest(path) < older_than:
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()
            swept += 1
    return swept


def _newest(path: Path) -> float:
    times = [path.stat().st_mtime]
    times += [p.stat().st_mtime for p in path.rglob("*") if p.exists()]
    return max(times)
