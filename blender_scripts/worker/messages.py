"""Dagster Pipes messages on pre-signed addresses: chunks of a few messages, numbered."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dagster_pipes import PipesMessage, PipesMessageWriter, PipesMessageWriterChannel

from blender_scripts.worker import transfer

#: A chunk goes up at most so often; the interval grows when addresses run short.
INTERVAL_S = 0.5


class LaneChannel(PipesMessageWriterChannel):
    """Writes chunks to the addresses of one lane, in order, from a thread of its own."""

    def __init__(self, addresses: list[str], seconds: float) -> None:
        self._addresses = addresses
        self._ends = time.monotonic() + seconds
        self._waiting: queue.SimpleQueue[PipesMessage] = queue.SimpleQueue()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self._thread.start()

    def write_message(self, message: PipesMessage) -> None:
        """Take a message; it goes up with the next chunk."""
        self._waiting.put(message)

    def close(self) -> None:
        """Send what is left."""
        self._closed.set()
        self._thread.join(120)

    def _loop(self) -> None:
        used = 0
        while used < len(self._addresses):
            closing = self._closed.is_set()
            lines = []
            while not self._waiting.empty():
                lines.append(json.dumps(self._waiting.get()))
            if lines:
                data = "\n".join(lines).encode()
                try:
                    transfer.upload(self._addresses[used], data, f"messages {used}")
                except transfer.TransferError as error:
                    print(f"messages are lost: {error}", flush=True)
                used += 1
            elif closing:
                return
            # One address is kept for the last words.
            left = max(1, len(self._addresses) - used - 1)
            self._closed.wait(max(INTERVAL_S, (self._ends - time.monotonic()) / left / 4))
        print("no address is left for messages", flush=True)


class LaneWriter(PipesMessageWriter[LaneChannel]):
    """Opens the channel of one lane: each start of the container has its own."""

    def __init__(self, lane: dict[str, Any], seconds: float) -> None:
        self._lane, self._seconds = lane, seconds

    @contextmanager
    def open(self, params: dict[str, Any]) -> Iterator[LaneChannel]:
        """A channel for the life of the block; what is unsent at its end is sent then."""
        channel = LaneChannel(self._lane["put"], self._seconds)
        try:
            yield channel
        finally:
            channel.close()
