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
from posefactory_dagster.compute.runpod.api import RunPodApi, RunPodError
from posefactory_dagster.compute.runpod.lease import PodLease, held
from posefactory_dagster.compute.runpod.orders import (
    STREAMS,
    BadResult,
    Order,
    finished_elsewhere,
)
from posefactory_dagster.compute.runpod.pipes import (
    ENHANCING_WORKER,
    MAX_CHUNK,
    WORKER,
    MessageStreamReader,
    PipesRunPodClient,
    PodReport,
    PodRequest,
)
from posefactory_dagster.compute.runpod.watching import PodEnded
from posefactory_dagster.compute.work import Work
from posefactory_dagster.settings import environment, project_settings
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
        self._settings = project_settings().pods
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
        left = dict(self._left)
        images = sum(w.images(job.settings) for w in left.values())
        memory = self._settings.enhancer_memory_gb if self._serves else 0
        gpus = provisioning.candidates(api.gpu_types(self._settings.cloud), self._settings, memory)
        estimate = estimate_render(
            images, provisioning.price_of(gpus[0], self._settings), self._settings
        )
        check_budget(estimate, self._settings, spent)
        check_time(estimate, self._settings)
        affordable = [
            g
            for g in gpus
            if spent
            + estimate_render(images, provisioning.price_of(g, self._settings), self._settings).cost
            <= self._settings.max_cost_per_job
        ]
        self._context.log.info(
            f"{images} images on a pod: about {estimate.seconds:.0f} s, ${estimate.cost:.2f}"
        )
        orders: dict[str, Order] = {}

        def new_order(name: str, pipes: Mapping[str, str]) -> str:
            orders[name] = Order(
                job=job,
                work=left,
                seconds=self._settings.job_timeout_s,
                character_seconds=environment().character_timeout_s,
                idle_s=self._settings.enhancer_idle_s if self._serves else None,
            )
            return orders[name].write(self._store, pipes)

        chosen: list[Order] = []

        def read(stream: int, number: int) -> bytes | None:
            if not chosen:
                return None
            return self._store.get_bytes(chosen[0].message_key(stream, number), MAX_CHUNK + 1)

        request = PodRequest(
            image,
            affordable,
            estimate.cost,
            new_order,
            lambda report: chosen.append(orders[report.pod.name]),
            disk_gb=self._settings.enhancer_disk_gb if self._serves else self._settings.disk_gb,
            worker=ENHANCING_WORKER if self._serves else WORKER,
        )
        self._trouble = "the worker ended before it came to it"
        client = PipesRunPodClient(api, self._settings)
        reports: list[PodReport] = []

        def on_report(report: PodReport) -> None:
            reports.append(report)
            self._on_report(report)

        kept: list[Order] = []

        def keep(report: PodReport, base: str) -> bool:
            if self._left or not self._serves:
                return False
            kept.append(chosen[0])
            self._lease.hold(
                held(report.pod, report.gpu, report.price, base, chosen[0], report.seconds)
            )
            self._context.log.info(f"pod {report.pod.id} is held for a later step of this run")
            return True

        try:
            client.run(
                self._context, request, MessageStreamReader(read, STREAMS), lambda e: self._hear(chosen[0], e), on_report, keep
            )  # fmt: skip
        except PodEnded as error:
            self._trouble = str(error)
        finally:
            for order in (o for o in orders.values() if o not in kept):
                order.clear(self._store)
        return sum(report.cost for report in reports)

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
