"""The asset `character`: somebody who can be rendered, checked and measured."""

import dataclasses
import shutil

import dagster as dg

from blender_scripts.contract import THUMBNAIL, SettingsError
from posefactory_dagster import pictures
from posefactory_dagster.characters.documents import (
    ASSET,
    MAX_DIRECTION_DEGREES,
    MAX_PENETRATION_CM,
    MAX_SLIDE_CM,
    PARTITIONS,
    CharacterFacts,
    PersonPlace,
    facts_of,
    known_facts,
)
from posefactory_dagster.characters.planning import OF_GROUP_VERSION, CharacterPlanner
from posefactory_dagster.compute.pipes import BlenderResource
from posefactory_dagster.groups.documents import GroupFacts
from posefactory_dagster.intake.inspection import inspect
from posefactory_dagster.motions.documents import MOTION, drop_outdated, register_clips
from posefactory_dagster.pipeline.jobs import GROUP
from posefactory_dagster.pipeline.partitions import (
    REFERENCES,
    PartitionLedger,
    check_of,
    partition_set,
    viewer_link,
)
from posefactory_dagster.pipeline.plans import Inputs, NotPlanned
from posefactory_dagster.storage import layout
from posefactory_dagster.storage.io_manager import StoreResource
from posefactory_dagster.storage.sets import CommittedSet, CommittedSets, SetRef

CAST_WELL = "cast_well"


@dg.asset(
    name=ASSET,
    partitions_def=partition_set(PARTITIONS),
    backfill_policy=dg.BackfillPolicy.single_run(),
    # No dependency on `cast`, though casts become characters: where there are none, the web UI would warn before every run
    # that something upstream is missing. The command line and the sensor of casts see to the order.
    group_name=GROUP,
    dagster_type=REFERENCES,
    kinds={"blender"},
    check_specs=[
        check_of(
            ASSET,
            CAST_WELL,
            PARTITIONS,
            f"Warns when a cast's limbs point over {MAX_DIRECTION_DEGREES:g} degrees away from the motion's, its standing feet slide "
            f"over {MAX_SLIDE_CM:g} cm, or it sinks over {MAX_PENETRATION_CM:g} cm into the floor.",
        )
    ],
    description="An uploaded model with a skin, or a cast of one with a motion, checked and measured inside Blender.",
)
def character(
    context: dg.AssetExecutionContext, store: StoreResource, blender: BlenderResource
) -> dg.MaterializeResult:
    """Inspect each key's files. A file without a skin is a motion, and goes to these."""
    sets = store.sets()
    ledger = PartitionLedger(context, sets)

    def refuse(key: str) -> str:
        """Its bytes looked like a character's; Blender knows better."""
        context.instance.add_dynamic_partitions(MOTION, [key])
        context.instance.delete_dynamic_partition(PARTITIONS, key)
        sets.store.delete([layout.current(ASSET, key)])
        return (
            f"{key}: no skin is in it, so it is a motion now: posefactory run {key} --until {MOTION}, then "
            f"posefactory cast SKIN --motion {key}"
        )

    def plan(key: str, inputs: Inputs) -> SetRef:
        ref = planner(key, inputs)
        facts = known_facts(sets.find(ref))
        if facts is not None and facts.is_motion:  # of the time when motions were characters
            raise NotPlanned(refuse(key))
        return ref

    def shown(committed: CommittedSet) -> dict[str, object]:
        transfer = facts_of(committed).transfer
        if transfer is not None:
            fault = "; ".join(transfer.misses) or None
            figures = {"direction_degrees": transfer.direction, "slide_cm": transfer.slide_cm}
            ledger.check(CAST_WELL, committed.ref.partition, fault, **figures)
        return _metadata(committed)

    def take(committed: CommittedSet) -> None:
        facts, key = facts_of(committed), committed.ref.partition
        moving = [t.name for t in facts.takes if t.moves]
        if len(moving) > 1 and "motion" not in committed.inputs:
            keys = register_clips(context.instance, sets.store, key, moving, skin=True)
            drop_outdated(sets, keys, committed)
            context.log.info(
                f"{key}: plays {facts.take}; all its animations are motions too: {', '.join(keys)}"
            )
        ledger.good(key, committed.ref, shown(committed))

    try:
        planner = CharacterPlanner(sets)
        planned = ledger.plan(plan, {}, shown)
        todo = [planner.plans[key] for key in planned if key in planner.plans]
    except SettingsError as error:
        raise dg.Failure(description=str(error), allow_retries=False) from error
    for key, ref in planned.items():
        if key in planner.groups:
            with ledger.failing_alone(key):
                ledger.good(key, ref, shown(_of_group(sets, ref, planner.groups[key])))
    inspect(
        sets, ledger, todo, "skin",
        lambda job, scratch, on_outcome: blender.run_here(context, job, scratch, on_outcome),
        take,
        lambda key: ledger.bad(key, refuse(key)),
    )  # fmt: skip
    return ledger.close()


def _of_group(sets: CommittedSets, ref: SetRef, group: CommittedSet) -> CommittedSet:
    """The character that a group is: where its people stand, and what is known of them."""
    arranged = group.facts_as(GroupFacts)
    identities = {partition: identity for _, partition, identity in group.inputs["sets"]}
    members = [sets.find(SetRef(*row)) for row in group.inputs["sets"]]
    known = [facts_of(m) for m in members if m is not None]
    facts = CharacterFacts(
        kind="group", meshes=arranged.meshes, vertices=arranged.vertices, bones=arranged.bones, rig_prefix="", textures_found=[],
        textures_missing=[], warnings=arranged.warnings, frame_range=arranged.frame_range, fps=arranged.fps, has_motion=arranged.moves,
        scale_found=1.0, height_m=max(arranged.heights_m),
        licences={name: said for f in known for name, said in f.licences.items()},
        persons=[PersonPlace(**p.model_dump(), character=identities[p.key]) for p in arranged.places],
    )  # fmt: skip
    with sets.scratch() as scratch:
        shutil.copyfile(group.path(THUMBNAIL), scratch / THUMBNAIL)
        inputs = {"sets": [dataclasses.astuple(group.ref), *group.inputs["sets"]], "group": group.inputs["group"]}  # fmt: skip
        return sets.commit(ref, scratch, inputs=inputs, settings={"version": OF_GROUP_VERSION}, facts=facts.model_dump(mode="json"))  # fmt: skip


def _metadata(committed: CommittedSet) -> dict[str, object]:
    facts = facts_of(committed)
    skin = committed.inputs.get("skin")
    start, end = facts.frame_range
    shown = {
        "viewer": viewer_link(committed.ref.partition, "characters"),
        "preview": dg.MetadataValue.md(pictures.thumbnail_markdown(committed.path(THUMBNAIL))),
        "height_m": facts.height_m,
        "motion": committed.inputs.get("motion", {}).get("file_name"),
        "meshes": facts.meshes,
        "vertices": facts.vertices,
        "bones": facts.bones,
        "rig_prefix": facts.rig_prefix or "(none)",
        "scale_found": facts.scale_found,
        "facing": str(list(facts.facing or ())),
        "frames": f"{start} to {end} at {facts.fps:g} fps",
        "has_motion": facts.has_motion,
        "textures_found": len(facts.textures_found),
        "textures_missing": ", ".join(facts.textures_missing) or "none",
        "warnings": "\n".join(facts.warnings) or "none",
        "members": ", ".join(p.key for p in facts.persons) or None,
        "size_mb": round(skin["size"] / 1e6, 3) if skin else None,
        "sha256": skin["sha256"] if skin else None,
        "identity": committed.ref.identity,
    }
    if facts.transfer is not None:
        shown |= {
            "cast_error_degrees": round(facts.transfer.direction, 2),
            "cast_foot_slide_cm": round(facts.transfer.slide_cm, 2),
            "cast_in_floor_cm": round(facts.transfer.penetration_cm, 2),
        }
    return {k: v for k, v in shown.items() if v is not None}
