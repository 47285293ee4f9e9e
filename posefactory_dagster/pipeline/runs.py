"""Queries on Dagster's runs: runs in progress, materialized keys, failed keys with their reasons."""

import datetime
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import psutil

from posefactory_dagster.pipeline.partitions import FAILED_KEYS

#: How tags begin that are not shown: they are of use to the factory alone.
HIDDEN_TAG = ".dagster/posefactory_"
#: The process of a foreground run, with its start, and its machine: when it is gone, so is the run.
STARTER_PROCESS, STARTER_MACHINE = f"{HIDDEN_TAG}starter_process", f"{HIDDEN_TAG}starter_machine"
CLOCK_SLACK_S = 600.0


def starter_tags() -> dict[str, str]:
    """The tags by which other processes see whether this one, which starts a run, still lives."""
    return {STARTER_PROCESS: _process_tag(), STARTER_MACHINE: _machine()}


def _machine() -> str:
    """This machine, told from others of the same host name by systemd's machine id where there is one."""
    path = Path("/etc/machine-id")
    return f"{socket.gethostname()} {path.read_text().strip() if path.is_file() else ''}".strip()


def _process_tag() -> str:
    """This process by its number and its start, as numbers are given again."""
    return f"{os.getpid()} {psutil.Process().create_time():.0f}"


def _lives(process: str) -> bool:
    """Whether the process of a tag still runs on this machine."""
    pid, started = process.split()
    try:
        # The start is reckoned from the clock, which may have been set meanwhile.
        return abs(psutil.Process(int(pid)).create_time() - float(started)) < CLOCK_SLACK_S
    except psutil.NoSuchProcess:
        return False


def runs_in_progress(instance: dg.DagsterInstance) -> list[dg.DagsterRun]:
    """The runs in progress. A run whose process on this machine is gone is marked as failed first."""
    statuses = [
        dg.DagsterRunStatus.STARTING,
        dg.DagsterRunStatus.STARTED,
        dg.DagsterRunStatus.CANCELING,
    ]
    alive = []
    for run in instance.get_runs(dg.RunsFilter(statuses=statuses)):
        starter = run.tags.get(STARTER_PROCESS)
        here = run.tags.get(STARTER_MACHINE) == _machine()
        if starter and here and not _lives(starter):
            instance.report_run_failed(run, "the process that ran it is gone")
        else:
            alive.append(run)
    return alive


def seconds_of_oldest_run(instance: dg.DagsterInstance) -> float | None:
    """The age of the oldest run in progress in seconds; None if there is none."""
    records = [instance.get_run_record_by_id(run.run_id) for run in runs_in_progress(instance)]
    created = [r.create_timestamp.timestamp() for r in records if r is not None]
    now = datetime.datetime.now(datetime.UTC).timestamp()
    return max(0.0, now - min(created)) if created else None


def failures(instance: dg.DagsterInstance, run_id: str) -> dict[str, str]:
    """Keys that failed in a run, with their reasons."""
    result: dict[str, str] = {}
    for event in events(instance, run_id, dg.DagsterEventType.STEP_FAILURE):
        data = event.step_failure_data.user_failure_data
        if data and FAILED_KEYS in data.metadata:
            reasons = data.metadata[FAILED_KEYS].value
            assert isinstance(reasons, dict)
            result |= reasons
    return result


def failure_texts(instance: dg.DagsterInstance, run_id: str) -> list[str]:
    """The error texts of failed steps of a run, without the failures of single keys."""
    texts = []
    for event in events(instance, run_id, dg.DagsterEventType.STEP_FAILURE):
        data = event.step_failure_data.user_failure_data
        if data and FAILED_KEYS in data.metadata:
            continue
        error = event.step_failure_data.error
        cause = error.cause if error and error.cause else error
        texts.append(
            (data.description if data else None) or (cause.message.strip() if cause else "")
        )
    return [t for t in texts if t]


def materialized_keys(instance: dg.DagsterInstance, run: dg.DagsterRun, asset: str) -> list[str]:
    """The partitions of ``asset`` that a run materialized."""
    keys: dict[str, None] = {}
    for event in events(instance, run.run_id, dg.DagsterEventType.ASSET_MATERIALIZATION):
        if event.asset_key == dg.AssetKey(asset) and event.partition:
            keys[event.partition] = None
    return list(keys)


def selects(run: dg.DagsterRun, asset: str) -> bool:
    """Whether a run was asked to make ``asset``."""
    return not run.asset_selection or dg.AssetKey(asset) in run.asset_selection


def step_failed(instance: dg.DagsterInstance, run: dg.DagsterRun, asset: str) -> bool:
    """Whether the step of ``asset`` failed in a run."""
    return any(
        event.step_key == asset
        for event in events(instance, run.run_id, dg.DagsterEventType.STEP_FAILURE)
    )


def events(
    instance: dg.DagsterInstance, run_id: str, kind: dg.DagsterEventType
) -> Iterator[dg.DagsterEvent]:
    """The events of one kind in a run."""
    for entry in instance.all_logs(run_id, of_type=kind):
        if entry.dagster_event is not None:
            yield entry.dagster_event
