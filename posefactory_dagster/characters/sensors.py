"""The sensor that turns uploads into runs."""

from collections.abc import Mapping, Sequence

import dagster as dg

from posefactory_dagster.characters.documents import ASSET, PARTITIONS
from posefactory_dagster.intake.watching import UploadCursor, look
from posefactory_dagster.motions.documents import (
    MOTION,
    forget_clips,
    record_clips,
    uploads_of_motions,
)
from posefactory_dagster.pipeline.jobs import asset_job, contiguous, factory_job, range_tags
from posefactory_dagster.pipeline.partitions import partition_set
from posefactory_dagster.settings import environment
from posefactory_dagster.storage import layout
from posefactory_dagster.storage.io_manager import StoreResource
from posefactory_dagster.storage.sets import CommittedSets, text_digest

#: Of each partition set that uploads become keys of: its asset, and how that asset's manifests call the file.
ROLES = {PARTITIONS: (ASSET, "skin"), MOTION: (MOTION, MOTION)}


@dg.sensor(
    jobs=[factory_job, asset_job(MOTION)],
    minimum_interval_seconds=10,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="New and changed model and motion files in the upload folder become runs: characters whole, motions as far as inspection.",
)
def upload_sensor(context: dg.SensorEvaluationContext, store: StoreResource) -> dg.SensorResult:
    """Register new keys, and ask for as few runs as their order allows."""
    cursor = UploadCursor.from_cursor(context.cursor)
    registered = {name: context.instance.get_dynamic_partitions(name) for name in ROLES}
    sets = store.sets()

    def made_from(key: str) -> str | None:
        return next((d for name in ROLES if (d := _made_from(sets, name, key, registered))), None)

    finding = look(sets.store, cursor, made_from, environment().max_upload_mb)
    for error in finding.news:
        context.log.error(error)
    # A character whose new file holds no geometry stays one until Blender has looked: its run says what became of it.
    turned = [k for k in finding.without if k in registered[PARTITIONS]]
    for_motion = uploads_of_motions(sets.store) if finding.with_geometry else set()
    with_skin = [
        k for k in finding.with_geometry if k in registered[PARTITIONS] or k not in for_motion
    ]
    skins = [*with_skin, *turned]
    motions = [k for k in finding.without if k not in turned]
    # Of a file with several animations, each is a motion; what its keys mean is written before they are registered.
    upload_of = {key: key for key in (*skins, *motions)}
    for upload, names in finding.clips.items():
        skin = upload in finding.with_geometry
        if skin and upload not in with_skin:
            continue
        if len(names) > 1 or (names and skin):
            keys_of = record_clips(sets.store, upload, names, skin=skin)
            motions = [k for k in motions if k != upload] + keys_of
            forget_clips(
                context.instance, sets.store, upload, {*keys_of, upload}, registered[MOTION]
            )
            upload_of |= dict.fromkeys(keys_of, upload)
    registered[MOTION] = context.instance.get_dynamic_partitions(MOTION)
    requests, additions = [], []
    for name, keys, job in ((PARTITIONS, skins, factory_job), (MOTION, motions, asset_job(MOTION))):
        new = [k for k in keys if k not in registered[name]]
        if new:
            additions.append(partition_set(name).build_add_request(new))
        marks = {key: cursor.taken[upload_of[key]][0] for key in keys}
        requests += _requests(cursor, marks, [*registered[name], *new], job.name)
    changed_kind = [k for k in with_skin if k in registered[MOTION] and k not in motions]
    removals = [partition_set(MOTION).build_delete_request(changed_kind)] if changed_kind else []
    sets.store.delete([layout.current(MOTION, key) for key in changed_kind])
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
        cursor=cursor.to_cursor(),
        dynamic_partitions_requests=[*additions, *removals] or None,
    )


def _requests(
    cursor: UploadCursor, marks: Mapping[str, str], order: Sequence[str], job: str
) -> list[dg.RunRequest]:
    requests = []
    for group in contiguous(marks, order):
        # Counted, so that a file which was removed and dropped once more is not taken for a repetition.
        cursor.asked += 1
        mark = "".join(marks[k] for k in group)
        run_key = f"{group[0]}-{len(group)}-{text_digest(f'{mark} {cursor.asked}')}"
        requests.append(dg.RunRequest(run_key=run_key, job_name=job, tags=range_tags(group)))
    return requests


def _made_from(
    sets: CommittedSets, name: str, key: str, registered: dict[str, Sequence[str]]
) -> str | None:
    """The sha256 of the file that a registered key's present set was made from."""
    asset, role = ROLES[name]
    committed = sets.readable(asset, key) if key in registered[name] else None
    # A group's character is made from no file of its own.
    file = committed.inputs.get(role) if committed else None
    return str(file["sha256"]) if file else None
