"""The pod of a run between its steps: held when one is done with it, taken by the next, ended with the run."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Callable
from dataclasses import dataclass

from posefactory_dagster.budget import ledger
from posefactory_dagster.budget.estimates import cost_of
from posefactory_dagster.compute.record import of_pod
from posefactory_dagster.compute.runpod import provisioning
from posefactory_dagster.compute.runpod.account import bucket_of, open_api
from posefactory_dagster.compute.runpod.api import GpuType, Pod
from posefactory_dagster.compute.runpod.orders import Order
from posefactory_dagster.settings import PodSettings
from posefactory_dagster.storage.store import Store

#: A pod may take so long to end itself.
LAST_WORDS_S = 60.0


@dataclass(frozen=True)
class HeldPod:
    """A pod that has done what one step wanted of it, and answers requests.

    ``base`` is what its name begins with; ``order`` is the one that it was started with; what it cost until ``paid_until``
    is in a report already, and at ``ends_at`` its order's time is over.
    """

    pod: Pod
    gpu: GpuType
    price: float
    base: str
    order: Order
    paid_until: datetime.datetime
    ends_at: datetime.datetime

    @property
    def unpaid(self) -> float:
        """Seconds that it has lived since it was paid for."""
        now = datetime.datetime.now(datetime.UTC)
        return max((now - self.paid_until).total_seconds(), 0.0)

    @property
    def left(self) -> float:
        """Seconds until its order's time is over."""
        return (self.ends_at - datetime.datetime.now(datetime.UTC)).total_seconds()


class PodLease:
    """What a run holds of rented machines from step to step: one pod at most.

    Args:
        store: gives the run's store.
        wanted: whether a step of this run will ask a pod for images.
        settings: gives the limits that hold for this run's machines.
    """

    def __init__(
        self,
        run_id: str,
        store: Callable[[], Store],
        wanted: Callable[[], bool],
        settings: Callable[[], PodSettings],
    ) -> None:
        self._run_id, self._store = run_id, store
        self._wanted = wanted
        self._settings = settings
        self._held: HeldPod | None = None

    @property
    def wanted(self) -> bool:
        """Whether a pod that is rented now should be fit to make images too, and be held when it has rendered."""
        return self._wanted()

    @property
    def settings(self) -> PodSettings:
        """The limits that hold for this run's machines, endpoints included."""
        return self._settings()

    def expect_no_more(self) -> None:
        """Hear that no later step of this run will come to ask, as this one is bound to fail."""
        self._wanted = lambda: False

    @property
    def held(self) -> HeldPod | None:
        """The pod that waits for the next step."""
        return self._held

    def hold(self, pod: HeldPod) -> None:
        """Keep a pod for the next step; the run ends it, whatever comes."""
        assert self._held is None, "a run holds one pod at most"
        self._held = pod

    def take(self) -> HeldPod | None:
        """The held pod, for a step that sees to its end from now on."""
        held, self._held = self._held, None
        return held

    def end(self) -> None:
        """End the held pod, if there is one; see ``dispose``."""
        if (held := self.take()) is not None:
            self.dispose(held)

    def dispose(self, held: HeldPod) -> None:
        """End a pod that was taken; the ledger is told what it cost since it was paid for.

        Raises:
            RunPodError, StoreError: it could not be ended now; the janitor does it later, or the pod itself.
        """
        store = self._store()
        try:
            with open_api() as api:
                api.delete_pod(held.pod.id)
                provisioning.end_named(api, held.base, None)
        finally:
            held.order.clear(bucket_of(store))
        # By itself it ends after so long; it may be gone for hours.
        waited = min(held.unpaid, (held.order.idle_s or 0.0) + LAST_WORDS_S)
        job_id = held.order.job.job_id
        entry = ledger.Entry(
            at=datetime.datetime.now(datetime.UTC), provider="runpod", model=held.gpu.name,
            what=of_pod(f"{job_id}, waiting", held.pod.id), cost_usd=round(cost_of(waited, held.price), 4),
            estimate_usd=0.0, run_id=self._run_id,
        )  # fmt: skip
        ledger.enter(store, f"{job_id}-waiting", entry)


def held(pod: Pod, gpu: GpuType, price: float, base: str, order: Order, lived_s: float) -> HeldPod:
    """A pod that has lived for ``lived_s`` seconds of its order's time, and is paid until now."""
    now = datetime.datetime.now(datetime.UTC)
    ends_at = now + datetime.timedelta(seconds=order.seconds - lived_s)
    return HeldPod(pod, gpu, price, base, dataclasses.replace(order, work={}), now, ends_at)
