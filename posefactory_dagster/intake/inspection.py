"""Uploads checked and measured inside Blender, for every asset that is made from files."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blender_scripts.contract import FACTS, SKELETON, THUMBNAIL, Job, Task, character_task
from blender_scripts.supervise import Outcome
from posefactory_dagster import pictures
from posefactory_dagster.compute.job import new_job
from posefactory_dagster.intake import uploads
from posefactory_dagster.intake.uploads import Upload, UploadError
from posefactory_dagster.pipeline.partitions import PartitionLedger
from posefactory_dagster.storage.sets import CommittedSet, CommittedSets, SetRef, identity_of
from posefactory_dagster.storage.store import Store, explain_disk

#: Raised when inspection means something else, so that everything is inspected again.
INSPECTION_VERSION = 3

#: Runs a job in the folder of its files, and tells how each of its tasks ended.
Runner = Callable[[Job, Path, Callable[[str, Outcome], None]], object]


@dataclass(frozen=True)
class Inspection:
    """What to inspect for a key: the set to make of it, its file, and a motion to cast on it.

    ``role`` names the file in the set (``<role>.fbx``) and in its manifest; ``inputs`` is what the manifest says of the
    files, by role.
    """

    ref: SetRef
    role: str
    file: Upload
    motion: Upload | None
    inputs: Mapping[str, dict[str, Any]]


def plan(
    store: Store, asset: str, key: str, role: str, file: Upload, motion: Upload | None = None
) -> Inspection:
    """The inspection of a key's files, with its identity.

    Raises:
        UploadError: a file is at fault.
    """
    files = {role: file} if motion is None else {role: file, "motion": motion}
    inputs = {r: uploads.describe(store, upload) for r, upload in files.items()}
    contents = {r: value["sha256"] for r, value in inputs.items()}
    contents |= {f"{r}_take": v["take"] for r, v in inputs.items() if "take" in v}
    identity = identity_of(asset, contents, {"inspection_version": INSPECTION_VERSION})
    return Inspection(SetRef(asset, key, identity), role, file, motion, inputs)


def inspect(
    sets: CommittedSets,
    ledger: PartitionLedger,
    todo: Sequence[Inspection],
    kind: str,
    run: Runner,
    take: Callable[[CommittedSet], None],
    refuse: Callable[[str], None],
) -> None:
    """Inspect files in one Blender process, and commit a set for each key; what fails is told to the ledger.

    Args:
        kind: ``skin`` or ``motion``, what the files must hold.
        take: gets each committed set.
        refuse: gets each key whose file holds another kind; no set is committed of it.
    """
    if not todo:
        return
    planned = {item.ref.partition: item for item in todo}
    with sets.scratch() as scratch:
        tasks = []
        for key, item in planned.items():
            try:
                tasks.append(_task(sets, item, scratch / key))
            except UploadError as error:
                ledger.bad(key, str(error))
            except OSError as error:
                ledger.bad(key, str(explain_disk(error, sets.store.address())))

        def on_outcome(key: str, outcome: Outcome) -> None:
            if outcome.error:
                ledger.bad(key, outcome.error)
                return
            with ledger.failing_alone(key):
                facts = json.loads((scratch / key / FACTS).read_text("utf-8"))
                if facts["kind"] != kind:
                    refuse(key)
                    return
                take(_commit(sets, planned[key], scratch / key, facts))

        if tasks:
            run(new_job("character", tasks), scratch, on_outcome)


def _task(sets: CommittedSets, item: Inspection, folder: Path) -> Task:
    """Copies the files into ``folder``, which the set is made of; the task for Blender."""
    folder.mkdir()
    main = folder / f"{item.role}.fbx"
    uploads.copy_unchanged(sets.store, item.file, item.inputs[item.role]["sha256"], main)
    motion = folder / "motion.fbx" if item.motion is not None else None
    if item.motion is not None and motion is not None:
        uploads.copy_unchanged(sets.store, item.motion, item.inputs["motion"]["sha256"], motion)
    return character_task(
        key=item.ref.partition,
        skin=str(main),
        motion=str(motion) if motion is not None else None,
        outputs=str(folder),
        skin_name=item.file.file_name,
        motion_name=item.motion.file_name if item.motion is not None else "",
        take=item.inputs[item.role].get("take"),
        motion_take=item.inputs["motion"].get("take") if item.motion is not None else None,
    )


def _commit(
    sets: CommittedSets, item: Inspection, folder: Path, facts: dict[str, Any]
) -> CommittedSet:
    skeleton = folder / SKELETON
    if skeleton.exists():
        pictures.draw_motion_strip(skeleton, folder / THUMBNAIL)
    return sets.commit(
        item.ref,
        folder,
        inputs=dict(item.inputs),
        settings={"inspection_version": INSPECTION_VERSION},
        facts=facts,
    )
