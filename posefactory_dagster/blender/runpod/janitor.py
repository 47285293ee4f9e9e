"""End what killed runs left on rented machines: pods, and jobs of an endpoint."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Collection

from posefactory_dagster.blender.record import read_status, tell_failed
from posefactory_dagster.blender.runpod import placing
from posefactory_dagster.blender.runpod.api import Pod, RunPodApi, RunPodError
from posefactory_dagster.settings import PodSettings
from posefactory_dagster.storage import layout
from posefactory_dagster.storage.store import Store

#: A pod may outlive its job's limit by so long, for start-up and last uploads.
SLACK_S = 900.0


def sweep(
    api: RunPodApi,
    installation: str,
    active_runs: Callable[[], Collection[str]],
    settings: PodSettings,
) -> list[tuple[Pod, str]]:
    """Terminate pods of this installation that nobody waits for; each with what was done and why.

    Pods of other installations, and whatever else the account runs, are never touched.

    Args:
        active_runs: gives the ids of the Dagster runs that go on; asked after the pods are listed, so that
            a run which began meanwhile keeps its pod.
    """
    pods = api.pods()
    active = {run_id[:8] for run_id in active_runs()}
    longest = settings.provision_timeout_s + settings.job_timeout_s + SLACK_S
    now = datetime.datetime.now(datetime.UTC)
    ended = []
    for pod in pods:
        run = placing.run_of(pod.name, installation)
        if run is None:
            continue
        age = (now - (pod.createdAt or now)).total_seconds()
        if run not in active:
            reason = f"its run {run} is over"
        elif age > longest:
            reason = f"it is {age:.0f} s old, and no job may take over {longest:.0f} s"
        else:
            continue
        try:
            api.delete_pod(pod.id)
            ended.append((pod, f"ended, as {reason}"))
        except RunPodError as error:  # the others are looked after all the same
            ended.append((pod, f"could not be ended ({error}), though {reason}"))
    return ended


def withdraw(
    store: Store, is_over: Callable[[str], bool], cancel: Callable[[str], None]
) -> list[str]:
    """Withdraw the orders that killed runs left in the store; what was done, job by job.

    Jobs that an endpoint has of them are cancelled; one that starts all the same finds no order and ends at
    once. What workers finished stays, and the next run takes it.

    Args:
        is_over: whether a Dagster run of this installation has ended; False for those of others.
        cancel: ends a job of the endpoint.
    """
    lying: dict[str, list[str]] = {}
    for item in store.list(layout.JOBS):
        if job_id := layout.parse_job_traffic(item.key):
            lying.setdefault(job_id, []).append(item.key)
    done = []
    for job_id, keys in lying.items():
        status = read_status(store, job_id)
        run_id = str(status.get("run_id"))
        if not is_over(run_id):
            continue
        faults = []
        for endpoint_job in status.get("endpoint_jobs", []):
            try:
                cancel(str(endpoint_job))
            except RunPodError as error:  # its own time limit ends it, and the others are cancelled
                faults.append(str(error))
        store.delete(keys)
        tell_failed(store, job_id, f"its run {run_id} ended before it did; run the rest again")
        done.append("; ".join([f"job {job_id} withdrawn, as its run {run_id} is over", *faults]))
    return done
