"""Watch one pod until its work is over, one way or another."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from blender_scripts.supervise import Event
from posefactory_dagster.compute.runpod import provisioning
from posefactory_dagster.compute.runpod.api import NotFound, Pod, RunPodApi, RunPodError
from posefactory_dagster.settings import PodSettings

STEP_S = 0.2
#: Until the container runs, the status is asked for so often.
PROVISION_POLL_S = 2.0
#: Messages may arrive for so long after a pod has ended.
DRAIN_S = 6.0
#: A pod made by a lost answer shows up within this time.
SURPLUS_S = 60.0
SURPLUS_POLL_S = 10.0
LOG_SILENCE_S = 30.0


class PodEnded(RuntimeError):
    """A pod's work ended without a closing message; the text says how."""


def watch(
    api: RunPodApi,
    pod: Pod,
    base: str,
    new_events: Callable[[], list[Event]],
    closed: Callable[[], bool],
    settings: PodSettings,
    on_surplus: Callable[[int], None] = lambda count: None,
) -> Iterator[Event]:
    """Yield the worker's events until it says that it is done.

    Args:
        base: what the names of all pods made for this work begin with.
        new_events: those that arrived since it was last called.
        closed: whether the worker's closing message has arrived.
        on_surplus: hears how many surplus pods were ended.

    Raises:
        PodEnded: it died, or one of the deadlines in ``settings`` passed.
    """
    begun = time.monotonic()
    running_since: float | None = None
    heard: float | None = None
    next_poll, next_surplus = begun, begun + min(SURPLUS_POLL_S, settings.poll_interval_s)
    drain_until: float | None = None
    how = ""
    while True:
        for event in new_events():
            heard = time.monotonic()
            yield event
        if closed():
            yield from new_events()
            return
        now = time.monotonic()
        if drain_until is not None:
            if now > drain_until:
                raise PodEnded(how)
            time.sleep(STEP_S)
            continue
        if now - begun < SURPLUS_S and now >= next_surplus:
            next_surplus = now + SURPLUS_POLL_S
            on_surplus(_quietly(lambda: provisioning.end_named(api, base, pod.id), 0))
        if now >= next_poll:
            state = _quietly(lambda: _state(api, pod), "unknown")
            if state == "RUNNING" and running_since is None:
                running_since = now
            if state in ("EXITED", "ERROR", "TERMINATED"):
                how = f"pod {pod.id} is {state} and sent no closing message; its log: {pod.console}"
                drain_until = now + DRAIN_S
            slow = running_since is not None
            next_poll = now + (settings.poll_interval_s if slow else min(PROVISION_POLL_S, settings.poll_interval_s))  # fmt: skip
        _check_deadlines(pod, settings, now, begun, running_since, heard)
        time.sleep(STEP_S)


def _check_deadlines(
    pod: Pod,
    settings: PodSettings,
    now: float,
    begun: float,
    running_since: float | None,
    heard: float | None,
) -> None:
    """Raise PodEnded if a deadline has passed. All times are of ``time.monotonic``."""
    for since, limit, what in (
        (begun, settings.job_timeout_s, "did not finish the job"),
        (begun if running_since is None and heard is None else None, settings.provision_timeout_s, "was not running"),
        (running_since if heard is None else None, settings.first_message_timeout_s, "ran, but sent no message"),
        (heard, settings.silence_timeout_s, "fell silent"),
    ):  # fmt: skip
        if since is not None and now - since > limit:
            raise PodEnded(f"pod {pod.id} {what} within {limit:.0f} s; its log: {pod.console}")


def _state(api: RunPodApi, pod: Pod) -> str:
    try:
        return api.pod(pod.id).status
    except NotFound:
        return "TERMINATED"


def _quietly(ask: Callable[[], Any], otherwise: Any) -> Any:
    """RunPod not answering is no reason to give a working pod up; the deadlines still hold."""
    try:
        return ask()
    except RunPodError:
        return otherwise


class LogFollower:
    """Follows a pod's container log in a thread of its own, resuming where the stream broke."""

    def __init__(self, api: RunPodApi, pod_id: str, tell: Callable[[str], None]) -> None:
        self._api, self._pod_id, self._tell = api, pod_id, tell
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Let go; lines still on their way are lost."""
        self._ended.set()

    def _loop(self) -> None:
        last: str | None = None
        while not self._ended.is_set():
            for entry in self._api.logs(self._pod_id, last, LOG_SILENCE_S):
                last = entry.id
                if self._ended.is_set():
                    return
                self._tell(entry.line)
            self._ended.wait(2.0)
