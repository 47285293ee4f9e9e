"""Uploads checked and measured inside Blender, for every asset that is made from files."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blender_scripts.contract import CONTACTS, FACTS, SKELETON, THUMBNAIL, Job, Task, TaskInput
from blender_scripts.supervise import Outcome
from posefactory_dagster import pictures
from posefactory_dagster.compute.job import new_job, user_namings
from posefactory_dagster.intake import uploads
from posefactory_dagster.intake.uploads import Upload, UploadError
from posefactory_dagster.pipeline.partitions import PartitionLedger
from posefactory_dagster.storage.sets import (
    CommittedSet,
    CommittedSets,
    SetRef,
    identity_of,
    text_digest,
)
from posefactory_dagster.storage.store import Store, explain_disk

#: Raised when inspection means something else, so that everything is inspected again.
INSPECTION_VERSION = 4

#: Runs a job in the folder of its files, and tells how each of its tasks ended.
Runner = Callable[[Job, Path, Callable[[str, Outcome], None]], object]


@dataclass(frozen=True)
class Inspection:
    """What to inspect for a key: the set to make of it, and its files by role (``skin``, ``motion``).

    ``inputs`` is what the manifest says of the files, by role. With both roles, the motion is cast on the skin. ``earlier`` is
    the set that the version before would have made: it holds the same, but no poses. ``touch`` as in ``Task``.
    """

    ref: SetRef
    files: Mapping[str, Upload]
    inputs: Mapping[str, dict[str, Any]]
    earlier: SetRef
    sets: Sequence[SetRef] = ()
    touch: bool = True


def plan(
    store: Store,
    asset: str,
    key: str,
    files: Mapping[str, Upload],
    *,
    takes: Mapping[str, str] | None = None,
    made_of: Mapping[str, Any] | None = None,
    version: Mapping[str, int] | None = None,
) -> Inspection:
    """The inspection of a key's files, with its identity.

    Args:
        files: uploads by role.
        takes: by role, the animation of the file that is meant; by default the one that the settings choose.
        made_of: what else the set is made of.
        version: what changes the meaning of an inspection beside ``INSPECTION_VERSION``.

    Raises:
        UploadError: a file is at fault.
    """
    inputs = {r: uploads.describe(store, upload) for r, upload in files.items()}
    for role, take in (takes or {}).items():
        inputs[role] = {**inputs[role], "take": take}
    contents: dict[str, Any] = {r: value["sha256"] for r, value in inputs.items()}
    contents |= {f"{r}_take": v["take"] for r, v in inputs.items() if "take" in v}
    contents |= made_of or {}

    def ref(inspection: int) -> SetRef:
        settings = {"inspection_version": inspection, **(version or {})}
        return SetRef(asset, key, identity_of(asset, contents, settings))

    return Inspection(ref(INSPECTION_VERSION), files, inputs, ref(INSPECTION_VERSION - 1))


def with_present_rig(sets: CommittedSets, planned: Inspection) -> Inspection:
    """The inspection that holds now: a set that was read by a rig map of the user's is made anew when that map was mended."""
    committed = sets.find(planned.ref)
    if committed is None:
        return planned
    digest = _digest_of(str(committed.facts.get("rig_map", "")))
    if not digest or committed.facts.get("rig_digest") == digest:
        return planned
    ref = planned.ref
    identity = identity_of(ref.asset, {"inspection": ref.identity}, {"rig": digest})
    return dataclasses.replace(planned, ref=SetRef(ref.asset, ref.partition, identity))


def _digest_of(naming: str) -> str:
    """The digest of a rig map of the user's; empty for those that ship."""
    found = next((n for n in user_namings() if n["name"] == naming), None)
    meaning = {k: found[k] for k in ("sides", "bones")} if found else None
    return text_digest(json.dumps(meaning, sort_keys=True)) if meaning else ""


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
                facts["rig_digest"] = _digest_of(str(facts.get("rig_map", "")))
                take(_commit(sets, planned[key], scratch / key, facts))

        if tasks:
            run(new_job("character", tasks), scratch, on_outcome)


def _task(sets: CommittedSets, item: Inspection, folder: Path) -> Task:
    """Copies the files into ``folder``, which the set is made of; the task for Blender."""
    folder.mkdir()
    inputs = {}
    for role, upload in item.files.items():
        path = folder / f"{role}{Path(upload.file_name).suffix.lower()}"
        uploads.copy_unchanged(sets.store, upload, item.inputs[role]["sha256"], path)
        inputs[role] = TaskInput(str(path), upload.file_name, item.inputs[role].get("take"))
    return Task(item.ref.partition, inputs, str(folder), touch=item.touch)


def _commit(
    sets: CommittedSets, item: Inspection, folder: Path, facts: dict[str, Any]
) -> CommittedSet:
    skeleton = folder / SKELETON
    if skeleton.exists():
        pictures.draw_motion_strip(skeleton, folder / THUMBNAIL)
        pictures.draw_contacts(skeleton, folder / CONTACTS)
    # A motion's file may hold many clips, each with a set of its own; uploads keep it, and a cast keeps its curves.
    for path in folder.glob("motion.*"):
        path.unlink()
    return sets.commit(
        item.ref,
        folder,
        inputs={
            **item.inputs,
            **({"sets": [dataclasses.astuple(r) for r in item.sets]} if item.sets else {}),
        },
        settings={"inspection_version": INSPECTION_VERSION},
        facts=facts,
    )
