"""The sensors: uploads that become runs, good characters carried on past bad ones, pods ended."""

import hashlib
from collections.abc import Iterator

import dagster as dg

from posefactory_dagster.blender.runpod.api import RunPodError
from posefactory_dagster.characters.watching import Memory, look
from posefactory_dagster.jobs import (
    CARRIED_BY_STARTER,
    CHAIN,
    DATASET,
    contiguous,
    end_orphans,
    factory_job,
    follow_up,
    range_tags,
    runs_in_progress,
)
from posefactory_dagster.partitions import CHARACTERS
from posefactory_dagster.quality.approval import ApprovalError, read_decisions, settle
from posefactory_dagster.settings import environment
from posefactory_dagster.storage import layout
from posefactory_dagster.storage.io_manager import StoreResource
from posefactory_dagster.storage.store import StoreError
from posefactory_dagster.variants.variant_sets import index


@dg.sensor(
    job=factory_job,
    minimum_interval_seconds=10,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="New and changed FBX files in the upload folder become runs.",
)
def upload_sensor(context: dg.SensorEvaluationContext, store: StoreResource) -> dg.SensorResult:
    """Register new keys, and ask for as few runs as their order allows."""
    memory = Memory.from_cursor(context.cursor)
    registered = context.instance.get_dynamic_partitions(str(CHARACTERS.name))
    finding = look(store.sets().store, memory, registered, environment().max_upload_mb)
    for error in finding.news:
        context.log.error(error)
    motions = set(finding.motions)
    # New skins stand side by side in the order of registration, so that they are one run.
    new = sorted(finding.new, key=lambda key: key in motions)
    order = [*registered, *new]
    requests = []
    for keys, assets in ((finding.skins, [*CHAIN, DATASET]), (finding.motions, CHAIN[:1])):
        for group in contiguous(keys, order):
            # Counted, so that a file which was removed and dropped once more is not taken for a repetition.
            memory.asked += 1
            marks = "".join(memory.taken.get(k, ["cast"])[0] for k in group)
            requests.append(
                dg.RunRequest(
                    run_key=f"{group[0]}-{len(group)}-{hash_text(f'{marks} {memory.asked}')}",
                    asset_selection=[dg.AssetKey(a) for a in assets],
                    tags=range_tags(group),
                )
            )
    # Requests and cursor are one answer: a tick that dies in between is made again, whole.
    skip = None
    if not requests:
        text = "; ".join(finding.errors) or "nothing new"
        skip = (
            f"{text}; {finding.waiting} files seen for the first time, taken up at the next look"
            if finding.waiting
            else text
        )
    return dg.SensorResult(
        run_requests=requests,
        skip_reason=skip,
        cursor=memory.to_cursor(),
        dynamic_partitions_requests=[CHARACTERS.build_add_request(new)] if new else None,
    )


def hash_text(text: str) -> str:
    """A short digest, the same in every process."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dg.run_failure_sensor(
    monitored_jobs=None,
    request_job=factory_job,
    minimum_interval_seconds=10,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="When some characters of a run failed, the good ones go on in a run of their own.",
)
def carry_on_sensor(
    context: dg.RunFailureSensorContext, store: StoreResource
) -> Iterator[dg.RunRequest | dg.SkipReason]:
    """Ask for what is left of a failed run."""
    run = context.dagster_run
    if run.tags.get(CARRIED_BY_STARTER):
        yield dg.SkipReason("its starter carries the good characters on")
        return
    left = follow_up(context.instance, run, store.sets())
    if left is None:
        yield dg.SkipReason("no character of that run can go on")
        return
    if not left.keys:
        assets = [dg.AssetKey(a) for a in left.assets]
        yield dg.RunRequest(run_key=f"after-{run.run_id}", asset_selection=assets)
    registered = context.instance.get_dynamic_partitions(str(CHARACTERS.name))
    for group in contiguous(left.keys, registered):
        yield dg.RunRequest(
            run_key=f"after-{run.run_id}-{group[0]}",
            asset_selection=[dg.AssetKey(a) for a in left.assets],
            tags=range_tags(group),
        )


@dg.sensor(
    job=factory_job,
    minimum_interval_seconds=10,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="People's decisions on variants become locks, and a new version of the dataset.",
)
def review_sensor(context: dg.SensorEvaluationContext, store: StoreResource) -> dg.SensorResult:
    """Take up new and changed files under `decisions/`."""
    sets = store.sets()
    seen = hash_text(
        "\n".join(
            sorted(f"{i.key} {i.size} {i.modified}" for i in sets.store.list(layout.DECISIONS))
        )
    )
    if seen == (context.cursor or hash_text("")):
        return dg.SensorResult(skip_reason="no new decision", cursor=seen)
    decisions = read_decisions(sets.store)
    faults = list(decisions.errors.values())
    characters = sorted({character for character, _ in decisions.by_variant})
    try:
        variants = index(sets, characters) if characters else {}
        faults += [fault for _, fault in settle(sets.store, decisions.all(), variants)]
    except ApprovalError as error:
        faults.append(str(error))
    for fault in faults:
        context.log.error(fault)
    if not decisions.by_variant:
        return dg.SensorResult(skip_reason="; ".join(faults), cursor=seen)
    request = dg.RunRequest(run_key=f"decisions-{seen}", asset_selection=[dg.AssetKey(DATASET)])
    return dg.SensorResult(run_requests=[request], cursor=seen)


@dg.sensor(
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Ends pods and endpoint jobs of this installation whose run is over, and no one else's.",
)
def pod_janitor(context: dg.SensorEvaluationContext, store: StoreResource) -> dg.SkipReason:
    """Look after what a killed orchestrator left running."""
    runs_in_progress(
        context.instance
    )  # marks those whose process is gone; others wait for what they asked for
    if environment().runpod_api_key is None:
        return dg.SkipReason("RUNPOD_API_KEY is not set, so nothing can be rented")
    done = []
    try:
        for text in end_orphans(context.instance, store.sets().store):
            context.log.warning(text)
            done.append(text)
    except (RunPodError, StoreError) as error:
        context.log.error(str(error))
        return dg.SkipReason(str(error))
    return dg.SkipReason("; ".join(done) or "nothing to end")
