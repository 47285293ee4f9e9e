"""The worker of a RunPod serverless endpoint: each job brings the address of one order.

python -m blender_scripts.worker.endpoint
(with --rp_serve_api the package serves the same handler on this machine)
"""

from __future__ import annotations

from typing import Any

import runpod

from blender_scripts.contract import EVENT_DONE, EVENT_FAILED
from blender_scripts.supervise import BlenderError, Event
from blender_scripts.worker import transfer
from blender_scripts.worker.environment import WorkerEnvironment
from blender_scripts.worker.render import Order, carry_out


def handle(job: dict[str, Any]) -> dict[str, Any]:
    """Carry out the order that ``job["input"]["order_url"]`` leads to.

    The answer is for people; who ordered looks into the bucket for what was really made. A ``trouble`` is
    not called ``error``, which the package would turn into a failed job without an answer.
    """
    url = job["input"].get("order_url")
    if not isinstance(url, str) or not url.startswith(("https://", "http://")):
        return {"trouble": "input.order_url is not an address"}
    answer: dict[str, Any] = {"done": [], "failed": {}}

    def emit(event: Event) -> None:
        if event["event"] == EVENT_DONE:
            answer["done"].append(event["key"])
        elif event["event"] == EVENT_FAILED:
            answer["failed"][event["key"]] = event["error"]

    try:
        data = transfer.get_bytes(url, "the order")
        if data is None:
            return {"trouble": "the order is gone: its job is over"}
        carry_out(Order.parse(data), WorkerEnvironment.read(), emit)
    except (transfer.TransferError, BlenderError, ValueError, KeyError, TypeError) as error:
        return {"trouble": f"{type(error).__name__}: {error}"}
    return answer


if __name__ == "__main__":
    runpod.serverless.start({"handler": handle})
