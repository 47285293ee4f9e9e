"""A dataset's pictures as rows of a Parquet file, written and read in batches: a large dataset takes no more memory than a small one.

``pictures.parquet`` has a row for each picture, in the dataset's order: by what it can be selected, and its record and people as JSON.
All other forms are written from it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from blender_scripts.contract import COCO_KEYPOINTS

#: Names of the files of a dataset that are read in batches.
PICTURES, LANDMARK_TABLE = "pictures.parquet", "landmarks.parquet"
#: Pictures in memory at a time.
BATCH = 256
#: What varied pictures differ by: pose, and size and place in the frame.
FEATURES = 2 * len(COCO_KEYPOINTS) + 3
_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("file_name", "split", "character", "look", "view", "style", "kind")),
        ("keys", pa.list_(pa.string())), ("frame", pa.int64()), ("people", pa.int64()), ("visibility", pa.float64()), ("size", pa.float64()),
        ("weight", pa.float64()), ("features", pa.list_(pa.float32(), FEATURES)), ("digest", pa.string()), ("image", pa.string()), ("annotations", pa.string()),
    ]
)  # fmt: skip
#: What is read to select: all but the records themselves.
_INDEX = [f.name for f in _SCHEMA if f.name not in ("image", "annotations")]


@dataclass(frozen=True)
class Item:
    """One picture of a dataset: COCO's record of it, and its people with ``keypoints`` (17) and ``keypoints_33``, and their numbers."""

    image: Mapping[str, Any]
    people: Sequence[Mapping[str, Any]]

    @property
    def name(self) -> str:
        """The file name below ``images/``, its split first."""
        return str(self.image["file_name"])

    @property
    def split(self) -> str:
        """The split that it belongs to."""
        return str(self.image["split"])

    def annotations(self, kind: str) -> list[dict[str, Any]]:
        """Its people as COCO has them, with 17 keypoints, or with 33 for ``kind`` 33_."""
        return [coco_annotation(person, kind) for person in self.people]


def coco_annotation(person: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """A person of an item with one of its two sets of keypoints."""
    other = ("keypoints_33", "num_keypoints_33")
    found = {k: v for k, v in person.items() if k not in other}
    if kind:
        found |= {"keypoints": person["keypoints_33"], "num_keypoints": person["num_keypoints_33"]}
    return found


def stable_id(name: str) -> int:
    """A number of 52 bits for a picture or a person in it, the same in every version of a dataset (and exact in JavaScript)."""
    return int(hashlib.sha256(name.encode()).hexdigest()[:13], 16)


def triples(person: Mapping[str, Any], name: str = "keypoints") -> np.ndarray:
    """Keypoints (K, 3) of a person: x, y in pixels, v."""
    return np.array(person[name], float).reshape(-1, 3)


class RowWriter:
    """Writes rows of pictures; ``close`` ends the file."""

    def __init__(self, path: Path) -> None:
        self._writer = pq.ParquetWriter(path, _SCHEMA, compression="zstd")
        self._rows: list[dict[str, Any]] = []

    def add(self, item: Item, source: str) -> None:
        """A picture after those that were added before.

        Args:
            source: names its pixels; with the labels it makes the digest by which a picture that has changed is known.
        """
        image, people = item.image, item.people
        texts = json.dumps(image), json.dumps(people)
        self._rows.append(
            {
                "file_name": item.name, "split": item.split, "character": image["character"], "look": image["look"], "view": image["view"],
                "style": image.get("style", ""), "kind": "variant" if image.get("variant") else "render",
                "keys": sorted({str(image["character"]), *(str(p["person"]) for p in people if p.get("person"))}),
                "frame": image["frame"], "people": len(people),
                "visibility": min((float((triples(p)[:, 2] == 2).mean()) for p in people), default=0.0),
                "size": min((float(p["bbox"][3]) / float(image["height"]) for p in people), default=0.0),
                "weight": 1.0, "features": _features(item),
                "digest": hashlib.sha256(" ".join((source, *texts)).encode()).hexdigest()[:20], "image": texts[0], "annotations": texts[1],
            }
        )  # fmt: skip
        if len(self._rows) == BATCH:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(pa.Table.from_pylist(self._rows, schema=_SCHEMA))
            self._rows = []

    def close(self) -> None:
        """Write what is left, and the end of the file."""
        self._flush()
        self._writer.close()


def _features(item: Item) -> list[float]:
    if not item.people:
        return [0.0] * FEATURES
    person = item.people[0]
    points, (x, y, w, h) = triples(person), person["bbox"]
    inside = np.where(points[:, 2:] > 0, (points[:, :2] - (x, y)) / max(w, h, 1), 0.5)
    size = float(item.image["width"]), float(item.image["height"])
    return [*inside.ravel().tolist(), h / size[1], (x + w / 2) / size[0], (y + h / 2) / size[1]]


def index_of(path: Path, *, features: bool = False) -> pd.DataFrame:
    """By what pictures are selected: a row for each, in order; with ``features`` what they are varied by, too."""
    columns = [c for c in _INDEX if features or c != "features"]
    return pq.read_table(path, columns=columns).to_pandas()


def items(path: Path, index: pd.DataFrame) -> Iterator[Item]:
    """The pictures of an index, in the file's order, with its weights."""
    weights = dict(zip(index.index, index["weight"], strict=True))
    first = 0
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            count = file.metadata.row_group(group).num_rows
            wanted = [n for n in range(first, first + count) if n in weights]
            # A selection, or a shard, is somewhere in the file: the rest of it is not read.
            if wanted:
                images, people = file.read_row_group(
                    group, columns=["image", "annotations"]
                ).columns
                for n in wanted:
                    yield Item({**json.loads(images[n - first].as_py()), "weight": round(float(weights[n]), 4)}, json.loads(people[n - first].as_py()))  # fmt: skip
            first += count


def set_weights(path: Path, weights: np.ndarray, to: Path) -> None:
    """Copy a file of pictures with other weights."""
    done = 0
    place = _SCHEMA.get_field_index("weight")
    with pq.ParquetFile(path) as file, pq.ParquetWriter(to, _SCHEMA, compression="zstd") as writer:
        for batch in file.iter_batches(BATCH):
            mine = pa.array(weights[done : done + len(batch)], pa.float64())
            writer.write_batch(batch.set_column(place, "weight", mine))
            done += len(batch)


def landmark_rows(path: Path, columns: Sequence[str], files: Iterable[str] | None = None) -> Iterator[tuple[str, dict[str, np.ndarray]]]:  # fmt: skip
    """Of each picture, in order, its file and the columns of its rows in the dataset's table of landmarks, person by person.

    Args:
        files: of the wanted pictures; all of them by default.
    """
    wanted = None if files is None else set(files)
    left: dict[str, np.ndarray] | None = None
    with pq.ParquetFile(path) as table:
        for batch in table.iter_batches(33 * BATCH, columns=["file", *columns]):
            found = {n: batch.column(n).to_numpy(zero_copy_only=False) for n in ("file", *columns)}
            if left is not None:
                found = {n: np.concatenate([left[n], v]) for n, v in found.items()}
            ends = [0, *(np.flatnonzero(found["file"][1:] != found["file"][:-1]) + 1), len(found["file"])]  # fmt: skip
            # The last picture may go on in the next batch.
            for first, last in zip(ends[:-2], ends[1:-1], strict=True):
                if wanted is None or found["file"][first] in wanted:
                    yield str(found["file"][first]), {n: found[n][first:last] for n in columns}
            left = {n: v[ends[-2] :] for n, v in found.items()}
    if left is not None and len(left["file"]) and (wanted is None or left["file"][0] in wanted):
        yield str(left["file"][0]), {n: left[n] for n in columns}


class TableWriter:
    """Writes tables of the same columns one after another into one Parquet file; ``close`` ends it.

    Args:
        schema: of the file, which then is there even without rows; else the first table gives it.
    """

    def __init__(self, path: Path, schema: pa.Schema | None = None) -> None:
        self._path = path
        self._writer: pq.ParquetWriter | None = None
        if schema is not None:
            self._writer = pq.ParquetWriter(path, schema, compression="zstd")

    def add(self, table: pd.DataFrame | pa.RecordBatch) -> None:
        """Rows after those that were added before."""
        if not len(table):
            return
        if isinstance(table, pd.DataFrame):
            schema = None if self._writer is None else self._writer.schema
            table = pa.Table.from_pandas(table, schema=schema, preserve_index=False)
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._path, table.schema, compression="zstd")
        self._writer.write(table)

    def close(self) -> None:
        """Write the end of the file."""
        if self._writer is not None:
            self._writer.close()
