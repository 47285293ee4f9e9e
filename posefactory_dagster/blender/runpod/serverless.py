"""Render on a RunPod serverless endpoint: many small jobs side by side, believed only in the bucket."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import requests

from blender_scripts.contract import EVENT_DONE, Job, RenderSettings
from blender_scripts.supervise import Event, Outcome
from posefactory_dagster.blender.runpod.api import RunPodError, checked_id
from posefactory_dagster.blender.runpod.orders import Order, finished_elsewhere
from posefactory_dagster.blender.work import Work
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
ENDED = {"COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"}
VANISHED = "VANISHED"


@dataclass
class _Submitted:
    """One job of the endpoint: its order, and the package's handle on it."""

    order: Order
    handle: Any
    attempt: int
    since: float = field(default_factory=time.monotonic)
    unanswered_since: float | None = None


def groups(
    work: Mapping[str, Work], settings: RenderSettings, limits: PodSettings
) -> list[dict[str, Work]]:
    """``work`` in parts that each stay under the endpoint's execution limit, by estimate."""
    result: list[dict[str, Work]] = []
    room = 0.0
    for key, item in work.items():
        seconds = (len(item.files(settings)) // 2 - 1) * limits.seconds_per_image
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
    """

    def __init__(
        self,
        context: dg.AssetExecutionContext,
        store: R2Store,
        on_event: Callable[[Event], None],
        on_outcome: Callable[[str, Outcome], None],
    ) -> None:
        self._context, self._store = context, store
        self._on_event, self._on_outcome = on_event, on_outcome
        self._limits = project_settings().pods
        self._left: dict[str, Work] = {}

    def render(self, job: Job, work: Mapping[str, Work]) -> None:
        """Take ``work`` through the endpoint.

        Raises:
            RunPodError: the endpoint cannot be used; the text says what to do.
        """
        endpoint = open_endpoint()
        self._left = dict(work)
        self._take_finished(job)
        running: list[_Submitted] = []
        looked = time.monotonic()
        try:
            for part in groups(self._left, job.settings, self._limits):
                running.append(self._submit(endpoint, job, part, 1))
            while running:
                for submitted in list(running):
                    status = self._status(submitted)
                    if status not in ENDED and status != VANISHED:
                        continue
                    running.remove(submitted)
                    again = self._settle(job, submitted, status)
                    if again:
                        running.append(self._submit(endpoint, job, again, submitted.attempt + 1))
                if (
                    time.monotonic() - looked > LOOK_S
                ):  # a listing for each character, so not too often
                    looked = time.monotonic()
                    self._take_finished(job)
                time.sleep(min(1.0, self._limits.poll_interval_s))
        finally:
            for submitted in running:
                self._cancel(submitted)

    def _submit(self, endpoint: Any, job: Job, part: dict[str, Work], attempt: int) -> _Submitted:
        order = Order(
            job=job,
            work=part,
            seconds=self._limits.serverless_job_s,
            character_seconds=min(environment().character_timeout_s, self._limits.serverless_job_s),
        )
        request = {
            "input": {"order_url": order.write(self._store, {}, lanes=0)},
            "policy": {
                "executionTimeout": int(self._limits.serverless_job_s * 1000),
                "ttl": int(self._limits.job_timeout_s * 1000),
            },
        }
        for last in (False, False, True):
            try:
                handle = endpoint.run(request)
                break
            except Exception as error:
                passing = isinstance(error, requests.RequestException) and _code(error) in (None, 408, 429, 500, 502, 503, 504)  # fmt: skip
                if last or not passing:
                    order.clear(self._store)
                    raise RunPodError(_explain(error)) from None
                time.sleep(1.0)
        self._context.log.info(f"endpoint job {handle.job_id}: {', '.join(part)}")
        return _Submitted(order, handle, attempt)

    def _status(self, submitted: _Submitted) -> str:
        if time.monotonic() - submitted.since > self._limits.job_timeout_s:
            self._cancel(submitted)
            return "TIMED_OUT"
        try:
            status = str(submitted.handle.status())
        except (requests.RequestException, ValueError, KeyError) as error:
            if _code(error) == 404:
                return VANISHED
            submitted.unanswered_since = submitted.unanswered_since or time.monotonic()
            silent = time.monotonic() - submitted.unanswered_since
            return VANISHED if silent > PATIENCE_S else "IN_PROGRESS"
        submitted.unanswered_since = None
        return status

    def _settle(self, job: Job, submitted: _Submitted, status: str) -> dict[str, Work]:
        """After a job's end: what the bucket holds counts; the rest, to be asked for again."""
        self._take_finished(job)
        submitted.order.clear(self._store)
        missing = {k: w for k, w in submitted.order.work.items() if k in self._left}
        if not missing:
            return {}
        failed: dict[str, str] = {}
        why = f"its endpoint job ended as {status}"
        if status == "COMPLETED":
            answer = submitted.handle.output()
            if isinstance(answer, dict):
                failed = {str(k): str(v) for k, v in (answer.get("failed") or {}).items()}
                why = str(answer.get("error") or why)
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
        except (requests.RequestException, ValueError) as error:
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
    import runpod  # 2 s to import, and it reads RUNPOD_ENDPOINT_BASE_URL only then

    runpod.endpoint_url_base = os.environ.get("RUNPOD_ENDPOINT_BASE_URL", runpod.endpoint_url_base)
    key = settings.runpod_api_key.get_secret_value()
    return runpod.Endpoint(checked_id(settings.endpoint_id), api_key=key)


def _code(error: BaseException) -> int | None:
    answer = getattr(error, "response", None)
    return answer.status_code if answer is not None else None


def _explain(error: BaseException) -> str:
    code = _code(error)
    if code == 404:
        return "RunPod knows no such endpoint; check POSEFACTORY_ENDPOINT_ID"
    if code in (401, 403) or isinstance(error, RuntimeError):
        return "RunPod refused the key for this endpoint; check RUNPOD_API_KEY and its scope"
    if code == 402:
        return "RunPod: out of funds; add credit, then run again"
    return f"the endpoint takes no job ({type(error).__name__}, HTTP {code}); run again later"
