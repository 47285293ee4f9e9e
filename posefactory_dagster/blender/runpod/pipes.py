"""Dagster Pipes for pods: one order, one pod, its messages read from the bucket."""

import datetime
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import dagster as dg
from dagster._core.pipes.context import PipesMessageHandler

from blender_scripts.supervise import Event
from blender_scripts.worker.environment import ORDER_URL_VARIABLE
from posefactory_dagster.blender.runpod import placing
from posefactory_dagster.blender.runpod.api import GpuType, Pod, RunPodApi, RunPodError
from posefactory_dagster.blender.runpod.watching import LogFollower, watch
from posefactory_dagster.costs.estimates import cost_of
from posefactory_dagster.settings import PodSettings

INSTALLATION_KEY = "posefactory/installation"
#: What the container runs; the image is built from deploy/pod/Dockerfile.
WORKER = "python3.11 -m blender_scripts.worker.pod"
QUICK_S, SLOW_S = 0.3, 2.0


def installation_id(instance: dg.DagsterInstance) -> str:
    """A short name of this Dagster installation, drawn once and shared by all who use its storage."""
    found = instance.daemon_cursor_storage.get_cursor_values({INSTALLATION_KEY})
    if INSTALLATION_KEY not in found:
        instance.daemon_cursor_storage.set_cursor_values({INSTALLATION_KEY: secrets.token_hex(3)})
        found = instance.daemon_cursor_storage.get_cursor_values({INSTALLATION_KEY})
    return found[INSTALLATION_KEY]


class LaneReader(dg.PipesMessageReader):
    """Reads numbered chunks of messages, lane by lane.

    A container that was started anew writes to the next lane, and says once more that it opened; only
    the first such message is handed on. A new reader for each session: it keeps its place.

    Args:
        read: the chunk (lane, number), or None while there is none.
        lanes: how many there are.
    """

    def __init__(self, read: Callable[[int, int], bytes | None], lanes: int) -> None:
        self._read, self._lanes = read, lanes
        self._lane, self._number, self._opened = 0, 0, False
        self.closed = False

    @contextmanager
    def read_messages(self, handler: PipesMessageHandler) -> Iterator[dict[str, Any]]:
        """Hand messages on from a thread of its own for the life of the block."""
        ended = threading.Event()

        def loop() -> None:
            wait = QUICK_S
            while not ended.is_set() and not self.closed:
                wait = QUICK_S if self._advance(handler) else min(wait * 1.2, SLOW_S)
                ended.wait(wait)
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
        """For Dagster's warning when nothing was heard."""
        return "The worker's messages lie in the store under jobs/; its log is in RunPod's console."

    def _advance(self, handler: PipesMessageHandler) -> bool:
        """Read the next chunk if it is there."""
        try:
            chunk = self._read(self._lane, self._number)
            if chunk is None and self._lane + 1 < self._lanes:
                chunk = self._read(self._lane + 1, 0)
                if chunk is not None:
                    self._lane, self._number = self._lane + 1, 0
        except Exception as error:  # the store may be back at the next look; the deadlines hold
            handler._context.log.warning(f"messages cannot be read now: {error}")  # noqa: SLF001
            return False
        if chunk is None:
            return False
        self._number += 1
        for line in chunk.splitlines():
            message = json.loads(line)
            if message.get("method") == "opened":
                if self._opened:
                    continue
                self._opened = True
            handler.handle_message(message)
            self.closed = self.closed or message.get("method") == "closed"
        return True


@dataclass
class PodReport:
    """What a pod did and cost. ``seconds`` from its creation to its end; US dollars."""

    pod: Pod
    gpu: GpuType
    price: float
    estimate: float
    seconds: float = 0.0
    surplus: int = 0
    started_at: str = field(
        default_factory=lambda: datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    )

    @property
    def cost(self) -> float:
        """What it cost, as far as price and time say."""
        return cost_of(self.seconds, self.price)

    def metadata(self) -> dict[str, Any]:
        """For Dagster."""
        return {
            "pod": self.pod.id,
            "console": dg.MetadataValue.url(self.pod.console),
            "gpu": self.gpu.name,
            "usd_per_hour": self.price,
            "seconds": round(self.seconds, 1),
            "cost_usd": round(self.cost, 4),
            "estimate_usd": round(self.estimate, 4),
            "surplus_pods_ended": self.surplus,
        }


@dataclass(frozen=True)
class PodRequest:
    """What to start. ``order`` puts the order in the store, and gives the address by which to get it."""

    image: str
    gpus: list[GpuType]
    estimate: float
    order: Callable[[Mapping[str, str]], str]


class PipesRunPodClient:
    """Runs a worker on one RunPod pod, and ends that pod whatever happens."""

    def __init__(self, api: RunPodApi, settings: PodSettings) -> None:
        self._api, self._settings = api, settings

    def run(
        self,
        context: dg.AssetExecutionContext,
        request: PodRequest,
        reader: LaneReader,
        on_event: Callable[[Event], None],
        on_report: Callable[[PodReport], None],
    ) -> None:
        """Place a pod, hear it out, and end it; ``on_report`` hears what it did, however it ended.

        Raises:
            RunPodError: none could be placed.
            PodEnded: it ended, or passed a deadline, without a closing message.
        """
        with dg.open_pipes_session(
            context=context,
            context_injector=dg.PipesEnvContextInjector(),
            message_reader=reader,
        ) as session:
            seen = 0

            def new_events() -> list[Event]:
                nonlocal seen
                messages = session.get_custom_messages()[seen:]
                seen += len(messages)
                return [m for m in messages if isinstance(m, dict) and "event" in m]

            report = self._place(context, request, session.get_bootstrap_env_vars())
            begun = time.monotonic()
            follower = LogFollower(
                self._api, report.pod.id, lambda line: context.log.debug(f"pod: {line}")
            )

            def on_surplus(count: int) -> None:
                report.surplus += count

            try:
                for event in watch(
                    self._api, report.pod, new_events, lambda: reader.closed, self._settings, on_surplus
                ):  # fmt: skip
                    on_event(event)
            finally:
                follower.stop()
                self._end(context, report)
                report.seconds = time.monotonic() - begun
                on_report(report)
        for event in new_events():
            on_event(event)

    def _place(
        self, context: dg.AssetExecutionContext, request: PodRequest, pipes: Mapping[str, str]
    ) -> PodReport:
        name = placing.pod_name(
            installation_id(context.instance), context.run_id, secrets.token_hex(4)
        )
        address = request.order(pipes)
        body = {
            "name": name,
            "image": request.image,
            "args": WORKER,
            "cloud": self._settings.cloud,
            "disk": self._settings.disk_gb,
            "ports": [],
            "env": {ORDER_URL_VARIABLE: address},
        }
        try:
            pod = placing.place(self._api, body, request.gpus, context.log.warning)
        except BaseException:  # an interrupt too: what an unanswered create made must not live on
            self._end_named(context, name)
            raise
        gpu = next((g for g in request.gpus if pod.gpu and g.id == pod.gpu.id), request.gpus[0])
        price = pod.cost or placing.price_of(gpu, self._settings)
        context.log.info(f"pod {pod.id} on {gpu.name} at ${price:.2f} an hour: {pod.console}")
        return PodReport(pod, gpu, price, request.estimate)

    def _end_named(self, context: dg.AssetExecutionContext, name: str) -> None:
        try:
            for pod in placing.named(self._api, name):
                self._api.delete_pod(pod.id)
        except RunPodError as error:
            context.log.warning(f"whether a pod named {name} exists is not known ({error})")

    def _end(self, context: dg.AssetExecutionContext, report: PodReport) -> None:
        """Terminate the pod, and whatever else carries its name."""
        try:
            self._api.delete_pod(report.pod.id)
            report.surplus += placing.end_surplus(self._api, report.pod)
        except RunPodError as error:
            context.log.error(
                f"pod {report.pod.id} could not be ended and may go on costing money ({error}); the janitor "
                f"sensor tries again. By hand: posefactory pods stop {report.pod.id}, or {report.pod.console}"
            )
