"""A RunPod serverless endpoint: what it may cost, and its jobs, through the ``runpod`` package."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import requests

from posefactory_dagster.compute.runpod.account import open_api
from posefactory_dagster.compute.runpod.api import (
    AccessDenied,
    GpuType,
    NotFound,
    RunPodError,
    ServerlessEndpoint,
    checked_id,
)
from posefactory_dagster.settings import PodSettings, environment

#: No answer, or one that may be another at the next try.
PASSING = (None, 408, 429, 500, 502, 503, 504)
NO_ENDPOINT = "RunPod knows no such endpoint; check POSEFACTORY_ENDPOINT_ID"


class EndpointBusy(RunPodError):
    """The endpoint gave no answer or a temporary error; whether it accepted a job is not known."""


class JobVanished(RunPodError):
    """The endpoint does not know the job (any more)."""


@dataclass(frozen=True)
class JobState:
    """What an endpoint says of a job. ``seconds`` of execution, as RunPod counts them."""

    status: str
    output: dict[str, Any]
    seconds: float


class EndpointClient:
    """An endpoint, of the environment or another. Its answers are untrusted: what is used of them is checked."""

    def __init__(self, endpoint_id: str | None = None) -> None:
        settings = environment()
        endpoint_id = endpoint_id or settings.endpoint_id
        if settings.runpod_api_key is None or endpoint_id is None:
            raise RunPodError(
                "RUNPOD_API_KEY and POSEFACTORY_ENDPOINT_ID are needed; make a serverless endpoint from the image "
                "of deploy/pod/Dockerfile, with the command python3.11 -m blender_scripts.worker.endpoint"
            )
        import runpod  # 2 s to import

        runpod.endpoint_url_base = settings.runpod_endpoint_base_url or runpod.endpoint_url_base
        self.id = checked_id(endpoint_id)
        self._endpoint = runpod.Endpoint(
            self.id, api_key=settings.runpod_api_key.get_secret_value()
        )

    def submit(self, order_url: str, seconds: float, queue_seconds: float) -> str:
        """Ask for a job; its id.

        Args:
            seconds: its execution limit.
            queue_seconds: how long it may wait for a worker before RunPod forgets it.

        Raises:
            EndpointBusy: not known whether it was taken. RunPodError: refused; the text says why.
        """
        policy = {
            "executionTimeout": int(seconds * 1000),
            "ttl": int((queue_seconds + seconds) * 1000),
        }
        try:
            job = self._endpoint.run({"input": {"order_url": order_url}, "policy": policy})
        except Exception as error:  # the package raises of many kinds
            raise _explained(error) from None
        return checked_id(str(job.job_id))

    def state(self, job_id: str) -> JobState:
        """Query the state of a job.

        Raises:
            JobVanished: there is none. EndpointBusy: no answer.
        """
        try:
            answer = self._endpoint.rp_client.get(f"{self.id}/status/{checked_id(job_id)}")
            output = answer.get("output")
            return JobState(
                status=str(answer["status"]),
                output=output if isinstance(output, dict) else {},
                seconds=max(0.0, float(answer.get("executionTime") or 0) / 1000),
            )
        except (
            Exception
        ) as error:  # the package raises of many kinds, and the answer may be anything
            if _code(error) == 404:
                raise JobVanished(f"the endpoint knows no job {job_id}") from None
            raise EndpointBusy(f"no answer about job {job_id} ({type(error).__name__})") from None

    def cancel(self, job_id: str) -> None:
        """End a job, queued or running; no error if there is none.

        Raises:
            EndpointBusy: no answer; the job's own time limit ends it.
        """
        from runpod.endpoint import Job

        try:
            Job(self.id, checked_id(job_id), self._endpoint.rp_client).cancel()
        except Exception as error:  # the package raises of many kinds
            if _code(error) != 404:
                raise EndpointBusy(
                    f"endpoint job {job_id} could not be cancelled ({type(error).__name__}); "
                    "its own time limit ends it"
                ) from None


def worker_price(endpoint: ServerlessEndpoint, catalogue: Sequence[GpuType]) -> float:
    """What an hour of one worker costs at most: US dollars, for the dearest GPU that it may get.

    Raises:
        RunPodError: the catalogue does not say.
    """
    gpus = endpoint.gpu
    prices = [
        g.price.serverless
        for g in catalogue
        if gpus and g.pool in gpus.pools and g.id not in gpus.excluded_types and g.price.serverless
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
    try:
        with open_api() as api:
            return worker_price(api.endpoint(str(environment().endpoint_id)), api.gpu_types())
    except NotFound:
        raise RunPodError(NO_ENDPOINT) from None
    except AccessDenied as error:
        raise RunPodError(
            f"{error}. A key for running jobs alone will do, if posefactory.toml says what an hour of a worker "
            "costs: serverless_price_per_hour in [pods]"
        ) from None


def _code(error: BaseException) -> int | None:
    answer = getattr(error, "response", None)
    return answer.status_code if answer is not None else None


def _explained(error: BaseException) -> RunPodError:
    code = _code(error)
    if code == 404:
        return RunPodError(NO_ENDPOINT)
    if code in (401, 403) or isinstance(error, RuntimeError):
        return RunPodError(
            "RunPod refused the key for this endpoint; check RUNPOD_API_KEY and its scope"
        )
    if code == 402:
        return RunPodError("RunPod: out of funds; add credit, then run again")
    text = f"the endpoint takes no job ({type(error).__name__}, HTTP {code}); run again later"
    if isinstance(error, requests.RequestException) and code in PASSING:
        return EndpointBusy(text)
    return RunPodError(text)
