"""Requests to a pod that serves, and its answers: objects in the store, each with the address of the next."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from typing import Any

from posefactory_dagster.blender.runpod.orders import Order
from posefactory_dagster.storage.r2 import R2Store

#: Between two looks for an answer.
QUICK_S, SLOW_S = 0.3, 2.0
MAX_ANSWER = 64 * 2**20


class Desk:
    """Asks the worker of one order. Safe to be used by many threads; the worker answers in the order of the questions."""

    def __init__(self, store: R2Store, order: Order) -> None:
        self._store, self._order = store, order
        self._next = 0
        self._lock = threading.Lock()

    def ask(self, values: Mapping[str, Any], over: threading.Event) -> dict[str, Any] | None:
        """The worker's answer to a request; None if none is there when ``over`` is set.

        Raises:
            ValueError: what the worker sent is no JSON object.
        """
        with self._lock:  # a gap in the numbers would hide all that follows
            number = self._next
            key, answer_key = self._order.request_key(number), self._order.answer_key(number)
            following = self._order.request_key(number + 1)
            stub = {"next": self._store.presigned(following, "GET", self._order.life)}
            address = self._store.presigned(answer_key, "PUT", self._order.life)
            request = {**values, **stub, "number": number, "answer": address}
            self._store.put_bytes(key, json.dumps(request).encode())
            self._next += 1
        wait = QUICK_S
        while True:
            last = over.is_set()
            data = self._store.get_bytes(answer_key, MAX_ANSWER)
            if data is not None:
                # A worker that is started anew passes it by.
                self._store.put_bytes(key, json.dumps(stub).encode())
                self._store.delete([answer_key])
                answer = json.loads(data)
                if not isinstance(answer, dict):
                    raise ValueError("not an object")
                return answer
            if last:
                return None
            over.wait(wait)
            wait = min(wait * 1.3, SLOW_S)
