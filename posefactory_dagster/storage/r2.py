"""A bucket of Cloudflare R2 (or of any S3 server) as a store, with a cache on this machine."""

from __future__ import annotations

import hashlib
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, TypeVar

import botocore.exceptions as boto
import obstore
import tenacity
from boto3.exceptions import Boto3Error, S3UploadFailedError
from boto3.s3.transfer import TransferConfig
from obstore.exceptions import BaseError as ObstoreError
from obstore.store import S3Store

from posefactory_dagster.settings import Environment, environment
from posefactory_dagster.storage.resources import R2Resource, quick_client
from posefactory_dagster.storage.store import (
    REMOTE_SCHEME,
    DamagedObject,
    Digest,
    StoredObject,
    StoreError,
    explain_disk,
    new_scratch,
    sweep,
    sweep_dead,
)

T = TypeVar("T")
#: Transfers at a time. Small objects wait for answers, not for bytes.
PARALLEL = 16
#: Equal parts, as R2 wants; files below the threshold go up in one request.
TRANSFER = TransferConfig(
    multipart_threshold=64 * 2**20, multipart_chunksize=32 * 2**20, max_concurrency=8
)
CHUNK = 4 << 20
#: No new try after so long; retries wait 0.2 s to 10 s, drawn at random.
PATIENCE_S = 180
BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
PREFIX_PART = re.compile(r"[a-zA-Z0-9_-][a-zA-Z0-9_.-]*")
UPLOAD_URL_SECONDS = 3600
#: What obstore raises; boto3 then does the same, with retries, and finds out what is wrong.
QUICK_FAILED = (ObstoreError, FileNotFoundError, ValueError)
#: What breaks when a connection does, in the middle of an answer too.
BROKEN = (
    boto.ConnectionError,
    boto.HTTPClientError,
    boto.ResponseStreamingError,
    boto.IncompleteReadError,
)


def open_r2(address: str) -> R2Store:
    """The store at ``r2://bucket/prefix``; an empty bucket means R2_BUCKET.

    Raises:
        StoreError: the address is malformed, or a key is missing from the environment.
    """
    bucket, _, prefix = address.removeprefix(REMOTE_SCHEME).partition("/")
    settings = environment()
    bucket = bucket or settings.r2_bucket
    parts = [p for p in prefix.split("/") if p]
    if not BUCKET.fullmatch(bucket):
        raise StoreError(
            f"{address}: {bucket!r} is no bucket's name: 3 to 63 small letters, digits, dots and hyphens, beginning and "
            "ending with a letter or digit; write r2://bucket/prefix"
        )
    for part in parts:
        if not PREFIX_PART.fullmatch(part) or ".." in part:
            raise StoreError(
                f"{address}: {part!r} cannot be part of a prefix: letters, digits, dots, hyphens and underscores, "
                "no dot first and no two together; write r2://bucket/prefix"
            )
    missing = [
        name
        for name, value in (
            ("R2_ENDPOINT_URL", settings.r2_endpoint_url),
            ("R2_ACCESS_KEY_ID", settings.r2_access_key_id),
            ("R2_SECRET_ACCESS_KEY", settings.r2_secret_access_key),
        )
        if not value
    ]
    if missing:
        raise StoreError(
            f"{address}: {', '.join(missing)} not set; Cloudflare's dashboard shows them under R2, "
            "Manage API tokens"
        )
    resource = r2_resource(settings)
    return R2Store(resource.get_client(), quick_client(resource, bucket), bucket, "/".join(parts))


def r2_resource(settings: Environment) -> R2Resource:
    """R2 with the keys of the environment."""
    secret = settings.r2_secret_access_key
    return R2Resource(
        endpoint_url=settings.r2_endpoint_url,
        aws_access_key_id=settings.r2_access_key_id,
        aws_secret_access_key=secret.get_secret_value() if secret else None,
        max_attempts=2,
        max_connections=2 * PARALLEL,
    )


class R2Store:
    """Objects in a bucket, under a prefix.

    Objects that never change (files of committed sets) are fetched once into the cache, checked against
    their checksum; others are looked at anew each time.

    Args:
        client: a boto3 client; it does everything.
        quick: moves the files of sets with a third of boto3's work on each (`make bench-remote`). What it
            cannot do, for whatever reason, ``client`` does.
    """

    readers = 8

    def __init__(self, client: Any, quick: S3Store, bucket: str, prefix: str) -> None:
        self.client, self._quick = client, quick
        self.bucket = bucket
        self.prefix = f"{prefix}/" if prefix else ""
        place = hashlib.sha256(f"{client.meta.endpoint_url}/{bucket}/{prefix}".encode())
        self._cache = environment().cache / "stores" / place.hexdigest()[:16]
        self._retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(_passes),
            wait=tenacity.wait_random_exponential(multiplier=0.2, max=10),
            stop=tenacity.stop_after_delay(PATIENCE_S) | tenacity.stop_after_attempt(8),
            reraise=True,
        )

    def put_files(self, files: Mapping[str, Path]) -> None:
        def put(item: tuple[str, Path]) -> None:
            key, path = item
            if path.stat().st_size < TRANSFER.multipart_threshold:
                self._put_small(key, path.read_bytes())
            else:
                self._ask(lambda: self._put_in_parts(key, path))
            path.unlink()

        self._all(put, files.items())

    def _put_small(self, key: str, data: bytes) -> None:
        with suppress(*QUICK_FAILED):
            obstore.put(self._quick, self.prefix + key, data, use_multipart=False)
            return
        self.put_bytes(key, data)

    def _put_in_parts(self, key: str, path: Path) -> None:
        try:
            self.client.upload_file(str(path), self.bucket, self.prefix + key, Config=TRANSFER)
        except S3UploadFailedError as error:  # s3transfer hides what the server said
            said = error.__context__
            raise (said if isinstance(said, boto.ClientError) else error) from None

    def put_bytes(self, key: str, data: bytes) -> None:
        self._ask(
            lambda: self.client.put_object(Bucket=self.bucket, Key=self.prefix + key, Body=data)
        )

    def create_bytes(self, key: str, data: bytes) -> bool:
        try:
            self._ask(
                lambda: self.client.put_object(
                    Bucket=self.bucket, Key=self.prefix + key, Body=data, IfNoneMatch="*"
                ),
                412,
            )
        except _Refused:
            # A write whose answer was lost meets itself when it is tried again.
            return self.get_bytes(key) == data
        return True

    def get_bytes(self, key: str, most: int | None = None) -> bytes | None:
        """The content; of what others could have written, no more than the first ``most`` bytes."""

        def read() -> bytes:
            answer = self.client.get_object(Bucket=self.bucket, Key=self.prefix + key)
            with closing(answer["Body"]) as body:
                return bytes(body.read(most))

        try:
            return self._ask(read, 404)
        except _Refused:
            return None

    def not_objects(self, prefix: str) -> Sequence[str]:
        return []  # a bucket has nothing else

    def local_paths(self, sha256: Mapping[str, str | None]) -> dict[str, Path]:
        def fetch(item: tuple[str, str | None]) -> tuple[str, Path]:
            key, digest = item
            if ".." in Path(key).parts or Path(key).is_absolute():
                raise StoreError(f"{key!r} leads out of the cache")
            path = self._cache / "objects" / (key if digest else _cache_name(key, self._mark(key)))
            if path.is_file():
                os.utime(path)  # the sweep takes what was not used for long
            else:
                self._download(key, path, digest)
            return key, path

        return dict(self._all(fetch, sha256.items()))

    def at_hand(self, key: str) -> Path | None:
        path = self._cache / "objects" / key
        return path if ".." not in Path(key).parts and path.is_file() else None

    def _mark(self, key: str) -> str:
        try:
            head = self._ask(
                lambda: self.client.head_object(Bucket=self.bucket, Key=self.prefix + key), 404
            )
        except _Refused as error:
            raise FileNotFoundError(self.address(key)) from error
        return str(head["ETag"]).strip('"')

    def _download(self, key: str, target: Path, digest: str | None) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.{os.getpid()}-{threading.get_ident()}")
        try:
            found = self._receive(key, partial)
            if digest is not None and found.sha256 != digest:
                raise DamagedObject(
                    f"{self.address(key)}: damaged, its content is not what the manifest says; "
                    "posefactory store verify shows what else is"
                )
            partial.replace(target)
        except _Refused as error:
            raise FileNotFoundError(self.address(key)) from error
        except OSError as error:
            if isinstance(error, FileNotFoundError):
                raise
            raise explain_disk(error, str(self._cache)) from error
        finally:
            partial.unlink(missing_ok=True)

    def _receive(self, key: str, target: Path) -> Digest:
        """Write an object to a file.

        Raises:
            _Refused: there is no such object. StoreError: as ``_ask``. OSError: as the file's.
        """

        def patiently() -> Digest:
            body = self.client.get_object(Bucket=self.bucket, Key=self.prefix + key)["Body"]
            return _write(body.iter_chunks(CHUNK), target)

        with suppress(*QUICK_FAILED):
            return _write(obstore.get(self._quick, self.prefix + key).stream(CHUNK), target)
        return self._ask(patiently, 404)

    def digest(self, key: str) -> Digest | None:
        try:
            return self._receive(key, Path(os.devnull))
        except _Refused:
            return None

    def list(self, prefix: str) -> Iterator[StoredObject]:
        token: dict[str, str] = {}
        while True:
            page = self._ask(
                lambda: self.client.list_objects_v2(
                    Bucket=self.bucket,
                    Prefix=self.prefix + prefix,
                    **token,  # noqa: B023  (called before the next round)
                )
            )
            for item in page.get("Contents", []):
                yield StoredObject(
                    item["Key"].removeprefix(self.prefix),
                    item["Size"],
                    item["LastModified"].timestamp(),
                    item["ETag"].strip('"'),
                )
            if not page.get("IsTruncated"):
                return
            token = {"ContinuationToken": page["NextContinuationToken"]}

    def delete(self, keys: Sequence[str]) -> None:
        def remove(key: str) -> None:
            self._ask(lambda: self.client.delete_object(Bucket=self.bucket, Key=self.prefix + key))

        # The first by itself: it may be the manifest that makes the others exist. Single requests cost
        # nothing on R2, and unlike DeleteObjects they need no checksum that servers disagree about.
        self._all(remove, keys[:1])
        self._all(remove, keys[1:])

    def scratch(self) -> Path:
        return new_scratch(self._scratch_root())

    def sweep_scratch(self, older_than: float) -> int:
        return sweep(self._scratch_root(), older_than) + self._sweep_cache(older_than)

    def sweep_dead(self) -> int:
        return sweep_dead(self._scratch_root())

    def _sweep_cache(self, older_than: float) -> int:
        swept = 0
        for path in list((self._cache / "objects").rglob("*")):
            if path.is_file() and path.stat().st_mtime < older_than:
                path.unlink(missing_ok=True)
                swept += 1
        return swept

    def address(self, key: str = "") -> str:
        return f"{REMOTE_SCHEME}{self.bucket}/{self.prefix}{key}".rstrip("/")

    def presigned(self, key: str, method: Literal["GET", "PUT"], seconds: float) -> str:
        """An address that lets its holder do one thing to one object, for at most seven days."""
        return obstore.sign(self._quick, method, self.prefix + key, timedelta(seconds=seconds))

    def _scratch_root(self) -> Path:
        path = self._cache / "scratch"
        path.mkdir(parents=True, exist_ok=True)
        return path

    def _all(self, work: Callable[[Any], T], items: Iterable[Any]) -> Sequence[T]:
        """Do ``work`` for all items side by side; the first error ends it."""
        items = list(items)
        if len(items) < 2:
            return [work(item) for item in items]
        with ThreadPoolExecutor(min(PARALLEL, len(items))) as pool:
            futures = [pool.submit(work, item) for item in items]
            try:
                return [f.result() for f in futures]
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def _ask(self, request: Callable[[], T], expected: int | None = None) -> T:
        """Make a request, again where that helps; ``expected`` is a status that is an answer too.

        Raises:
            _Refused: the server answered ``expected``.
            StoreError: it failed for good; the text says what to do.
        """
        try:
            return self._retrying(request)
        except boto.ClientError as error:
            status = error.response["ResponseMetadata"].get("HTTPStatusCode")
            code = error.response["Error"].get("Code", "")
            if status == expected and code != "NoSuchBucket":
                raise _Refused from error
            raise StoreError(self._explain(status, code)) from None
        except (*BROKEN, boto.BotoCoreError, Boto3Error) as error:
            where = self.client.meta.endpoint_url
            raise StoreError(
                f"{self.address()}: no connection to {where} ({type(error).__name__}); "
                "check R2_ENDPOINT_URL and the network"
            ) from None

    def _explain(self, status: int | None, code: str) -> str:
        if code == "NoSuchBucket":
            return f"{self.address()}: no bucket named {self.bucket!r}; make it, or correct POSEFACTORY_STORE"
        if code in ("InvalidAccessKeyId", "SignatureDoesNotMatch", "Unauthorized"):
            return (
                f"{self.address()}: the keys were refused ({code}); "
                "check R2_ACCESS_KEY_ID and R2_SECRET_ACCESS_KEY"
            )
        if status == 403:
            return (
                f"{self.address()}: the key may not do this ({code}); "
                "give its token Object Read & Write on this bucket"
            )
        return f"{self.address()}: the server answered {status} {code}; try again later"


class _Refused(Exception):
    """The server gave the answer that the caller asked about."""


def _write(chunks: Iterable[bytes], target: Path) -> Digest:
    size, sha256 = 0, hashlib.sha256()
    with target.open("wb") as file:
        for chunk in chunks:
            size += file.write(chunk)
            sha256.update(chunk)
    return Digest(size, sha256.hexdigest())


def _passes(error: BaseException) -> bool:
    """Whether an error may be gone at the next try."""
    if isinstance(error, boto.ClientError):
        status = error.response["ResponseMetadata"].get("HTTPStatusCode", 0)
        return status in (408, 429) or status >= 500
    return isinstance(error, BROKEN)


def _cache_name(key: str, mark: str) -> str:
    """Where an object that may change is kept; hashed, as a key may be longer than a file name."""
    return f"changing/{hashlib.sha256(f'{key}@{mark}'.encode()).hexdigest()}"
