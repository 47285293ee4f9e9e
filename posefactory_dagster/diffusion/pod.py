"""The main program of a pod that makes images: it renders what is ordered, then answers requests for images.

python -m posefactory_dagster.diffusion.pod
"""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from blender_scripts.worker import pod, transfer
from posefactory_dagster.diffusion import engine
from posefactory_dagster.diffusion.engine import CannotGenerate, Engine, Request

#: Between two looks for the next request.
QUICK_S, SLOW_S = 0.2, 2.0
#: Requests fetched ahead, and answers on their way up, so that the GPU need not wait for the network.
AHEAD = 2


def serve(service: Mapping[str, Any]) -> None:
    """Answer requests in their order, until none comes for ``service["idle_s"]`` seconds.

    Each request holds the addresses of its answer and of the request after it. One that was answered is a stub with
    the latter alone, so that a container which is started anew finds its place.
    """
    requests: queue.Queue[dict[str, Any] | Exception | None] = queue.Queue(AHEAD)
    maker = Engine(Path.cwd())
    answered, idle_since = 0, time.monotonic()

    def fetch() -> None:
        address, asked, wait = str(service["first"]), 0, QUICK_S
        try:
            while True:
                data = transfer.get_bytes(address, "the next request")
                if data is not None:
                    request = json.loads(data)
                    address, wait = request["next"], QUICK_S
                    if "answer" in request:
                        asked += 1
                        requests.put(request)
                    continue
                if asked == answered and time.monotonic() - idle_since > service["idle_s"]:
                    requests.put(None)
                    return
                time.sleep(wait)
                wait = min(wait * 1.3, SLOW_S)
        except Exception as error:  # told by the thread that waits for requests
            requests.put(error)

    threading.Thread(target=fetch, daemon=True).start()
    on_their_way: list[Future[None]] = []
    with ThreadPoolExecutor(AHEAD) as uploads:
        while (request := requests.get()) is not None:
            if isinstance(request, Exception):
                raise request
            answer = {**_answer(maker, request), "id": request["id"]}
            said = answer.get("error") or f"made in {answer['seconds']:.2f} s"
            print(f"request {request['number']}: {said}", flush=True)
            data = json.dumps(answer).encode()
            on_their_way.append(
                uploads.submit(transfer.upload, request["answer"], data, "an answer")
            )
            while len(on_their_way) >= AHEAD:
                on_their_way.pop(0).result()
            idle_since = time.monotonic()
            answered += 1
        for future in on_their_way:
            future.result()
    print(f"no request for {service['idle_s']:.0f} s", flush=True)


def _answer(maker: Engine, request: Mapping[str, Any]) -> dict[str, Any]:
    """What is said to a request: the image, or an ``error``; ``final`` if the next would fare no better."""
    try:
        if (found := engine.version()) != request["version"]:
            raise CannotGenerate(
                f"the pod's image has diffusers {found}, and {request['version']} is asked for; build it anew"
            )
        return maker.make(Request.from_dict(request["request"])).to_dict()
    except CannotGenerate as error:
        return {"error": str(error), "final": True}
    except Exception as error:  # one image's fault must not end what serves the others
        return {"error": f"{type(error).__name__}: {error}"[:500], "final": False}


if __name__ == "__main__":
    pod.main(serve)
