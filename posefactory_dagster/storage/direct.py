"""Small objects by pre-signed addresses, over kept-alive connections of the standard library.

boto3 and urllib3 spend 2 to 3 ms of Python on each object, which many small images feel; this takes about 1 ms
(`make bench-remote`). Signing stays boto3's, and what is too large for one request goes its way too.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import ssl
import threading
import urllib.request
from typing import BinaryIO
from urllib.parse import urlsplit

import botocore.exceptions as boto

from posefactory_dagster.storage.store import Digest

CHUNK = 8 * 2**20


class DirectTransfer:
    """Puts and gets at one endpoint; safe to share between threads, each of which has a connection."""

    def __init__(self, endpoint: str, connect_timeout: float, read_timeout: float) -> None:
        parts = urlsplit(endpoint)
        self._host, self._secure = parts.netloc, parts.scheme == "https"
        self._connect_timeout, self._read_timeout = connect_timeout, read_timeout
        self._context = ssl.create_default_context(cafile=os.environ.get("AWS_CA_BUNDLE"))
        self._local = threading.local()

    @staticmethod
    def possible(endpoint: str) -> bool:
        """Whether the endpoint is reached without a proxy, of which this knows nothing."""
        parts = urlsplit(endpoint)
        proxied = parts.scheme in urllib.request.getproxies()
        return not proxied or bool(urllib.request.proxy_bypass(parts.hostname or ""))

    def put(self, url: str, data: bytes) -> None:
        """Write an object.

        Raises:
            botocore's ClientError or HTTPClientError: as boto3 would.
        """
        with self._answer("PUT", url, data) as answer:
            self._read(answer, -1)

    def get(self, url: str, target: BinaryIO) -> Digest:
        """Read an object into an open file.

        Raises:
            botocore's ClientError or HTTPClientError: as boto3 would. OSError: the file cannot be written.
        """
        sha256, size = hashlib.sha256(), 0
        with self._answer("GET", url, None) as answer:
            while data := self._read(answer, CHUNK):
                target.write(data)
                sha256.update(data)
                size += len(data)
            announced = answer.headers.get("Content-Length")
        if announced is not None and size != int(announced):
            raise self._broken(http.client.IncompleteRead(b""))
        return Digest(size, sha256.hexdigest())

    def _answer(self, method: str, url: str, data: bytes | None) -> http.client.HTTPResponse:
        parts = urlsplit(url)
        try:
            connection = self._connection()
            connection.request(method, f"{parts.path}?{parts.query}", body=data)
            answer = connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise self._broken(error) from None
        if answer.status >= 300:
            found = re.search(rb"<Code>(\w+)</Code>", self._read(answer, CHUNK))
            code = found[1].decode() if found else str(answer.status)
            raise boto.ClientError(
                {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": answer.status}},  # type: ignore[typeddict-item]
                method,
            )
        return answer

    def _read(self, answer: http.client.HTTPResponse, amount: int) -> bytes:
        try:
            return answer.read() if amount < 0 else answer.read(amount)
        except (OSError, http.client.HTTPException) as error:
            raise self._broken(error) from None

    def _connection(self) -> http.client.HTTPConnection:
        connection: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
        if connection is None:
            if self._secure:
                connection = http.client.HTTPSConnection(
                    self._host, timeout=self._connect_timeout, context=self._context
                )
            else:
                connection = http.client.HTTPConnection(self._host, timeout=self._connect_timeout)
            connection.connect()
            connection.sock.settimeout(self._read_timeout)
            self._local.connection = connection
        return connection

    def _broken(self, error: Exception) -> boto.HTTPClientError:
        """The error, without the address, which is a secret; the next try gets a new connection."""
        self._local.connection = None
        return boto.HTTPClientError(error=type(error).__name__)
