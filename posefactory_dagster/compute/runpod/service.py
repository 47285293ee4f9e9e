"""A pod that makes images when it is asked, one after another."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from posefactory_dagster.budget.estimates import check_budget, check_time
from posefactory_dagster.compute.job import new_job
from posefactory_dagster.compute.record import JobRecord
from posefactory_dagster.compute.runpod import provisioning
from posefactory_dagster.compute.runpod.account import bucket_of, open_api, pod_image
from posefactory_dagster.compute.runpod.api import RunPodError
from posefactory_dagster.compute.runpod.lease import PodLease
from posefactory_dagster.compute.runpod.session import (
    PodSession,
    Workload,
    end_or_tell,
    enhancing_gpus,
)
from posefactory_dagster.compute.runpod.watching import PodEnded
from posefactory_dagster.diffusion.engine import (
    Answer,
    CannotGenerate,
    Models,
    NotGenerated,
    Request,
    picture_size,
)
from posefactory_dagster.storage.store import Store, StoreError

if TYPE_CHECKING:
    import dagster as dg


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
        self._settings = lease.settings
        self._lock = threading.Lock()
        self._session: PodSession | None = None
        self._workload = Workload(self._settings.startup_s)
        self._failed = ""  # why no more can be made
        self._price: float | None = None
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
        self._workload.planned, self._workload.seconds_each = images, seconds / images
        held = self._lease.held
        if held is not None and held.left < seconds:
            self._context.log.info(f"pod {held.pod.id}, which rendered, has too little time left")
            self._end_held()
            self._price = held = None
        estimate = self._workload.estimate(self.per_hour(), starts=held is None)
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
            session.ready.wait()  # its start is not the image's time
            asked = time.monotonic()
            try:
                answer = session.ask(values, lambda said: _read(said, size), limit)
            except TimeoutError as error:
                session.give_up(str(error))
                continue
            except StoreError as error:
                raise CannotGenerate(str(error)) from error
            if answer is None:  # the pod ended meanwhile
                session.over.wait()
                continue
            # What a worker says of its time is not believed beyond what passed here.
            usd = session.charge(min(answer.seconds, time.monotonic() - asked))
            return dataclasses.replace(answer, usd=usd)

    def close(self) -> None:
        """End the pod, or the one that was left by the renders and not used. Who waits for an image gets none."""
        with self._lock:
            trouble, self._failed = self._failed, self._failed or "the work was ended"
            session = self._session
        if session is not None:
            session.close()
        self._end_held()
        if self._record is not None:
            if trouble:
                self._record.errors["variants"] = trouble
            self._record.close()
            self._record = None

    def _current(self) -> PodSession:
        """The session that goes on, or the next."""
        with self._lock:
            if self._failed:
                raise CannotGenerate(self._failed)
            session = self._session
            if session is not None and not session.over.is_set():
                return session
            if session is not None:
                why = str(session.error) or type(session.error).__name__
                if self._workload.pods >= self._settings.max_pods_per_job:
                    self._failed = (
                        f"{why}; so ended {self._workload.pods} pods, run it again to go on"
                    )
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

    def _end_held(self) -> None:
        end_or_tell(self._context, self._lease.end)

    def _look_for_price(self) -> float:
        pod_image()
        bucket_of(self._store)
        if self._lease.held is not None:
            return self._lease.held.price
        with open_api() as api:
            return provisioning.price_of(enhancing_gpus(api, self._settings)[0], self._settings)

    def _begin(self) -> PodSession:
        if self._record is None:
            job = new_job("enhance", [])
            self._record = JobRecord(self._store, job, "pod", self._context.run.run_id)
            self._record.open()
        self._workload.pods += 1
        return PodSession(
            self._context, self._store, self._settings, self._lease, self._record, self._workload
        )


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
