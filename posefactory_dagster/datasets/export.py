"""Write the dataset: images, COCO and YOLO labels, Hugging Face metadata, one Parquet, contact sheet and card."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from blender_scripts.contract import LANDMARKS
from posefactory_dagster.datasets import croissant, gallery
from posefactory_dagster.datasets.admission import locked_images
from posefactory_dagster.datasets.annotations import Annotations
from posefactory_dagster.datasets.card import card
from posefactory_dagster.datasets.documents import CARD, CONTACT_SHEET
from posefactory_dagster.datasets.members import (
    MALFORMED,
    Member,
    Picture,
    UnusableMember,
    pictures_of,
)
from posefactory_dagster.datasets.sheet import contact_sheet
from posefactory_dagster.datasets.splits import SPLITS, Splits
from posefactory_dagster.datasets.tables import landmark_table
from posefactory_dagster.labels.documents import AccuracyFacts
from posefactory_dagster.renders.documents import RenderFacts, Truth, read_truth
from posefactory_dagster.settings import DatasetSettings
from posefactory_dagster.storage.sets import REPAIR
from posefactory_dagster.storage.store import DamagedObject, Store
from posefactory_dagster.variants.documents import RECORDS

#: What of a render set goes into a dataset.
EXPORTED = ("images", "masks", "depth")


def export(
    members: Sequence[Member],
    splits: Splits,
    store: Store,
    folder: Path,
    settings: DatasetSettings,
    version: str,
    tell: Callable[[int, int], None],
) -> dict[str, Any]:
    """Write all files of a dataset under ``folder`` and return its numbers; the card names the files.

    Args:
        version: the identity that it will have.

    Raises:
        UnusableMember: a file of a set, or a locked image, is not what it was; ``folder`` is half-written.
    """
    for name in ("images", "labels"):
        for split in SPLITS:
            (folder / name / split).mkdir(parents=True)
    for name in ("masks", "depth", "annotations"):
        (folder / name).mkdir()
    labels = Annotations(settings)
    tables, pictures = [], {}
    for done, member in enumerate(members):
        try:
            truth = read_truth(member.renders)
            mine = list(pictures_of(member, truth, splits, negatives=settings.negatives))
            _copy_files(member, mine, truth, store, folder)
            for picture in mine:
                labels.add(member, picture, truth, folder)
            tables.append(landmark_table(member, truth, mine))
        except DamagedObject as error:
            raise UnusableMember(member.key, f"left out ({error})") from error
        except MALFORMED as error:
            why = f"left out, a file of it is malformed ({error!r}); {REPAIR}"
            raise UnusableMember(member.key, why) from error
        pictures[member.key] = mine
        tell(done + 1, len(members))
    labels.write(folder)
    table = pd.concat(tables, ignore_index=True)
    table.to_parquet(folder / "landmarks.parquet", index=False)
    (folder / "splits.json").write_text(json.dumps(splits.document(), indent=1), "utf-8")
    records = {
        f"images/{p.name}": p.variant.model_dump(mode="json")
        for mine in pictures.values()
        for p in mine
        if p.variant is not None
    }
    (folder / RECORDS).write_text(json.dumps(records), "utf-8")
    gallery.write(folder, *labels.pictures_and_people(), table, version)
    contact_sheet(members, pictures, folder, folder / CONTACT_SHEET)
    figures = _figures(members, pictures, splits)
    (folder / CARD).write_text(card(members, pictures, splits, figures), "utf-8")
    licences = sorted({f"{n.removeprefix('piece_')}: {said}" for m in members for n, said in m.renders.facts_as(RenderFacts).licences.items()})  # fmt: skip
    made = max(m.renders.created_at for m in members)
    croissant.write(folder, figures, version, licences, made[:10])
    return figures


def _copy_files(
    member: Member, pictures: Sequence[Picture], truth: Truth, store: Store, folder: Path
) -> None:
    kinds = (*EXPORTED, *(("instances",) if truth.persons > 1 else ()))
    for kind in kinds[1:]:
        (folder / kind).mkdir(exist_ok=True)
    files = member.renders.paths(f"{k}/{i.file}" for i in truth.images for k in kinds)
    locked = locked_images(store, list(member.variants))
    for picture in pictures:
        target = folder / "images" / picture.name
        if picture.variant is not None:
            shutil.copyfile(locked[picture.variant.variant], target)
            continue
        file = truth.images[picture.index].file
        shutil.copyfile(files[f"images/{file}"], target)
        for kind in kinds[1:]:
            shutil.copyfile(files[f"{kind}/{file}"], folder / kind / picture.render)


def _figures(
    members: Sequence[Member], pictures: dict[str, list[Picture]], splits: Splits
) -> dict[str, Any]:
    every = [p for mine in pictures.values() for p in mine]
    by_proportion = {
        m.key: m.renders.facts_as(RenderFacts).landmarks_by_proportion for m in members
    }
    read = {m.key: read_truth(m.renders) for m in members}
    truths = [t.arrays for t in read.values()]
    people = sum(
        int((read[key].arrays["area"][list(read[key].rows_of(p.index))] > 0).sum())
        for key, mine in pictures.items()
        for p in mine
    )
    return {
        "characters": len(members),
        "images": len(every),
        "variants": sum(p.variant is not None for p in every),
        "people": people,
        "labels": people * len(LANDMARKS),
        "empty_images": sum(m.renders.facts_as(RenderFacts).empty_images for m in members),
        "landmarks_out_of_frame": int(sum((a["visibility"] == 0).sum() for a in truths)),
        "landmarks_hidden": int(sum((a["visibility"] == 1).sum() for a in truths)),
        "landmarks_by_proportion": sum(by_proportion.values()),
        "split_by": splits.unit,
        "splits": {s: sum(p.split == s for p in every) for s in SPLITS},
        **_agreement(members),
    }


def _agreement(members: Sequence[Member]) -> dict[str, float]:
    """MediaPipe against the truth over all images, weighted by images."""
    found = [m.accuracy.facts_as(AccuracyFacts).all for m in members]
    weights = np.array([f.images for f in found], float)
    result: dict[str, float] = {}
    for name in ("detection_rate", "pck_0.2", "pck_0.1", "oks"):
        values = np.array([f.model_dump(by_alias=True)[name] for f in found], float)
        known = np.isfinite(values)
        if known.any():
            result[name] = float(np.average(values[known], weights=weights[known]))
    result["swaps"] = sum(f.swaps for f in found)
    return result
