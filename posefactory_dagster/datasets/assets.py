"""The asset `pose_dataset`: all committed characters, as something to train on."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from posefactory_dagster import progress
from posefactory_dagster.datasets import splits
from posefactory_dagster.datasets.admission import admitted
from posefactory_dagster.datasets.export import export
from posefactory_dagster.datasets.members import Member
from posefactory_dagster.partitions import CHARACTERS
from posefactory_dagster.pictures import thumbnail_markdown
from posefactory_dagster.quality.approval import ApprovalError, read_decisions
from posefactory_dagster.settings import project_settings
from posefactory_dagster.storage import layout
from posefactory_dagster.storage.io_manager import StoreResource
from posefactory_dagster.storage.sets import CommittedSet, CommittedSets, SetRef, identity_of

DATASET = "pose_dataset"
DATASET_VERSION = 4


def _all() -> dg.AssetIn:
    return dg.AssetIn(partition_mapping=dg.AllPartitionMapping())


@dg.asset(
    ins={
        "multi_angle_renders": _all(),
        "pose_labels": _all(),
        "label_accuracy": _all(),
        "enhanced_variants": _all(),
    },
    group_name="datasets",
    kinds={"coco", "parquet"},
    description="Images, COCO keypoints (17 and 33), one Parquet, splits by character, contact sheet, card.",
)
def pose_dataset(
    context: dg.AssetExecutionContext,
    multi_angle_renders: dict[str, CommittedSet],
    pose_labels: dict[str, CommittedSet],
    label_accuracy: dict[str, CommittedSet],
    enhanced_variants: dict[str, CommittedSet],
    store: StoreResource,
) -> dg.MaterializeResult[dict[str, SetRef]]:
    """Export every character whose renders, labels and accuracy belong together, with its locked variants."""
    sets = store.sets()
    settings = project_settings().dataset
    registered = context.instance.get_dynamic_partitions(str(CHARACTERS.name))
    complete = {}
    for key in registered:
        renders, labels, scores = (
            s.get(key) for s in (multi_angle_renders, pose_labels, label_accuracy)
        )
        if renders and labels and scores and _belong_together(renders, labels, scores):
            complete[key] = (renders, labels, scores)
        elif renders:
            context.log.warning(f"{key}: left out, its labels are not of its present renders")
    if not complete:
        raise dg.Failure(
            description="no character is labelled yet; run `posefactory run --all` first",
            allow_retries=False,
        )
    _refuse_poorer(sets, registered, complete, enhanced_variants)
    split = splits.assign(
        {k: m[0].inputs["skin_sha256"] for k, m in complete.items()},
        {k: m[0].facts["frames"] for k, m in complete.items()},
        settings,
    )
    decisions = read_decisions(sets.store)
    for error in decisions.errors.values():
        context.log.error(error)
    members = []
    for key in sorted(complete):
        made = enhanced_variants.get(key)
        if made is not None and not made_from(made, complete[key][0]):
            context.log.warning(
                f"{key}: its variants are left out, they are not of its present renders"
            )
            made = None
        try:
            variants = admitted(sets.store, made, decisions) if made else []
        except ApprovalError as error:
            raise dg.Failure(description=str(error), allow_retries=False) from error
        members.append(Member(key, *complete[key], tuple(variants)))
    inputs = {
        "sets": [
            dataclasses.astuple(s.ref) for m in members for s in (m.renders, m.labels, m.accuracy)
        ],
        "splits": split.document(),
        "variants": [
            [m.key, v.variant, v.image.sha256] for m in members for v in m.variants if v.image
        ],
    }
    values = {"version": DATASET_VERSION, **dataclasses.asdict(settings)}
    ref = SetRef(DATASET, layout.UNPARTITIONED, identity_of(DATASET, inputs, values))
    committed = sets.find(ref)
    if committed is None:
        with sets.scratch() as scratch:
            figures = export(
                members,
                split,
                sets.store,
                scratch,
                settings,
                lambda done, total: progress.tell("export", done, total),
            )
            committed = sets.commit(ref, scratch, inputs=inputs, settings=values, facts=figures)
    else:
        context.log.info("found committed: nothing has changed")
    return dg.MaterializeResult(value={layout.UNPARTITIONED: ref}, metadata=_metadata(committed))


def _refuse_poorer(
    sets: CommittedSets,
    registered: Sequence[str],
    complete: Mapping[str, tuple[CommittedSet, CommittedSet, CommittedSet]],
    variants: Mapping[str, CommittedSet],
) -> None:
    """Keep the dataset there is where steps before this one failed for characters that it holds.

    Raises:
        dagster.Failure: some of its characters, or their variants, are not made anew yet.
    """
    previous = sets.current(DATASET, layout.UNPARTITIONED)
    if previous is None:
        return
    held = {SetRef(*ref).partition for ref in previous.inputs["sets"]} & set(registered)
    varied = {row[0] for row in previous.inputs["variants"]}
    unfinished = [
        key
        for key in sorted(held)
        if key not in complete
        or (
            key in varied
            and (key not in variants or not made_from(variants[key], complete[key][0]))
        )
    ]
    if unfinished:
        raise dg.Failure(
            description=f"the dataset stays as it was: {', '.join(unfinished)} would be missing from it, or be there without "
            "variants, as a step before failed; run these again, or forget them with posefactory characters remove",
            allow_retries=False,
        )


def made_from(made: CommittedSet, source: CommittedSet) -> bool:
    """Whether one set is made from another."""
    return list(dataclasses.astuple(source.ref)) in [list(r) for r in made.inputs["sets"]]


def _belong_together(renders: CommittedSet, labels: CommittedSet, scores: CommittedSet) -> bool:
    return made_from(labels, renders) and made_from(scores, labels) and made_from(scores, renders)


def _metadata(committed: CommittedSet) -> dict[str, Any]:
    facts = committed.facts
    return {
        "preview": dg.MetadataValue.md(
            thumbnail_markdown(committed.path("contact_sheet.jpg"), 320)
        ),
        **{k: v for k, v in facts.items() if k != "splits"},
        "splits": dg.MetadataValue.json(facts["splits"]),
        "folder": committed.address(),
        "version": committed.ref.identity,
    }
