"""Runs over characters: as few as the keys allow, and the good ones carried on to the end."""

import datetime
import os
import socket
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import psutil

from posefactory_dagster.assets import ASSETS, chain
from posefactory_dagster.blender.runpod.account import open_api
from posefactory_dagster.blender.runpod.api import RunPodError
from posefactory_dagster.blender.runpod.endpoint import EndpointClient
from posefactory_dagster.blender.runpod.janitor import enter_ended, sweep, withdraw
from posefactory_dagster.blender.runpod.pipes import HIDDEN_TAG, PODS_UNTIL, installation_id
from posefactory_dagster.blender.runpod.service import end_kept_pod
from posefactory_dagster.characters import intake
from posefactory_dagster.characters.documents import known_facts
from posefactory_dagster.datasets.documents import ASSET as DATASET
from posefactory_dagster.labels.assets import AccuracyPlanner, LabelPlanner
from posefactory_dagster.labels.documents import ACCURACY
from posefactory_dagster.partitions import CHARACTERS, FAILED_KEYS
from posefactory_dagster.plans import Planner, stale
from posefactory_dagster.quality import model
from posefactory_dagster.quality.records import ASSET as VARIANT_ASSET
from posefactory_dagster.renders.assets import wanted_settings
from posefactory_dagster.renders.render_sets import RenderPlanner
from posefactory_dagster.settings import environment, project_settings
from posefactory_dagster.storage import layout
from posefactory_dagster.storage.r2 import R2Store
from posefactory_dagster.storage.sets import CommittedSets, file_sha256
from posefactory_dagster.storage.store import Store, StoreError
from posefactory_dagster.variants.assets import variant_planner

RANGE_START = "dagster/asset_partition_range_start"
RANGE_END = "dagster/asset_partition_range_end"
#: On runs whose starter carries the good keys on by itself, so that the sensor leaves them alone.
CARRIED_BY_STARTER = f"{HIDDEN_TAG}carried_by_starter"
#: The process of a foreground run, with its start, and its machine: when it is gone, so is the run.
STARTER_PROCESS, STARTER_MACHINE = f"{HIDDEN_TAG}starter_process", f"{HIDDEN_TAG}starter_machine"
CLOCK_SLACK_S = 600.0
#: On a run's page: its characters, so many by name.
CHARACTERS_TAG, TAG_NAMES = "posefactory/characters", 10

#: The assets of a character, each after what it needs; the dataset comes last.
CHAIN = chain(ASSETS)
#: A dataset cannot do without accuracy; variants are a gain.
SCORES, VARIANTS = ACCURACY, VARIANT_ASSET

factory_job = dg.define_asset_job(
    "characters_to_dataset",
    selection=[*CHAIN, DATASET],
    description="Characters through all assets to a dataset.",
)


def contiguous(keys: Iterable[str], registered: Sequence[str]) -> list[list[str]]:
    """``keys`` in groups that are ranges of the registered keys; one run takes one range."""
    wanted = set(keys)
    groups: list[list[str]] = []
    previous = None
    for place, key in enumerate(registered):
        if key not in wanted:
            continue
        if previous is not None and place == previous + 1:
            groups[-1].append(key)
        else:
            groups.append([key])
        previous = place
    return groups


def range_tags(group: Sequence[str]) -> dict[str, str]:
    """The tags that make a run one over the range ``group``, and tell a person who is in it."""
    more = f" and {len(group) - TAG_NAMES} more" if len(group) > TAG_NAMES else ""
    names = ", ".join(group[:TAG_NAMES]) + more
    return {RANGE_START: group[0], RANGE_END: group[-1], CHARACTERS_TAG: names}


def is_motion(sets: CommittedSets, key: str) -> bool:
    """Whether a key is a motion of the library, by inspection or else by a look at its bytes."""
    committed = sets.readable(intake.ASSET, key)
    if (facts := known_facts(committed)) is not None:
        return facts.is_motion
    if "__" in key:
        return False
    uploads = intake.uploads_by_key(sets.store).get(key, [])
    if len(uploads) != 1 or uploads[0].size > environment().max_upload_mb * 1e6:
        return False  # the run says what is wrong
    return intake.looks_like_motion(intake.fetch(sets.store, uploads[0]))


def stale_keys(
    sets: CommittedSets, keys: Iterable[str], render: Mapping[str, Any] | None = None
) -> list[str]:
    """Keys of which some asset would be made anew with the present files and settings.

    Args:
        render: render settings that differ from the project's.
    """
    model_sha256 = file_sha256(model.model_path())
    planners: list[Planner] = [
        intake.CharacterPlanner(sets.store),
        RenderPlanner(wanted_settings(dict(render or {}))),
        LabelPlanner(model_sha256, project_settings().labels),
        AccuracyPlanner(),
        variant_planner(model_sha256),
    ]
    return stale(sets, keys, planners)


@dataclass(frozen=True)
class FollowUp:
    """What is left of a run in which some characters failed; without keys, what has no partitions."""

    keys: list[str]
    assets: list[str]


def follow_up(
    instance: dg.DagsterInstance, run: dg.DagsterRun, sets: CommittedSets
) -> FollowUp | None:
    """The good keys of a failed run, and the assets they have not been through; None if nothing is left."""
    selected = [a for a in CHAIN if _selects(run, a)]
    for place, asset in enumerate(selected):
        if not _step_failed(instance, run, asset):
            continue
        keys = [k for k in materialized_keys(instance, run, asset) if not is_motion(sets, k)]
        left = selected[place + 1 :]
        if _selects(run, DATASET):
            left.append(DATASET)
        if asset == VARIANTS and not keys and left:
            return FollowUp([], left)  # the dataset alone: renders are in it without variants too
        return FollowUp(keys, left) if keys and left else None
    return None


def failures(instance: dg.DagsterInstance, run_id: str) -> dict[str, str]:
    """Keys that failed in a run, with their reasons."""
    result: dict[str, str] = {}
    for event in _events(instance, run_id, dg.DagsterEventType.STEP_FAILURE):
        data = event.step_failure_data.user_failure_data
        if data and FAILED_KEYS in data.metadata:
            reasons = data.metadata[FAILED_KEYS].value
            assert isinstance(reasons, dict)
            result |= reasons
    return result


def failure_texts(instance: dg.DagsterInstance, run_id: str) -> list[str]:
    """What the failed steps of a run said, character failures left out."""
    texts = []
    for event in _events(instance, run_id, dg.DagsterEventType.STEP_FAILURE):
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
    for event in _events(instance, run.run_id, dg.DagsterEventType.ASSET_MATERIALIZATION):
        if event.asset_key == dg.AssetKey(asset) and event.partition:
            keys[event.partition] = None
    return list(keys)


def _events(
    instance: dg.DagsterInstance, run_id: str, kind: dg.DagsterEventType
) -> Iterator[dg.DagsterEvent]:
    for entry in instance.all_logs(run_id, of_type=kind):
        if entry.dagster_event is not None:
            yield entry.dagster_event


def _selects(run: dg.DagsterRun, asset: str) -> bool:
    return not run.asset_selection or dg.AssetKey(asset) in run.asset_selection


def _step_failed(instance: dg.DagsterInstance, run: dg.DagsterRun, asset: str) -> bool:
    return any(
        event.step_key == asset
        for event in _events(instance, run.run_id, dg.DagsterEventType.STEP_FAILURE)
    )


@dataclass
class Report:
    """How a request ended.

    ``done``: keys that reached the last asset they can; ``failed``: reasons by key; ``trouble``: what
    belongs to no key.
    """

    runs: list[str] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    trouble: list[str] = field(default_factory=list)


def run_characters(
    job: dg.JobDefinition,
    instance: dg.DagsterInstance,
    sets: CommittedSets,
    keys: Sequence[str],
    until: str = DATASET,
    render: Mapping[str, Any] | None = None,
) -> Report:
    """Take ``keys`` through the assets up to ``until`` in this process, then carry the good ones on.

    Args:
        job: the resolved ``factory_job``.
        keys: registered partition keys.
        until: the last asset.
        render: render settings that differ from the project's.
    """
    report = Report()
    registered = instance.get_dynamic_partitions(str(CHARACTERS.name))
    wants_dataset = until == DATASET
    chain = CHAIN if wants_dataset else CHAIN[: CHAIN.index(until) + 1]
    motions = [k for k in keys if is_motion(sets, k)]
    rest = [k for k in keys if k not in motions]
    # Motions go no further than inspection.
    queue = [(group, CHAIN[:1]) for group in contiguous(motions, registered)]
    queue += [(group, chain) for group in contiguous(rest, registered)]
    dataset_done = False
    reached: set[str] = set()
    while queue:
        group, assets = queue.pop(0)
        with_dataset = wants_dataset and not queue and bool(rest)
        selection = [*assets, DATASET] if with_dataset else list(assets)
        run = _execute(job, instance, sets.store, selection, range_tags(group), render)
        report.runs.append(run.run_id)
        report.failed |= failures(instance, run.run_id)
        _note_trouble(report, instance, run.run_id)
        reached |= set(
            materialized_keys(instance, run, CHAIN[0] if group[0] in motions else chain[-1])
        )
        dataset_done = with_dataset and run.is_success
        if not run.is_success and (left := follow_up(instance, run, sets)):
            onward = [a for a in left.assets if a != DATASET]
            if onward:
                queue += [(g, onward) for g in contiguous(left.keys, registered)]
    wanting = bool(rest) or sets.readable(DATASET, layout.UNPARTITIONED) is None
    if (
        wants_dataset
        and wanting
        and not dataset_done
        and any(sets.readable(SCORES, k) for k in registered)
    ):
        run = _execute(job, instance, sets.store, [DATASET], {})
        report.runs.append(run.run_id)
        _note_trouble(report, instance, run.run_id)
    report.done = [k for k in keys if k in reached and k not in report.failed]
    return report


def _note_trouble(report: Report, instance: dg.DagsterInstance, run_id: str) -> None:
    report.trouble += [t for t in failure_texts(instance, run_id) if t not in report.trouble]


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


def seconds_of_oldest_run(instance: dg.DagsterInstance) -> float | None:
    """For how long the oldest run in progress has been there; None without one."""
    records = [instance.get_run_record_by_id(run.run_id) for run in runs_in_progress(instance)]
    created = [r.create_timestamp.timestamp() for r in records if r is not None]
    now = datetime.datetime.now(datetime.UTC).timestamp()
    return max(0.0, now - min(created)) if created else None


def runs_in_progress(instance: dg.DagsterInstance) -> list[dg.DagsterRun]:
    """Runs that go on now; one whose process on this machine is gone is marked as failed."""
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


def _end_kept_pod(instance: dg.DagsterInstance, store: Store, run_id: str) -> None:
    try:
        end_kept_pod(instance, store, run_id)
    except (RunPodError, StoreError) as error:
        instance.report_engine_event(
            f"whether the pod that was left to the variants is ended is not known ({error}); the janitor sensor "
            "looks after it. By hand: posefactory pods stop --all",
            instance.get_run_by_id(run_id),
        )


def _execute(
    job: dg.JobDefinition,
    instance: dg.DagsterInstance,
    store: Store,
    assets: list[str],
    tags: dict[str, str],
    render: Mapping[str, Any] | None = None,
) -> dg.DagsterRun:
    # What happens is told through `progress` and kept in the instance; the console stays readable.
    config: dict[str, Any] = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    if render and CHAIN[1] in assets:
        config["ops"] = {CHAIN[1]: {"config": dict(render)}}
    run_id = str(uuid.uuid4())
    try:
        job.execute_in_process(
            instance=instance,
            asset_selection=[dg.AssetKey(a) for a in assets],
            tags={
                **tags,
                CARRIED_BY_STARTER: "true",
                STARTER_PROCESS: _process_tag(),
                STARTER_MACHINE: _machine(),
            },
            run_config=config,
            raise_on_error=False,
            run_id=run_id,
        )
    finally:
        _end_kept_pod(instance, store, run_id)
    run = instance.get_run_by_id(run_id)
    assert run is not None
    for event in _events(instance, run.run_id, dg.DagsterEventType.STEP_FAILURE):
        error = event.step_failure_data.error
        if error and "DagsterExecutionInterruptedError" in (error.cls_name or ""):
            raise KeyboardInterrupt  # Dagster makes a failed run of Ctrl-C; the person meant all of it
    return run
