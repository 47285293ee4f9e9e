"""What killed runs left on rented machines, ended."""

import datetime
from collections.abc import Iterator

import dagster as dg

from posefactory_dagster.compute.runpod.account import open_api
from posefactory_dagster.compute.runpod.api import RunPodError
from posefactory_dagster.compute.runpod.endpoint import EndpointClient
from posefactory_dagster.compute.runpod.janitor import enter_ended, sweep, withdraw
from posefactory_dagster.compute.runpod.pipes import PODS_UNTIL, installation_id
from posefactory_dagster.pipeline.runs import runs_in_progress
from posefactory_dagster.settings import environment
from posefactory_dagster.storage.r2 import R2Store
from posefactory_dagster.storage.sets import CommittedSets
from posefactory_dagster.storage.store import Store, StoreError
from posefactory_dagster.terminal import err, print_error


def end_orphans(instance: dg.DagsterInstance, store: Store) -> Iterator[str]:
    """End what killed runs of this installation left on rented machines; yields what was done.

    Raises:
        RunPodError, StoreError: it could not be looked after; what was done until then is done.
    """

    def active() -> dict[str, datetime.datetime | None]:
        tags = {run.run_id: run.tags.get(PODS_UNTIL) for run in runs_in_progress(instance)}
        return {i: datetime.datetime.fromisoformat(t) if t else None for i, t in tags.items()}

    def is_over(run_id: str) -> bool:
        run = instance.get_run_by_id(run_id)
        return run is not None and run.is_finished

    def cancel(endpoint: str, endpoint_job: str) -> None:
        EndpointClient(endpoint).cancel(endpoint_job)

    trouble = None
    try:
        with open_api() as api:
            installation = installation_id(instance)
            swept = sweep(api, installation, active)
        for pod, ended, what in swept:
            yield f"pod {pod.id} ({pod.name}): {what}"
            if ended:
                try:
                    enter_ended(store, pod, installation)
                except StoreError as error:
                    yield f"pod {pod.id}: what it cost could not be entered ({error})"
    except RunPodError as error:  # a key may be for endpoints alone
        trouble = error
    if isinstance(store, R2Store):  # nobody renders elsewhere from a folder
        runs_in_progress(instance)  # marks those whose process is gone
        yield from withdraw(store, is_over, cancel)
    if trouble is not None:
        raise trouble


def end_leftovers(instance: dg.DagsterInstance, sets: CommittedSets) -> None:
    """What a killed run left on rented machines must not go on beside this one; a daemon may not be there."""
    here = environment().render_on == environment().enhance_on == "local"
    if here or environment().runpod_api_key is None:
        return
    try:
        for text in end_orphans(instance, sets.store):
            err.print(text, soft_wrap=True)
    # The pod_janitor sensor looks again; what is to be made now may not need it.
    except (RunPodError, StoreError) as error:
        print_error(f"what earlier runs left on RunPod is not known: {error}")
