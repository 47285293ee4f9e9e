"""Dagster Pipes messages on pre-signed addresses: chunks of a few messages, numbered."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from dagster_pipes import PipesMessage, PipesMessageWriter, PipesMessageWriterChannel

from blender_scripts.worker import transfer

#: A chunk goes up at most so often; the interval grows when addresses run short.
INTERVAL_S = 0.5


class MessageStreamChannel(PipesMessageWriterChannel):
    """Writes chunks to the addresses of one stream, in order, from a thread of its own."""

    def __init__(self, addresses: list[str], seconds: float) -> None:
        self._addresses = addresses
        self._ends = time.monotonic() + seconds
        self._waiting: queue.SimpleQueue[PipesMessage] = queue.SimpleQueue()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self._thread.start()

    def write_message(self, message: PipesMessage) -> None:
        """Queue a message for the next chunk."""
        self._waiting.put(message)

    def close(self) -> None:
        """Send the remaining messages."""
        self._closed.set()
        self._thread.join(120)

    def _loop(self) -> None:
        used = 0
        lines: list[str] = []
        while True:
            closing = self._closed.is_set()
            while not self._waiting.empty():
                lines.append(json.dumps(self._waiting.get()))
            left = len(self._addresses) - used
            if lines and (left > 1 or (closing and left)):  # the last one is for the last words
                try:
                    data = "\n".join(lines).encode()
                    transfer.upload(self._addresses[used], data, f"messages {used}")
                    used, lines = used + 1, []
                except transfer.TransferError as error:
                    # The reader waits for this very number, so it is tried until the job's time is over.
                    print(f"messages wait: {error}", flush=True)
                    if time.monotonic() > self._ends:
                        return
            elif closing:
                return
            seconds = self._ends - time.monotonic()
            self._closed.wait(max(INTERVAL_S, seconds / max(1, left - 1)))
            if closing:
                time.sleep(INTERVAL_S)


class MessageStreamWriter(PipesMessageWriter[MessageStreamChannel]):
    """Opens the channel of one stream: each start of the container has its own."""

    def __init__(self, stream: dict[str, Any], seconds: float) -> None:
        self._stream, self._seconds = stream, seconds

    @contextmanager
    def open(self, params: Mapping[str, Any]) -> Iterator[MessageStreamChannel]:
        """A channel for the life of the block; what is unsent at its end is sent then."""
        channel = MessageStreamChannel(self._stream["put"], self._seconds)
        try:
            yield channel
        finally:
            channel.close()
