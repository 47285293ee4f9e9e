"""One pod that makes images, from its start to its end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from blender_scripts.contract import EVENT_TROUBLE
from blender_scripts.supervise import Event
from posefactory_dagster.budget.estimates import RenderEstimate, check_budget, cost_of
from posefactory_dagster.compute.record import JobRecord
from posefactory_dagster.compute.runpod import provisioning
from posefactory_dagster.compute.runpod.account import bucket_of, open_api, pod_image
from posefactory_dagster.compute.runpod.api import GpuType, NotFound, RunPodApi, RunPodError
from posefactory_dagster.compute.runpod.lease import HeldPod, PodLease
from posefactory_dagster.compute.runpod.orders import STREAMS, Order
from posefactory_dagster.compute.runpod.pipes import ENHANCING_WORKER, PipesRunPodClient, PodRequest
from posefactory_dagster.compute.runpod.reader import MAX_CHUNK, MessageStreamReader
from posefactory_dagster.compute.runpod.reports import ENHANCING_COST, PodReport, tell_report
from posefactory_dagster.compute.runpod.request_queue import RequestQueue
from posefactory_dagster.compute.runpod.watching import PodEnded
from posefactory_dagster.settings import PodSettings, environment
from posefactory_dagster.storage.store import Store, StoreError

if TYPE_CHECKING:
    import dagster as dg

T = TypeVar("T")


@dataclass
class Workload:
    """The images that a run asks of its pods, and what the pods have cost. Threads share it under ``lock``.

    Args:
        planned: how many images there are to be.
        seconds_each: what an image takes, by estimate.
        made: images that came.
        spent: US dollars, of pods whose report has come.
        pods: how many were begun and count against ``max_pods_per_job``.
    """

    startup_s: float
    planned: int = 1
    seconds_each: float = 0.0
    made: int = 0
    spent: float = 0.0
    pods: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def estimate(self, price: float, *, starts: bool) -> RenderEstimate:
        """The estimate of the remaining images. ``price``: US dollars an hour; ``starts``: whether a pod must start first."""
        images = max(self.planned - self.made, 1)
        start = self.startup_s if starts else 0.0
        return RenderEstimate(images, start + images * self.seconds_each, price)


def enhancing_gpus(api: RunPodApi, settings: PodSettings) -> list[GpuType]:
    """GPUs that can make images, cheapest first.

    Raises:
        RunPodError: none fits.
    """
    memory = settings.enhancer_memory_gb
    return provisioning.candidates(api.gpu_types(settings.cloud), settings, memory)


def end_or_tell(context: dg.AssetExecutionContext, end: Callable[[], None]) -> None:
    """Call ``end``; where it fails, the log says how to look after the pod."""
    try:
        end()
    except (RunPodError, StoreError) as error:
        context.log.error(f"a pod may live on ({error}); posefactory pods stop --all")


class PodSession:
    """The life of one pod, in a thread of its own: the one that the run holds, or one that is rented.

    Attributes:
        ready: set when it was heard of, or is over.
        over: set when nothing more comes.
        error: why it is over.
        trouble: what the worker, or who waits for it, complained of.
    """

    def __init__(
        self,
        context: dg.AssetExecutionContext,
        store: Store,
        settings: PodSettings,
        lease: PodLease,
        record: JobRecord,
        workload: Workload,
    ) -> None:
        self._context, self._store, self._settings = context, store, settings
        self._lease, self._record, self._workload = lease, record, workload
        self.ready, self.over = threading.Event(), threading.Event()
        self.error: Exception | None = None
        self.trouble = ""
        self._reader = MessageStreamReader(self._message, STREAMS)
        self._order: Order | None = None
        self._queue: RequestQueue | None = None
        self._price = 0.0
        self._images, self._images_usd = 0, 0.0  # made here, and what was said of their price
        self._settled = False  # what comes now is in the pod's own bill
        self._thread = threading.Thread(target=self._attend, daemon=True)
        self._thread.start()

    def ask(
        self, values: Mapping[str, Any], read: Callable[[dict[str, Any]], T], seconds: float
    ) -> T | None:
        """Send a request and return the worker's answer as ``read`` parses it; None if the pod ended meanwhile.

        Raises:
            TimeoutError: no answer within ``seconds``.
            StoreError: the bucket cannot be used.
        """
        self.ready.wait()
        return None if self._queue is None else self._queue.ask(values, read, seconds)

    def charge(self, seconds: float) -> float:
        """Count an image. Returns its share of the pod's cost in US dollars; 0 if the pod's final report already includes it."""
        with self._workload.lock:
            usd = 0.0 if self._settled else cost_of(seconds, self._price)
            self._workload.made += 1
            self._images += 1
            self._images_usd += usd
        return usd

    def give_up(self, why: str) -> None:
        """End a pod that does not answer. Returns when it has ended."""
        self.trouble = self.trouble or why
        self._reader.closed = True
        self.over.wait()

    def close(self) -> None:
        """End the pod; nobody waits for its last words."""
        self._reader.closed = True
        self._thread.join()

    def _message(self, stream: int, number: int) -> bytes | None:
        """A chunk of the worker's messages; those of its renders, if any, have the first streams."""
        if self._order is None:
            return None
        return bucket_of(self._store).get_bytes(
            self._order.message_key(STREAMS + stream, number), MAX_CHUNK + 1
        )

    def _attend(self) -> None:
        """The body of the session's thread."""
        api = None
        try:
            api = open_api()
            client = PipesRunPodClient(api, self._settings)
            held = self._lease.take()  # from here on, its end is seen to below
            if held is not None and self._lives(api, held):
                self._resume(client, held)
            else:
                self._rent(api, client)
            idle = "the pod had ended, as nothing was asked of it for long"
            self.error = PodEnded(self.trouble or idle)
            if self._images and not self.trouble:
                self._workload.pods -= 1  # it did nothing wrong
        except Exception as error:  # told by whoever asks next
            self.error = error
        finally:
            self.over.set()
            self.ready.set()
            if api is not None:
                api.close()

    def _hear(self, event: Event) -> None:
        self.ready.set()
        if event["event"] == EVENT_TROUBLE:
            self.trouble = str(event.get("error"))

    def _report(self, report: PodReport) -> None:
        with self._workload.lock:
            self._settled = True
            self._workload.spent += report.cost
            entered = self._images_usd
        planned = cost_of(self._images * self._workload.seconds_each, report.price)
        tell_report(
            self._context, self._record, report.metadata(), ENHANCING_COST,
            entered_usd=entered, entered_estimate_usd=planned,
        )  # fmt: skip

    def _rent(self, api: RunPodApi, client: PipesRunPodClient) -> None:
        settings, workload, store = self._settings, self._workload, bucket_of(self._store)
        gpus = enhancing_gpus(api, settings)
        cheapest = workload.estimate(provisioning.price_of(gpus[0], settings), starts=True)
        check_budget(cheapest, settings, workload.spent)
        fitting = provisioning.affordable(
            gpus, lambda price: cost_of(cheapest.seconds, price), workload.spent, settings
        )
        orders: dict[str, Order] = {}

        def new_order(name: str, pipes: Mapping[str, str]) -> str:
            if self._reader.closed:
                raise PodEnded("interrupted before a pod was rented")
            orders[name] = Order(
                job=self._record.job,
                work={},
                seconds=settings.job_timeout_s,
                character_seconds=environment().character_timeout_s,
                idle_s=settings.enhancer_idle_s,
            )
            return orders[name].write(store, pipes)

        def chosen(report: PodReport) -> None:
            self._open_queue(orders[report.pod.name], report.price)

        request = PodRequest(
            pod_image(),
            fitting,
            cheapest.cost,
            new_order,
            chosen,
            disk_gb=settings.enhancer_disk_gb,
            worker=ENHANCING_WORKER,
        )
        try:
            client.run(self._context, request, self._reader, self._hear, self._report)
        finally:
            self._close_queue(list(orders.values()))

    def _resume(self, client: PipesRunPodClient, held: HeldPod) -> None:
        self._open_queue(held.order, held.price)
        cost = self._workload.estimate(held.price, starts=False).cost
        try:
            client.resume(self._context, held, cost, self._reader, self._hear, self._report)
        finally:
            self._close_queue([held.order])

    def _open_queue(self, order: Order, price: float) -> None:
        self._order, self._price = order, price
        self._queue = RequestQueue(bucket_of(self._store), order)

    def _close_queue(self, orders: list[Order]) -> None:
        if self._queue is not None:
            self._queue.close()
        for order in orders:
            order.clear(bucket_of(self._store))

    def _lives(self, api: RunPodApi, held: HeldPod) -> bool:
        """Whether a held pod lives still. What is left of one that does not is cleared away."""
        try:
            lives = not api.pod(held.pod.id).over
        except NotFound:
            lives = False
        except RunPodError:
            lives = True  # as far as is known; who watches it finds out
        if lives:
            self._context.log.info(f"pod {held.pod.id}, which rendered, makes images too")
        else:
            self._context.log.warning(
                f"pod {held.pod.id}, which rendered, is gone; another is rented"
            )
            end_or_tell(self._context, lambda: self._lease.dispose(held))
        return lives
