"""The rented machines of a run, as a resource: what its steps hold of them ends with the run."""

from collections.abc import Callable

import dagster as dg
from pydantic import PrivateAttr

from posefactory_dagster.compute.runpod.api import RunPodError
from posefactory_dagster.compute.runpod.lease import PodLease
from posefactory_dagster.compute.runpod.service import PodService
from posefactory_dagster.pipeline.resources import ProjectResource
from posefactory_dagster.storage.io_manager import StoreResource
from posefactory_dagster.storage.store import Store, StoreError

#: The assets whose steps ask pods for images, each with whether it does so with the present settings. Their rooms say so.
SERVICE_USERS: dict[str, Callable[[], bool]] = {}


class RentedPods(dg.ConfigurableResource):
    """Owns the pod of a run over its steps: one that rendered can make images for a later step, and is ended with the run."""

    store: dg.ResourceDependency[StoreResource]
    project: dg.ResourceDependency[ProjectResource]
    _lease: PodLease | None = PrivateAttr(None)

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Create the lease. No machine is rented before a step asks for one."""
        run = context.run
        selected = run.asset_selection if run is not None else None

        def wanted() -> bool:
            users = (
                uses
                for asset, uses in SERVICE_USERS.items()
                if selected is None or dg.AssetKey(asset) in selected
            )
            return any(uses() for uses in users)

        run_id = run.run_id if run is not None else ""
        self._lease = PodLease(
            run_id, lambda: self.store.sets().store, wanted, lambda: self.project.settings().pods
        )

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        """End the pod that is still held, if any."""
        try:
            self.lease.end()
        except (RunPodError, StoreError) as error:
            text = (
                f"whether the pod that was held for a later step is ended is not known ({error}); the janitor sensor looks "
                "after it. By hand: posefactory pods stop --all"
            )
            if context.log is not None:
                context.log.error(text)

    @property
    def lease(self) -> PodLease:
        """The pod lease of this run."""
        assert self._lease is not None, "Dagster sets resources up before steps run"
        return self._lease

    def service(self, context: dg.AssetExecutionContext, store: Store, version: str) -> PodService:
        """A service that makes images on the held pod, or on one that it rents; see ``PodService``."""
        return PodService(context, store, version, self.lease)
