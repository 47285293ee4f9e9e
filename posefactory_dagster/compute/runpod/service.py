"""A pod that makes images when it is asked, one after another."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from blender_scripts.contract import EVENT_TROUBLE
from blender_scripts.supervise import Event
from posefactory_dagster.budget.estimates import RenderEstimate, check_budget, check_time, cost_of
from posefactory_dagster.compute.job import new_job
from posefactory_dagster.compute.record import JobRecord
from posefactory_dagster.compute.runpod import provisioning
from posefactory_dagster.compute.runpod.account import bucket_of, open_api, pod_image
from posefactory_dagster.compute.runpod.api import GpuType, NotFound, RunPodApi, RunPodError
from posefactory_dagster.compute.runpod.lease import HeldPod, PodLease
from posefactory_dagster.compute.runpod.orders import STREAMS, Order
from posefactory_dagster.compute.runpod.pipes import (
    ENHANCING_COST,
    ENHANCING_WORKER,
    MAX_CHUNK,
    MessageStreamReader,
    PipesRunPodClient,
    PodReport,
    PodRequest,
    tell_report,
)
from posefactory_dagster.compute.runpod.request_queue import RequestQueue
from posefactory_dagster.compute.runpod.watching import PodEnded
from posefactory_dagster.diffusion.engine import (
    Answer,
    CannotGenerate,
    Models,
    NotGenerated,
    Request,
    picture_size,
)
from posefactory_dagster.settings import environment, project_settings
from posefactory_dagster.storage.store import Store, StoreError

if TYPE_CHECKING:
    import dagster as dg


@dataclass
class _Session:
    """One pod from its start to its end. ``ready`` when it was heard of, or is over; ``error`` says why it is over.

    ``images`` were made, for ``images_usd``; ``settled``: what comes now is in the pod's own bill.
    """

    reader: MessageStreamReader
    ready: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)
    queue: RequestQueue | None = None
    order: Order | None = None
    price: float = 0.0
    images: int = 0
    images_usd: float = 0.0
    settled: bool = False
    trouble: str = ""
    error: Exception | None = None
    thread: threading.Thread | None = None


class PodService:
    """Makes images on a pod: the one that the renders of this run left, or one that is rented for the first image.

    A pod that dies is replaced, up to ``max_pods_per_job``, and what it owed is asked of the next. The pod lives until
    ``close``. Safe to be used by ``parallel`` threads.

    Args:
        version: of diffusers, as the pod's image must have it.
        lease: what the run holds; a pod that another step left there is taken.
    """

    #: So many images are asked for or judged at a time; while some are judged here, others are made there.
    parallel = 4

    def __init__(
        self, context: dg.AssetExecutionContext, store: Store, version: str, lease: PodLease
    ) -> None:
        self.version = version
        self._lease = lease
        self._context, self._store = context, store
        self._settings = project_settings().pods
        self._lock = threading.Lock()
        self._session: _Session | None = None
        self._pods = 0
        self._spent = 0.0
        self._failed = ""  # why no more can be made
        self._price: float | None = None
        self._planned, self._seconds_each, self._made = 1, 0.0, 0
        self._record: JobRecord | None = None

    def per_hour(self) -> float:
        """US dollars an hour of the pod that the renders left, or else of the one that would be rented now.

        Raises:
            CannotGenerate: an image, a key or a bucket is missing, or no GPU fits. Nothing is spent.
        """
        if self._price is None:
            try:
                self._price = self._look_for_price()
            except RunPodError as error:
                raise CannotGenerate(str(error)) from error
        return self._price

    def check(self, models: Models) -> None:
        """Whether a pod can be had; what its models are shows there.

        Raises:
            CannotGenerate: see ``per_hour``.
        """
        self.per_hour()

    def expect(self, images: int, seconds: float) -> float:
        """Hear how much work is to come; what it will cost by estimate in US dollars, the pod's start included.

        Raises:
            OverBudget: more than ``max_cost_per_job`` of pods, or longer than ``job_timeout_s``.
            CannotGenerate: see ``per_hour``.
        """
        self._planned, self._seconds_each = images, seconds / images
        held = self._lease.held
        if held is not None and held.left < seconds:
            self._context.log.info(f"pod {held.pod.id}, which rendered, has too little time left")
            self._end_held()
            self._price = held = None
        estimate = self._estimate(self.per_hour(), starts=held is None)
        check_budget(estimate, self._settings)
        check_time(estimate, self._settings)
        return estimate.cost

    def make(self, request: Request) -> Answer:
        """One image, with the price of the pod's time for it.

        Raises:
            CannotGenerate: the pod's software or its models are not fit for it, or no pod could be had, or those that were
                had ended before it was made.
            NotGenerated: not this image.
        """
        values = {"version": self.version, "request": request.to_dict()}
        size, limit = picture_size(request.image), self._settings.enhancer_answer_s
        while True:
            session = self._current()
            session.ready.wait()
            asked = time.monotonic()
            try:
                answer = (
                    session.queue.ask(values, lambda said: _read(said, size), limit)
                    if session.queue is not None
                    else None
                )
            except TimeoutError as error:
                self._give_up(session, str(error))
                continue
            except StoreError as error:
                raise CannotGenerate(str(error)) from error
            if answer is None:  # the pod ended meanwhile
                session.over.wait()
                continue
            # What a worker says of its time is not believed beyond what passed here.
            usd = cost_of(min(answer.seconds, time.monotonic() - asked), session.price)
            with self._lock:
                self._made += 1
                session.images += 1
                usd = 0.0 if session.settled else usd
                session.images_usd += usd
            return dataclasses.replace(answer, usd=usd)

    def close(self) -> None:
        """End the pod, or the one that was left by the renders and not used. Who waits for an image gets none."""
        with self._lock:
            trouble, self._failed = self._failed, self._failed or "the work was ended"
            session = self._session
        if session is not None:
            session.reader.closed = True  # nobody waits for its last words
            assert session.thread is not None
            session.thread.join()
        self._end_held()
        if self._record is not None:
            if trouble:
                self._record.errors["variants"] = trouble
            self._record.close()
            self._record = None

    def _current(self) -> _Session:
        """The session that goes on, or the next."""
        with self._lock:
            if self._failed:
                raise CannotGenerate(self._failed)
            session = self._session
            if session is not None and not session.over.is_set():
                return session
            if session is not None:
                why = str(session.error) or type(session.error).__name__
                if self._pods >= self._settings.max_pods_per_job:
                    self._failed = f"{why}; so ended {self._pods} pods, run it again to go on"
                elif not isinstance(session.error, PodEnded):
                    self._failed = why
                if self._failed:
                    raise CannotGenerate(self._failed)
                self._context.log.warning(f"{why}; another pod goes on")
            try:
                self._session = self._begin()
            except (RunPodError, StoreError) as error:
                self._failed = str(error)
                raise CannotGenerate(self._failed) from error
            return self._session

    def _give_up(self, session: _Session, why: str) -> None:
        with self._lock:
            session.trouble = session.trouble or why
        session.reader.closed = True
        session.over.wait()

    def _estimate(self, price: float, *, starts: bool) -> RenderEstimate:
        """Of what is left to be made."""
        images = max(self._planned - self._made, 1)
        start = self._settings.startup_s if starts else 0.0
        return RenderEstimate(images, start + images * self._seconds_each, price)

    def _end_held(self) -> None:
        self._ended(self._lease.end)

    def _ended(self, end: Callable[[], None]) -> None:
        try:
            end()
        except (RunPodError, StoreError) as error:
            self._context.log.error(f"a pod may live on ({error}); posefactory pods stop --all")

    def _look_for_price(self) -> float:
        pod_image()
        bucket_of(self._store)
        if self._lease.held is not None:
            return self._lease.held.price
        with open_api() as api:
            return provisioning.price_of(self._gpus(api)[0], self._settings)

    def _begin(self) -> _Session:
        if self._record is None:
            job = new_job("enhance", [])
            self._record = JobRecord(self._store, job, "pod", self._context.run.run_id)
            self._record.open()
        self._pods += 1
        session = _Session(
            MessageStreamReader(
                lambda stream, number: self._message(session, stream, number), STREAMS
            )
        )
        session.thread = threading.Thread(target=self._attend, args=(session,), daemon=True)
        session.thread.start()
        return session

    def _message(self, session: _Session, stream: int, number: int) -> bytes | None:
        """A chunk of the worker's messages; those of its renders, if any, have the first streams."""
        if session.order is None:
            return None
        return bucket_of(self._store).get_bytes(
            session.order.message_key(STREAMS + stream, number), MAX_CHUNK + 1
        )

    def _attend(self, session: _Session) -> None:
        """The life of a session's thread, and of its pod."""

        def hear(event: Event) -> None:
            session.ready.set()
            if event["event"] == EVENT_TROUBLE:
                session.trouble = str(event.get("error"))

        def on_report(report: PodReport) -> None:
            assert self._record is not None
            with self._lock:
                session.settled = True
                self._spent += report.cost
                entered = session.images_usd
            planned = cost_of(session.images * self._seconds_each, self.per_hour())
            tell_report(
                self._context, self._record, report.metadata(), ENHANCING_COST,
                entered_usd=entered, entered_estimate_usd=planned,
            )  # fmt: skip

        api = None
        try:
            api = open_api()
            client = PipesRunPodClient(api, self._settings)
            held = self._lease.take()  # from here on, its end is seen to below
            if held is not None and self._lives(api, held):
                self._resume(client, session, held, hear, on_report)
            else:
                self._rent(api, client, session, hear, on_report)
            idle = "the pod had ended, as nothing was asked of it for long"
            session.error = PodEnded(session.trouble or idle)
            if session.images and not session.trouble:
                self._pods -= 1  # it did nothing wrong
        except Exception as error:  # told by whoever asks next
            session.error = error
        finally:
            session.over.set()
            session.ready.set()
            if api is not None:
                api.close()

    def _rent(
        self,
        api: RunPodApi,
        client: PipesRunPodClient,
        session: _Session,
        hear: Callable[[Event], None],
        on_report: Callable[[PodReport], None],
    ) -> None:
        assert self._record is not None
        job, store = self._record.job, bucket_of(self._store)
        gpus = self._gpus(api)
        cheapest = self._estimate(provisioning.price_of(gpus[0], self._settings), starts=True)
        check_budget(cheapest, self._settings, self._spent)
        affordable = [
            g
            for g in gpus
            if self._spent + cost_of(cheapest.seconds, provisioning.price_of(g, self._settings))
            <= self._settings.max_cost_per_job
        ]
        orders: dict[str, Order] = {}

        def new_order(name: str, pipes: Mapping[str, str]) -> str:
            if session.reader.closed:
                raise PodEnded("interrupted before a pod was rented")
            orders[name] = Order(
                job=job,
                work={},
                seconds=self._settings.job_timeout_s,
                character_seconds=environment().character_timeout_s,
                idle_s=self._settings.enhancer_idle_s,
            )
            return orders[name].write(store, pipes)

        def chosen(report: PodReport) -> None:
            self._open_queue(session, orders[report.pod.name], report.price)

        request = PodRequest(
            pod_image(),
            affordable,
            cheapest.cost,
            new_order,
            chosen,
            disk_gb=self._settings.enhancer_disk_gb,
            worker=ENHANCING_WORKER,
        )
        try:
            client.run(self._context, request, session.reader, hear, on_report)
        finally:
            if session.queue is not None:
                session.queue.close()
            for order in orders.values():
                order.clear(store)

    def _resume(
        self,
        client: PipesRunPodClient,
        session: _Session,
        held: HeldPod,
        hear: Callable[[Event], None],
        on_report: Callable[[PodReport], None],
    ) -> None:
        order = held.order
        self._open_queue(session, order, held.price)
        assert session.queue is not None
        estimate = self._estimate(held.price, starts=False)
        try:
            client.resume(self._context, held, estimate.cost, session.reader, hear, on_report)
        finally:
            session.queue.close()
            order.clear(bucket_of(self._store))

    def _open_queue(self, session: _Session, order: Order, price: float) -> None:
        session.order, session.price = order, price
        session.queue = RequestQueue(bucket_of(self._store), order)

    def _gpus(self, api: RunPodApi) -> list[GpuType]:
        memory = self._settings.enhancer_memory_gb
        return provisioning.candidates(api.gpu_types(self._settings.cloud), self._settings, memory)

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
            self._ended(lambda: self._lease.dispose(held))
        return lives


def _read(said: Mapping[str, Any], size: tuple[int, int]) -> Answer:
    """The worker's answer, which is not trusted.

    Raises:
        CannotGenerate, NotGenerated: it says so, or it is no image of that size.
    """
    if "error" in said:
        kind = CannotGenerate if said.get("final") else NotGenerated
        raise kind(str(said["error"])[:500].encode("utf-8", "replace").decode())
    try:
        answer = Answer.from_dict(said)
        if picture_size(answer.image) != size:
            raise ValueError("another size")
    except (ValueError, KeyError, TypeError, IndexError, OverflowError) as error:
        raise NotGenerated(f"the pod's answer is malformed ({error!r})") from error
    return answer
