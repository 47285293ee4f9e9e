"""End pods whose run is over: for when the process that rented them was killed."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Collection

from posefactory_dagster.blender.runpod import placing
from posefactory_dagster.blender.runpod.api import Pod, RunPodApi, RunPodError
from posefactory_dagster.settings import PodSettings

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
        age = (now - pod.createdAt).total_seconds()
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
