"""Requests to a pod that serves, and its answers: objects in the store, each with the address of the next."""

from __future__ import annotations

import contextlib
import json
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from posefactory_dagster.compute.runpod.orders import Order
from posefactory_dagster.diffusion.engine import NotGenerated
from posefactory_dagster.storage.r2 import R2Store
from posefactory_dagster.storage.store import StoreError

T = TypeVar("T")
#: Between two looks for an answer.
QUICK_S, SLOW_S = 0.3, 2.0
MAX_ANSWER = 64 * 2**20
#: A last look at the store is given so long.
LAST_LOOK_S = 30.0


class RequestQueue:
    """Asks the worker of one order. Safe to be used by many threads; the worker answers in the order of the questions."""

    def __init__(self, store: R2Store, order: Order) -> None:
        self._store, self._order = store, order
        self._next = 0
        self._waiting = 0
        self._changed = threading.Condition()
        self._closed = threading.Event()

    def ask(
        self, values: Mapping[str, Any], read: Callable[[dict[str, Any]], T], seconds: float
    ) -> T | None:
        """The worker's answer to a request, as ``read`` makes it; None if there is none when the queue is closed.

        Raises:
            TimeoutError: there is none within ``seconds``.
            NotGenerated: what the worker sent is no answer to it. Whatever ``read`` raises.
        """
        mark = secrets.token_hex(8)
        with self._changed:  # a gap in the numbers would hide all that follows
            if self._closed.is_set():
                return None
            number = self._next
            key, answer_key = self._order.request_key(number), self._order.answer_key(number)
            following = self._order.request_key(number + 1)
            stub = {"next": self._store.presigned(following, "GET", self._order.life)}
            address = self._store.presigned(answer_key, "PUT", self._order.life)
            request = {**values, **stub, "id": mark, "number": number, "answer": address}
            self._store.put_bytes(key, json.dumps(request).encode())
            self._next += 1
            self._waiting += 1
        try:
            data = self._wait(answer_key, seconds)
            if data is None:
                return None
            with contextlib.suppress(StoreError):  # a worker that is started anew passes it by
                self._store.put_bytes(key, json.dumps(stub).encode())
                self._store.delete([answer_key])
            return read(_of(mark, data))
        finally:
            with self._changed:
                self._waiting -= 1
                self._changed.notify_all()

    def _wait(self, answer_key: str, seconds: float) -> bytes | None:
        until, wait = time.monotonic() + seconds, QUICK_S
        while True:
            last = self._closed.is_set()
            data = self._store.get_bytes(answer_key, MAX_ANSWER)
            if data is not None or last:
                return data
            if time.monotonic() > until:
                raise TimeoutError(f"no answer within {seconds:.0f} s")
            self._closed.wait(wait)
            wait = min(wait * 1.3, SLOW_S)

    def close(self) -> None:
        """Nothing is asked any more, and all who wait have looked once more; what lies in the store may be cleared."""
        with self._changed:
            self._closed.set()
            self._changed.wait_for(lambda: self._waiting == 0, LAST_LOOK_S)


def _of(mark: str, data: bytes) -> dict[str, Any]:
    """The answer to the request with that mark.

    Raises:
        NotGenerated: it is none. One of another request can be there if a write failed that was done all the same.
    """
    try:
        answer = json.loads(data)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict) or answer.get("id") != mark:
        raise NotGenerated("what the pod sent is no answer to what was asked")
    return answer
