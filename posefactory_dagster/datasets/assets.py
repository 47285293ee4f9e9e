"""The asset `pose_dataset`: all committed characters, as something to train on."""

import dataclasses
import functools
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from posefactory_dagster import progress
from posefactory_dagster.characters.documents import PARTITIONS as CHARACTERS
from posefactory_dagster.datasets import splits
from posefactory_dagster.datasets import variety as variety_of
from posefactory_dagster.datasets.admission import admitted
from posefactory_dagster.datasets.documents import ASSET as DATASET
from posefactory_dagster.datasets.documents import (
    CONTACT_SHEET,
    VARIETY,
    VARIETY_CHART,
    VARIETY_TABLE,
)
from posefactory_dagster.datasets.export import export
from posefactory_dagster.datasets.gallery import PAGE
from posefactory_dagster.datasets.members import (
    MALFORMED,
    Member,
    NothingLeft,
    UnusableMember,
)
from posefactory_dagster.motions.documents import MOTION, RecipeError, read_recipe
from posefactory_dagster.pictures import thumbnail_markdown
from posefactory_dagster.pipeline.jobs import GROUP, OPTIONAL_INPUTS
from posefactory_dagster.pipeline.partitions import REFERENCES, published, rounded, viewer_link
from posefactory_dagster.pipeline.resources import ProjectResource
from posefactory_dagster.renders.documents import RenderFacts
from posefactory_dagster.review.approval import ApprovalError, Decisions, read_decisions
from posefactory_dagster.settings import DatasetSettings
from posefactory_dagster.storage import layout
from posefactory_dagster.storage.io_manager import StoreResource
from posefactory_dagster.storage.sets import CommittedSet, CommittedSets, SetRef, identity_of
from posefactory_dagster.storage.store import DamagedObject

DATASET_VERSION = 8
VARIETY_VERSION = 2
COMPLETE = "dataset_is_complete"
NO_HOLES = "nothing_is_missing"


def _all() -> dg.AssetIn:
    return dg.AssetIn(partition_mapping=dg.AllPartitionMapping())


@dg.asset(
    ins={
        "multi_angle_renders": _all(),
        "pose_labels": _all(),
        "label_accuracy": _all(),
        "enhanced_variants": _all(),
    },
    group_name=GROUP,
    dagster_type=REFERENCES,
    metadata={OPTIONAL_INPUTS: ["enhanced_variants"]},  # a gain, and no condition
    kinds={"coco", "parquet"},
    check_specs=[
        dg.AssetCheckSpec(
            COMPLETE,
            asset=DATASET,
            description="Warns when characters are left out, or when a split has no images.",
        )
    ],
    description="Images, COCO keypoints (17 and 33), one Parquet, splits by character, contact sheet, card.",
)
def pose_dataset(
    context: dg.AssetExecutionContext,
    multi_angle_renders: dict[str, CommittedSet],
    pose_labels: dict[str, CommittedSet],
    label_accuracy: dict[str, CommittedSet],
    enhanced_variants: dict[str, CommittedSet],
    store: StoreResource,
    project: ProjectResource,
) -> dg.MaterializeResult:
    """Export every character whose renders, labels and accuracy belong together, with its locked variants."""
    sets = store.sets()
    registered = context.instance.get_dynamic_partitions(CHARACTERS)
    decisions = read_decisions(sets.store)
    for error in decisions.errors.values():
        context.log.error(error)
    members: dict[str, Member] = {}
    left_out: dict[str, str] = {}
    for key in registered:
        found = [s.get(key) for s in (multi_angle_renders, pose_labels, label_accuracy)]
        if found[0] is None:
            continue
        try:
            members[key] = _member(sets, key, found, enhanced_variants.get(key), decisions)
        except UnusableMember as error:
            left_out[key] = str(error)
            continue
        if not members[key].varied and key in enhanced_variants:
            left_out[key] = f"{key}: its variants are left out, they are not of its present renders"
    while True:
        if not members:
            reasons = "".join(f"\n- {text}" for text in left_out.values())
            raise dg.Failure(
                description=f"no character is labelled yet; run `posefactory run --all` first{reasons}",
                allow_retries=False,
            )
        _refuse_poorer(sets, registered, members, left_out)
        try:
            committed = _committed(context, sets, members, project.settings().dataset)
            break
        except UnusableMember as error:
            left_out[error.key] = str(error)
            del members[error.key]
        except NothingLeft as error:
            raise dg.Failure(description=str(error), allow_retries=False) from error
    for text in left_out.values():
        context.log.warning(text)
    metadata = _metadata(committed)
    if left_out:
        metadata["left_out"] = dg.MetadataValue.json(left_out)
    empty = [name for name in splits.SPLITS if not committed.facts["splits"].get(name)]
    check = dg.AssetCheckResult(
        check_name=COMPLETE,
        passed=not left_out and not empty,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={
            "left_out": dg.MetadataValue.json(left_out),
            "empty_splits": ", ".join(empty) or "none",
        },
    )
    return published(sets, committed.ref, metadata, [check])


def _member(
    sets: CommittedSets,
    key: str,
    found: Sequence[CommittedSet | None],
    made: CommittedSet | None,
    decisions: Decisions,
) -> Member:
    """A character with its renders, labels and accuracy, and those of its variants that may enter.

    Raises:
        UnusableMember: they do not belong together, or its locks cannot be read.
    """
    renders, labels, scores = found
    if not (renders and labels and scores):
        raise UnusableMember(key, "left out, it is not labelled and measured yet")
    if not (labels.made_from(renders) and scores.made_from(labels) and scores.made_from(renders)):
        raise UnusableMember(key, "left out, its labels are not of its present renders")
    skins, motions = [], []
    try:
        for character, digest in renders.inputs["skins"]:
            recipe = read_recipe(sets.store, character)
            skins.append((character if recipe is None else recipe.skin, str(digest)))
            motions += [recipe.motion] if recipe is not None else []
    except (RecipeError, KeyError) as error:
        raise UnusableMember(key, f"left out ({error})") from error
    who = tuple(skins), tuple(motions)
    if made is None or not made.made_from(renders):
        return Member(key, *who, renders, labels, scores, varied=False)
    try:
        variants = admitted(sets.store, made, decisions)
    except (ApprovalError, DamagedObject, *MALFORMED) as error:
        raise UnusableMember(key, f"left out, its variants cannot be read ({error})") from error
    return Member(key, *who, renders, labels, scores, tuple(variants))


def _committed(
    context: dg.AssetExecutionContext,
    sets: CommittedSets,
    chosen: Mapping[str, Member],
    settings: DatasetSettings,
) -> CommittedSet:
    """The dataset of these members, made if it is not there yet.

    Args:
        chosen: by key, in the order of registration, by which splits are drawn.

    Raises:
        UnusableMember: the files of one are damaged.
    """
    facts = {key: m.renders.facts_as(RenderFacts) for key, m in chosen.items()}
    split = splits.assign(
        {key: m.skins for key, m in chosen.items()},
        {key: f.frames for key, f in facts.items()},
        settings,
    )
    split = splits.apart(
        split,
        _clips(sets, chosen),
        {k: dict.fromkeys(f.looks, f.images // len(f.looks)) for k, f in facts.items()},
        {k: Counter(v.background for v in m.variants if v.background) for k, m in chosen.items()},
        settings,
    )
    members = [chosen[key] for key in sorted(chosen)]
    known = functools.cache(functools.partial(variety_of.known_of, sets))
    inputs = {
        "sets": [
            dataclasses.astuple(s.ref) for m in members for s in (m.renders, m.labels, m.accuracy)
        ],
        "splits": split.document(),
        "variants": [
            [m.key, v.variant, v.image.sha256] for m in members for v in m.variants if v.image
        ],
        "people": {skin: known(skin) for m in members for skin, _ in m.skins},
    }
    values = {"version": DATASET_VERSION, **dataclasses.asdict(settings)}
    ref = SetRef(DATASET, layout.UNPARTITIONED, identity_of(DATASET, inputs, values))
    if (committed := sets.find(ref)) is not None:
        context.log.info("found committed: nothing has changed")
        return committed
    with sets.scratch() as scratch:
        figures = export(
            members,
            split,
            sets.store,
            scratch,
            settings,
            ref.identity,
            known,
            lambda done, total: progress.tell("export", done, total),
        )
        return sets.commit(ref, scratch, inputs=inputs, settings=values, facts=figures)


def _clips(sets: CommittedSets, chosen: Mapping[str, Member]) -> dict[str, tuple[str, ...]]:
    """Of each member, its motions; of those that are one clip under several keys, by the key that comes first."""
    keys: dict[str, str] = {}

    @functools.cache
    def known(motion: str) -> str:
        found = sets.readable(MOTION, motion)
        return motion if found is None else keys.setdefault(found.ref.identity, motion)

    return {key: tuple(dict.fromkeys(map(known, m.motions))) for key, m in chosen.items()}


def _refuse_poorer(
    sets: CommittedSets,
    registered: Sequence[str],
    members: Mapping[str, Member],
    left_out: Mapping[str, str],
) -> None:
    """Keep the dataset there is where steps before this one failed for characters that it holds.

    Raises:
        dagster.Failure: some of its characters, or their variants, are not made anew yet.
    """
    previous = sets.readable(DATASET, layout.UNPARTITIONED)
    if previous is None:
        return
    held = {SetRef(*ref).partition for ref in previous.inputs["sets"]} & set(registered)
    varied = {row[0] for row in previous.inputs["variants"]}
    unfinished = [
        key
        for key in sorted(held)
        if key not in members or (key in varied and not members[key].varied)
    ]
    if unfinished:
        reasons = "".join(f"\n- {left_out[key]}" for key in unfinished if key in left_out)
        raise dg.Failure(
            description=f"the dataset stays as it was: {', '.join(unfinished)} would be missing from it, or be there without "
            f"variants, as a step before failed; run these again, or forget them with posefactory characters remove{reasons}",
            allow_retries=False,
        )


def _metadata(committed: CommittedSet) -> dict[str, Any]:
    facts = committed.facts
    return {
        "viewer": viewer_link(committed.ref.identity, "datasets"),
        "preview": dg.MetadataValue.md(thumbnail_markdown(committed.path(CONTACT_SHEET), 480)),
        **rounded({k: v for k, v in facts.items() if k != "splits"}),
        "splits": dg.MetadataValue.json(facts["splits"]),
        "gallery": dg.MetadataValue.path(committed.address(PAGE)),
        "folder": committed.address(),
        "version": committed.ref.identity,
    }


@dg.asset(
    name=VARIETY,
    # It reads the dataset that readers get, and by it the renders that are in it.
    deps=[pose_dataset],
    group_name=GROUP,
    dagster_type=REFERENCES,
    kinds={"pandas", "matplotlib"},
    check_specs=[
        dg.AssetCheckSpec(
            NO_HOLES,
            asset=VARIETY,
            description=f"Warns when fewer than {variety_of.LEAST_SHARE:.0%} of the people have a pose, view, size, body or occlusion; says what would add them.",
        )
    ],
    description="How poses, views, bodies, skin tones, clothes, places, sizes and occlusion are spread in the dataset, and what is missing.",
)
def variety(context: dg.AssetExecutionContext, store: StoreResource) -> dg.MaterializeResult:
    """Measure the present dataset."""
    sets = store.sets()
    dataset = sets.readable(DATASET, layout.UNPARTITIONED)
    if dataset is None:
        raise dg.Failure(description=f"no dataset is made yet; materialize `{DATASET}` first", allow_retries=False)  # fmt: skip
    inputs, settings = {"sets": [dataclasses.astuple(dataset.ref)]}, {"version": VARIETY_VERSION}
    ref = SetRef(VARIETY, layout.UNPARTITIONED, identity_of(VARIETY, inputs, settings))
    committed = sets.find(ref)
    if committed is None:
        try:
            table = variety_of.read_people(dataset.path(variety_of.PEOPLE_TABLE))
        except KeyError as error:
            raise dg.Failure(description=f"the dataset is of an earlier version; materialize `{DATASET}` again", allow_retries=False) from error  # fmt: skip
        except DamagedObject as error:
            raise dg.Failure(description=str(error), allow_retries=False) from error
        found = variety_of.shares(table)
        with sets.scratch() as scratch:
            table.to_parquet(scratch / VARIETY_TABLE, index=False)
            variety_of.draw(found, len(table), scratch / VARIETY_CHART)
            facts = {"people": len(table), "shares": found}
            committed = sets.commit(ref, scratch, inputs=inputs, settings=settings, facts=facts)
    missing = variety_of.holes(committed.facts["shares"])
    lines = "\n".join(f"| {h.axis} | {h.value} | {h.share:.1%} | {h.fill} |" for h in missing)
    metadata = {
        "preview": dg.MetadataValue.md(thumbnail_markdown(committed.path(VARIETY_CHART), 900)),
        "people": committed.facts["people"],
        "holes": dg.MetadataValue.md(f"| of | missing | share | filled by |\n|---|---|---|---|\n{lines}" if missing else "none"),
        "chart": committed.address(VARIETY_CHART),
    }  # fmt: skip
    check = dg.AssetCheckResult(
        check_name=NO_HOLES,
        passed=not missing,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"missing": len(missing)},
    )
    return published(sets, committed.ref, metadata, [check])
