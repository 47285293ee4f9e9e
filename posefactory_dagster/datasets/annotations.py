"""The labels of a dataset's pictures, in each form that is written: COCO, YOLO, Hugging Face's metadata."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from blender_scripts.contract import COCO_KEYPOINTS, FOOT_PLACES, LANDMARKS
from posefactory_dagster.datasets import coco, yolo
from posefactory_dagster.datasets.members import Member, Picture
from posefactory_dagster.datasets.splits import SPLITS
from posefactory_dagster.renders.documents import (
    Truth,
    occluder_names,
    read_instances,
    read_mask,
)
from posefactory_dagster.settings import DatasetSettings

#: Keypoints and the middle of the file names of the two kinds of COCO files.
COCO_KINDS = {"": COCO_KEYPOINTS, "33_": LANDMARKS}


class Annotations:
    """The labels of all pictures, in each form that is written."""

    def __init__(self, settings: DatasetSettings) -> None:
        self._settings = settings
        self._count = self._people = 0
        self._coco = {
            kind: {split: _empty_document(keypoints) for split in ("all", *SPLITS)}
            for kind, keypoints in COCO_KINDS.items()
        }
        self._lines: dict[str, list[dict[str, Any]]] = {split: [] for split in SPLITS}

    def add(self, member: Member, picture: Picture, truth: Truth, folder: Path) -> None:
        """A picture and its people; who is not seen in it has no annotation."""
        self._count += 1
        image = _image_record(self._count, member, picture, truth)
        people = self._people_of(picture, truth, folder)
        for kind, documents in self._coco.items():
            for split in ("all", picture.split):
                documents[split]["images"].append(image)
                for person in people:
                    annotation = coco.annotation(person.number, self._count, person.keypoints[kind], person.bbox, person.mask)  # fmt: skip
                    documents[split]["annotations"].append(annotation | person.more)
        lines = [yolo.label_line(p.keypoints[""], p.bbox, image["width"], image["height"]) + "\n" for p in people]  # fmt: skip
        (folder / "labels" / picture.name).with_suffix(".txt").write_text("".join(lines), "utf-8")
        self._lines[picture.split].append(
            {
                "file_name": picture.name.partition("/")[2],
                "character": member.key,
                **{
                    k: image.get(k, "") for k in ("view", "frame", "look", "style", "mask", "depth")
                },
                "bbox": [[float(v) for v in p.bbox] for p in people],
                "keypoints": [p.keypoints[""].tolist() for p in people],
                "keypoints_33": [p.keypoints["33_"].tolist() for p in people],
                **{k: image[k] for k in ("intrinsics", "rotation", "translation")},
            }
        )

    def _people_of(self, picture: Picture, truth: Truth, folder: Path) -> list[_Labelled]:
        """The people of a picture that are seen in it."""
        arrays = truth.arrays
        if truth.persons == 1:
            instances = read_mask(folder / "masks" / picture.render).astype(np.uint8)
        else:
            instances = read_instances(folder / "instances" / picture.render)
        people = []
        for person, row in enumerate(truth.rows_of(picture.index)):
            if not arrays["area"][row]:
                continue
            self._people += 1
            visibility = arrays["visibility"][row]
            if not self._settings.proportion_landmarks:
                visibility = np.where(arrays["origin"][row] == "proportion", 0, visibility)
            keypoints = {
                kind: coco.keypoints_of(names, arrays["pixels"][row], visibility)
                for kind, names in COCO_KINDS.items()
            }
            people.append(
                _Labelled(self._people, keypoints, arrays["bbox"][row], instances == 1 + person, _more(truth, row, person))
            )  # fmt: skip
        return people

    def pictures_and_people(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """The images and annotations of the COCO file with 33 landmarks."""
        document = self._coco["33_"]["all"]
        return document["images"], document["annotations"]

    def write(self, folder: Path) -> None:
        """All files but the labels of single images, which are there already."""
        for kind, documents in self._coco.items():
            for split, document in documents.items():
                name = f"person_keypoints_{kind}{split}.json"
                (folder / "annotations" / name).write_text(json.dumps(document), "utf-8")
        (folder / "annotations" / "sigmas_33.json").write_text(
            json.dumps(coco.sigmas(), indent=1), "utf-8"
        )
        filled = [split for split, lines in self._lines.items() if lines]
        (folder / "data.yaml").write_text(yolo.description(filled), "utf-8")
        for split in filled:
            text = "".join(json.dumps(line) + "\n" for line in self._lines[split])
            (folder / "images" / split / "metadata.jsonl").write_text(text, "utf-8")


@dataclass(frozen=True)
class _Labelled:
    """One person in a picture: its number among all, keypoints by kind (K, 3), box (4,), mask (H, W), and what COCO has no words for."""

    number: int
    keypoints: dict[str, np.ndarray]
    bbox: np.ndarray
    mask: np.ndarray
    more: dict[str, Any]


def _more(truth: Truth, row: int, person: int) -> dict[str, Any]:
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
    if (why := occluder_names(arrays)) is not None:
        found["occluded_by"] = why[row].tolist()
    if document.markers:
        pixels, seen = arrays["marker_pixels"][row], arrays["marker_visibility"][row]
        found["markers"] = [v for (x, y), s in zip(pixels, seen, strict=True) for v in ((round(float(x), 3), round(float(y), 3), int(s)) if s else (0, 0, 0))]  # fmt: skip
    return found


def _image_record(number: int, member: Member, picture: Picture, truth: Truth) -> dict[str, Any]:
    record = truth.images[picture.index]
    origin: dict[str, Any] = {}
    if picture.variant is not None:
        origin = {
            "variant": picture.variant.variant,
            "variant_of": f"{picture.split}/{picture.render}",
            "style": picture.variant.style_name,
            "provider": picture.variant.enhancer["provider"],
            "gate": picture.variant.verdict.severity if picture.variant.verdict else "",
        }
    return {
        "id": number,
        "file_name": picture.name,
        "width": truth.document.settings.width,
        "height": truth.document.settings.height,
        "character": member.key,
        "view": record.view,
        "frame": record.frame,
        "look": record.look,
        "split": picture.split,
        "mask": f"masks/{picture.render}",
        "depth": f"depth/{picture.render}",
        **({"instances": f"instances/{picture.render}"} if truth.persons > 1 else {}),
        **({"markers": truth.document.markers} if truth.document.markers else {}),
        **origin,
        **{
            matrix: truth.arrays[matrix][truth.rows_of(picture.index)[0]].tolist()
            for matrix in ("intrinsics", "rotation", "translation")
        },
    }


def _empty_document(keypoints: tuple[str, ...]) -> dict[str, Any]:
    return {
        "info": {"description": "Pose Factory synthetic human poses", "version": "1"},
        "licenses": [],
        "images": [],
        "annotations": [],
        "categories": [coco.category(keypoints)],
    }
