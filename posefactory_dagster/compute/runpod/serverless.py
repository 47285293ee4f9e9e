"""Render on a RunPod serverless endpoint: many small jobs side by side, believed only in the bucket."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from blender_scripts.contract import EVENT_DONE, Job, RenderSettings
from blender_scripts.supervise import Event, Outcome
from posefactory_dagster.budget.estimates import (
    OverBudget,
    RenderEstimate,
    check_budget,
    cost_of,
    estimate_render,
)
from posefactory_dagster.compute.runpod.api import RunPodError
from posefactory_dagster.compute.runpod.endpoint import (
    EndpointBusy,
    EndpointClient,
    JobState,
    JobVanished,
    ask_price,
)
from posefactory_dagster.compute.runpod.orders import Order, finished_elsewhere
from posefactory_dagster.compute.work import Work
from posefactory_dagster.settings import PodSettings, environment
from posefactory_dagster.storage.r2 import R2Store
from posefactory_dagster.storage.store import StoreError

if TYPE_CHECKING:
    import dagster as dg

#: A character whose job came to nothing is asked for so often in all.
ATTEMPTS = 2
#: RunPod not answering, or taking no job, for so long, in seconds, is given up; a job is offered so often.
PATIENCE_S, OFFER_S = 120.0, 3.0
#: Seconds between looks for characters that are finished before their job is.
LOOK_S = 15.0
#: A job may wait for a worker for so long; its addresses live as long.
QUEUE_S = 3 * 3600.0
#: Beyond its execution limit, until RunPod itself has ended a job.
GRACE_S = 60.0
GIVEN_UP = JobState("not answered for", {}, 0.0)
VANISHED = JobState("vanished", {}, 0.0)
TOO_SLOW = JobState("TIMED_OUT", {}, 0.0)
ENDED = {"COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"}


@dataclass
class EndpointReport:
    """What an endpoint did for a job. ``seconds`` of execution are RunPod's; ours where it says none.

    ``planned`` in US dollars is for the dearest GPU that a worker may get, with a start-up for each job.
    """

    endpoint: str
    price: float
    planned: float
    jobs: int = 0
    seconds: float = 0.0

    def metadata(self) -> dict[str, Any]:
        """For Dagster, and for the job's record."""
        return {
            "endpoint": self.endpoint,
            "endpoint_jobs": self.jobs,
            "usd_per_hour": self.price,
            "seconds": round(self.seconds, 1),
            "cost_usd": round(cost_of(self.seconds, self.price), 4),
            "estimate_usd": round(self.planned, 4),
        }


@dataclass
class _Submitted:
    """One job of the endpoint, and its order."""

    id: str
    order: Order
    attempt: int
    since: float = field(default_factory=time.monotonic)
    in_progress_since: float | None = None
    unanswered_since: float | None = None

    @property
    def lasted(self) -> float:
        """Seconds since it was first seen at work; for when RunPod does not say."""
        begun = self.in_progress_since
        return 0.0 if begun is None else time.monotonic() - begun


def groups(
    work: Mapping[str, Work], settings: RenderSettings, limits: PodSettings
) -> list[dict[str, Work]]:
    """``work`` in parts that each stay under the endpoint's execution limit, by estimate."""
    result: list[dict[str, Work]] = []
    room = 0.0
    for key, item in work.items():
        seconds = item.images(settings) * limits.seconds_per_image
        if not result or seconds > room:
            result.append({})
            room = limits.serverless_job_s - limits.startup_s
        result[-1][key] = item
        room -= seconds
    return result


class ServerlessRenderer:
    """Renders a job's characters on an endpoint; every one ends with exactly one outcome.

    Args:
        on_event: hears of finished characters, for progress.
        on_outcome: hears how each character ended, as soon as it has.
        on_under_way: hears the endpoint and the ids of its jobs whenever they change, so that others can cancel.
        on_report: hears what the endpoint did, however it ended.
        limits: what it may take, in time and money.
    """

    def __init__(
        self,
        context: dg.AssetExecutionContext,
        store: R2Store,
        on_event: Callable[[Event], None],
        on_outcome: Callable[[str, Outcome], None],
        on_under_way: Callable[[str, list[str]], None],
        on_report: Callable[[EndpointReport], None],
        limits: PodSettings,
    ) -> None:
        self._context, self._store = context, store
        self._on_event, self._on_outcome = on_event, on_outcome
        self._on_under_way, self._on_report = on_under_way, on_report
        self._limits = limits
        self._left: dict[str, Work] = {}
        self._waiting: deque[tuple[dict[str, Work], int]] = deque()
        self._running: list[_Submitted] = []
        self._next_offer = 0.0
        self._refused_since: float | None = None

    def render(self, job: Job, work: Mapping[str, Work]) -> None:
        """Take ``work`` through the endpoint.

        Raises:
            RunPodError, OverBudget: the endpoint cannot be used, or not for so much; the text says what to do.
        """
        client = EndpointClient()
        self._left = dict(work)
        self._take_finished(job, self._left)
        self._refuse_too_long(job.settings)
        if not self._left:
            return
        parts = groups(self._left, job.settings, self._limits)
        estimate = self._estimate(self._left, job.settings, ask_price(self._limits), len(parts))
        check_budget(estimate, self._limits)
        self._context.log.info(
            f"{estimate.images} images in {len(parts)} jobs of an endpoint: at most about "
            f"{estimate.seconds:.0f} s of workers, ${estimate.cost:.2f}"
        )
        report = EndpointReport(client.id, estimate.price, estimate.cost)
        self._waiting.extend((part, 1) for part in parts)
        looked = time.monotonic()
        try:
            while self._waiting or self._running:
                self._submit_some(client, job, report)
                for submitted in list(self._running):
                    state = self._state(client, submitted)
                    if state is not None:
                        self._settle(client, job, submitted, state, report)
                if time.monotonic() - looked > LOOK_S:
                    in_work = {k: w for s in self._running for k, w in s.order.work.items()}
                    self._take_finished(job, in_work)
                    looked = time.monotonic()
                time.sleep(min(1.0, self._limits.poll_interval_s))
        finally:
            for submitted in self._running:
                report.seconds += submitted.lasted
                self._cancel(client, submitted)
            self._on_report(report)

    def _estimate(
        self, work: Mapping[str, Work], settings: RenderSettings, price: float, jobs: int
    ) -> RenderEstimate:
        images = sum(w.images(settings) for w in work.values())
        return estimate_render(images, price, self._limits, jobs)

    def _refuse_too_long(self, settings: RenderSettings) -> None:
        """End what cannot be done within one job, before it costs anything."""
        limit = self._limits.serverless_job_s
        for key, work in list(self._left.items()):
            images = work.images(settings)
            seconds = self._limits.startup_s + images * self._limits.seconds_per_image
            if seconds > limit:
                reason = (
                    f"{key}: {images} images are estimated at {seconds:.0f} s, over serverless_job_s = {limit:.0f}; "
                    "render fewer, or on a pod"
                )
                self._end(key, Outcome(error=reason))

    def _submit_some(self, client: EndpointClient, job: Job, report: EndpointReport) -> None:
        """Offer waiting parts to the endpoint; few at a time, as one that waits long would outlive its addresses.

        Raises:
            RunPodError: it takes none for good, or has taken none for too long.
        """
        seconds = self._limits.serverless_job_s
        now = time.monotonic()
        while (
            self._waiting
            and len(self._running) < self._limits.serverless_jobs_at_once
            and now >= self._next_offer
        ):
            part, attempt = self._waiting[0]
            # A new order for each offer: a job whose answer was lost may run, and must not share its objects.
            order = Order(
                job=job,
                work=part,
                seconds=seconds,
                character_seconds=min(environment().character_timeout_s, seconds),
                waits=QUEUE_S,
            )
            try:
                job_id = client.submit(order.write(self._store, {}, streams=0), seconds, QUEUE_S)
            except RunPodError as error:
                order.clear(self._store)  # what runs in spite of it finds no order
                self._refused_since = self._refused_since or now
                patient = now - self._refused_since < PATIENCE_S
                if not isinstance(error, EndpointBusy) or not patient:
                    raise
                self._next_offer = now + OFFER_S
                return
            self._refused_since = None
            self._waiting.popleft()
            self._running.append(_Submitted(job_id, order, attempt))
            report.jobs += 1
            self._on_under_way(client.id, [s.id for s in self._running])
            self._context.log.info(f"endpoint job {job_id}: {', '.join(part)}")

    def _state(self, client: EndpointClient, submitted: _Submitted) -> JobState | None:
        """How the job ended; None while it has not."""
        now = time.monotonic()
        begun = submitted.in_progress_since
        slow = begun is not None and now - begun > self._limits.serverless_job_s + GRACE_S
        if slow or now - submitted.since > QUEUE_S + self._limits.serverless_job_s:
            self._cancel(client, submitted)
            return TOO_SLOW
        try:
            state = client.state(submitted.id)
        except JobVanished:
            return VANISHED
        except EndpointBusy:
            submitted.unanswered_since = submitted.unanswered_since or now
            if now - submitted.unanswered_since > PATIENCE_S:
                self._cancel(client, submitted)
                return GIVEN_UP
            return None
        submitted.unanswered_since = None
        if state.status == "IN_PROGRESS":
            submitted.in_progress_since = submitted.in_progress_since or now
        return state if state.status in ENDED else None

    def _settle(
        self,
        client: EndpointClient,
        job: Job,
        submitted: _Submitted,
        state: JobState,
        report: EndpointReport,
    ) -> None:
        """After a job's end: what the bucket holds counts; the rest is asked for again, or ends."""
        self._running.remove(submitted)
        self._on_under_way(client.id, [s.id for s in self._running])
        report.seconds += state.seconds or submitted.lasted
        self._take_finished(job, submitted.order.work)
        submitted.order.clear(self._store)
        missing = {k: w for k, w in submitted.order.work.items() if k in self._left}
        # What the handler said is for people; nothing but the reasons of failures hangs on it.
        failed = state.output.get("failed")
        for key, reason in failed.items() if isinstance(failed, dict) else ():
            if key in missing:
                del missing[key]
                self._end(key, Outcome(error=str(reason)[:2000]))
        if not missing:
            return
        why = str(state.output.get("trouble") or f"its endpoint job: {state.status}")[:2000]
        if submitted.attempt >= ATTEMPTS:
            why = f"{why}, {ATTEMPTS} times; run it again"
        else:
            extra = self._estimate(missing, job.settings, report.price, 1)
            try:
                check_budget(extra, self._limits, report.planned)
                report.planned += extra.cost
                self._context.log.warning(f"{', '.join(missing)}: {why}; asked for once more")
                self._waiting.append((missing, submitted.attempt + 1))
                return
            except OverBudget as error:
                why = f"{why}; not asked for again: {error}"
        for key in missing:
            self._end(key, Outcome(error=f"{key}: {why}"))

    def _take_finished(self, job: Job, work: Mapping[str, Work]) -> None:
        left = {k: w for k, w in work.items() if k in self._left}
        for key, outcome in finished_elsewhere(self._store, left, job.settings):
            self._on_event({"event": EVENT_DONE, "key": key, "seconds": dict(outcome.seconds)})
            self._end(key, outcome)

    def _end(self, key: str, outcome: Outcome) -> None:
        del self._left[key]
        self._on_outcome(key, outcome)

    def _cancel(self, client: EndpointClient, submitted: _Submitted) -> None:
        """End a job; what cannot be done is said, as the others must be ended all the same."""
        try:
            client.cancel(submitted.id)
        except EndpointBusy as error:
            self._context.log.warning(str(error))
        try:
            submitted.order.clear(self._store)
        except StoreError as error:
            self._context.log.warning(f"the order of endpoint job {submitted.id} lies on: {error}")
