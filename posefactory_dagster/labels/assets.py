"""The assets `pose_labels` and `label_accuracy`: MediaPipe's opinion, and what it is worth."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
from pydantic import create_model

from blender_scripts.contract import LANDMARKS, SettingsError
from posefactory_dagster import progress
from posefactory_dagster.characters.documents import PARTITIONS as CHARACTERS
from posefactory_dagster.labels.documents import (
    ACCURACY,
    ACCURACY_TABLE,
    CHART,
    LABEL_TABLE,
    LABELS,
    OVERLAYS,
    AccuracyFacts,
    LabelFacts,
)
from posefactory_dagster.pictures import contact_strip, thumbnail_markdown
from posefactory_dagster.pipeline.jobs import GROUP
from posefactory_dagster.pipeline.partitions import (
    REFERENCES,
    PartitionLedger,
    check_of,
    partition_set,
    viewer_link,
)
from posefactory_dagster.pipeline.plans import Inputs, NotPlanned, required
from posefactory_dagster.pipeline.resources import ProjectResource
from posefactory_dagster.quality import accuracy, landmarker, model
from posefactory_dagster.renders.documents import ASSET as RENDERS
from posefactory_dagster.renders.documents import read_truth
from posefactory_dagster.settings import LabelSettings, changed, launchpad_fields
from posefactory_dagster.storage.io_manager import StoreResource
from posefactory_dagster.storage.sets import (
    CommittedSet,
    CommittedSets,
    SetRef,
    file_sha256,
    identity_of,
)

#: Of the overlays in a preview.
STRIP_IMAGES = 8
LABELS_VERSION, ACCURACY_VERSION = 2, 2
AGREES = "mediapipe_agrees"
#: The check warns below this. Published for BlazePose Full on real people: 95.5-96.3 (yoga, dance,
#: HIIT; Google's model card); rendered people are harder, and back views more so.
PCK_WARNING = 0.80


def labels_identity(renders: CommittedSet, model_sha256: str, settings: LabelSettings) -> str:
    """What a label set is made from: the images, the model, the switches."""
    return identity_of(
        LABELS,
        {"renders": renders.ref.identity, "model": model_sha256},
        {"version": LABELS_VERSION, **dataclasses.asdict(settings)},
    )


def accuracy_identity(labels: CommittedSet) -> str:
    """What an accuracy set is made from."""
    return identity_of(ACCURACY, {"labels": labels.ref.identity}, {"version": ACCURACY_VERSION})


@dataclasses.dataclass(frozen=True)
class LabelPlanner:
    """Plans `pose_labels`: renders, MediaPipe's model, and the switches."""

    model_sha256: str
    settings: LabelSettings
    asset: str = LABELS

    def __call__(self, key: str, inputs: Inputs) -> SetRef:
        renders = required(key, inputs, RENDERS, "rendered")
        return SetRef(LABELS, key, labels_identity(renders, self.model_sha256, self.settings))


@dataclasses.dataclass(frozen=True)
class AccuracyPlanner:
    """Plans `label_accuracy`: labels, with the renders that they are of."""

    asset: str = ACCURACY

    def __call__(self, key: str, inputs: Inputs) -> SetRef:
        renders = required(key, inputs, RENDERS, "rendered")
        labels = required(key, inputs, LABELS, "labelled")
        if not labels.made_from(renders):
            raise NotPlanned(f"{key}: its labels are of older renders; materialize `{LABELS}`")
        return SetRef(ACCURACY, key, accuracy_identity(labels))


LabelConfig = create_model(  # type: ignore[call-overload]
    "LabelConfig",
    __base__=dg.Config,
    __doc__="What to label differently from posefactory.toml in this run.",
    **launchpad_fields(LabelSettings),
)


@dg.asset(
    partitions_def=partition_set(CHARACTERS),
    backfill_policy=dg.BackfillPolicy.single_run(),
    group_name=GROUP,
    kinds={"mediapipe", "parquet"},
    description="MediaPipe's 33 landmarks for each image; no person found is a row, not an error.",
)
def pose_labels(
    context: dg.AssetExecutionContext,
    config: LabelConfig,  # type: ignore[valid-type]
    multi_angle_renders: dict[str, CommittedSet],
    store: StoreResource,
    project: ProjectResource,
) -> dg.MaterializeResult[dict[str, SetRef]]:
    """Label what is not labelled yet."""
    overrides = {k: v for k, v in config.model_dump().items() if v is not None}  # type: ignore[attr-defined]
    sets = store.sets()
    try:
        settings = changed(project.settings().labels, **overrides)
        task = model.model_path()
    except (SettingsError, model.ModelError) as error:
        raise dg.Failure(description=str(error), allow_retries=False) from error
    sha256 = file_sha256(task)
    ledger = PartitionLedger(context, sets)
    planner = LabelPlanner(sha256, settings)
    todo = ledger.plan(planner, {RENDERS: multi_angle_renders}, _labels_metadata)
    for key, ref in todo.items():
        with ledger.failing_alone(key):
            committed = _label(sets, ref, multi_angle_renders[key], task, sha256, settings)
            context.log.info(f"{key}: labelled {committed.facts_as(LabelFacts).images} images")
            ledger.good(key, ref, _labels_metadata(committed))
    return ledger.close()


def _label(
    sets: CommittedSets,
    ref: SetRef,
    renders: CommittedSet,
    task: Path,
    sha256: str,
    settings: LabelSettings,
) -> CommittedSet:
    truth = read_truth(renders)
    records = {i.file: i for i in truth.images}
    arrays = truth.arrays
    paths = list(renders.paths(f"images/{name}" for name in records).values())
    results = []
    with sets.scratch() as scratch:
        if settings.save_debug_images:
            (scratch / OVERLAYS).mkdir()
        for done, (path, found) in enumerate(
            landmarker.detect(task, paths, settings.min_detection_confidence, truth.persons)
        ):
            progress.tell(f"label {ref.partition} image", done + 1, len(paths))
            points = [values[:, :2] * truth.size_of(done) for values in found]
            # One person is whoever is found; of several, each is the one that it agrees with best.
            who: list[int | None] = [0 if found else None]
            if truth.persons > 1:
                mine = list(truth.rows_of(done))
                who = accuracy.matched(
                    arrays["pixels"][mine],
                    arrays["measured"][mine],
                    arrays["bbox"][mine],
                    arrays["area"][mine],
                    points,
                )
            for person, other in enumerate(who):
                record = records[path.name].model_dump(include={"file", "frame", "view"})
                values = None if other is None else found[other]
                results.append(({**record, "person_index": person}, values))
            if settings.save_debug_images:
                landmarker.draw_overlay(
                    path,
                    arrays["pixels"][list(truth.rows_of(done))],
                    points,
                    scratch / OVERLAYS / f"{path.stem}.jpg",
                )
        frame = landmarker.to_frame(results)
        frame.to_parquet(scratch / LABEL_TABLE, index=False)
        if settings.save_json:
            rows = json.loads(frame.to_json(orient="records"))
            (scratch / "labels.json").write_text(json.dumps(rows), "utf-8")
        if settings.save_numpy:
            np.save(
                scratch / "labels.npy", landmarker.to_array(frame, list(records), truth.persons)
            )
        return sets.commit(
            ref,
            scratch,
            inputs={"sets": [dataclasses.astuple(renders.ref)], "model_sha256": sha256},
            settings=dataclasses.asdict(settings),
            facts=LabelFacts(
                images=len(paths),
                people=len(results),
                detected=sum(values is not None for _, values in results),
            ).model_dump(),
        )


def _labels_metadata(committed: CommittedSet) -> dict[str, Any]:
    facts = committed.facts_as(LabelFacts)
    shown = {
        "viewer": viewer_link(committed.ref.partition, "characters"),
        "images": facts.images,
        "detected": facts.detected,
        "detection_rate": facts.detection_rate,
        "landmarks": len(LANDMARKS),
        "identity": committed.ref.identity,
    }
    overlays = sorted(n for n in committed.files if n.startswith(f"{OVERLAYS}/"))
    if overlays:
        strip = contact_strip([committed.path(n) for n in overlays[:STRIP_IMAGES]])
        shown["preview"] = dg.MetadataValue.md(thumbnail_markdown(strip, 416))
    return shown


@dg.asset(
    partitions_def=partition_set(CHARACTERS),
    backfill_policy=dg.BackfillPolicy.single_run(),
    group_name=GROUP,
    dagster_type=REFERENCES,
    kinds={"python", "parquet"},
    description="MediaPipe measured against the exact truth: detection, PCK, OKS, centimetres, swaps.",
    check_specs=[
        check_of(
            ACCURACY,
            AGREES,
            CHARACTERS,
            f"Warns when PCK@0.2 of a character is under {PCK_WARNING}.",
        )
    ],
)
def label_accuracy(
    context: dg.AssetExecutionContext,
    multi_angle_renders: dict[str, CommittedSet],
    pose_labels: dict[str, CommittedSet],
    store: StoreResource,
) -> dg.MaterializeResult:
    """Compare each character's labels with its truth; the check covers those that could be compared, whatever others do."""
    sets = store.sets()
    ledger = PartitionLedger(context, sets)

    def shown(committed: CommittedSet) -> dict[str, Any]:
        score = committed.facts_as(AccuracyFacts).all.pck_0_2
        low = None if score >= PCK_WARNING else f"PCK@0.2 is {score:.3f}, under {PCK_WARNING}"
        ledger.check(AGREES, committed.ref.partition, low, pck=score)
        return _accuracy_metadata(committed)

    inputs = {RENDERS: multi_angle_renders, LABELS: pose_labels}
    for key, ref in ledger.plan(AccuracyPlanner(), inputs, shown).items():
        with ledger.failing_alone(key):
            committed = _measure(sets, ref, multi_angle_renders[key], pose_labels[key])
            ledger.good(key, ref, shown(committed))
    return ledger.close()


def _measure(
    sets: CommittedSets, ref: SetRef, renders: CommittedSet, labels: CommittedSet
) -> CommittedSet:
    truth = read_truth(renders)
    files = [i.file for i in truth.images]
    found = landmarker.to_array(pd.read_parquet(labels.path(LABEL_TABLE)), files, truth.persons)
    agreement = accuracy.compare(truth.arrays, found, truth.sizes)

    def by_row(values: list[Any]) -> np.ndarray:
        return np.repeat(values, truth.persons)

    view_names = by_row([i.view for i in truth.images])
    views = {v: agreement.summary(view_names == v) for v in dict.fromkeys(view_names.tolist())}
    landmarks = accuracy.by_landmark(agreement)
    per_image = pd.DataFrame(
        {
            "file": by_row(files),
            "frame": by_row([i.frame for i in truth.images]),
            "view": view_names,
            "person_index": np.tile(np.arange(truth.persons), len(files)),
            "detected": agreement.detected,
            "oks": agreement.oks,
            "aligned_error_cm": agreement.aligned_cm,
            "swapped": agreement.swapped,
        }
    )
    with sets.scratch() as scratch:
        per_image.to_parquet(scratch / ACCURACY_TABLE, index=False)
        accuracy.draw_chart(views, landmarks, scratch / CHART)
        return sets.commit(
            ref,
            scratch,
            inputs={"sets": [dataclasses.astuple(r) for r in (renders.ref, labels.ref)]},
            settings={"version": ACCURACY_VERSION},
            facts={"all": agreement.summary(), "views": views, "landmarks": landmarks},
        )


def _accuracy_metadata(committed: CommittedSet) -> dict[str, Any]:
    found = committed.facts_as(AccuracyFacts).all.model_dump(by_alias=True)
    figures = {k: v for k, v in found.items() if v == v}  # no NaN in the log
    return {
        "viewer": viewer_link(committed.ref.partition, "characters"),
        **figures,
        "preview": dg.MetadataValue.md(thumbnail_markdown(committed.path(CHART), 336)),
        "identity": committed.ref.identity,
    }
