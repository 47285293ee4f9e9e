"""The janitor: ends pods and endpoint jobs that killed runs left behind."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping

from posefactory_dagster.budget import ledger
from posefactory_dagster.budget.estimates import cost_of
from posefactory_dagster.budget.prices import hourly_providers
from posefactory_dagster.compute.record import DamagedJob, of_pod, read_status, tell_failed
from posefactory_dagster.compute.runpod import provisioning
from posefactory_dagster.compute.runpod.api import Pod, RunPodApi, RunPodError
from posefactory_dagster.storage import layout
from posefactory_dagster.storage.store import Store


def sweep(
    api: RunPodApi,
    installation: str,
    active_runs: Callable[[], Mapping[str, datetime.datetime | None]],
) -> list[tuple[Pod, bool, str]]:
    """Terminate pods of this installation that nobody waits for; each with whether it is ended, and in words why.

    Pods of other installations, and whatever else the account runs, are never touched.

    Args:
        active_runs: gives the ids of the Dagster runs that go on, and until when their pods may live; asked
            after the pods are listed, so that a run which began meanwhile keeps its pod.
    """
    pods = api.pods()
    active = {run_id[:8]: until for run_id, until in active_runs().items()}
    now = datetime.datetime.now(datetime.UTC)
    ended = []
    for pod in pods:
        run = provisioning.run_of(pod.name, installation)
        if run is None or pod.status == "TERMINATED":
            continue
        until = active.get(run)
        if run not in active:
            reason = f"its run {run} is over"
        elif until is not None and now > until:
            reason = f"the time of its job was over at {until:%H:%M:%S} UTC"
        else:
            continue
        try:
            api.delete_pod(pod.id)
            ended.append((pod, True, f"ended, as {reason}"))
        except RunPodError as error:  # the others are looked after all the same
            ended.append((pod, False, f"could not be ended ({error}), though {reason}"))
    return ended


def enter_ended(store: Store, pod: Pod, installation: str) -> None:
    """Tell the ledger what a pod cost that its own run could not tell it of, as far as RunPod's price and times say.

    What its run entered of this pod, and of images that it made since, is in the ledger already, and taken off.
    """
    if pod.cost is None or pod.created_at is None:
        return
    now = datetime.datetime.now(datetime.UTC)
    run = provisioning.run_of(pod.name, installation) or ""
    hourly = hourly_providers()
    days = {pod.created_at.astimezone(datetime.UTC).date(), now.date()}
    entered = sum(
        e.cost_usd
        for day in days
        for e in ledger.read_ledger(store, day)[0]
        if e.what.endswith(of_pod("", pod.id))
        or (e.provider in hourly and e.run_id.startswith(run) and e.at >= pod.created_at)
    )
    cost = cost_of((now - pod.created_at).total_seconds(), pod.cost)
    entry = ledger.Entry(
        at=now, provider="runpod", model=pod.gpu.id if pod.gpu else "", what=f"{pod.name}, ended by the janitor",
        cost_usd=round(max(cost - entered, 0.0), 4), estimate_usd=0.0, outcome="unknown", run_id=run,
    )  # fmt: skip
    ledger.enter(store, f"pod-{pod.id}", entry)


def withdraw(
    store: Store, is_over: Callable[[str], bool], cancel: Callable[[str, str], None]
) -> list[str]:
    """Withdraw the orders that killed runs left in the store; what was done, job by job.

    Jobs that an endpoint has of them are cancelled; one that starts all the same finds no order and ends at
    once. What workers finished stays, and the next run takes it.

    Args:
        is_over: whether a Dagster run of this installation has ended; False for those of others.
        cancel: ends a job of an endpoint; both are given by their ids.
    """
    lying: dict[str, list[str]] = {}
    for item in store.list(layout.JOBS):
        if job_id := layout.parse_job_traffic(item.key):
            lying.setdefault(job_id, []).append(item.key)
    done = []
    for job_id, keys in lying.items():
        try:
            run_id = read_status(store, job_id).run_id
            if not is_over(run_id):
                continue
            status = read_status(store, job_id)  # its last words, now that it says no more
        except DamagedJob as error:  # whose it is cannot be known; store gc takes what is old
            done.append(f"job {job_id} left alone: {error}")
            continue
        faults = []
        for endpoint_job, endpoint in status.endpoint_jobs.items():
            try:
                cancel(endpoint, endpoint_job)
            except RunPodError as error:  # its own time limit ends it, and the others are cancelled
                faults.append(str(error))
        store.delete(keys)
        if status.status == "processing":
            tell_failed(store, job_id, f"its run {run_id} ended before it did; run the rest again")
        done.append("; ".join([f"job {job_id} withdrawn, as its run {run_id} is over", *faults]))
    return done
