"""A thin typed client for RunPod's REST v2: the calls that pods need, and errors by what to do.

Source of paths, fields and statuses: RunPod's OpenAPI document 2.0.0. Answers are untrusted: of limited
size, JSON or refused, and read into models that know their fields.
"""

from __future__ import annotations

import contextlib
import email.utils
import json
import re
import time
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal, TypeVar

import httpx
import httpx_sse
import pydantic
import tenacity

M = TypeVar("M", bound=pydantic.BaseModel)
DEFAULT_URL = "https://api.runpod.io"
CONSOLE = "https://console.runpod.io/pods?id="
TIMEOUT = httpx.Timeout(30, connect=10)
MAX_ANSWER = 16 * 2**20
ATTEMPTS = 6
LONGEST_WAIT_S = LONGEST_ANSWER_S = 60.0
ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")


class RunPodError(RuntimeError):
    """RunPod did not do what was asked; the text says what to do. Subclasses say what kind."""


class KeyRefused(RunPodError):
    """401: the API key is not valid."""


class AccessDenied(RunPodError):
    """403: the API key lacks permission, or the pool of machines is not available to it."""


class OutOfFunds(RunPodError):
    """402: the account balance is too low. No request will succeed until it is topped up."""


class NotPlaced(RunPodError):
    """400: this GPU type has no capacity now, or the request breaks a rule. Try the next GPU type."""


class NotFound(RunPodError):
    """404: the pod does not exist or belongs to another account."""


class BadRequest(RunPodError):
    """422: the request does not match RunPod's schema. A bug of this project; never retried."""


class Unavailable(RunPodError):
    """RunPod did not send a valid response within the time limit."""


class _Passing(Exception):
    """A response worth retrying (429 and 5xx).

    ``wait``: after so many seconds, if RunPod said so. ``undone``: nothing was done for certain, so that
    even a request that makes something may be made again.
    """

    def __init__(self, text: str, *, wait: float | None = None, undone: bool = False) -> None:
        super().__init__(text)
        self.wait, self.undone = wait, undone


class _Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="ignore", frozen=True)


class Gpu(_Model):
    """The GPU of a pod."""

    id: str
    count: int = 1


class Pod(_Model):
    """A pod as RunPod describes it. ``cost`` is USD an hour; its environment is left unread.

    A ``status`` is one of PROVISIONING, STARTING, RUNNING, EXITED, ERROR and TERMINATED, or a word that RunPod
    did not have when this was written. A pod that RunPod says little of must be found and ended all the same.
    """

    id: str = pydantic.Field(pattern=f"^{ID.pattern}$")
    name: str
    status: str
    cost: float | None = None
    gpu: Gpu | None = None
    created_at: pydantic.AwareDatetime | None = pydantic.Field(default=None, alias="createdAt")

    @pydantic.field_validator("cost", "gpu", "created_at", mode="wrap")
    @classmethod
    def _or_nothing(cls, value: Any, read: pydantic.ValidatorFunctionWrapHandler) -> Any:
        try:
            return read(value)
        except pydantic.ValidationError:
            return None

    @property
    def console(self) -> str:
        """The address of the pod in RunPod's console."""
        return CONSOLE + self.id

    @property
    def over(self) -> bool:
        """Whether its container has ended and will not restart by itself."""
        return self.status in ("EXITED", "ERROR", "TERMINATED")


def _readable(model: type[pydantic.BaseModel]) -> pydantic.BeforeValidator:
    """Leaves out of a list what cannot be read: one strange pod of somebody must not hide all the others."""

    def keep(items: Any) -> Any:
        if not isinstance(items, list):
            return items
        found = []
        for item in items:
            with contextlib.suppress(pydantic.ValidationError):
                found.append(model.model_validate(item))
        if items and not found:
            raise ValueError("not one can be read")
        return found

    return pydantic.BeforeValidator(keep)


class _Pods(_Model):
    pods: Annotated[list[Pod], _readable(Pod)]


class Price(_Model):
    """List price, USD an hour for one GPU."""

    secure: float
    community: float
    serverless: float | None = None


class GpuType(_Model):
    """A GPU type of the catalogue, with its stock for pods. ``memory`` in GB; ``pool`` is for endpoints."""

    id: str
    name: str
    pool: str | None
    memory: int
    manufacturer: str
    secure: bool
    community: bool
    price: Price
    availability: Literal["NONE", "LOW", "MEDIUM", "HIGH"] = "NONE"


class _GpuTypes(_Model):
    gpus: Annotated[list[GpuType], _readable(GpuType)]


class EndpointGpus(_Model):
    """What a worker of an endpoint may run on: any type of the pools that is not excluded."""

    pools: list[str]
    excluded_types: list[str] = pydantic.Field(default=[], alias="excludedTypes")
    count: int = pydantic.Field(default=1, ge=1)


class ServerlessEndpoint(_Model):
    """A serverless endpoint; ``gpu`` is None for one of CPUs."""

    id: str
    gpu: EndpointGpus | None = None


class LogLine(_Model):
    """A line of a pod's log; ``id`` is where a broken stream goes on."""

    id: str
    line: str


class RunPodApi:
    """The client. Every call ends: time limits on each request, a few tries, then an error.

    Args:
        key: the API key; never shown.
        base_url: another server, for tests.
    """

    def __init__(self, key: str, base_url: str = DEFAULT_URL) -> None:
        self._http = httpx.Client(
            base_url=base_url,
            headers={"Authorization": f"Bearer {key}"},
            timeout=TIMEOUT,
            follow_redirects=False,
        )

    def __enter__(self) -> RunPodApi:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def pods(self) -> list[Pod]:
        """All pods of the account, also those of other installations."""
        return self._read("GET", "/v2/pods", _Pods).pods

    def pod(self, pod_id: str) -> Pod:
        """One pod.

        Raises:
            NotFound: it was deleted.
        """
        return self._read("GET", f"/v2/pods/{checked_id(pod_id)}", Pod)

    def create_pod(self, request: dict[str, Any]) -> Pod:
        """Create a pod, asking once: an answer that is lost leaves open whether there is one.

        Raises:
            NotPlaced, KeyRefused, AccessDenied, OutOfFunds, BadRequest: RunPod refused, by kind.
            Unavailable: it is not known whether the pod exists; look for it by its name.
        """
        return self._read("POST", "/v2/pods", Pod, body=request, repeatable=False)

    def act(self, pod_id: str, action: Literal["start", "stop", "restart"]) -> Pod:
        """Start or stop a pod; a stopped one still costs its disk."""
        path = f"/v2/pods/{checked_id(pod_id)}/action"
        return self._read("POST", path, Pod, body={"action": action})

    def delete_pod(self, pod_id: str) -> None:
        """Terminate a pod; no error if it does not exist any more."""
        try:
            self._ask("DELETE", f"/v2/pods/{checked_id(pod_id)}")
        except NotFound:
            return

    def gpu_types(self, cloud: Literal["SECURE", "COMMUNITY"] = "SECURE") -> list[GpuType]:
        """The catalogue, with present stock for pods of a cloud."""
        query = {"include": "AVAILABILITY", "product": "POD", "cloud": cloud}
        return self._read("GET", "/v2/catalog/gpus", _GpuTypes, query=query).gpus

    def endpoint(self, endpoint_id: str) -> ServerlessEndpoint:
        """One serverless endpoint.

        Raises:
            NotFound: there is none. AccessDenied: the key is for running jobs alone.
        """
        return self._read("GET", f"/v2/serverless/{checked_id(endpoint_id)}", ServerlessEndpoint)

    def logs(self, pod_id: str, after: str | None, seconds: float) -> Iterator[LogLine]:
        """Lines of a pod's container log as they come, until the stream pauses or breaks.

        Args:
            after: the ``id`` of the last line seen.
            seconds: how long silence may last.
        """
        headers = {"Accept": "text/event-stream"}
        if after is not None:
            headers["Last-Event-ID"] = after
        path = f"/v2/pods/{checked_id(pod_id)}/logs"
        timeout = httpx.Timeout(10, read=seconds)
        try:
            with self._http.stream(
                "GET", path, params={"source": "container"}, headers=headers, timeout=timeout
            ) as answer:
                if answer.status_code != 200:
                    return
                for event in httpx_sse.EventSource(answer).iter_sse():
                    try:
                        text = str(event.json()["line"])[:2000]
                    except (ValueError, KeyError, TypeError, RecursionError):
                        continue
                    yield LogLine(id=event.id[:200], line=text)
        except httpx.HTTPError:
            return

    def _read(
        self,
        method: str,
        path: str,
        model: type[M],
        *,
        body: dict[str, Any] | None = None,
        query: dict[str, str] | None = None,
        repeatable: bool = True,
    ) -> M:
        def understood(content: bytes) -> M:
            try:
                return model.model_validate_json(content)
            except pydantic.ValidationError as error:
                first = error.errors()[0]
                where = ".".join(str(x) for x in first["loc"])
                raise _Passing(
                    f"an answer that is not RunPod's ({where}: {first['type']})"
                ) from None

        return self._ask(method, path, understood, body=body, query=query, repeatable=repeatable)

    def _ask(
        self,
        method: str,
        path: str,
        understood: Callable[[bytes], Any] = lambda content: None,
        *,
        body: dict[str, Any] | None = None,
        query: dict[str, str] | None = None,
        repeatable: bool = True,
    ) -> Any:
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(
                lambda e: isinstance(e, _Passing) and (repeatable or e.undone)
            ),
            wait=_wait,
            stop=tenacity.stop_after_attempt(ATTEMPTS),
            reraise=True,
        )

        def once() -> Any:
            try:
                with self._http.stream(method, path, json=body, params=query) as answer:
                    content = _limited(answer)
            except httpx.HTTPError as error:
                raise _Passing(f"no answer ({type(error).__name__})") from None
            if answer.status_code < 300:
                return understood(content)
            raise _by_kind(answer, content, f"{method} {path}")

        try:
            return retrying(once)
        except _Passing as error:
            raise Unavailable(
                f"RunPod, {method} {path}: {error}; see https://uptime.runpod.io, and run again later"
            ) from None


def checked_id(value: str) -> str:
    """``value`` if it can be a pod's or endpoint's id.

    Raises:
        RunPodError: it could lead to another address.
    """
    if not ID.fullmatch(value):
        raise RunPodError(f"{value[:80]!r} is no id of a pod; posefactory pods list shows them")
    return value


def _limited(answer: httpx.Response) -> bytes:
    content = bytearray()
    deadline = time.monotonic() + LONGEST_ANSWER_S
    for chunk in answer.iter_bytes():
        content += chunk
        if time.monotonic() > deadline:
            raise _Passing(f"an answer that takes over {LONGEST_ANSWER_S:.0f} s")
        if len(content) > MAX_ANSWER:
            raise _Passing(f"an answer of over {MAX_ANSWER} bytes")
    return bytes(content)


def _by_kind(answer: httpx.Response, content: bytes, what: str) -> Exception:
    """The error of an answer: by what is to be done about it."""
    status = answer.status_code
    try:
        problem = json.loads(content)
        detail = str(problem.get("detail") or problem.get("title") or "")[:500]
        errors = problem.get("errors")
        violations = "; ".join(map(str, errors))[:1000] if isinstance(errors, list) else ""
    except (ValueError, AttributeError, RecursionError):
        detail, violations = "", ""
    if status == 401:
        return KeyRefused(
            f"RunPod refused the key ({detail}); set RUNPOD_API_KEY to one from its console, Settings, API Keys"
        )
    if status == 403:
        return AccessDenied(
            f"RunPod, {what}: the key in RUNPOD_API_KEY may not do this ({detail}); give it the scope for pods"
        )
    if status == 402:
        return OutOfFunds(f"RunPod: out of funds ({detail}); add credit, then run again")
    if status == 404:
        return NotFound(f"RunPod, {what}: not found ({detail})")
    if status == 400:
        return NotPlaced(f"RunPod: {detail or 'refused without a reason'}")
    if status == 422:
        return BadRequest(
            f"RunPod, {what}: our request does not fit its contract ({violations or detail}); please report this"
        )
    if status == 429:
        wait = _seconds(answer.headers.get("Retry-After"))
        return _Passing(f"too many requests ({detail})", wait=wait, undone=True)
    if status == 408 or status >= 500:
        return _Passing(f"HTTP {status} {detail}".strip())
    return RunPodError(f"RunPod, {what}: HTTP {status} {detail}")


def _seconds(header: str | None) -> float | None:
    """A Retry-After (seconds or a date) in seconds, at most LONGEST_WAIT_S; None if it is neither."""
    if header is None:
        return None
    if header.isdecimal():
        return min(float(header), LONGEST_WAIT_S)
    try:
        wait = email.utils.parsedate_to_datetime(header).timestamp() - time.time()
    except (ValueError, OverflowError):
        return None
    return min(max(wait, 0.0), LONGEST_WAIT_S)


_jittered = tenacity.wait_random_exponential(multiplier=0.3, max=10)


def _wait(state: tenacity.RetryCallState) -> float:
    """What RunPod said (Retry-After), else longer and longer, drawn at random."""
    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, _Passing) and error.wait is not None:
        return error.wait
    return _jittered(state)
