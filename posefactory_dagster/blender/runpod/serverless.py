"""Render on a RunPod serverless endpoint: many small jobs side by side, believed only in the bucket."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import requests

from blender_scripts.contract import EVENT_DONE, Job, RenderSettings
from blender_scripts.supervise import Event, Outcome
from posefactory_dagster.blender.runpod.account import open_api
from posefactory_dagster.blender.runpod.api import (
    AccessDenied,
    GpuType,
    NotFound,
    RunPodError,
    ServerlessEndpoint,
    checked_id,
)
from posefactory_dagster.blender.runpod.orders import Order, finished_elsewhere
from posefactory_dagster.blender.work import Work
from posefactory_dagster.costs.estimates import (
    RenderEstimate,
    check_budget,
    cost_of,
    estimate_render,
)
from posefactory_dagster.settings import PodSettings, environment, project_settings
from posefactory_dagster.storage.r2 import R2Store

if TYPE_CHECKING:
    import dagster as dg

#: A character whose job came to nothing is asked for so often in all.
ATTEMPTS = 2
#: RunPod not answering for so long, in seconds, is given up.
PATIENCE_S = 120.0
#: Seconds between looks for characters that are finished before their job is.
LOOK_S = 5.0
#: A job may wait in the endpoint's queue for so long; RunPod keeps none for more than a day.
QUEUE_S = 86_400.0
#: Beyond its execution limit, until RunPod itself has ended a job.
GRACE_S = 60.0
PASSING = (None, 408, 429, 500, 502, 503, 504)
ENDED = {"COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"}
VANISHED = "VANISHED"
NO_ENDPOINT = "RunPod knows no such endpoint; check POSEFACTORY_ENDPOINT_ID"


@dataclass
class _Submitted:
    """One job of the endpoint: its order, and the package's handle on it."""

    order: Order
    handle: Any
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
        seconds = _images(item, settings) * limits.seconds_per_image
        if not result or seconds > room:
            result.append({})
            room = limits.serverless_job_s - limits.startup_s
        result[-1][key] = item
        room -= seconds
    return result


def _images(work: Work, settings: RenderSettings) -> int:
    return len(work.files(settings)) // 2 - 1


@dataclass
class EndpointReport:
    """What an endpoint did for a job. ``seconds`` are those that RunPod counted as execution.

    The estimate is for the dearest GPU that a worker may get, with a start-up for each of its jobs.
    """

    endpoint: str
    estimate: RenderEstimate
    jobs: int = 0
    seconds: float = 0.0

    def metadata(self) -> dict[str, Any]:
        """For Dagster, and for the job's record."""
        return {
            "endpoint": self.endpoint,
            "endpoint_jobs": self.jobs,
            "usd_per_hour": self.estimate.price,
            "seconds": round(self.seconds, 1),
            "cost_usd": round(cost_of(self.seconds, self.estimate.price), 4),
            "estimate_usd": round(self.estimate.cost, 4),
        }


def worker_price(endpoint: ServerlessEndpoint, catalogue: Sequence[GpuType]) -> float:
    """What an hour of one worker costs at most: US dollars, for the dearest GPU that it may get.

    Raises:
        RunPodError: the catalogue does not say.
    """
    gpus = endpoint.gpu
    prices = [
        g.price.serverless
        for g in catalogue
        if gpus and g.pool in gpus.pools and g.id not in gpus.excludedTypes and g.price.serverless
    ]
    if gpus is None or not prices:
        raise RunPodError(
            f"RunPod's catalogue has no price for endpoint {endpoint.id}; say what an hour of a worker costs: "
            "serverless_price_per_hour in posefactory.toml, [pods]"
        )
    return max(prices) * gpus.count


def ask_price(limits: PodSettings) -> float:
    """What an hour of a worker costs: as the settings say, or RunPod where they say nothing.

    Raises:
        RunPodError: it cannot be known.
    """
    if limits.serverless_price_per_hour is not None:
        return limits.serverless_price_per_hour
    api = open_api()
    try:
        return worker_price(api.endpoint(str(environment().endpoint_id)), api.gpu_types())
    except NotFound:
        raise RunPodError(NO_ENDPOINT) from None
    except AccessDenied as error:
        raise RunPodError(
            f"{error}. A key for running jobs alone will do, if posefactory.toml says what an hour of a worker "
            "costs: serverless_price_per_hour in [pods]"
        ) from None
    finally:
        api.close()


class ServerlessRenderer:
    """Renders a job's characters on an endpoint; every one ends with exactly one outcome.

    Args:
        on_event: hears of finished characters, for progress.
        on_outcome: hears how each character ended, as soon as it has.
        on_report: hears what the endpoint did, however it ended.
    """

    def __init__(
        self,
        context: dg.AssetExecutionContext,
        store: R2Store,
        on_event: Callable[[Event], None],
        on_outcome: Callable[[str, Outcome], None],
        on_report: Callable[[EndpointReport], None],
    ) -> None:
        self._context, self._store = context, store
        self._on_event, self._on_outcome, self._on_report = on_event, on_outcome, on_report
        self._limits = project_settings().pods
        self._left: dict[str, Work] = {}

    def render(self, job: Job, work: Mapping[str, Work]) -> None:
        """Take ``work`` through the endpoint.

        Raises:
            RunPodError, OverBudget: the endpoint cannot be used, or not for so much; the text says what to do.
        """
        endpoint = open_endpoint()
        self._left = dict(work)
        self._take_finished(job)
        self._refuse_too_long(job.settings)
        if not self._left:
            return
        parts = groups(self._left, job.settings, self._limits)
        images = sum(_images(w, job.settings) for w in self._left.values())
        estimate = estimate_render(images, ask_price(self._limits), self._limits, len(parts))
        check_budget(estimate, self._limits)
        self._context.log.info(
            f"{images} images in {len(parts)} jobs of an endpoint: at most about {estimate.seconds:.0f} s of "
            f"workers, ${estimate.cost:.2f}"
        )
        report = EndpointReport(str(environment().endpoint_id), estimate)
        running: list[_Submitted] = []
        looked = time.monotonic()
        try:
            for part in parts:
                running.append(self._submit(endpoint, job, part, 1))
                report.jobs += 1
            while running:
                for submitted in list(running):
                    status = self._status(submitted)
                    if status not in ENDED and status != VANISHED:
                        continue
                    running.remove(submitted)
                    again = self._settle(job, submitted, status, report)
                    if again:
                        running.append(self._submit(endpoint, job, again, submitted.attempt + 1))
                        report.jobs += 1
                if (
                    time.monotonic() - looked > LOOK_S
                ):  # a listing for each character, so not too often
                    looked = time.monotonic()
                    self._take_finished(job)
                time.sleep(min(1.0, self._limits.poll_interval_s))
        finally:
            for submitted in running:
                self._cancel(submitted)
            self._on_report(report)

    def _refuse_too_long(self, settings: RenderSettings) -> None:
        """End what cannot be done within one job, before it costs anything."""
        limit = self._limits.serverless_job_s
        for key, work in list(self._left.items()):
            seconds = (
                self._limits.startup_s + _images(work, settings) * self._limits.seconds_per_image
            )
            if seconds > limit:
                reason = (
                    f"{key}: {_images(work, settings)} images are estimated at {seconds:.0f} s, over "
                    f"serverless_job_s = {limit:.0f}; render fewer, or on a pod"
                )
                self._end(key, Outcome(error=reason))

    def _submit(self, endpoint: Any, job: Job, part: dict[str, Work], attempt: int) -> _Submitted:
        for last in (False, False, True):
            # A new order for each try: a job whose answer was lost may run, and must not share its objects.
            order = Order(
                job=job,
                work=part,
                seconds=self._limits.serverless_job_s,
                character_seconds=min(
                    environment().character_timeout_s, self._limits.serverless_job_s
                ),
            )
            request = {
                "input": {"order_url": order.write(self._store, {}, lanes=0)},
                "policy": {
                    "executionTimeout": int(self._limits.serverless_job_s * 1000),
                    "ttl": int(QUEUE_S * 1000),
                },
            }
            try:
                handle = endpoint.run(request)
                checked_id(str(handle.job_id))
                break
            except Exception as error:  # the package raises of many kinds
                order.clear(self._store)  # what runs in spite of it finds no order
                passing = isinstance(error, requests.RequestException) and _code(error) in PASSING
                if last or not passing:
                    raise RunPodError(_explain(error)) from None
                time.sleep(1.0)
        self._context.log.info(f"endpoint job {handle.job_id}: {', '.join(part)}")
        return _Submitted(order, handle, attempt)

    def _status(self, submitted: _Submitted) -> str:
        now = time.monotonic()
        begun = submitted.in_progress_since
        slow = begun is not None and now - begun > self._limits.serverless_job_s + GRACE_S
        if slow or now - submitted.since > QUEUE_S:
            self._cancel(submitted)
            return "TIMED_OUT"
        try:
            status = str(submitted.handle.status())
        except Exception as error:  # the package raises of many kinds
            if _code(error) == 404:
                return VANISHED
            submitted.unanswered_since = submitted.unanswered_since or now
            if now - submitted.unanswered_since > PATIENCE_S:
                self._cancel(submitted)
                return VANISHED
            return "IN_PROGRESS"
        submitted.unanswered_since = None
        if status == "IN_PROGRESS":
            submitted.in_progress_since = submitted.in_progress_since or now
        return status

    def _settle(
        self, job: Job, submitted: _Submitted, status: str, report: EndpointReport
    ) -> dict[str, Work]:
        """After a job's end: what the bucket holds counts; the rest, to be asked for again."""
        self._take_finished(job)
        submitted.order.clear(self._store)
        answer, seconds = self._answer(submitted) if status in ENDED else ({}, 0.0)
        report.seconds += seconds
        missing = {k: w for k, w in submitted.order.work.items() if k in self._left}
        if not missing:
            return {}
        failed: dict[str, str] = {}
        why = f"its endpoint job ended as {status}"
        if isinstance(answer.get("failed"), dict):
            failed = {str(k): str(v)[:2000] for k, v in answer["failed"].items()}
        why = str(answer.get("trouble") or why)[:2000]
        for key, reason in failed.items():
            if key in missing:
                del missing[key]
                self._end(key, Outcome(error=reason))
        if submitted.attempt >= ATTEMPTS:
            for key in missing:
                self._end(key, Outcome(error=f"{key}: {why}, {ATTEMPTS} times; run it again"))
            return {}
        if missing:
            self._context.log.warning(f"{', '.join(missing)}: {why}; asked for once more")
        return missing

    def _answer(self, submitted: _Submitted) -> tuple[dict[str, Any], float]:
        """What the handler said, and the seconds of its execution; for people, so nothing hangs on it."""
        handle = submitted.handle
        try:
            state = handle.rp_client.get(f"{handle.endpoint_id}/status/{handle.job_id}")
            output = state.get("output")
            seconds = float(state.get("executionTime") or 0) / 1000
        except Exception:  # the package raises of many kinds
            return {}, 0.0
        return output if isinstance(output, dict) else {}, max(0.0, seconds)

    def _take_finished(self, job: Job) -> None:
        for key, work in list(self._left.items()):
            outcome = finished_elsewhere(self._store, work, job.settings)
            if outcome is not None:
                self._on_event({"event": EVENT_DONE, "key": key, "seconds": dict(outcome.seconds)})
                self._end(key, outcome)

    def _end(self, key: str, outcome: Outcome) -> None:
        del self._left[key]
        self._on_outcome(key, outcome)

    def _cancel(self, submitted: _Submitted) -> None:
        try:
            submitted.handle.cancel()
        except Exception as error:  # of many kinds; the others must be cancelled all the same
            self._context.log.warning(
                f"endpoint job {submitted.handle.job_id} could not be cancelled ({type(error).__name__}); "
                "its own time limit ends it"
            )
        submitted.order.clear(self._store)


def open_endpoint() -> Any:
    """The package's endpoint, with the key and id of the environment.

    Raises:
        RunPodError: one of them is missing.
    """
    settings = environment()
    if settings.runpod_api_key is None or settings.endpoint_id is None:
        raise RunPodError(
            "RUNPOD_API_KEY and POSEFACTORY_ENDPOINT_ID are needed; make a serverless endpoint from the image of "
            "deploy/pod/Dockerfile, with the command python3.11 -m blender_scripts.worker.endpoint"
        )
    import runpod  # 2 s to import

    runpod.endpoint_url_base = settings.runpod_endpoint_base_url or runpod.endpoint_url_base
    key = settings.runpod_api_key.get_secret_value()
    return runpod.Endpoint(checked_id(settings.endpoint_id), api_key=key)


def _code(error: BaseException) -> int | None:
    answer = getattr(error, "response", None)
    return answer.status_code if answer is not None else None


def _explain(error: BaseException) -> str:
    code = _code(error)
    if code == 404:
        return NO_ENDPOINT
    if code in (401, 403) or isinstance(error, RuntimeError):
        return "RunPod refused the key for this endpoint; check RUNPOD_API_KEY and its scope"
    if code == 402:
        return "RunPod: out of funds; add credit, then run again"
    return f"the endpoint takes no job ({type(error).__name__}, HTTP {code}); run again later"
