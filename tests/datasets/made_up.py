"""A dataset of made-up pictures, as large as wanted: its tables, and where asked its image files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from pycocotools import mask as coco_mask

from blender_scripts.contract import LANDMARKS
from posefactory_dagster.datasets import coco, rows
from posefactory_dagster.datasets.formats import Target
from posefactory_dagster.datasets.rows import Item, stable_id

SIDE = 64


def items(count: int, first: int = 0, people: dict[int, int] | None = None) -> Iterator[Item]:
    """Pictures with one person each, but for those that ``people`` names with a number of their own."""
    mask = np.zeros((SIDE, SIDE), np.uint8, order="F")
    mask[8:60, 20:44] = 1
    encoded = coco_mask.encode(mask)
    segmentation = {"size": encoded["size"], "counts": encoded["counts"].decode()}
    for number in range(first, first + count):
        chance = np.random.default_rng(number)
        split = ("train", "val", "test")[number % 3]
        name = f"{split}/c{number % 50}__f{number:06d}.png"
        image = {
            "id": stable_id(name.partition("/")[2]), "file_name": name, "width": SIDE, "height": SIDE, "character": f"c{number % 50}", "view": f"v{number % 8}",
            "frame": number, "look": f"look{number % 7}", "split": split, "mask": f"masks/{Path(name).name}", "depth": f"depth/{Path(name).name}",
            "intrinsics": np.diag([60.0, 60.0, 1.0]).tolist(), "rotation": np.eye(3).tolist(), "translation": [0.0, 0.0, 4.0],
        }  # fmt: skip
        found: list[dict[str, Any]] = []
        for person in range((people or {}).get(number, 1)):
            points = np.column_stack([chance.uniform(0, SIDE, (33, 2)).round(2), np.full(33, 2)])
            wide = {f"{k}_33": v for k, v in coco.flat(points).items()}
            found.append(
                {
                    "id": stable_id(f"{name}#{person}"), "image_id": image["id"], "category_id": 1, "iscrowd": 0, "bbox": [20.0, 8.0, 24.0, 52.0], "area": 1248.0,
                    "segmentation": segmentation, **coco.flat(points[:17]), **wide, "person_index": person, "person": f"c{number % 50}",
                }
            )  # fmt: skip
        yield Item(image, found)


def landmarks(item: Item) -> pd.DataFrame:
    """The rows of a picture in the table of landmarks."""
    tables = []
    for person in item.people:
        points = rows.triples(person, "keypoints_33")
        columns: dict[str, Any] = {
            "file": f"images/{item.name}", "split": item.split, "character": item.image["character"], "person_index": person["person_index"], "name": LANDMARKS,
            "look": item.image["look"], "view": item.image["view"],
            "x_px": points[:, 0], "y_px": points[:, 1], "visibility": 2, "in_frame": True, "occluded_by": "none",
            **{f"{frame}_{a}_m": points[:, k % 2] / SIDE + 2.0 for frame in ("camera", "world") for k, a in enumerate("xyz")},
            "depth_m": 2.0, "mediapipe_x": 0.5, "mediapipe_y": 0.5,
        }  # fmt: skip
        tables.append(pd.DataFrame(columns))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def dataset(folder: Path, pictures: Iterator[Item], *, files: bool = False) -> Target:
    """Write the tables of a dataset of these pictures, with their image files where asked.

    Returns:
        A target that writes into the same folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    writer = rows.RowWriter(folder / rows.PICTURES)
    table = rows.TableWriter(folder / rows.LANDMARK_TABLE)
    waiting = []
    chance = np.random.default_rng(0)
    for item in pictures:
        writer.add(item, "made up")
        waiting.append(landmarks(item))
        if len(waiting) == rows.BATCH:
            table.add(pd.concat(waiting, ignore_index=True))
            waiting = []
        if files:
            shade = chance.integers(0, 255, (SIDE, SIDE, 3), np.uint8)
            for name in (f"images/{item.name}", item.image["mask"], item.image["depth"]):
                path = folder / str(name)
                path.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(path), shade if name.startswith("images") else shade[..., 0])
    table.add(pd.concat(waiting, ignore_index=True) if waiting else pd.DataFrame())
    writer.close()
    table.close()
    return opened(folder, folder)


def opened(folder: Path, to: Path) -> Target:
    """A target that writes the made-up dataset of a folder into another."""
    return Target.within(folder, to)
