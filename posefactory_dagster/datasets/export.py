"""Write the dataset: images, COCO and YOLO labels, Hugging Face metadata, one Parquet, contact sheet and card."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from blender_scripts.contract import LANDMARKS
from posefactory_dagster.datasets import croissant, formats, gallery, rows, variety
from posefactory_dagster.datasets.admission import locked_images
from posefactory_dagster.datasets.annotations import items_of
from posefactory_dagster.datasets.balance import weights
from posefactory_dagster.datasets.card import card
from posefactory_dagster.datasets.documents import CARD, CONTACT_SHEET, STATISTICS
from posefactory_dagster.datasets.members import (
    MALFORMED,
    LeftOut,
    Member,
    NothingLeft,
    Picture,
    UnusableMember,
    pictures_of,
)
from posefactory_dagster.datasets.sheet import contact_sheet
from posefactory_dagster.datasets.splits import SPLITS, Splits
from posefactory_dagster.datasets.statistics import draw_statistics
from posefactory_dagster.datasets.tables import landmark_table
from posefactory_dagster.labels.documents import AccuracyFacts
from posefactory_dagster.renders.documents import RenderFacts, Truth, read_truth
from posefactory_dagster.settings import DatasetSettings, sample_characters
from posefactory_dagster.storage.linking import link_or_copy
from posefactory_dagster.storage.sets import REPAIR, file_sha256
from posefactory_dagster.storage.store import DamagedObject, Store

#: What of a render set goes into a dataset.
EXPORTED = ("images", "masks", "depth")


def export(
    members: Sequence[Member],
    splits: Splits,
    store: Store,
    folder: Path,
    settings: DatasetSettings,
    version: str,
    people_facts: Callable[[str], dict[str, str]],
    tell: Callable[[int, int], None],
) -> dict[str, Any]:
    """Write all files of a dataset under ``folder`` and return its numbers; the card names the files.

    Args:
        version: the identity that it will have. people_facts: what is said of a person by its key, see ``variety.known_of``.

    Raises:
        UnusableMember: a file of a set, or a locked image, is not what it was; ``folder`` is half-written.
        NothingLeft: no picture may enter it.
    """
    for name in ("images", "labels"):
        for split in SPLITS:
            (folder / name / split).mkdir(parents=True)
    for name in ("masks", "depth", "annotations"):
        (folder / name).mkdir()
    raw = folder / f"{rows.PICTURES}.part"
    writer = rows.RowWriter(raw)
    table = rows.TableWriter(folder / rows.LANDMARK_TABLE)
    people = rows.TableWriter(folder / variety.PEOPLE_TABLE, variety.PEOPLE_SCHEMA)
    pictures: dict[str, list[Picture]] = {}
    counted = _Counted()
    for done, member in enumerate(members):
        try:
            truth = read_truth(member.renders)
            mine = list(pictures_of(member, truth, splits, settings, counted.left_out))
            _link_files(member, mine, truth, store, folder, settings)
            landmarks = landmark_table(member, truth, mine)
            for item, picture in zip(items_of(member, mine, truth, folder, settings), mine, strict=True):  # fmt: skip
                writer.add(item, _pixels(member, picture))
                counted.people += len(item.people)
            table.add(landmarks)
            people.add(variety.people_of(member, truth, mine, landmarks, people_facts))
            shown = [row for p in mine if p.variant is None for row in truth.rows_of(p.index)]
            counted.hidden += int((truth.arrays["visibility"][shown] == 1).sum())
            if any(p.startswith("mixamorig") for p in truth.document.parts) and _uploaded(
                member, people_facts
            ):
                counted.mixamo_rigs.append(member.key)
            counted.out_of_frame += int((truth.arrays["visibility"][shown] == 0).sum())
        except DamagedObject as error:
            raise UnusableMember(member.key, f"left out ({error})") from error
        except MALFORMED as error:
            why = f"left out, a file of it is malformed ({error!r}); {REPAIR}"
            raise UnusableMember(member.key, why) from error
        pictures[member.key] = mine
        tell(done + 1, len(members))
    for open_file in (writer, table, people):
        open_file.close()
    if not any(pictures.values()):
        raise NothingLeft(f"no picture is left for the dataset ({', '.join(f'{n} {k}' for k, n in dataclasses.asdict(counted.left_out).items() if n)}); see negatives, min_size and split_by in [dataset]")  # fmt: skip
    rows.set_weights(raw, weights(rows.index_of(raw)), folder / rows.PICTURES)
    raw.unlink()
    target = formats.Target.within(folder)
    formats.coco_documents(target, SPLITS)
    formats.yolo_labels(target)
    formats.metadata_lines(target)
    (folder / "splits.json").write_text(json.dumps(splits.document(), indent=1), "utf-8")
    formats.variant_records(target, pictures)
    gallery.write(target, version)
    contact_sheet(members, pictures, folder, folder / CONTACT_SHEET)
    in_renders = variety.read_people(folder / variety.PEOPLE_TABLE)
    draw_statistics(in_renders, folder / STATISTICS)
    figures = _figures(members, pictures, splits, counted, target.index)
    (folder / CARD).write_text(
        card(members, pictures, splits, figures, in_renders, version), "utf-8"
    )
    licences = sorted({f"{n.removeprefix('piece_')}: {said}" for m in members for n, said in m.renders.facts_as(RenderFacts).licences.items()})  # fmt: skip
    made = max(m.renders.created_at for m in members)
    croissant.write(folder, figures, version, licences, made[:10])
    return figures


@dataclass
class _Counted:
    """What is counted on the way: people in pictures, landmarks of renders, and renders that are left out."""

    people: int = 0
    hidden: int = 0
    out_of_frame: int = 0
    left_out: LeftOut = field(default_factory=LeftOut)
    mixamo_rigs: list[str] = field(default_factory=list)


@functools.cache
def _shipped() -> frozenset[str]:
    """The digests of the sample characters."""
    return frozenset(file_sha256(path) for path in sample_characters())


def _uploaded(member: Member, people_facts: Callable[[str], dict[str, str]]) -> bool:
    """Whether a body of a member is neither a sample nor made here."""
    return any(digest not in _shipped() and people_facts(skin)["gender"] == variety.UNKNOWN for skin, digest in member.skins)  # fmt: skip


def _pixels(member: Member, picture: Picture) -> str:
    """Names the pixels of a picture."""
    if picture.variant is not None and picture.variant.image is not None:
        return picture.variant.image.sha256
    return f"{member.renders.ref.identity} {picture.render}"


def _link_files(
    member: Member,
    pictures: Sequence[Picture],
    truth: Truth,
    store: Store,
    folder: Path,
    settings: DatasetSettings,
) -> None:
    kinds = (*EXPORTED, *(("instances",) if truth.persons > 1 else ()), *settings.extra_files)
    for kind in kinds[1:]:
        (folder / kind).mkdir(exist_ok=True)
    wanted = sorted({truth.images[p.index].file for p in pictures})
    if missing := [k for k in kinds if wanted and f"{k}/{wanted[0]}" not in member.renders.files]:
        raise UnusableMember(member.key, f'left out, its renders have no {", ".join(missing)}; render it with these in [render] extra_truth, or take them out of [dataset] extra_files')  # fmt: skip
    files = member.renders.paths(f"{k}/{name}" for name in wanted for k in kinds)
    locked = locked_images(store, list(member.variants))
    for picture in pictures:
        target = folder / "images" / picture.name
        if picture.variant is not None:
            link_or_copy(locked[picture.variant.variant], target)
            continue
        file = truth.images[picture.index].file
        link_or_copy(files[f"images/{file}"], target)
        for kind in kinds[1:]:
            link_or_copy(files[f"{kind}/{file}"], folder / kind / picture.render)


def _figures(
    members: Sequence[Member],
    pictures: dict[str, list[Picture]],
    splits: Splits,
    counted: _Counted,
    index: pd.DataFrame,
) -> dict[str, Any]:
    by_proportion = {
        m.key: m.renders.facts_as(RenderFacts).landmarks_by_proportion for m in members
    }
    return {
        "characters": len(members),
        "images": len(index),
        "variants": int((index["kind"] == "variant").sum()),
        "people": counted.people,
        "labels": counted.people * len(LANDMARKS),
        "empty_images": sum(m.renders.facts_as(RenderFacts).empty_images for m in members),
        "landmarks_out_of_frame": counted.out_of_frame,
        "landmarks_hidden": counted.hidden,
        "landmarks_by_proportion": sum(by_proportion.values()),
        "split_by": splits.unit,
        "splits": {s: int((index["split"] == s).sum()) for s in SPLITS},
        "seen_in_training": _seen_in_training(members, pictures, index),
        "mixamo_rigs": counted.mixamo_rigs,
        "renders_left_out": dataclasses.asdict(counted.left_out),
        **_agreement(members),
    }


def _seen_in_training(
    members: Sequence[Member], pictures: Mapping[str, Sequence[Picture]], index: pd.DataFrame
) -> dict[str, list[int]]:
    """Of the motions and looks that val and test show, and of the backgrounds of variants, how many train shows too, and how many there are."""
    motions = {m.key: m.motions or (f"of {m.key}",) for m in members}
    train = index["split"] == "train"
    found = {}
    for name, values in (("motions", index["character"].map(motions).explode()), ("looks", index["look"])):  # fmt: skip
        known, held = set(values[train.loc[values.index]]), set(values[~train.loc[values.index]])
        found[name] = [len(known & held), len(held)]
    varied = [(p.split == "train", p.variant.background) for mine in pictures.values() for p in mine if p.variant]  # fmt: skip
    known, held = ({b for train, b in varied if b and train == wanted} for wanted in (True, False))
    found["backgrounds"] = [len(known & held), len(held)]
    return found


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
