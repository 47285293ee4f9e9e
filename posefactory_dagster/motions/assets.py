"""The assets `motion` and `cast`: what can be done, and who does it."""

import json

import dagster as dg

from blender_scripts.contract import CONTACTS, THUMBNAIL, SettingsError
from posefactory_dagster import pictures
from posefactory_dagster.compute.pipes import BlenderResource
from posefactory_dagster.intake.inspection import inspect
from posefactory_dagster.motions.documents import (
    CAST,
    MOTION,
    RECIPE,
    MotionFacts,
    drop_outdated,
    read_motion_record,
    register_clips,
)
from posefactory_dagster.motions.planning import CastPlanner, MotionPlanner
from posefactory_dagster.pipeline.partitions import PartitionLedger, partition_set
from posefactory_dagster.storage.io_manager import StoreResource
from posefactory_dagster.storage.sets import CommittedSet, SetRef

GROUP = "motions"


@dg.asset(
    name=MOTION,
    partitions_def=partition_set(MOTION),
    backfill_policy=dg.BackfillPolicy.single_run(),
    group_name=GROUP,
    kinds={"blender"},
    description="An animation of an uploaded file, checked and measured inside Blender: a motion that can be cast on any skin.",
)
def motion(
    context: dg.AssetExecutionContext, store: StoreResource, blender: BlenderResource
) -> dg.MaterializeResult[dict[str, SetRef]]:
    """Inspect each key's animation."""
    sets = store.sets()
    ledger = PartitionLedger(context, sets)
    try:
        planner = MotionPlanner(sets)
        todo = [planner.plans[key] for key in ledger.plan(planner, {}, _motion_metadata)]
    except SettingsError as error:
        raise dg.Failure(description=str(error), allow_retries=False) from error

    def take(committed: CommittedSet) -> None:
        key = committed.ref.partition
        facts = committed.facts_as(MotionFacts)
        more = [t.name for t in facts.takes if t.moves and t.name != facts.take]
        if more and read_motion_record(sets.store, key).clip is None:
            keys = register_clips(context.instance, sets.store, key, more, skin=True)
            drop_outdated(sets, keys, committed)
            context.log.info(
                f"{key}: plays {facts.take}; its other animations are motions too: {', '.join(keys)}"
            )
        ledger.good(key, committed.ref, _motion_metadata(committed))

    inspect(
        sets, ledger, todo, MOTION,
        lambda job, scratch, on_outcome: blender.run_here(context, job, scratch, on_outcome),
        take,
        lambda key: ledger.bad(key, f"{key}: no motion is in it; export an animation"),
    )  # fmt: skip
    return ledger.close()


def _motion_metadata(committed: CommittedSet) -> dict[str, object]:
    facts = committed.facts_as(MotionFacts)
    start, end = facts.frame_range
    shown: dict[str, object] = {
        "preview": dg.MetadataValue.md(pictures.thumbnail_markdown(committed.path(THUMBNAIL))),
        "frames": f"{start} to {end} at {facts.fps:g} fps",
        "seconds": facts.seconds,
        "kinds_of_motion": ", ".join(facts.derived_tags) or "(none)",
        "loops": facts.loops,
        "travel_m": facts.travel_m,
        "speed_m_s": facts.speed_m_s,
        "moves": facts.has_motion,
        "animation": facts.take or "(none)",
        "animations_in_the_file": ", ".join(t.name for t in facts.takes) or "(none)",
        "rig": facts.rig_map,
        "bones": facts.bones,
        "rig_prefix": facts.rig_prefix or "(none)",
        "warnings": "\n".join(facts.warnings) or "none",
        "sha256": committed.inputs[MOTION]["sha256"],
        "identity": committed.ref.identity,
    }
    if CONTACTS in committed.files:
        chart = pictures.thumbnail_markdown(committed.path(CONTACTS), 160)
        shown["foot_contacts"] = dg.MetadataValue.md(chart)
    return {k: v for k, v in shown.items() if v is not None}


@dg.asset(
    name=CAST,
    partitions_def=partition_set(CAST),
    backfill_policy=dg.BackfillPolicy.single_run(),
    deps=[dg.AssetDep(MOTION, partition_mapping=dg.AllPartitionMapping())],
    group_name=GROUP,
    kinds={"python"},
    description="A recipe, which skin does which motion, with the very files that it means; the character of the same key is made by it.",
)
def cast(
    context: dg.AssetExecutionContext, store: StoreResource
) -> dg.MaterializeResult[dict[str, SetRef]]:
    """Commit each recipe with what it means now."""
    sets = store.sets()
    ledger = PartitionLedger(context, sets)
    try:
        planner = CastPlanner(sets)
        todo = ledger.plan(planner, {}, _cast_metadata)
    except SettingsError as error:
        raise dg.Failure(description=str(error), allow_retries=False) from error
    for key, ref in todo.items():
        with ledger.failing_alone(key), sets.scratch() as scratch:
            inputs = planner.inputs[key]
            recipe = {role: inputs[role]["key"] for role in ("skin", "motion")}
            (scratch / RECIPE).write_text(json.dumps(recipe), "utf-8")
            committed = sets.commit(
                ref,
                scratch,
                inputs=inputs,
                settings=planner.settings(planner.recipes[key]),
                facts=recipe,
            )
            ledger.good(key, committed.ref, _cast_metadata(committed))
    return ledger.close()


def _cast_metadata(committed: CommittedSet) -> dict[str, object]:
    return {
        "skin": str(committed.facts["skin"]),
        "motion": str(committed.facts["motion"]),
        "identity": committed.ref.identity,
    }
