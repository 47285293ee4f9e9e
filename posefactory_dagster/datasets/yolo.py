"""Labels and description of a dataset in Ultralytics' form for pose models (COCO's 17 keypoints)."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import yaml

from blender_scripts.contract import COCO_KEYPOINTS
from posefactory_dagster.datasets.coco import flip_order


def label_line(keypoints: np.ndarray, bbox: np.ndarray, width: int, height: int) -> str:
    """One person as a line: class, box centre and size, then x, y and v of each keypoint; lengths as parts of the image.

    Args:
        keypoints: (17, 3) x, y in pixels and v. bbox: (4,) x, y, width, height in pixels.
    """
    size = np.array([width, height], float)
    centre = (bbox[:2] + bbox[2:] / 2) / size
    values = [*centre, *(bbox[2:] / size)]
    points = [f"{x / width:.6f} {y / height:.6f} {int(v)}" for x, y, v in keypoints]
    return " ".join(["0", *(f"{v:.6f}" for v in values), *points])


def description(splits: Collection[str]) -> str:
    """``data.yaml``; without a path, as Ultralytics takes the file's own folder then."""
    # Training needs a val set to be named; where none is filled, it is the train set.
    folders = {s: f"images/{s}" for s in ("train", "val", "test") if s in splits}
    folders.setdefault("val", folders.get("train", "images/train"))
    document: dict[str, Any] = {
        **folders,
        "kpt_shape": [len(COCO_KEYPOINTS), 3],
        "flip_idx": flip_order(COCO_KEYPOINTS),
        "names": {0: "person"},
        "kpt_names": {0: list(COCO_KEYPOINTS)},
    }
    return yaml.safe_dump(document, sort_keys=False, default_flow_style=None)
