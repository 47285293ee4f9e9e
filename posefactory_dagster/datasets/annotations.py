"""The records of a dataset's pictures and of the people in them, from which all forms are written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from blender_scripts.contract import CLIP, COCO_KEYPOINTS, FOOT_PLACES, LANDMARKS
from posefactory_dagster.datasets import coco
from posefactory_dagster.datasets.hygiene import too_small
from posefactory_dagster.datasets.members import Member, Picture
from posefactory_dagster.datasets.rows import Item, stable_id
from posefactory_dagster.renders.documents import (
    Truth,
    occluder_names,
    read_instances,
    read_mask,
)
from posefactory_dagster.settings import DatasetSettings


def items_of(member: Member, pictures: Sequence[Picture], truth: Truth, folder: Path, settings: DatasetSettings) -> Iterator[Item]:  # fmt: skip
    """A member's pictures with their people; who is not seen in a picture is not among them.

    Args:
        folder: the dataset's, with the member's images.
    """
    visibility = truth.arrays["visibility"]
    if not settings.proportion_landmarks:
        visibility = np.where(truth.arrays["origin"] == "proportion", 0, visibility)
    # Too small to learn keypoints from: box and mask stay, as in COCO.
    visibility = np.where(too_small(truth, settings.min_size)[:, None], 0, visibility)
    why = occluder_names(truth.arrays)
    for picture in pictures:
        image = _image_record(member, picture, truth, settings)
        yield Item(image, list(_people(image["id"], picture, truth, visibility, why, folder)))


def _people(number: int, picture: Picture, truth: Truth, visibility: np.ndarray, why: np.ndarray | None, folder: Path) -> Iterator[dict[str, Any]]:  # fmt: skip
    arrays = truth.arrays
    if truth.persons == 1:
        instances = read_mask(folder / "masks" / picture.render).astype(np.uint8)
    else:
        instances = read_instances(folder / "instances" / picture.render)
    for person, row in enumerate(truth.rows_of(picture.index)):
        if not arrays["area"][row]:
            continue
        both = [
            coco.keypoints_of(names, arrays["pixels"][row], visibility[row])
            for names in (COCO_KEYPOINTS, LANDMARKS)
        ]
        mine = coco.annotation(stable_id(f"{picture.stable_name}#{person}"), number, both[0], arrays["bbox"][row], instances == 1 + person)  # fmt: skip
        wide = {f"{name}_33": value for name, value in coco.flat(both[1]).items()}
        yield {**mine, **wide, "person_index": person, **_more(truth, row, person, None if why is None else why[row])}  # fmt: skip


def _more(truth: Truth, row: int, person: int, why: np.ndarray | None) -> dict[str, Any]:
    """Beside COCO's own fields: who it is, the box of all of it, why landmarks are hidden, where its feet stand, and the second set of
    keypoints."""
    arrays, document = truth.arrays, truth.document
    found: dict[str, Any] = {}
    if document.persons:
        found["person"] = document.persons[person].key
    if "amodal_bbox" in arrays:
        found["amodal_bbox"] = [round(float(v), 2) for v in arrays["amodal_bbox"][row]]
        contacts = arrays["foot_contact"][row]
        found["foot_contact"] = {n: bool(c) for n, c in zip(FOOT_PLACES, contacts, strict=True)}
    if why is not None:
        found["occluded_by"] = why.tolist()
    if document.markers:
        pixels, seen = arrays["marker_pixels"][row], arrays["marker_visibility"][row]
        found["markers"] = [v for (x, y), s in zip(pixels, seen, strict=True) for v in ((round(float(x), 3), round(float(y), 3), int(s)) if s else (0, 0, 0))]  # fmt: skip
    return found


def _image_record(member: Member, picture: Picture, truth: Truth, settings: DatasetSettings) -> dict[str, Any]:  # fmt: skip
    record = truth.images[picture.index]
    place = truth.document.looks.get(record.look, {}).get("drawn")
    drawn = {**record.drawn, **({"place": place} if place else {})}
    origin: dict[str, Any] = {}
    if picture.variant is not None:
        origin = {
            "variant": picture.variant.variant,
            "variant_of": f"{picture.split}/{picture.render}",
            "style": picture.variant.style_name,
            "provider": picture.variant.enhancer["provider"],
            "gate": picture.variant.verdict.severity if picture.variant.verdict else "",
        }
    files = ["mask", "depth", *(["instances"] if truth.persons > 1 else []), *settings.extra_files]
    return {
        "id": stable_id(picture.stable_name),
        "file_name": picture.name,
        "width": truth.size_of(picture.index)[0],
        "height": truth.size_of(picture.index)[1],
        "character": member.key,
        "view": record.view,
        "frame": record.frame,
        "look": record.look,
        "split": picture.split,
        "motions": list(member.motions),
        **{name: f"{FOLDERS.get(name, name)}/{picture.render}" for name in files},
        **({"fps": truth.document.fps} if truth.document.settings.frames == CLIP else {}),
        **({"markers": truth.document.markers} if truth.document.markers else {}),
        **({"drawn": drawn} if drawn else {}),
        **origin,
        **{
            matrix: truth.arrays[matrix][truth.rows_of(picture.index)[0]].tolist()
            for matrix in ("intrinsics", "rotation", "translation")
        },
    }


#: Folders whose names differ from what records call their files.
FOLDERS = {"mask": "masks"}
