"""The asset `character`: an upload, checked and measured."""

import json
import shutil
from pathlib import Path

import dagster as dg

from blender_scripts.contract import CharacterTask, SettingsError
from blender_scripts.supervise import Outcome
from posefactory_dagster import pictures
from posefactory_dagster.blender.job import new_job
from posefactory_dagster.blender.pipes import BlenderResource
from posefactory_dagster.characters import intake
from posefactory_dagster.characters.documents import THUMBNAIL, facts_of
from posefactory_dagster.partitions import CHARACTERS, CharacterLedger, viewer_link
from posefactory_dagster.storage.io_manager import StoreResource
from posefactory_dagster.storage.sets import CommittedSet, CommittedSets, SetRef, file_sha256
from posefactory_dagster.storage.store import explain_disk


@dg.asset(
    partitions_def=CHARACTERS,
    backfill_policy=dg.BackfillPolicy.single_run(),
    group_name="pipeline",
    kinds={"blender", "fbx"},
    description="An uploaded FBX (and the motion cast on it), checked and measured inside Blender.",
)
def character(
    context: dg.AssetExecutionContext, store: StoreResource, blender: BlenderResource
) -> dg.MaterializeResult[dict[str, SetRef]]:
    """Inspect each key's files; a file without a skin becomes a motion of the library."""
    sets = store.sets()
    ledger = CharacterLedger(context, sets)
    try:
        planner = intake.CharacterPlanner(sets.store)
    except SettingsError as error:
        raise dg.Failure(description=str(error), allow_retries=False) from error
    plans = {key: planner.plans[key] for key in ledger.plan(planner, {}, _metadata)}
    todo = list(plans.values())
    if not todo:
        return ledger.close()

    with sets.scratch() as scratch:
        tasks = []
        for planned in todo:
            folder = scratch / planned.key
            folder.mkdir()
            try:
                for role, upload in (("skin", planned.skin), ("motion", planned.motion)):
                    if upload is not None:
                        _copy(sets, upload, planned.inputs[role]["sha256"], folder / f"{role}.fbx")
            except intake.UploadError as error:
                ledger.bad(planned.key, str(error))
                continue
            except OSError as error:
                ledger.bad(planned.key, str(explain_disk(error, sets.store.address())))
                continue
            tasks.append(
                CharacterTask(
                    key=planned.key,
                    skin=str(folder / "skin.fbx"),
                    motion=str(folder / "motion.fbx") if planned.motion else None,
                    output=str(folder),
                    skin_name=planned.skin.file_name,
                    motion_name=planned.motion.file_name if planned.motion else "",
                    take=planned.inputs["skin"].get("take"),
                    motion_take=planned.inputs.get("motion", {}).get("take"),
                )
            )

        def on_outcome(key: str, outcome: Outcome) -> None:
            if outcome.error:
                ledger.bad(key, outcome.error)
                return
            with ledger.failing_alone(key):
                committed = _commit(sets, plans[key], scratch / key, outcome)
                ledger.good(key, committed.ref, _metadata(committed))

        if tasks:
            blender.run_here(context, new_job("character", tasks), scratch, on_outcome)
        return ledger.close()


def _copy(sets: CommittedSets, upload: intake.Upload, sha256: str, target: Path) -> None:
    """Copy an upload that is what it was when its identity was taken.

    Raises:
        UploadError: it was replaced in between; kept under the old identity, it would be somebody else.
    """
    shutil.copyfile(intake.fetch(sets.store, upload), target)
    if file_sha256(target) != sha256:
        raise intake.UploadError(
            f"{upload.file_name}: it was replaced while it was read; run it again"
        )


def _commit(
    sets: CommittedSets, planned: intake.CharacterPlan, folder: Path, outcome: Outcome
) -> CommittedSet:
    facts = json.loads((folder / "facts.json").read_text("utf-8"))
    skeleton = folder / "skeleton.npz"
    if skeleton.exists():
        pictures.draw_motion_strip(skeleton, folder / THUMBNAIL)
    return sets.commit(
        SetRef(intake.ASSET, planned.key, planned.identity),
        folder,
        inputs=planned.inputs,
        settings={"inspection_version": intake.INSPECTION_VERSION},
        facts=facts,
    )


def _metadata(committed: CommittedSet) -> dict[str, object]:
    facts = facts_of(committed)
    start, end = facts.frame_range
    shown = {
        "viewer": viewer_link(committed.ref.partition),
        "kind": facts.kind,
        "preview": dg.MetadataValue.md(pictures.thumbnail_markdown(committed.path(THUMBNAIL))),
        "height_m": facts.height_m,
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
        "size_mb": round(committed.inputs["skin"]["size"] / 1e6, 3),
        "sha256": committed.inputs["skin"]["sha256"],
        "identity": committed.ref.identity,
    }
    return {k: v for k, v in shown.items() if v is not None}
