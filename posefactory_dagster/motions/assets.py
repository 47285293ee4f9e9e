"""The assets `motion` and `cast`: what can be done, and who does it."""

import json

import dagster as dg

from blender_scripts.contract import THUMBNAIL, SettingsError
from posefactory_dagster import pictures
from posefactory_dagster.characters.documents import facts_of
from posefactory_dagster.compute.pipes import BlenderResource
from posefactory_dagster.intake.inspection import inspect
from posefactory_dagster.motions.documents import CAST, MOTION, RECIPE
from posefactory_dagster.motions.planning import CAST_VERSION, CastPlanner, MotionPlanner
from posefactory_dagster.pipeline.partitions import PartitionLedger, partition_set
from posefactory_dagster.storage.io_manager import StoreResource
from posefactory_dagster.storage.sets import CommittedSet, SetRef

GROUP = "motions"


@dg.asset(
    name=MOTION,
    partitions_def=partition_set(MOTION),
    backfill_policy=dg.BackfillPolicy.single_run(),
    group_name=GROUP,
    kinds={"blender", "fbx"},
    description="An uploaded FBX without a skin, checked and measured inside Blender: a motion that can be cast on skins.",
)
def motion(
    context: dg.AssetExecutionContext, store: StoreResource, blender: BlenderResource
) -> dg.MaterializeResult[dict[str, SetRef]]:
    """Inspect each key's file."""
    sets = store.sets()
    ledger = PartitionLedger(context, sets)
    try:
        planner = MotionPlanner(sets)
        todo = [planner.plans[key] for key in ledger.plan(planner, {}, _motion_metadata)]
    except SettingsError as error:
        raise dg.Failure(description=str(error), allow_retries=False) from error

    inspect(
        sets, ledger, todo, MOTION,
        lambda job, scratch, on_outcome: blender.run_here(context, job, scratch, on_outcome),
        lambda committed: ledger.good(committed.ref.partition, committed.ref, _motion_metadata(committed)),
        lambda key: ledger.bad(key, f"{key}: a skin is in it, so it is no motion; export the animation without a skin"),
    )  # fmt: skip
    return ledger.close()


def _motion_metadata(committed: CommittedSet) -> dict[str, object]:
    facts = facts_of(committed)
    start, end = facts.frame_range
    return {
        "preview": dg.MetadataValue.md(pictures.thumbnail_markdown(committed.path(THUMBNAIL))),
        "frames": f"{start} to {end} at {facts.fps:g} fps",
        "seconds": (end - start) / facts.fps,
        "moves": facts.has_motion,
        "take": facts.take or "(none)",
        "takes": ", ".join(t.name for t in facts.takes) or "(none)",
        "bones": facts.bones,
        "rig_prefix": facts.rig_prefix or "(none)",
        "warnings": "\n".join(facts.warnings) or "none",
        "sha256": committed.inputs[MOTION]["sha256"],
        "identity": committed.ref.identity,
    }


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
                ref, scratch, inputs=inputs, settings={"version": CAST_VERSION}, facts=recipe
            )
            ledger.good(key, committed.ref, _cast_metadata(committed))
    return ledger.close()


def _cast_metadata(committed: CommittedSet) -> dict[str, object]:
    return {
        "skin": str(committed.facts["skin"]),
        "motion": str(committed.facts["motion"]),
        "identity": committed.ref.identity,
    }
