"""Files to and from pre-signed addresses. An address is a secret: it is never printed or raised."""

from __future__ import annotations

import hashlib
import http.client
import random
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
TIMEOUT_S = 60
ATTEMPTS = 7
CHUNK = 1 << 20
#: No document or input may be larger; a guard against an address that leads somewhere else.
MAX_BYTES = 2 * 2**30


class TransferError(RuntimeError):
    """A transfer failed for good; the text names the file and never the address."""


def get_bytes(url: str, what: str, limit: int = 64 * 2**20) -> bytes | None:
    """Download the content at an address; None if there is none."""

    def work() -> bytes | None:
        try:
            return b"".join(_chunks(url, what, limit))
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise

    return _patiently(work, what)


def download(url: str, target: Path, what: str, sha256: str) -> None:
    """Fetch a file and check it.

    Raises:
        TransferError: it is not there, or not what ``sha256`` says; that does not heal, so it is said at once.
    """

    def work() -> None:
        digest = hashlib.sha256()
        with target.open("wb") as file:
            for chunk in _chunks(url, what, MAX_BYTES):
                digest.update(chunk)
                file.write(chunk)
        if digest.hexdigest() != sha256:
            raise TransferError(f"{what}: its content is not what its checksum says")

    _patiently(work, what)


def upload(url: str, data: bytes, what: str) -> None:
    """Upload ``data`` to an address; existing content is replaced."""

    def work() -> None:
        request = urllib.request.Request(
            url, data=data, method="PUT", headers={"Content-Type": "application/octet-stream"}
        )
        urllib.request.urlopen(request, timeout=TIMEOUT_S).close()

    _patiently(work, what)


def _chunks(url: str, what: str, limit: int) -> Iterator[bytes]:
    """What lies at an address, whole or with an error."""
    size = 0
    with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:
        while chunk := answer.read(CHUNK):
            size += len(chunk)
            if size > limit:
                raise TransferError(f"{what}: larger than {limit} bytes")
            yield chunk
        if str(size) != answer.headers.get("Content-Length", str(size)):
            raise http.client.IncompleteRead(b"")  # http.client says nothing of it by itself


def _patiently(work: Callable[[], T], what: str) -> T:
    """Try again what may be gone at the next try: 408, 429, 5xx and broken connections."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return work()
        except urllib.error.HTTPError as error:
            reason = f"HTTP {error.code}"
            passing = error.code in (408, 429) or error.code >= 500
        except (OSError, http.client.HTTPException) as error:
            reason, passing = type(error).__name__, True
        if not passing or attempt == ATTEMPTS:
            break
        time.sleep(random.uniform(0.1, 0.3 * 2**attempt))
    raise TransferError(f"{what}: {reason}") from None
