"""The messages of a worker elsewhere, read from a bucket for Dagster Pipes."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import dagster as dg

QUICK_S, SLOW_S = 0.3, 2.0
MAX_CHUNK = 4 * 2**20


class MessageStreamReader(dg.PipesMessageReader):
    """Reads numbered chunks of messages, stream by stream.

    A container that was started anew writes to the next stream, and says once more that it opened; only
    the first such message is handed on. Every stream is read at its own pace, so that none hides another. A
    new reader for each session: it keeps its place.

    Args:
        read: the chunk (stream, number), or None while there is none.
        streams: how many there are.
    """

    def __init__(self, read: Callable[[int, int], bytes | None], streams: int) -> None:
        self._read = read
        self._next = [0] * streams
        self._opened = False
        self.closed = False

    @contextmanager
    def read_messages(self, handler: dg.PipesMessageHandler) -> Iterator[dict[str, Any]]:
        """Hand messages on from a thread of its own for the life of the block."""
        ended = threading.Event()

        def loop() -> None:
            wait = QUICK_S
            while not ended.is_set() and not self.closed:
                if self._advance(handler):
                    wait = QUICK_S
                else:
                    ended.wait(wait)
                    wait = min(wait * 1.2, SLOW_S)
            while self._advance(handler):
                pass

        thread = threading.Thread(target=loop, daemon=True)
        thread.start()
        try:
            yield {}
        finally:
            ended.set()
            thread.join(60)

    def no_messages_debug_text(self) -> str:
        """The text of Dagster's warning when no message arrived."""
        return "The worker's messages lie in the store under jobs/; its log is in RunPod's console."

    def _advance(self, handler: dg.PipesMessageHandler) -> bool:
        """Read the next chunk of each stream in use and of the first unused one. Returns whether there was any."""
        found = False
        for stream, number in enumerate(self._next):
            try:
                chunk = self._read(stream, number)
            except Exception as error:  # the store may be back at the next look; the deadlines hold
                handler._context.log.warning(f"messages cannot be read now: {error}")  # noqa: SLF001
                return False
            if chunk is not None:
                found = True
                self._next[stream] += 1
                self._hand_on(chunk, handler)
            elif number == 0:
                break  # streams are taken in order
        return found

    def _hand_on(self, chunk: bytes, handler: dg.PipesMessageHandler) -> None:
        """Pass the messages of a chunk to Dagster. Lines that are not messages are ignored, as anybody with the address can write."""
        if len(chunk) > MAX_CHUNK:
            return
        for line in chunk.splitlines():
            try:
                message = json.loads(line)
                method = message["method"]
                if method == "opened" and self._opened:
                    continue
                handler.handle_message(message)
            except Exception as error:
                handler._context.log.warning(
                    f"left out what is no message ({type(error).__name__})"
                )  # noqa: SLF001
                continue
            self._opened = self._opened or method == "opened"
            self.closed = self.closed or method == "closed"
