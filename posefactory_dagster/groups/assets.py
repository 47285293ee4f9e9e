"""The asset `group`: several characters arranged for one image."""

import dataclasses
import json
from pathlib import Path

import dagster as dg

from blender_scripts.contract import ARRANGEMENT, THUMBNAIL, Place, Task, TaskInput, role_of
from blender_scripts.supervise import Outcome
from posefactory_dagster.characters.documents import PARTITIONS as CHARACTERS
from posefactory_dagster.compute.job import new_job
from posefactory_dagster.compute.pipes import BlenderResource
from posefactory_dagster.compute.work import files_of, takes_of
from posefactory_dagster.groups.documents import ASSET, PARTITIONS, GroupFacts
from posefactory_dagster.groups.planning import GROUP_VERSION, GroupPlanner
from posefactory_dagster.pictures import thumbnail_markdown
from posefactory_dagster.pipeline.partitions import PartitionLedger, partition_set
from posefactory_dagster.storage.io_manager import StoreResource
from posefactory_dagster.storage.sets import CommittedSet, CommittedSets, SetRef

GROUP = "groups"


@dg.asset(
    name=ASSET,
    partitions_def=partition_set(PARTITIONS),
    backfill_policy=dg.BackfillPolicy.single_run(),
    group_name=GROUP,
    kinds={"blender"},
    description="Several characters arranged so that nobody stands in another; the character of the same key is made by it.",
)
def group(
    context: dg.AssetExecutionContext, store: StoreResource, blender: BlenderResource
) -> dg.MaterializeResult[dict[str, SetRef]]:
    """Arrange what is not arranged yet, all groups in one Blender process."""
    sets = store.sets()
    ledger = PartitionLedger(context, sets)
    planner = GroupPlanner(sets)
    todo = ledger.plan(planner, {}, _metadata)
    if not todo:
        return ledger.close()
    with sets.scratch() as scratch:
        tasks = []
        for key in todo:
            with ledger.failing_alone(key):
                recipe = planner.recipes[key]
                inputs = {}
                for number, member in enumerate(planner.members[key]):
                    names, takes = files_of(member), takes_of(member)
                    paths = member.paths(names.values())
                    for role, name in names.items():
                        inputs[role_of(role, number)] = TaskInput(str(paths[name]), recipe.members[number], takes.get(role))  # fmt: skip
                places = tuple(Place(m) for m in recipe.members)
                tasks.append(
                    Task(key, inputs, str(scratch / key), places=places, arrangement=recipe.arrangement, spacing_m=recipe.spacing_m, seed=recipe.seed)
                )  # fmt: skip

        def on_outcome(key: str, outcome: Outcome) -> None:
            if outcome.error:
                ledger.bad(key, outcome.error)
                return
            with ledger.failing_alone(key):
                committed = _commit(sets, todo[key], planner, key, scratch)
                if not context.instance.has_dynamic_partition(CHARACTERS, key):
                    context.instance.add_dynamic_partitions(CHARACTERS, [key])
                ledger.good(key, committed.ref, _metadata(committed))

        if tasks:
            blender.run_here(context, new_job("arrange", tasks), scratch, on_outcome)
    return ledger.close()


def _commit(
    sets: CommittedSets, ref: SetRef, planner: GroupPlanner, key: str, scratch: Path
) -> CommittedSet:
    found = json.loads((scratch / key / ARRANGEMENT).read_text("utf-8"))
    facts = GroupFacts.model_validate(found)
    members = planner.members[key]
    return sets.commit(
        ref, scratch / key,
        inputs={
            "sets": [dataclasses.astuple(m.ref) for m in members],
            "group": planner.recipes[key].model_dump(mode="json"),
        },
        settings={"version": GROUP_VERSION}, facts=facts.model_dump(mode="json"),
    )  # fmt: skip


def _metadata(committed: CommittedSet) -> dict[str, object]:
    facts = committed.facts_as(GroupFacts)
    return {
        "preview": dg.MetadataValue.md(thumbnail_markdown(committed.path(THUMBNAIL))),
        "members": ", ".join(p.key for p in facts.places),
        "arrangement": str(committed.inputs["group"]["arrangement"]),
        "frames": f"{facts.frame_range[0]} to {facts.frame_range[1]} at {facts.fps:g} fps",
        "warnings": "\n".join(facts.warnings) or "none",
        "identity": committed.ref.identity,
    }
