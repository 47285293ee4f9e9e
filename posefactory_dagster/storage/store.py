"""Where objects lie: a small interface, and a local folder that has it."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

#: What a full disk answers (a quota too), and what one that may not be written does.
FULL = (errno.ENOSPC, errno.EDQUOT)
FORBIDDEN = (errno.EACCES, errno.EROFS, errno.EPERM)
DISK_ERRORS = (*FULL, *FORBIDDEN)


class StoreError(RuntimeError):
    """The store cannot be read or written; the text says what to do."""


@dataclass(frozen=True)
class StoredObject:
    """What a listing says of an object; ``modified`` in seconds since 1970."""

    key: str
    size: int
    modified: float


class Store(Protocol):
    """Objects by key. Keys come from `layout.py` only."""

    def put_file(self, key: str, path: Path) -> None:
        """Take the file at ``path`` over; it is gone from there afterwards. Whole or not at all."""

    def put_bytes(self, key: str, data: bytes) -> None:
        """Write a small object, whole or not at all."""

    def get_bytes(self, key: str) -> bytes | None:
        """A small object, or None if there is none."""

    def local_path(self, key: str) -> Path:
        """A path on this machine with the object's content, to be read only."""

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """All objects whose key begins with ``prefix``, in no particular order."""

    def delete(self, key: str) -> None:
        """Remove an object; no error if it is gone."""

    def scratch(self) -> Path:
        """A new, empty local folder from which ``put_file`` is cheap."""

    def describe(self) -> str:
        """How a person would name this store."""


class LocalStore:
    """A folder. Files move in by rename, so a reader never sees half of one."""

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser().resolve()

    def put_file(self, key: str, path: Path) -> None:
        target = self._path(key)
        with self._explained(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)

    def put_bytes(self, key: str, data: bytes) -> None:
        target = self._path(key)
        with self._explained(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self._scratch_root())
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(target)

    def get_bytes(self, key: str) -> bytes | None:
        try:
            return self._path(key).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def local_path(self, key: str) -> Path:
        return self._path(key)

    def list(self, prefix: str) -> Iterator[StoredObject]:
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
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                key = Path(entry.path).relative_to(self.root).as_posix()
                if key.startswith(prefix):
                    yield StoredObject(key, status.st_size, status.st_mtime)

    def delete(self, key: str) -> None:
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
        with self._explained(self.root):
            return Path(tempfile.mkdtemp(dir=self._scratch_root(), prefix=f"{os.getpid()}-"))

    def describe(self) -> str:
        return str(self.root)

    def sweep_scratch(self, older_than: float) -> int:
        """Remove scratch last touched before ``older_than`` (seconds since 1970); how many went."""
        swept = 0
        for entry in list(os.scandir(self._scratch_root())):
            if _newest(Path(entry.path)) < older_than:
                path = Path(entry.path)
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()
                swept += 1
        return swept

    def _scratch_root(self) -> Path:
        path = self.root / "scratch"
        path.mkdir(parents=True, exist_ok=True)
        return path

    def _path(self, key: str) -> Path:
        path = self.root / key
        if ".." in Path(key).parts or Path(key).is_absolute():
            raise StoreError(f"{key!r} leads out of the store")
        return path

    def _explained(self, target: Path) -> _Explained:
        return _Explained(target, self.root)


class _Explained:
    """Turns a full or read-only disk into an error that says what to do."""

    def __init__(self, target: Path, root: Path) -> None:
        self._target, self._root = target, root

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise explain_disk(error, self._root) from error


def explain_disk(error: OSError, root: Path) -> StoreError:
    """The error of a store whose disk refuses, with the next step."""
    advice = "name another with POSEFACTORY_STORE"
    if error.errno in FULL:
        return StoreError(
            f"{root}: the disk is full; free space (posefactory store gc) or {advice}"
        )
    if error.errno in FORBIDDEN:
        return StoreError(f"{root}: the store cannot be written ({error.strerror}); {advice}")
    return StoreError(f"{root}: {error}; {advice}")


def _newest(path: Path) -> float:
    times = [path.stat().st_mtime]
    times += [p.stat().st_mtime for p in path.rglob("*") if p.exists()]
    return max(times)


def open_store(address: str) -> Store:
    """The store at ``address``: a folder's path.

    Raises:
        StoreError: the address is of a kind that is not there yet.
    """
    if "://" in address:
        raise StoreError(f"POSEFACTORY_STORE={address}: only a local folder works so far")
    return LocalStore(Path(address))
