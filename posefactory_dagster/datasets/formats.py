"""A dataset in the forms that training tools read, without a second copy of its images where the disk allows."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from blender_scripts.contract import COCO_KEYPOINTS, LANDMARKS
from posefactory_dagster.datasets import coco, yolo
from posefactory_dagster.datasets.selecting import Item

#: Says what a folder holds; without ``complete`` it is half-written, and the same export goes on with it.
MARK = "export.json"
#: Pictures in a shard of WebDataset.
SHARD_IMAGES = 1000
#: Human3.6M's 17 joints, each the mean of some of the 33 landmarks; spine, thorax and head have no landmark of their own.
H36M_JOINTS: dict[str, tuple[str, ...]] = {
    "hip": ("left_hip", "right_hip"), "right_hip": ("right_hip",), "right_knee": ("right_knee",), "right_foot": ("right_ankle",),
    "left_hip": ("left_hip",), "left_knee": ("left_knee",), "left_foot": ("left_ankle",),
    "spine": ("left_hip", "right_hip", "left_shoulder", "right_shoulder"), "thorax": ("left_shoulder", "right_shoulder"), "nose": ("nose",),
    "head": ("left_ear", "right_ear"), "left_shoulder": ("left_shoulder",), "left_elbow": ("left_elbow",), "left_wrist": ("left_wrist",),
    "right_shoulder": ("right_shoulder",), "right_elbow": ("right_elbow",), "right_wrist": ("right_wrist",),
}  # fmt: skip


class ExportError(ValueError):
    """A dataset cannot be exported so; the text says what to do."""


@dataclass
class Target:
    """A folder that an export writes.

    ``table``: the dataset's rows of landmarks (see ``tables``), of the wanted pictures alone. ``source`` gives the local path of a file of the
    dataset. ``tell`` hears how many pictures are done.
    """

    folder: Path
    items: Sequence[Item]
    categories: Mapping[str, Any]
    source: Callable[[str], Path]
    table: Callable[[], pd.DataFrame]
    tell: Callable[[int], None] = field(default=lambda done: None)

    @property
    def splits(self) -> list[str]:
        """The splits that have pictures."""
        return list(dict.fromkeys(i.split for i in self.items))

    def link(self, name: str, to: str) -> None:
        """Put a file of the dataset at ``to``: as a hard link, as a copy where the disk has none. What is there already stays."""
        target, source = self.folder / to, self.source(name)
        if target.exists() and target.stat().st_size == source.stat().st_size:
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        try:
            os.link(source, target)
        except OSError:  # another disk, or one without links
            partly = target.with_name(f"{target.name}.part")
            shutil.copyfile(source, partly)
            partly.replace(target)

    def write(self, name: str, text: str) -> None:
        """Write a text file whole or not at all."""
        target = self.folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        partly = target.with_name(f"{target.name}.part")
        partly.write_text(text, "utf-8")
        partly.replace(target)


def export(target: Target, kind: str, about: Mapping[str, Any]) -> None:
    """Write a dataset's pictures in the form ``kind``, one of ``FORMATS``; an export that was cut off goes on where it was.

    Args:
        about: what the folder holds; another export into the same folder is refused.

    Raises:
        ExportError: the folder holds something else.
    """
    mark = target.folder / MARK
    if target.folder.exists() and any(target.folder.iterdir()):
        there: dict[str, Any] = {}
        with contextlib.suppress(OSError, ValueError):
            there = json.loads(mark.read_text("utf-8"))
        if not there:
            raise ExportError(f"{target.folder}: not empty, and no export of a dataset; name an empty folder")  # fmt: skip
        if {k: v for k, v in there.items() if k != "complete"} != dict(about):
            raise ExportError(f"{target.folder}: holds another export ({there.get('format')}, version {there.get('version')}); name an empty folder")  # fmt: skip
        if there.get("complete"):
            return
    target.folder.mkdir(parents=True, exist_ok=True)
    target.write(MARK, json.dumps(about, indent=1))
    FORMATS[kind](target)
    target.write(MARK, json.dumps({**about, "complete": True}, indent=1))


def _images(target: Target, folder: str = "images/", *, masks: bool = False) -> None:
    for done, item in enumerate(target.items, start=1):
        target.link(f"images/{item.name}", f"{folder}{item.name}")
        if masks:
            target.link(str(item.image["mask"]), str(item.image["mask"]))
        target.tell(done)


def _coco(target: Target) -> None:
    """`images/`, `masks/` and `annotations/`: 17 and 33 keypoints, by split and whole."""
    _images(target, masks=True)
    for kind, names in (("", COCO_KEYPOINTS), ("33_", LANDMARKS)):
        for split in ("all", *target.splits):
            items = [i for i in target.items if split in ("all", i.split)]
            document = {
                "info": {"description": "Pose Factory synthetic human poses"}, "licenses": [],
                "images": [i.image for i in items],
                "annotations": [p for i in items for p in (i.people_33 if kind else i.people)],
                "categories": [coco.category(names)],
            }  # fmt: skip
            target.write(f"annotations/person_keypoints_{kind}{split}.json", json.dumps(document))
    target.write("annotations/sigmas_33.json", json.dumps(coco.sigmas(), indent=1))


def _yolo(target: Target) -> None:
    """`images/`, `labels/` and `data.yaml` as Ultralytics reads them for pose."""
    _images(target)
    for item in target.items:
        width, height = item.image["width"], item.image["height"]
        lines = [yolo.label_line(np.array(p["keypoints"]).reshape(-1, 3), np.array(p["bbox"]), width, height) + "\n" for p in item.people]  # fmt: skip
        target.write(f"labels/{Path(item.name).with_suffix('.txt')}", "".join(lines))
    target.write("data.yaml", yolo.description(target.splits))


def _huggingface(target: Target) -> None:
    """A folder for each split with `metadata.parquet`, for `load_dataset("imagefolder", data_dir=…)`."""
    _images(target, "")
    for split in target.splits:
        rows = [
            {
                "file_name": item.name.partition("/")[2], **_labels(item),
                "bbox": [p["bbox"] for p in item.people],
                "keypoints": [_triples(p) for p in item.people],
                "keypoints_33": [_triples(p) for p in item.people_33],
                **{k: item.image[k] for k in ("intrinsics", "rotation", "translation")},
            }
            for item in target.items if item.split == split
        ]  # fmt: skip
        _to_parquet(pd.DataFrame(rows), target.folder / split / "metadata.parquet")


def _webdataset(target: Target) -> None:
    """Tar shards by split, written by the library `webdataset`: the picture, its mask, and a JSON with the people."""
    import webdataset

    done = 0
    for split in target.splits:
        items = [i for i in target.items if i.split == split]
        for number in range(0, len(items), SHARD_IMAGES):
            path = target.folder / f"{split}-{number // SHARD_IMAGES:06d}.tar"
            shard = items[number : number + SHARD_IMAGES]
            done += len(shard)
            if not path.exists():
                partly = path.with_suffix(".part")
                with webdataset.TarWriter(str(partly)) as writer:
                    for item in shard:
                        stem, _, ending = item.name.partition("/")[2].rpartition(".")
                        writer.write(
                            {
                                "__key__": stem.replace(".", "_"),
                                ending: target.source(f"images/{item.name}").read_bytes(),
                                "mask.png": target.source(str(item.image["mask"])).read_bytes(),
                                "json": {"image": dict(item.image), "people": list(item.people), "people_33": list(item.people_33)},
                            }
                        )  # fmt: skip
                partly.replace(path)
            target.tell(done)


def _cvat(target: Target) -> None:
    """`images/` and `annotations.xml` in the form "CVAT for images 1.1" with skeletons, to be looked at and corrected in CVAT."""
    _images(target)
    root = ET.Element("annotations")
    ET.SubElement(root, "version").text = "1.1"
    labels = ET.SubElement(ET.SubElement(ET.SubElement(root, "meta"), "job"), "labels")
    label = ET.SubElement(labels, "label")
    ET.SubElement(label, "name").text = "person"
    ET.SubElement(label, "type").text = "skeleton"
    for name in COCO_KEYPOINTS:
        part = ET.SubElement(labels, "label")
        ET.SubElement(part, "name").text, ET.SubElement(part, "type").text = name, "points"
        ET.SubElement(part, "parent").text = "person"
    for number, item in enumerate(target.items):
        about = {"id": str(number), "name": item.name, "subset": item.split}
        about |= {n: str(item.image[n]) for n in ("width", "height")}
        image = ET.SubElement(root, "image", about)
        for person in item.people:
            skeleton = ET.SubElement(image, "skeleton", label="person", source="file", z_order="0")
            for name, (x, y, v) in zip(COCO_KEYPOINTS, _triples(person), strict=True):
                said = {"label": name, "points": f"{x:.2f},{y:.2f}", "outside": str(int(v == 0)), "occluded": str(int(v == 1))}  # fmt: skip
                ET.SubElement(skeleton, "points", said)
    ET.indent(root)
    target.write("annotations.xml", ET.tostring(root, encoding="unicode", xml_declaration=True))


def _mediapipe(target: Target) -> None:
    """`images/` and `pose_landmarks.json` by split, with the fields of MediaPipe's PoseLandmarkerResult, from the truth.

    Normalized landmarks are parts of the image's width and height; z is the depth from between the hips in the scale of x, as MediaPipe has it; visibility is 1
    where a landmark is seen, presence where it is in the frame. World landmarks are metres from between the hips in the camera's axes.
    """
    _images(target)
    table = target.table().set_index(["file", "person_index"]).sort_index()
    for split in target.splits:
        document = {}
        for item in (i for i in target.items if i.split == split):
            rows = table.loc[[f"images/{item.name}"]]
            found: dict[str, list] = {"pose_landmarks": [], "pose_world_landmarks": []}
            for _, person in rows.groupby(level="person_index"):
                camera = person[[f"camera_{a}_m" for a in "xyz"]].to_numpy(float)
                hips = camera[[LANDMARKS.index("left_hip"), LANDMARKS.index("right_hip")]].mean(axis=0)  # fmt: skip
                width, height = float(item.image["width"]), float(item.image["height"])
                scale = float(item.image["intrinsics"][0][0]) / max(hips[2], 1e-6) / width
                seen, inside = person["visibility"].to_numpy() == 2, person["in_frame"].to_numpy()
                found["pose_landmarks"].append(
                    [
                        {"x": x / width, "y": y / height, "z": z * scale, "visibility": float(s), "presence": float(f)}
                        for x, y, z, s, f in zip(person["x_px"], person["y_px"], camera[:, 2] - hips[2], seen, inside, strict=True)
                    ]
                )  # fmt: skip
                found["pose_world_landmarks"].append([dict(zip("xyz", map(float, p), strict=True)) for p in camera - hips])  # fmt: skip
            document[item.name] = found
        target.write(f"pose_landmarks_{split}.json", json.dumps(document))


def _h36m(target: Target) -> None:
    """`images/` and `poses_3d.npz`: Human3.6M's 17 joints of each person, in the camera's frame and the world's (metres), and in pixels."""
    _images(target)
    table = target.table()
    people = table.groupby(["file", "person_index"], sort=False)
    mixing = np.zeros((len(H36M_JOINTS), len(LANDMARKS)))
    for row, names in enumerate(H36M_JOINTS.values()):
        mixing[row, [LANDMARKS.index(n) for n in names]] = 1 / len(names)

    def joints(columns: Sequence[str]) -> np.ndarray:
        values = table[list(columns)].to_numpy(float).reshape(len(people), len(LANDMARKS), -1)
        return np.einsum("jk,nkd->njd", mixing, values).astype(np.float32)

    keys: list[tuple[str, int]] = people.size().index.to_list()
    image = {f"images/{i.name}": i for i in target.items}
    np.savez_compressed(
        target.folder / "poses_3d.npz",
        joints=np.array(list(H36M_JOINTS)),
        positions_3d=joints([f"camera_{a}_m" for a in "xyz"]),
        positions_3d_world=joints([f"world_{a}_m" for a in "xyz"]),
        positions_2d=joints(["x_px", "y_px"]),
        intrinsics=np.array([image[f].image["intrinsics"] for f, _ in keys], np.float32),
        rotation=np.array([image[f].image["rotation"] for f, _ in keys], np.float32),
        translation=np.array([image[f].image["translation"] for f, _ in keys], np.float32),
        file_name=np.array([image[f].name for f, _ in keys]),
        person=np.array([p for _, p in keys]),
        split=np.array([image[f].split for f, _ in keys]),
        subject=np.array([image[f].image["character"] for f, _ in keys]),
    )


def _parquet(target: Target) -> None:
    """`images/`, `people.parquet` with a row for each person, and `landmarks.parquet` as the dataset has it."""
    _images(target)
    rows = [
        {"file_name": item.name, **_labels(item), "person": p.get("person", ""), "bbox": p["bbox"], "area": p["area"], "keypoints": _triples(p),
         "keypoints_33": _triples(q)}
        for item in target.items
        for p, q in zip(item.people, item.people_33, strict=True)
    ]  # fmt: skip
    _to_parquet(pd.DataFrame(rows), target.folder / "people.parquet")
    _to_parquet(target.table(), target.folder / "landmarks.parquet")


def _labels(item: Item) -> dict[str, Any]:
    names = ("character", "split", "look", "view", "frame", "style")
    return {n: item.image.get(n, "") for n in names}


def _triples(person: Mapping[str, Any]) -> list[list[float]]:
    return np.array(person["keypoints"], float).reshape(-1, 3).tolist()


def _to_parquet(table: pd.DataFrame, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partly = path.with_suffix(".part")
    table.to_parquet(partly, index=False)
    partly.replace(path)


FORMATS: dict[str, Callable[[Target], None]] = {
    "coco": _coco, "yolo": _yolo, "huggingface": _huggingface, "webdataset": _webdataset, "cvat": _cvat, "mediapipe": _mediapipe,
    "h36m": _h36m, "parquet": _parquet,
}  # fmt: skip
