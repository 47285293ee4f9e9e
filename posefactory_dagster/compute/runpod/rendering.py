"""Render on pods: what is finished already is taken, the rest goes to one pod, and once more to another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from blender_scripts.contract import (
    EVENT_DONE,
    EVENT_FAILED,
    EVENT_IMAGE,
    EVENT_START,
    EVENT_TROUBLE,
    Job,
)
from blender_scripts.supervise import Event, Outcome
from posefactory_dagster.budget.estimates import (
    OverBudget,
    check_budget,
    check_time,
    estimate_render,
)
from posefactory_dagster.compute.runpod import provisioning
from posefactory_dagster.compute.runpod.account import open_api, pod_image
from posefactory_dagster.compute.runpod.api import GpuType, RunPodApi, RunPodError
from posefactory_dagster.compute.runpod.lease import PodLease, held
from posefactory_dagster.compute.runpod.orders import (
    STREAMS,
    BadResult,
    Order,
    finished_elsewhere,
)
from posefactory_dagster.compute.runpod.pipes import (
    ENHANCING_WORKER,
    WORKER,
    PipesRunPodClient,
    PodRequest,
)
from posefactory_dagster.compute.runpod.reader import MAX_CHUNK, MessageStreamReader
from posefactory_dagster.compute.runpod.reports import PodReport
from posefactory_dagster.compute.runpod.watching import PodEnded
from posefactory_dagster.compute.work import Work
from posefactory_dagster.settings import PodSettings, environment
from posefactory_dagster.storage.r2 import R2Store

if TYPE_CHECKING:
    import dagster as dg


class PodRenderer:
    """Renders a job's characters on pods; every one ends with exactly one outcome.

    Args:
        on_event: hears the workers' events, for progress.
        on_outcome: hears how each character ended, as soon as it has.
        on_report: hears what each pod did and cost.
        lease: what the run holds; where a later step wants a pod, it gets the one that rendered.
    """

    def __init__(
        self,
        context: dg.AssetExecutionContext,
        store: R2Store,
        on_event: Callable[[Event], None],
        on_outcome: Callable[[str, Outcome], None],
        on_report: Callable[[PodReport], None],
        lease: PodLease,
    ) -> None:
        self._context, self._store = context, store
        self._on_event, self._on_outcome, self._on_report = on_event, on_outcome, on_report
        self._lease = lease
        self._serves = lease.wanted
        self._settings = lease.settings
        self._left: dict[str, Work] = {}
        self._trouble = ""

    def render(self, job: Job, work: Mapping[str, Work]) -> None:
        """Take ``work`` through pods, at most ``max_pods_per_job`` one after the other.

        Raises:
            RunPodError, OverBudget: nothing could be started; the text says what to do.
        """
        image = pod_image()
        self._left = dict(work)
        self._take_finished(job)
        spent = 0.0
        with open_api() as api:
            for number in range(self._settings.max_pods_per_job):
                if not self._left:
                    return
                if number:
                    self._context.log.warning(
                        f"{self._trouble}; another pod takes {len(self._left)} characters"
                    )
                try:
                    spent += self._one_pod(api, job, image, spent)
                except (RunPodError, OverBudget) as error:
                    if not number:
                        raise
                    self._trouble = f"{self._trouble}; another pod could not be had: {error}"
                    break
                self._take_finished(job)
        for key in list(self._left):
            reason = f"{key}: {self._trouble}. What was finished is kept; run it again"
            self._end(key, Outcome(error=reason))

    def _one_pod(self, api: RunPodApi, job: Job, image: str, spent: float) -> float:
        """One pod for all that is left; what it cost."""
        gpus, cost = self._fitting(api, job, spent)
        pod = _RenderingPod(self._store, job, dict(self._left), self._settings, serves=self._serves)
        request = PodRequest(
            image,
            gpus,
            cost,
            pod.write_order,
            pod.choose,
            disk_gb=self._settings.enhancer_disk_gb if self._serves else self._settings.disk_gb,
            worker=ENHANCING_WORKER if self._serves else WORKER,
        )
        self._trouble = "the worker ended before it came to it"
        reports: list[PodReport] = []

        def on_report(report: PodReport) -> None:
            reports.append(report)
            self._on_report(report)

        def keep(report: PodReport, base: str) -> bool:
            if self._left or not self._serves:
                return False
            order = pod.keep()
            self._lease.hold(
                held(report.pod, report.gpu, report.price, base, order, report.seconds)
            )
            self._context.log.info(f"pod {report.pod.id} is held for a later step of this run")
            return True

        client = PipesRunPodClient(api, self._settings)
        reader = MessageStreamReader(pod.read_message, STREAMS)
        try:
            client.run(
                self._context, request, reader, lambda e: self._hear(pod.order, e), on_report, keep
            )
        except PodEnded as error:
            self._trouble = str(error)
        finally:
            pod.clear()
        return sum(report.cost for report in reports)

    def _fitting(self, api: RunPodApi, job: Job, spent: float) -> tuple[list[GpuType], float]:
        """The GPUs that may take what is left, cheapest first, and what that costs on the first, US dollars.

        Raises:
            RunPodError: no GPU is to be had.
            OverBudget: it costs too much, or takes too long.
        """
        images = sum(w.images(job.settings) for w in self._left.values())
        memory = self._settings.enhancer_memory_gb if self._serves else 0
        gpus = provisioning.candidates(api.gpu_types(self._settings.cloud), self._settings, memory)
        price = provisioning.price_of(gpus[0], self._settings)
        estimate = estimate_render(images, price, self._settings)
        check_budget(estimate, self._settings, spent)
        check_time(estimate, self._settings)
        self._context.log.info(
            f"{images} images on a pod: about {estimate.seconds:.0f} s, ${estimate.cost:.2f}"
        )
        fitting = provisioning.affordable(
            gpus, lambda p: estimate_render(images, p, self._settings).cost, spent, self._settings
        )
        return fitting, estimate.cost

    def _hear(self, order: Order, event: Event) -> None:
        kind, key = event["event"], str(event.get("key"))
        if kind == EVENT_TROUBLE:
            self._trouble = str(event.get("error"))
        elif key not in self._left:
            return  # a worker that was started anew says again what it finished before
        elif kind == EVENT_DONE:
            try:
                outcome = order.outcome(key, event)
                self._check_uploaded(order, key, outcome)
            except BadResult as error:
                self._fail(key, f"{key}: {error}")
                return
            self._on_event({"event": kind, "key": key, "seconds": dict(outcome.seconds)})
            self._end(key, outcome)
        elif kind == EVENT_FAILED:
            self._fail(key, str(event.get("error")))
        elif kind == EVENT_START or (
            kind == EVENT_IMAGE and all(isinstance(event.get(n), int) for n in ("done", "total"))
        ):
            self._on_event(event)

    def _fail(self, key: str, error: str) -> None:
        self._on_event({"event": EVENT_FAILED, "key": key, "error": error})
        self._end(key, Outcome(error=error))

    def _check_uploaded(self, order: Order, key: str, outcome: Outcome) -> None:
        """Believe the bucket, not the message: every file is there, at the size that is claimed."""
        prefix = order.output_key(key, "x")[:-1]
        sizes = {i.key.removeprefix(prefix): i.size for i in self._store.list(prefix)}
        for name, entry in (outcome.uploaded or {}).items():
            if sizes.get(name) != entry["size"]:
                raise BadResult(f"{name} did not arrive whole; run it again")

    def _take_finished(self, job: Job) -> None:
        for key, outcome in finished_elsewhere(self._store, dict(self._left), job.settings):
            self._context.log.info(f"{key}: a worker had finished it already")
            self._end(key, outcome)

    def _end(self, key: str, outcome: Outcome) -> None:
        del self._left[key]
        self._on_outcome(key, outcome)


class _RenderingPod:
    """The orders that are written for one pod: one for each try to create it, of which one counts."""

    def __init__(
        self,
        store: R2Store,
        job: Job,
        work: dict[str, Work],
        settings: PodSettings,
        *,
        serves: bool,
    ) -> None:
        self._store, self._job, self._work = store, job, work
        self._settings, self._serves = settings, serves
        self._orders: dict[str, Order] = {}
        self._chosen: Order | None = None
        self._kept = False

    @property
    def order(self) -> Order:
        """The order of the pod that counts."""
        assert self._chosen is not None, "nothing is heard before a pod is chosen"
        return self._chosen

    def write_order(self, name: str, pipes: Mapping[str, str]) -> str:
        """Write the order of a pod of that name; the address by which it gets it."""
        self._orders[name] = Order(
            job=self._job,
            work=self._work,
            seconds=self._settings.job_timeout_s,
            character_seconds=environment().character_timeout_s,
            idle_s=self._settings.enhancer_idle_s if self._serves else None,
        )
        return self._orders[name].write(self._store, pipes)

    def choose(self, report: PodReport) -> None:
        """Hear which pod counts."""
        self._chosen = self._orders[report.pod.name]

    def read_message(self, stream: int, number: int) -> bytes | None:
        """A chunk of the worker's messages."""
        if self._chosen is None:
            return None
        return self._store.get_bytes(self._chosen.message_key(stream, number), MAX_CHUNK + 1)

    def keep(self) -> Order:
        """The order that counts, which others clear away."""
        self._kept = True
        return self.order

    def clear(self) -> None:
        """Delete what the orders left in the bucket."""
        for order in self._orders.values():
            if not (self._kept and order is self._chosen):
                order.clear(self._store)
