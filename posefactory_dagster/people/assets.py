"""The asset `person`: somebody built from a description, and uploaded as a character."""

import shutil

import dagster as dg

from posefactory_dagster.characters.documents import PARTITIONS as CHARACTERS
from posefactory_dagster.people.documents import ASSET, DESCRIPTION, MODEL, PARTITIONS, PersonFacts
from posefactory_dagster.people.making import BuildFailed, make_people
from posefactory_dagster.people.planning import BUILD_VERSION, PersonPlanner
from posefactory_dagster.pipeline.partitions import PartitionLedger, partition_set
from posefactory_dagster.storage import layout
from posefactory_dagster.storage.io_manager import StoreResource
from posefactory_dagster.storage.sets import CommittedSet, CommittedSets, SetRef

GROUP = "people"


@dg.asset(
    name=ASSET,
    partitions_def=partition_set(PARTITIONS),
    backfill_policy=dg.BackfillPolicy.single_run(),
    group_name=GROUP,
    kinds={"python"},
    description="A person built from a description: body, clothes, hair, skin and landmarks, as a rigged model; it becomes a character like an upload.",
)
def person(
    context: dg.AssetExecutionContext, store: StoreResource
) -> dg.MaterializeResult[dict[str, SetRef]]:
    """Build what is not committed yet, everybody in one process."""
    sets = store.sets()
    ledger = PartitionLedger(context, sets)
    planner = PersonPlanner(sets)

    def take(committed: CommittedSet) -> None:
        key = committed.ref.partition
        _upload(sets, committed)
        if not context.instance.has_dynamic_partition(CHARACTERS, key):
            context.instance.add_dynamic_partitions(CHARACTERS, [key])
        ledger.good(key, committed.ref, _metadata(committed))

    todo = ledger.plan(planner, {}, _metadata)
    for key in ledger.keys:
        # A set that was committed before, of a project whose uploads were cleared.
        if key not in todo and (committed := sets.readable(ASSET, key)) is not None:
            _upload(sets, committed)
    if not todo:
        return ledger.close()
    with sets.scratch() as scratch:
        try:
            people = {key: planner.people[key] for key in todo}
            for made in make_people(sets.store, people, scratch, context.log.info):
                if made.error is not None:
                    ledger.bad(made.key, made.error)
                    continue
                with ledger.failing_alone(made.key):
                    described = people[made.key].model_dump(mode="json", exclude_none=True)
                    committed = sets.commit(
                        todo[made.key], scratch / made.key, inputs={"person": described},
                        settings={"build_version": BUILD_VERSION}, facts=made.facts,
                    )  # fmt: skip
                    take(committed)
        except BuildFailed as error:
            raise dg.Failure(description=str(error), allow_retries=False) from error
    return ledger.close()


def _upload(sets: CommittedSets, committed: CommittedSet) -> None:
    """Put a person's model where uploads lie, if it is not there."""
    target = layout.upload(f"{committed.ref.partition}.glb")
    if committed.files[MODEL]["sha256"] != _uploaded_digest(sets, target):
        with sets.scratch() as scratch:  # a store takes what it is given away
            shutil.copyfile(committed.path(MODEL), scratch / MODEL)
            sets.store.put_files({target: scratch / MODEL})


def _uploaded_digest(sets: CommittedSets, target: str) -> str:
    from posefactory_dagster.storage.sets import file_sha256

    try:
        return file_sha256(sets.store.local_paths({target: None})[target])
    except FileNotFoundError:
        return ""


def _metadata(committed: CommittedSet) -> dict[str, object]:
    facts = committed.facts_as(PersonFacts)
    described = committed.path(DESCRIPTION).read_text("utf-8")
    return {
        "description": dg.MetadataValue.md(f"```yaml\n{described}```"),
        "height_m": facts.height_m,
        "mass_kg": facts.mass_kg,
        "age": facts.age,
        "gender": facts.gender,
        "skin_tone": facts.skin_tone,
        "triangles": facts.triangles,
        "seconds": facts.seconds,
        "licences": ", ".join(f"{n}: {v}" for n, v in facts.licences.items()) or "CC0-1.0",
        "identity": committed.ref.identity,
    }
