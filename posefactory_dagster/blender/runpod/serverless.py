"""Render on a RunPod serverless endpoint: many small jobs side by side, believed only in the bucket."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from blender_scripts.contract import EVENT_DONE, Job, RenderSettings
from blender_scripts.supervise import Event, Outcome
from posefactory_dagster.blender.runpod.api import RunPodError
from posefactory_dagster.blender.runpod.endpoint import (
    EndpointBusy,
    EndpointClient,
    JobState,
    JobVanished,
    ask_price,
)
from posefactory_dagster.blender.runpod.orders import Order, finished_elsewhere
from posefactory_dagster.blender.work import Work
from posefactory_dagster.costs.estimates import (
    OverBudget,
    RenderEstimate,
    check_budget,
    cost_of,
    estimate_render,
)
from posefactory_dagster.settings import PodSettings, environment, project_settings
from posefactory_dagster.storage.r2 import R2Store

if TYPE_CHECKING:
    import dagster as dg

#: A character whose job came to nothing is asked for so often in all; a job that is not taken, too.
ATTEMPTS, SUBMITS = 2, 3
#: RunPod not answering for so long, in seconds, is given up.
PATIENCE_S = 120.0
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
    """What an endpoint did for a job. ``seconds`` are those that RunPod counted as execution.

    ``planned`` in US dollars is for the dearest GPU that a worker may get, with a start-up for each job.
    """

    endpoint: str
    price: float
    planned: float
    jobs: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def metadata(self) -> dict[str, Any]:
        """For Dagster, and for the job's record."""
        return {
            "endpoint": self.endpoint,
            "endpoint_jobs": len(self.jobs),
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
        on_submitted: hears the id of each job that the endpoint took, so that it can be cancelled by others.
        on_report: hears what the endpoint did, however it ended.
    """

    def __init__(
        self,
        context: dg.AssetExecutionContext,
        store: R2Store,
        on_event: Callable[[Event], None],
        on_outcome: Callable[[str, Outcome], None],
        on_submitted: Callable[[str], None],
        on_report: Callable[[EndpointReport], None],
    ) -> None:
        self._context, self._store = context, store
        self._on_event, self._on_outcome = on_event, on_outcome
        self._on_submitted, self._on_report = on_submitted, on_report
        self._limits = project_settings().pods
        self._left: dict[str, Work] = {}

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
        waiting = deque((part, 1) for part in parts)
        running: list[_Submitted] = []
        looked = time.monotonic()
        try:
            while waiting or running:
                # Few at a time: a job that waits long for a worker would outlive its addresses.
                while waiting and len(running) < self._limits.serverless_jobs_at_once:
                    part, attempt = waiting.popleft()
                    running.append(self._submit(client, job, part, attempt))
                    report.jobs.append(running[-1].id)
                for submitted in list(running):
                    state = self._state(client, submitted)
                    if state is None:
                        continue
                    running.remove(submitted)
                    report.seconds += state.seconds
                    again = self._settle(job, submitted, state, report)
                    if again:
                        waiting.append((again, submitted.attempt + 1))
                if time.monotonic() - looked > LOOK_S:
                    in_work = {k: w for s in running for k, w in s.order.work.items()}
                    self._take_finished(job, in_work)
                    looked = time.monotonic()
                time.sleep(min(1.0, self._limits.poll_interval_s))
        finally:
            for submitted in running:
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

    def _submit(
        self, client: EndpointClient, job: Job, part: dict[str, Work], attempt: int
    ) -> _Submitted:
        seconds = self._limits.serverless_job_s
        for number in range(1, SUBMITS + 1):
            # A new order for each try: a job whose answer was lost may run, and must not share its objects.
            order = Order(
                job=job,
                work=part,
                seconds=seconds,
                character_seconds=min(environment().character_timeout_s, seconds),
                waits=QUEUE_S,
            )
            try:
                job_id = client.submit(order.write(self._store, {}, lanes=0), seconds, QUEUE_S)
            except RunPodError as error:
                order.clear(self._store)  # what runs in spite of it finds no order
                if number == SUBMITS or not isinstance(error, EndpointBusy):
                    raise
                time.sleep(1.0)
                continue
            self._on_submitted(job_id)
            self._context.log.info(f"endpoint job {job_id}: {', '.join(part)}")
            return _Submitted(job_id, order, attempt)
        raise AssertionError("unreachable")

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
        self, job: Job, submitted: _Submitted, state: JobState, report: EndpointReport
    ) -> dict[str, Work]:
        """After a job's end: what the bucket holds counts; the rest, to be asked for again."""
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
            return {}
        why = str(state.output.get("trouble") or f"its endpoint job: {state.status}")[:2000]
        if submitted.attempt >= ATTEMPTS:
            why = f"{why}, {ATTEMPTS} times; run it again"
        else:
            extra = self._estimate(missing, job.settings, report.price, 1)
            try:
                check_budget(extra, self._limits, report.planned)
                report.planned += extra.cost
                self._context.log.warning(f"{', '.join(missing)}: {why}; asked for once more")
                return missing
            except OverBudget as error:
                why = f"{why}; not asked for again: {error}"
        for key in missing:
            self._end(key, Outcome(error=f"{key}: {why}"))
        return {}

    def _take_finished(self, job: Job, work: Mapping[str, Work]) -> None:
        left = {k: w for k, w in work.items() if k in self._left}
        for key, outcome in finished_elsewhere(self._store, left, job.settings):
            self._on_event({"event": EVENT_DONE, "key": key, "seconds": dict(outcome.seconds)})
            self._end(key, outcome)

    def _end(self, key: str, outcome: Outcome) -> None:
        del self._left[key]
        self._on_outcome(key, outcome)

    def _cancel(self, client: EndpointClient, submitted: _Submitted) -> None:
        try:
            client.cancel(submitted.id)
        except EndpointBusy as error:
            self._context.log.warning(str(error))
        submitted.order.clear(self._store)
