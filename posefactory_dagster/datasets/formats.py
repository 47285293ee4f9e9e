"""A dataset in the forms that training tools read, without a second copy of its images where the disk allows."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from blender_scripts.contract import COCO_KEYPOINTS, LANDMARKS
from posefactory_dagster.datasets import coco, rows, yolo
from posefactory_dagster.datasets.members import Picture
from posefactory_dagster.datasets.rows import Item
from posefactory_dagster.settings import EXTRA_FILES
from posefactory_dagster.storage.linking import link_or_copy
from posefactory_dagster.variants.documents import RECORDS

#: Says what a folder holds; without ``complete`` it is half-written, and the same export goes on with it.
MARK = "export.json"
#: What an export writes and a later one may remove; whatever else lies in its folder is somebody's own.
_OURS = re.compile(r"(images|labels|annotations|masks|depth|instances|normals|albedo|parts|flow|videos|train|val|test)/|(train|val|test)-\d{6}\.tar|[a-z0-9_.]+\.part$")  # fmt: skip
#: Says what each picture of a whole export was, by which labels that are still right are known.
DIGESTS = "export_pictures.parquet"
#: Ends the names of files that are not whole yet, and of those that say what a shard holds.
PARTLY, CONTENT = ".part", ".sha256"
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

    ``index``: the rows of the pictures that are wanted, see ``rows.index_of``; ``pictures`` and ``landmarks``: local paths of the dataset's tables.
    ``sources`` gives local paths of files of the dataset, whole and checked, which are fetched side by side where the store is elsewhere; ``at_hand`` that of
    one, unchecked, or None where it must be fetched; ``same`` says whether a local file is a file of the dataset, by its content. ``tell`` hears how many
    pictures are done.
    """

    folder: Path
    index: pd.DataFrame
    pictures: Path
    landmarks: Path
    sources: Callable[[Sequence[str]], Mapping[str, Path]]
    at_hand: Callable[[str], Path | None]
    same: Callable[[str, Path], bool]
    tell: Callable[[int], None] = field(default=lambda done: None)
    #: All files that the export has; of the export that was whole in the same folder before, the digest of each picture by its name; and by that name the
    #: number of the shard in which a picture is, or was last.
    written: set[str] = field(default_factory=set)
    before: Mapping[str, str] = field(default_factory=dict)
    shards: dict[str, int] = field(default_factory=dict)

    @classmethod
    def within(cls, folder: Path, to: Path | None = None) -> Target:
        """What is written of a dataset in a local folder: into itself, or into the folder ``to``.

        Its files are taken for whole.
        """
        tables = folder / rows.PICTURES, folder / rows.LANDMARK_TABLE
        return cls(to or folder, rows.index_of(tables[0]), *tables, lambda names: {n: folder / n for n in names}, folder.joinpath, lambda name, path: False)  # fmt: skip

    @property
    def splits(self) -> list[str]:
        """The splits that have pictures."""
        return list(dict.fromkeys(self.index["split"]))

    def items(self) -> Iterator[Item]:
        """The pictures, one after another; ``tell`` hears of each."""
        for done, item in enumerate(rows.items(self.pictures, self.index), start=1):
            yield item
            self.tell(done)

    def changed(self) -> Iterator[Item]:
        """The pictures that the export before this one has not, or otherwise."""
        index = self.index
        known = [self.before.get(n) == d for n, d in zip(index["file_name"], index["digest"], strict=True)]  # fmt: skip
        yield from rows.items(self.pictures, index[~np.array(known, bool)])

    def people_rows(self, columns: Sequence[str]) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
        """By file, of the pictures with people in the table, the columns of their landmarks: see ``rows.landmark_rows``."""
        return rows.landmark_rows(self.landmarks, columns, "images/" + self.index["file_name"])

    def link(self, places: Mapping[str, str]) -> None:
        """Put files of the dataset where ``places`` says, by their names: as hard links, as copies where the disk has none. What is there already stays."""
        self.written.update(places.values())
        # Of hundreds of thousands nearly all are there: texts, as paths would cost more than the looks themselves.
        folder = str(self.folder)
        missing = [name for name, to in places.items() if not self._there(name, f"{folder}/{to}")]
        for name, source in self.sources(missing).items():
            target = self.folder / places[name]
            _make_way(target)
            link_or_copy(source, target)

    def _there(self, name: str, target: str) -> bool:
        """Whether a file of the dataset is at ``target`` already."""
        try:
            old, at_hand = os.stat(target), self.at_hand(name)  # noqa: PTH116
            if at_hand is None:
                # It would have to be fetched, which costs more than to read what is there.
                return self.same(name, Path(target))
            # The same file, or a copy that has kept its time: it was checked when it came here.
            new = at_hand.stat()
            return os.path.samestat(old, new) or (old.st_size, old.st_mtime_ns) == (new.st_size, new.st_mtime_ns)  # fmt: skip
        except FileNotFoundError:
            return False

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[IO[str]]:
        """A text file that is there when it is whole."""
        target = self.folder / name
        self.written.add(name)
        _make_way(target, remove=False)
        with _partly(target).open("w", encoding="utf-8") as file:
            yield file
        _partly(target).replace(target)

    def write(self, name: str, text: str) -> None:
        """Write a text file whole or not at all; one that says the same already stays."""
        with contextlib.suppress(OSError, UnicodeDecodeError):
            if (self.folder / name).read_text("utf-8") == text:
                self.written.add(name)
                return
        with self.open(name) as file:
            file.write(text)

    @contextlib.contextmanager
    def table(self, name: str, schema: pa.Schema | None = None) -> Iterator[rows.TableWriter]:
        """A Parquet file that is there when it is whole; see ``rows.TableWriter``."""
        target = self.folder / name
        self.written.add(name)
        _make_way(target, remove=False)
        writer = rows.TableWriter(_partly(target), schema)
        try:
            yield writer
        finally:
            writer.close()
        if _partly(target).exists():
            _partly(target).replace(target)


def _make_way(target: Path, *, remove: bool = True) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if remove:
        target.unlink(missing_ok=True)


def _partly(target: Path) -> Path:
    return target.with_name(f"{target.name}{PARTLY}")


def export(target: Target, kind: str, about: Mapping[str, Any]) -> None:
    """Write a dataset's pictures in the form ``kind``, one of ``FORMATS``.

    An export that was cut off goes on where it was. One of another version of the dataset is brought up to date: what both have stays as it
    is, and what only the other has is removed.

    Args:
        about: what the folder holds; another form or selection into the same folder is refused.

    Raises:
        ExportError: the folder holds something else.
    """
    mark = target.folder / MARK
    before: list[str] = []
    if target.folder.exists() and any(target.folder.iterdir()):
        there: dict[str, Any] = {}
        with contextlib.suppress(OSError, ValueError):
            there = json.loads(mark.read_text("utf-8"))
        if not there:
            raise ExportError(f"{target.folder}: not empty, and no export of a dataset; name an empty folder")  # fmt: skip
        asked = {k: v for k, v in about.items() if k != "version"}
        if {k: there.get(k) for k in asked} != asked:
            raise ExportError(f"{target.folder}: holds another export (--format {there.get('format')}, --select {there.get('select') or '(all)'!r}, --images {there.get('images') or '(all)'}); name an empty folder")  # fmt: skip
        if there.get("complete") and there.get("version") == about["version"]:
            return
        before = [n for n in _files(target.folder) if _OURS.match(n)]
        with contextlib.suppress(OSError, ValueError):
            known = pd.read_parquet(target.folder / DIGESTS)
            if "shard" in known:
                target.shards = dict(zip(known["file_name"], known["shard"].astype(int), strict=True))  # fmt: skip
            # Of an export that was cut off, nobody knows which labels are whole.
            if there.get("complete"):
                target.before = dict(zip(known["file_name"], known["digest"], strict=True))
    target.folder.mkdir(parents=True, exist_ok=True)
    _put(mark, json.dumps(about, indent=1))
    try:
        FORMATS[kind](target)
    except ExportError:
        if not before:  # nothing was written: the folder is free for another form
            mark.unlink()
        raise
    for name in sorted(set(before) - target.written):
        (target.folder / name).unlink(missing_ok=True)
    said = target.index[["file_name", "digest"]]
    if target.shards:
        said = said.assign(shard=said["file_name"].map(target.shards))
    said.to_parquet(target.folder / DIGESTS, index=False)
    _put(mark, json.dumps({**about, "complete": True}, indent=1))


def _files(folder: Path) -> Iterator[str]:
    """The names of all files below a folder."""
    for place, _, names in os.walk(folder):
        below = Path(place).relative_to(folder).as_posix()
        yield from names if below == "." else (f"{below}/{n}" for n in names)


def _put(path: Path, text: str) -> None:
    _partly(path).write_text(text, "utf-8")
    _partly(path).replace(path)


@contextlib.contextmanager
def _object(target: Target, name: str) -> Iterator[Callable[[str, str], None]]:
    """A JSON file with one object, whose members are written one after another by name and text."""
    with target.open(name) as file:
        file.write("{")
        comma = ""

        def add(key: str, text: str) -> None:
            nonlocal comma
            file.write(f"{comma}{json.dumps(key)}:{text}")
            comma = ",\n"

        yield add
        file.write("}")


class _CocoFile:
    """A COCO file that is written picture by picture; annotations wait in a file of their own for the last picture."""

    def __init__(self, images: IO[str], annotations: IO[str]) -> None:
        self._images, self._annotations, self._commas = images, annotations, ["", ""]

    def add(self, image: str, annotations: Sequence[str]) -> None:
        """A picture and its people, as JSON."""
        for place, (file, texts) in enumerate(((self._images, [image]), (self._annotations, annotations))):  # fmt: skip
            for text in texts:
                file.write(f"{self._commas[place]}{text}")
                self._commas[place] = ",\n"


@contextlib.contextmanager
def _coco_file(target: Target, name: str, keypoints: Sequence[str]) -> Iterator[_CocoFile]:
    with target.open(name) as file, tempfile.TemporaryFile("w+", encoding="utf-8", dir=target.folder) as annotations:  # fmt: skip
        head = {"info": {"description": "Pose Factory synthetic human poses", "version": "1"}, "licenses": [], "categories": [coco.category(keypoints)]}  # fmt: skip
        file.write(f'{json.dumps(head)[:-1]}, "images": [')
        yield _CocoFile(file, annotations)
        file.write('], "annotations": [')
        annotations.seek(0)
        shutil.copyfileobj(annotations, file)
        file.write("]}")


def coco_documents(target: Target, splits: Sequence[str]) -> None:
    """`annotations/`: COCO keypoints, 17 and 33, by split (also where one has no pictures) and whole, and the sigmas of the 33."""
    kinds = (("", COCO_KEYPOINTS), ("33_", LANDMARKS))
    with contextlib.ExitStack() as stack:
        files = {
            (kind, split): stack.enter_context(_coco_file(target, f"annotations/person_keypoints_{kind}{split}.json", names))
            for kind, names in kinds
            for split in ("all", *splits)
        }  # fmt: skip
        for item in target.items():
            image = json.dumps(item.image)
            for kind, _ in kinds:
                people = [json.dumps(p) for p in item.annotations(kind)]
                for split in ("all", item.split):
                    files[kind, split].add(image, people)
    target.write("annotations/sigmas_33.json", json.dumps(coco.sigmas(), indent=1))


def yolo_labels(target: Target) -> None:
    """`labels/` and `data.yaml` as Ultralytics reads them for pose."""
    target.written.update(map(_label_name, target.index["file_name"]))
    for item in target.changed():
        width, height = item.image["width"], item.image["height"]
        lines = [yolo.label_line(rows.triples(p), np.array(p["bbox"]), width, height) + "\n" for p in item.people]  # fmt: skip
        target.write(_label_name(item.name), "".join(lines))
    target.write("data.yaml", yolo.description(target.splits))


def _label_name(picture: str) -> str:
    return f"labels/{picture.rpartition('.')[0]}.txt"


def _images(target: Target, folder: str = "images/") -> None:
    names = list(target.index["file_name"])
    for first in range(0, len(names), rows.BATCH):
        some = names[first : first + rows.BATCH]
        target.link({f"images/{name}": f"{folder}{name}" for name in some})
        target.tell(first + len(some))


def _coco(target: Target) -> None:
    """`images/`, `masks/`, other truth that the dataset holds, and `annotations/`: 17 and 33 keypoints, by split and whole."""
    for _, some in _batches(target):
        names = [n for item in some for n in (f"images/{item.name}", *truth_files(item, "coco"))]
        target.link({name: name for name in names})
    coco_documents(target, target.splits)


#: Which images of truth go into each form beside the pictures; none into the others.
TRUTH_IN: dict[str, tuple[str, ...]] = {"coco": ("mask", "depth", "instances", *sorted(EXTRA_FILES)), "webdataset": ("mask",), "video": ("flow",)}  # fmt: skip


def truth_files(item: Item, kind: str) -> list[str]:
    """The images of truth that go with a picture into a form, by their names in the dataset."""
    return [str(item.image[n]) for n in TRUTH_IN.get(kind, ()) if n in item.image]


def _yolo(target: Target) -> None:
    """`images/`, `labels/` and `data.yaml` as Ultralytics reads them for pose."""
    _images(target)
    yolo_labels(target)


def _huggingface(target: Target) -> None:
    """A folder for each split with `metadata.parquet`, for `load_dataset("imagefolder", data_dir=…)`."""
    _images(target, "")
    with contextlib.ExitStack() as stack:
        tables = {s: stack.enter_context(target.table(f"{s}/metadata.parquet", _METADATA)) for s in target.splits}  # fmt: skip
        for split, some in _batches(target):
            tables[split].add(pd.DataFrame([metadata_of(item) for item in some]))


_NUMBERS = pa.list_(pa.float64())
#: What is said of a picture beside its people, in Parquet's types.
_ABOUT = [*((n, pa.string()) for n in ("character", "split", "look", "view")), ("frame", pa.int64()), ("style", pa.string()), ("weight", pa.float64())]  # fmt: skip
_METADATA = pa.schema(
    [
        ("file_name", pa.string()), *_ABOUT, ("bbox", pa.list_(_NUMBERS)), ("keypoints", pa.list_(pa.list_(_NUMBERS))),
        ("keypoints_33", pa.list_(pa.list_(_NUMBERS))), ("intrinsics", pa.list_(_NUMBERS)), ("rotation", pa.list_(_NUMBERS)), ("translation", _NUMBERS),
    ]
)  # fmt: skip
_PEOPLE = pa.schema(
    [
        ("file_name", pa.string()), *_ABOUT, ("person", pa.string()), ("bbox", _NUMBERS), ("area", pa.float64()), ("keypoints", pa.list_(_NUMBERS)),
        ("keypoints_33", pa.list_(_NUMBERS)),
    ]
)  # fmt: skip


def metadata_of(item: Item) -> dict[str, Any]:
    """A picture's row of Hugging Face's metadata; of each person the box, 17 keypoints and 33."""
    return {
        "file_name": item.name.partition("/")[2], **_labels(item),
        "bbox": [[float(v) for v in p["bbox"]] for p in item.people],
        "keypoints": [rows.triples(p).tolist() for p in item.people],
        "keypoints_33": [rows.triples(p, "keypoints_33").tolist() for p in item.people],
        **{k: item.image[k] for k in ("intrinsics", "rotation", "translation")},
    }  # fmt: skip


def metadata_lines(target: Target) -> None:
    """`images/*/metadata.jsonl`: Hugging Face's metadata of the dataset itself."""
    with contextlib.ExitStack() as stack:
        files = {s: stack.enter_context(target.open(f"images/{s}/metadata.jsonl")) for s in target.splits}  # fmt: skip
        for item in target.items():
            row = metadata_of(item) | {k: item.image[k] for k in ("mask", "depth")}
            files[item.split].write(json.dumps(row) + "\n")


def variant_records(target: Target, pictures: Mapping[str, Sequence[Picture]]) -> None:
    """`variants.json`: for each variant the record of what made it."""
    with _object(target, RECORDS) as add:
        for picture in (p for mine in pictures.values() for p in mine):
            if picture.variant is not None:
                add(f"images/{picture.name}", json.dumps(picture.variant.model_dump(mode="json")))


def _batches(target: Target) -> Iterator[tuple[str, list[Item]]]:
    """The pictures in lists of one split each, none of more than a batch."""
    waiting: dict[str, list[Item]] = {}
    for item in target.items():
        mine = waiting.setdefault(item.split, [])
        mine.append(item)
        if len(mine) == rows.BATCH:
            yield item.split, waiting.pop(item.split)
    yield from waiting.items()


def _webdataset(target: Target) -> None:
    """Tar shards by split, written by the library `webdataset`: the picture, its mask, and a JSON with the people; `weights.json`, by the samples' keys.

    A picture stays in the shard that it was in, and new ones come behind all others, so that a later version touches few shards. Weights change with every version,
    and so are beside them.
    """
    import webdataset

    done = 0
    for split in target.splits:
        mine = target.index[target.index["split"] == split]
        numbers = _shard_numbers(target, mine["file_name"])
        for number, shard in mine.groupby(numbers):
            path, said = target.folder / f"{split}-{number:06d}.tar", _content(shard)
            noted = path.with_name(f"{path.name}{CONTENT}")
            target.written |= {path.name, noted.name}
            if not (path.exists() and noted.exists() and noted.read_text("utf-8") == said):
                with contextlib.closing(webdataset.TarWriter(str(_partly(path)))) as writer:
                    _shard(target, shard, writer)
                _partly(path).replace(path)
                _put(noted, said)
            done += len(shard)
            target.tell(done)
    keys = target.index["file_name"].map(_sample_key)
    weights = dict(zip(keys, target.index["weight"].astype(float).round(4), strict=True))
    target.write("weights.json", json.dumps(weights, indent=0))


def _shard_numbers(target: Target, names: pd.Series) -> np.ndarray:
    """The number of the shard of each picture of a split; new pictures fill the last shard, then others behind it. ``target.shards`` hears of them."""
    numbers = np.array(names.map(target.shards), float)
    known = np.isfinite(numbers)
    last = int(numbers[known].max()) if known.any() else 0
    filled = int((numbers[known] == last).sum())
    numbers[~known] = last + (filled + np.arange((~known).sum())) // SHARD_IMAGES
    target.shards.update(zip(names, numbers.astype(int).tolist(), strict=True))
    return numbers.astype(int)


def _sample_key(name: str) -> str:
    return name.partition("/")[2].rpartition(".")[0].replace(".", "_")


def _shard(target: Target, shard: pd.DataFrame, writer: Any) -> None:
    """Write the pictures of a shard, some of them at a time in memory."""
    waiting: list[Item] = []
    for number, item in enumerate(rows.items(target.pictures, shard), start=1):
        waiting.append(item)
        if len(waiting) < rows.BATCH and number < len(shard):
            continue
        files = target.sources([n for i in waiting for n in (f"images/{i.name}", *truth_files(i, "webdataset"))])  # fmt: skip
        for one in waiting:
            writer.write(
                {
                    "__key__": _sample_key(one.name),
                    one.name.rpartition(".")[2]: files[f"images/{one.name}"].read_bytes(),
                    "mask.png": files[str(one.image["mask"])].read_bytes(),
                    "json": {"image": {k: v for k, v in one.image.items() if k != "weight"}, "people": one.annotations(""), "people_33": one.annotations("33_")},
                }
            )  # fmt: skip
        waiting = []


def _content(shard: pd.DataFrame) -> str:
    """What a shard holds: of each picture, its name and a digest of its record."""
    said = shard["file_name"] + " " + shard["digest"]
    return hashlib.sha256("\n".join(said).encode()).hexdigest()


def _cvat(target: Target) -> None:
    """`images/` and `annotations.xml` in the form "CVAT for images 1.1" with skeletons, to be looked at and corrected in CVAT."""
    _images(target)
    meta = ET.Element("meta")
    labels = ET.SubElement(ET.SubElement(meta, "job"), "labels")
    label = ET.SubElement(labels, "label")
    ET.SubElement(label, "name").text = "person"
    ET.SubElement(label, "type").text = "skeleton"
    for name in COCO_KEYPOINTS:
        part = ET.SubElement(labels, "label")
        ET.SubElement(part, "name").text, ET.SubElement(part, "type").text = name, "points"
        ET.SubElement(part, "parent").text = "person"
    with target.open("annotations.xml") as file:
        file.write(
            '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n'
        )
        file.write(ET.tostring(meta, encoding="unicode"))
        for number, item in enumerate(target.items()):
            about = {"id": str(number), "name": item.name, "subset": item.split}
            about |= {n: str(item.image[n]) for n in ("width", "height")}
            image = ET.Element("image", about)
            for person in item.people:
                skeleton = ET.SubElement(
                    image, "skeleton", label="person", source="file", z_order="0"
                )
                for name, (x, y, v) in zip(COCO_KEYPOINTS, rows.triples(person), strict=True):
                    said = {"label": name, "points": f"{x:.2f},{y:.2f}", "outside": str(int(v == 0)), "occluded": str(int(v == 1))}  # fmt: skip
                    ET.SubElement(skeleton, "points", said)
            file.write("\n" + ET.tostring(image, encoding="unicode"))
        file.write("\n</annotations>\n")


_HIPS = [LANDMARKS.index("left_hip"), LANDMARKS.index("right_hip")]
_CAMERA = [f"camera_{a}_m" for a in "xyz"]


def _mediapipe(target: Target) -> None:
    """`images/` and `pose_landmarks.json` by split, with the fields of MediaPipe's PoseLandmarkerResult, from the truth.

    Normalized landmarks are parts of the image's width and height; z is the depth from between the hips in the scale of x, as MediaPipe has it; visibility is 1
    where a landmark is seen, presence where it is in the frame. World landmarks are metres from between the hips in the camera's axes.
    """
    _images(target)
    spread = target.people_rows([*_CAMERA, "x_px", "y_px", "visibility", "in_frame"])
    with contextlib.ExitStack() as stack:
        files = {s: stack.enter_context(_object(target, f"pose_landmarks_{s}.json")) for s in target.splits}  # fmt: skip
        for item in target.items():
            file, columns = next(spread)
            assert file == f"images/{item.name}", "both tables have the pictures in one order"
            found: dict[str, list] = {"pose_landmarks": [], "pose_world_landmarks": []}
            width, height = float(item.image["width"]), float(item.image["height"])
            by_person = {n: v.reshape(-1, len(LANDMARKS)) for n, v in columns.items()}
            cameras = np.stack([by_person[n] for n in _CAMERA], axis=2).astype(float)
            for number, camera in enumerate(cameras):
                hips = camera[_HIPS].mean(axis=0)
                scale = float(item.image["intrinsics"][0][0]) / max(hips[2], 1e-6) / width
                x, y = by_person["x_px"][number] / width, by_person["y_px"][number] / height
                z = (camera[:, 2] - hips[2]) * scale
                seen, inside = by_person["visibility"][number] == 2, by_person["in_frame"][number]
                found["pose_landmarks"].append(
                    [
                        {"x": float(a), "y": float(b), "z": float(c), "visibility": float(s), "presence": float(f)}
                        for a, b, c, s, f in zip(x, y, z, seen, inside, strict=True)
                    ]
                )  # fmt: skip
                found["pose_world_landmarks"].append([dict(zip("xyz", map(float, p), strict=True)) for p in camera - hips])  # fmt: skip
            files[item.split](item.name, json.dumps(found))


def _h36m(target: Target) -> None:
    """`images/` and `poses_3d.npz`: Human3.6M's 17 joints of each person, in the camera's frame and the world's (metres), and in pixels."""
    _images(target)
    mixing = np.zeros((len(H36M_JOINTS), len(LANDMARKS)))
    for row, names in enumerate(H36M_JOINTS.values()):
        mixing[row, [LANDMARKS.index(n) for n in names]] = 1 / len(names)
    frames = {
        "positions_3d": _CAMERA,
        "positions_3d_world": [f"world_{a}_m" for a in "xyz"],
        "positions_2d": ["x_px", "y_px"],
    }
    columns = [c for mine in frames.values() for c in mine]
    found: dict[str, list[Any]] = {n: [] for n in (*frames, "intrinsics", "rotation", "translation", "file_name", "person", "split", "subject")}  # fmt: skip
    for item, (file, values) in zip(target.items(), target.people_rows(columns), strict=True):
        assert file == f"images/{item.name}", "both tables have the pictures in one order"
        for name, mine in frames.items():
            places = np.stack([values[c].reshape(-1, len(LANDMARKS)) for c in mine], axis=2)
            found[name] += list(np.einsum("jk,nkd->njd", mixing, places).astype(np.float32))
        persons = len(values["x_px"]) // len(LANDMARKS)
        for name in ("intrinsics", "rotation", "translation"):
            found[name] += [np.array(item.image[name], np.float32)] * persons
        found["person"] += range(persons)
        for name, word in (("file_name", item.name), ("split", item.split), ("subject", item.image["character"])):  # fmt: skip
            found[name] += [word] * persons
    path = target.folder / "poses_3d.npz"
    with _partly(path).open("wb") as stored:
        np.savez_compressed(stored, joints=np.array(list(H36M_JOINTS)), **{n: np.array(v) for n, v in found.items()})  # fmt: skip
    _partly(path).replace(path)
    target.written.add(path.name)


def _parquet(target: Target) -> None:
    """`images/`, `people.parquet` with a row for each person, and `landmarks.parquet` as the dataset has it."""
    _images(target)
    with target.table("people.parquet", _PEOPLE) as table:
        for _, some in _batches(target):
            people = [
                {"file_name": item.name, **_labels(item), "person": p.get("person", ""), "bbox": p["bbox"], "area": p["area"], "keypoints": rows.triples(p).tolist(),
                 "keypoints_33": rows.triples(p, "keypoints_33").tolist()}
                for item in some
                for p in item.people
            ]  # fmt: skip
            table.add(pd.DataFrame(people))
    wanted = pa.array("images/" + target.index["file_name"])
    with pq.ParquetFile(target.landmarks) as stored, target.table("landmarks.parquet", stored.schema_arrow) as table:  # fmt: skip
        for batch in stored.iter_batches(33 * rows.BATCH):
            table.add(batch.filter(pc.is_in(batch.column("file"), wanted)))


def _video(target: Target) -> None:
    """`videos/`: of each clip (a character in a look and a view, rendered with frames = "clip") an MP4 and a JSON with the people of each frame; `flow/` where
    the dataset holds it."""
    shown = 0
    waiting: dict[tuple[str, ...], list[Item]] = {}
    for item in target.items():
        if item.image.get("fps") is None or item.image.get("variant"):
            continue
        # A dataset has one character after another.
        if waiting and next(iter(waiting))[0] != item.image["character"]:
            shown += sum(_clips(target, mine) for mine in waiting.values())
            waiting = {}
        about = ("character", "look", "view", "split")
        waiting.setdefault(tuple(str(item.image[n]) for n in about), []).append(item)
    shown += sum(_clips(target, mine) for mine in waiting.values())
    if not shown:
        raise ExportError('none of the pictures are of clips; render with frames = "clip" in [render] of posefactory.toml, and frames_per_clip as long as wanted')  # fmt: skip


def _clips(target: Target, items: list[Item]) -> int:
    """Write the videos of a view, one for each run of frames that follow each other; how many. A selection may have left frames out."""
    runs: list[list[Item]] = []
    for item in sorted(items, key=lambda i: int(i.image["frame"])):
        if not runs or int(item.image["frame"]) != int(runs[-1][-1].image["frame"]) + 1:
            runs.append([])
        runs[-1].append(item)
    long = [run for run in runs if len(run) > 1]
    for run in long:
        first = run[0].image
        name = f"videos/{first['split']}/{first['character']}__{first['look']}__{first['view']}"
        _clip(target, run, name if len(long) == 1 else f"{name}__{first['frame']:04d}")
    return len(long)


def _clip(target: Target, items: list[Item], name: str) -> None:
    import av
    from PIL import Image

    first = items[0].image
    # Players want even sides: an odd one gets a line more, which repeats the last.
    width, height = (int(first[n]) + int(first[n]) % 2 for n in ("width", "height"))
    path = target.folder / f"{name}.mp4"
    _make_way(path, remove=False)
    target.written |= {f"{name}.mp4", f"{name}.json"}
    files = target.sources([f"images/{item.name}" for item in items])
    flows = [n for item in items for n in truth_files(item, "video")]
    target.link({name: name for name in flows})
    frames = []
    with av.open(str(_partly(path)), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(float(first["fps"])).limit_denominator(1001), options={"crf": "17"})  # fmt: skip
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for item in items:
            with Image.open(files[f"images/{item.name}"]) as opened:
                pixels = np.asarray(opened.convert("RGB"))
            pixels = np.pad(pixels, ((0, height - len(pixels)), (0, width - pixels.shape[1]), (0, 0)), "edge")  # fmt: skip
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            truth = {n: item.image[n] for n in ("mask", "depth", *sorted(EXTRA_FILES)) if n in item.image}  # fmt: skip
            frames.append({"frame": item.image["frame"], "image": item.name, **truth, "people": item.annotations(""), "people_33": item.annotations("33_")})  # fmt: skip
        container.mux(stream.encode())
    _partly(path).replace(path)
    camera = {k: first[k] for k in ("intrinsics", "rotation", "translation")}
    target.write(f"{name}.json", json.dumps({"fps": first["fps"], "width": first["width"], "height": first["height"], **camera, "frames": frames}))  # fmt: skip


def _labels(item: Item) -> dict[str, Any]:
    names = ("character", "split", "look", "view", "frame", "style")
    return {**{n: item.image.get(n, "") for n in names}, "weight": float(item.image.get("weight", 1.0))}  # fmt: skip


FORMATS: dict[str, Callable[[Target], None]] = {
    "coco": _coco, "yolo": _yolo, "huggingface": _huggingface, "webdataset": _webdataset, "cvat": _cvat, "mediapipe": _mediapipe,
    "h36m": _h36m, "parquet": _parquet, "video": _video,
}  # fmt: skip
