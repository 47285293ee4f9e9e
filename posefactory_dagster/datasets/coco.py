"""COCO keypoints files, with COCO's 17 keypoints or MediaPipe's 33, and the sigmas by which OKS weighs them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from blender_scripts.contract import COCO_KEYPOINTS, LANDMARKS, sigma_of

#: COCO's own limbs between its 17 keypoints, 1-based as in its files (COCO 2017 annotations).
COCO_SKELETON = [
    [16, 14], [14, 12], [17, 15], [15, 13], [12, 13], [6, 12], [7, 13], [6, 7], [6, 8],
    [7, 9], [8, 10], [9, 11], [2, 3], [1, 2], [1, 3], [2, 4], [3, 5], [4, 6], [5, 7],
]  # fmt: skip


def sigmas() -> dict[str, Any]:
    """The sigmas of the 33, in the order of the 33-keypoint files; and where they come from."""
    return {
        "keypoints": list(LANDMARKS),
        "sigmas": [sigma_of(name) for name in LANDMARKS],
        "source": "COCO keypoints (17); COCO-WholeBody (the others; means of left and right)",
    }


def category(keypoints: Sequence[str]) -> dict[str, Any]:
    """The person category for these keypoints; ``flip_pairs``: those (1-based) that change places in a mirrored picture."""
    skeleton = COCO_SKELETON if tuple(keypoints) == COCO_KEYPOINTS else _mediapipe_skeleton()
    return {
        "id": 1,
        "name": "person",
        "supercategory": "person",
        "keypoints": list(keypoints),
        "skeleton": skeleton,
        "flip_pairs": [[i + 1, j + 1] for i, j in enumerate(flip_order(keypoints)) if i < j],
    }


def flip_order(keypoints: Sequence[str]) -> list[int]:
    """For each keypoint the place of the one that it becomes in a mirrored picture."""
    other = {"left": "right", "right": "left"}
    mirrored = ["_".join(other.get(word, word) for word in name.split("_")) for name in keypoints]
    return [list(keypoints).index(name) for name in mirrored]


def _mediapipe_skeleton() -> list[list[int]]:
    """COCO's limbs by the names of the 33, and hands and feet; 1-based."""
    number = {name: i + 1 for i, name in enumerate(LANDMARKS)}
    limbs = [[number[COCO_KEYPOINTS[i - 1]] for i in limb] for limb in COCO_SKELETON]
    for side in ("left", "right"):
        for a, b in (
            ("wrist", "thumb"), ("wrist", "index"), ("wrist", "pinky"), ("ankle", "heel"),
            ("heel", "foot_index"), ("ankle", "foot_index"),
        ):  # fmt: skip
            limbs.append([number[f"{side}_{a}"], number[f"{side}_{b}"]])
    return limbs


def keypoints_of(
    keypoints: Sequence[str], pixels: np.ndarray, visibility: np.ndarray
) -> np.ndarray:
    """Keypoints of one person in COCO's form: (K, 3) of x, y in pixels and v, zeros where v is 0.

    Args:
        pixels: (33, 2). visibility: (33,), 0 not labelled, 1 labelled and not seen, 2 seen.
    """
    order = [LANDMARKS.index(name) for name in keypoints]
    seen = visibility[order].astype(float)
    points = np.where(seen[:, None] > 0, pixels[order], 0.0).round(3)
    return np.column_stack([points, seen])


def annotation(
    number: int, image_id: int, keypoints: np.ndarray, bbox: np.ndarray, mask: np.ndarray
) -> dict[str, Any]:
    """One person's annotation.

    Args:
        number: of the annotation. image_id: of its image.
        keypoints: (K, 3) as from ``keypoints_of``.
        bbox: (4,) x, y, width, height in pixels. mask: (H, W) bool.
    """
    encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {
        "id": number,
        "image_id": image_id,
        "category_id": 1,
        "iscrowd": 0,
        "bbox": [float(v) for v in bbox],
        "area": float(mask.sum()),
        "segmentation": {"size": encoded["size"], "counts": encoded["counts"].decode("ascii")},
        **flat(keypoints),
    }


def flat(keypoints: np.ndarray) -> dict[str, Any]:
    """Keypoints (K, 3) as COCO's annotations have them: a list of 3 K values, and how many are labelled."""
    return {
        "keypoints": [v for x, y, s in keypoints for v in (float(x), float(y), int(s))],
        "num_keypoints": int((keypoints[:, 2] > 0).sum()),
    }
