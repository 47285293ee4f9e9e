"""The main program of a pod: one order from one address, and an end in every case.

python -m blender_scripts.worker.pod
"""

from __future__ import annotations

import os
import re
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dagster_pipes import PipesContext, PipesDefaultContextLoader, PipesMappingParamsLoader

from blender_scripts.contract import EVENT_ALIVE, EVENT_TROUBLE
from blender_scripts.supervise import BlenderError, Event
from blender_scripts.worker import transfer
from blender_scripts.worker.environment import (
    ORDER_URL_VARIABLE,
    WorkerEnvironment,
    start_without_secrets,
)
from blender_scripts.worker.messages import MessageStreamWriter
from blender_scripts.worker.render import Emit, Order, carry_out

ALIVE_S = 15.0
POD_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")


#: Does what an order's ``service`` asks for.
Serve = Callable[[Mapping[str, Any]], None]


def main(serve: Serve | None = None) -> None:
    """Carry out the order and terminate this pod. Returns the exit code.

    Args:
        serve: for pods that can do more than render.
    """
    start_without_secrets()
    environment = WorkerEnvironment.read()
    if not environment.order_url:
        sys.exit(f"{ORDER_URL_VARIABLE} is not set: this container waits for no one else")
    code = 1
    try:
        code = 0 if _work(environment, environment.order_url, serve) else 1
    except Exception as error:  # said in the container's log, as nobody else will hear of it
        print(f"cannot go on: {type(error).__name__}: {error}", flush=True)
    finally:
        terminate(environment)
        sys.stdout.flush()
        os._exit(code)  # threads may still wait for the network


def _work(environment: WorkerEnvironment, order_url: str, serve: Serve | None) -> bool:
    data = transfer.get_bytes(order_url, "the order")
    if data is None:
        print("the order is gone: its job is over", flush=True)
        return True
    order = Order.parse(data)
    _stop_hard_after(order.seconds, environment)
    print(f"job {order.job.job_id}: {len(order.job.tasks)} characters", flush=True)
    good = True
    if order.job.tasks:
        good = _in_session(order, order.streams, lambda emit: carry_out(order, environment, emit))
        print("finished" if good else "finished, with failures", flush=True)
    service = order.service
    if good and service is not None and serve is not None:
        print("waiting for requests", flush=True)

        def answer(emit: Emit) -> bool:
            serve(service)
            return True

        good = _in_session(order, service["streams"], answer)
    return good


def _in_session(
    order: Order, streams: Sequence[dict[str, Any]], work: Callable[[Emit], bool]
) -> bool:
    """Do ``work`` in a Dagster Pipes session of its own, on the first stream that no earlier start has used."""
    stream = next((x for x in streams if transfer.get_bytes(x["probe"], "messages") is None), None)
    if stream is None:
        print("started too often: every stream for messages is used", flush=True)
        return False
    over = threading.Event()
    # Not by `open_dagster_pipes`, which gives a process the same one, closed or not, a second time.
    with PipesContext(
        PipesMappingParamsLoader(order.pipes),
        PipesDefaultContextLoader(),
        MessageStreamWriter(stream, order.seconds),
    ) as pipes:

        def emit(event: Event) -> None:
            pipes.report_custom_message(event)

        _say_alive(emit, over)
        try:
            return work(emit)
        except Exception as error:
            known = isinstance(error, BlenderError | transfer.TransferError)
            text = str(error) if known else f"the worker failed: {type(error).__name__}: {error}"
            emit({"event": EVENT_TROUBLE, "error": text})
            print(f"cannot go on: {text}", flush=True)
            return False
        finally:
            over.set()


def _say_alive(emit: Emit, over: threading.Event) -> None:
    def loop() -> None:
        while not over.is_set():
            emit({"event": EVENT_ALIVE})
            over.wait(ALIVE_S)

    threading.Thread(target=loop, daemon=True).start()


def _stop_hard_after(seconds: float, environment: WorkerEnvironment) -> None:
    """Terminate this pod after its time limit, in case nobody else does."""

    def loop() -> None:
        time.sleep(seconds)
        print(f"the job's {seconds:.0f} s are over: stopping", flush=True)
        terminate(environment)
        os._exit(4)

    threading.Thread(target=loop, daemon=True).start()


def terminate(environment: WorkerEnvironment) -> None:
    """Delete this pod with the API key that RunPod injected; without a key the process only exits."""
    if not environment.pod_key or not POD_ID.fullmatch(environment.pod_id or ""):
        return
    request = urllib.request.Request(
        f"{environment.api}/v2/pods/{environment.pod_id}",
        method="DELETE",
        headers={"Authorization": f"Bearer {environment.pod_key}"},
    )
    try:
        urllib.request.urlopen(request, timeout=20).close()
    except (OSError, urllib.error.URLError) as error:
        print(f"could not delete this pod ({type(error).__name__}); exiting", flush=True)


if __name__ == "__main__":
    main()
