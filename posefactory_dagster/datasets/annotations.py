"""The labels of a dataset's pictures, in each form that is written: COCO, YOLO, Hugging Face's metadata."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from blender_scripts.contract import COCO_KEYPOINTS, LANDMARKS
from posefactory_dagster.datasets import coco, yolo
from posefactory_dagster.datasets.members import Member, Picture
from posefactory_dagster.datasets.splits import SPLITS
from posefactory_dagster.renders.documents import Truth, read_mask
from posefactory_dagster.settings import DatasetSettings

#: Keypoints and the middle of the file names of the two kinds of COCO files.
COCO_KINDS = {"": COCO_KEYPOINTS, "33_": LANDMARKS}


class Annotations:
    """The labels of all pictures, in each form that is written."""

    def __init__(self, settings: DatasetSettings) -> None:
        self._settings = settings
        self._count = 0
        self._coco = {
            kind: {split: _empty_document(keypoints) for split in ("all", *SPLITS)}
            for kind, keypoints in COCO_KINDS.items()
        }
        self._lines: dict[str, list[dict[str, Any]]] = {split: [] for split in SPLITS}

    def add(self, member: Member, picture: Picture, truth: Truth, folder: Path) -> None:
        """A picture and its person; a picture without a person has no annotation."""
        self._count += 1
        image = _image_record(self._count, member, picture, truth)
        arrays, index = truth.arrays, picture.index
        visibility = arrays["visibility"][index]
        if not self._settings.proportion_landmarks:
            visibility = np.where(arrays["origin"] == "proportion", 0, visibility)
        bbox = arrays["bbox"][index]
        mask = read_mask(folder / "masks" / picture.render)
        found = {
            kind: coco.keypoints_of(names, arrays["pixels"][index], visibility)
            for kind, names in COCO_KINDS.items()
        }
        for kind, documents in self._coco.items():
            for split in ("all", picture.split):
                documents[split]["images"].append(image)
                if not picture.empty:
                    person = coco.annotation(self._count, found[kind], bbox, mask)
                    documents[split]["annotations"].append(person)
        line = "" if picture.empty else yolo.label_line(found[""], bbox, image["width"], image["height"]) + "\n"  # fmt: skip
        (folder / "labels" / picture.name).with_suffix(".txt").write_text(line, "utf-8")
        self._lines[picture.split].append(
            {
                "file_name": picture.name.partition("/")[2],
                "character": member.key,
                **{
                    k: image.get(k, "") for k in ("view", "frame", "look", "style", "mask", "depth")
                },
                "bbox": [] if picture.empty else [float(v) for v in bbox],
                "keypoints": [] if picture.empty else found[""].tolist(),
                "keypoints_33": [] if picture.empty else found["33_"].tolist(),
                **{k: image[k] for k in ("intrinsics", "rotation", "translation")},
            }
        )

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
        **origin,
        **{
            matrix: truth.arrays[matrix][picture.index].tolist()
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
