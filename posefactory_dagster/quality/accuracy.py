"""MediaPipe's accuracy against the truth: PCK, OKS, aligned error, left/right swaps.

PCK counts landmarks inside the frame that were not placed by proportion; a person not found counts as all missed, so that silence is
not rewarded. OKS is COCO's, over its 17 keypoints, with its sigmas and the area of the person's mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from blender_scripts.contract import COCO_KEYPOINTS, LANDMARKS, sigma_of

INDEX = {name: i for i, name in enumerate(LANDMARKS)}
COCO_INDEX = [INDEX[name] for name in COCO_KEYPOINTS]
COCO_SIGMAS = np.array([sigma_of(name) for name in COCO_KEYPOINTS])
#: Pairs by which a whole-body swap of left and right shows.
LIMB_PAIRS = [
    (INDEX[f"left_{j}"], INDEX[f"right_{j}"])
    for j in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
]
#: Less OKS than this is somebody else.
LEAST_SIMILARITY = 0.05
#: Landmarks that a person is aligned by, at least.
FEWEST_ALIGNED = 8
#: A swap: with left and right exchanged the limbs' mean error is under this part of what it was …
SWAP_RATIO = 0.5
#: … and what it was is over this part of the torso, as small errors say nothing about sides.
SWAP_MIN_ERROR = 0.15


def torso_pixels(world: np.ndarray, depth: np.ndarray, focal: np.ndarray) -> np.ndarray:
    """Torso length in pixels: mid-shoulder to mid-hip in space, seen at the torso's own depth.

    Taken in space, so that a torso bent towards the camera is not short.

    Args:
        world: (N, 33, 3) metres. depth: (N, 33) metres. focal: (N,) pixels.

    Returns:
        (N,) pixels.
    """
    shoulders = [INDEX["left_shoulder"], INDEX["right_shoulder"]]
    hips = [INDEX["left_hip"], INDEX["right_hip"]]
    top, bottom = world[:, shoulders].mean(axis=1), world[:, hips].mean(axis=1)
    centre = depth[:, shoulders + hips].mean(axis=1)
    return focal * np.linalg.norm(top - bottom, axis=1) / centre


def align(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """``source`` moved, turned and scaled on ``target`` with least squares (Procrustes, no mirror).

    Shapes (M, 3) and (M, 3); the result has the target's units.
    """
    from scipy.spatial.transform import Rotation  # half a second to import

    a, b = source - source.mean(axis=0), target - target.mean(axis=0)
    rotation, _ = Rotation.align_vectors(b, a)
    turned = rotation.apply(a)
    scale = float((turned * b).sum() / (turned**2).sum())
    return scale * turned + target.mean(axis=0)


def keypoint_similarity(
    truth: np.ndarray,
    measured: np.ndarray,
    boxes: np.ndarray,
    areas: np.ndarray,
    found: np.ndarray,
) -> np.ndarray:
    """OKS of each image, (N,); 0 where no person was found. As ``COCOeval.computeOks`` of pycocotools, which tests compare it with.

    Args:
        truth: (N, 33, 2) pixels. measured: (N, 33) bool, which of them count. boxes: (N, 4). areas: (N,) pixels.
        found: (N, 33, 2) pixels, NaN where no person was found.
    """
    away = found[:, COCO_INDEX] - truth[:, COCO_INDEX]
    counted = measured[:, COCO_INDEX]
    # COCO's evaluation, where no keypoint is labelled: how far the found ones lie outside the box, doubled on each side.
    low, high = boxes[:, None, :2] - boxes[:, None, 2:], boxes[:, None, :2] + 2 * boxes[:, None, 2:]
    outside = np.maximum(low - found[:, COCO_INDEX], 0) + np.maximum(found[:, COCO_INDEX] - high, 0)
    unlabelled = ~counted.any(axis=1)
    away = np.where(unlabelled[:, None, None], outside, away)
    counted = counted | unlabelled[:, None]
    variances = (2 * COCO_SIGMAS) ** 2
    areas = np.asarray(areas, float)[:, None] + np.spacing(1)
    similarity = np.exp(-(away**2).sum(axis=-1) / variances / areas / 2)
    mean = np.where(counted, similarity, 0.0).sum(axis=1) / counted.sum(axis=1)
    return np.where(np.isfinite(found[:, 0, 0]), mean, 0.0)


def matched(
    truth: np.ndarray, measured: np.ndarray, boxes: np.ndarray, areas: np.ndarray, found: Sequence[np.ndarray]
) -> list[int | None]:  # fmt: skip
    """Who of those that were found in an image each of its people is: a place in ``found``, or None.

    Pairs are chosen so that the sum of their OKS is greatest; one that agrees in nothing is none.

    Args:
        truth: (P, 33, 2) pixels; measured, boxes and areas as in ``keypoint_similarity``, of these people. found: each (33, 2) pixels.
    """
    from scipy.optimize import linear_sum_assignment

    result: list[int | None] = [None] * len(truth)
    if not found:
        return result
    scores = np.stack(
        [keypoint_similarity(truth, measured, boxes, areas, np.repeat(f[None], len(truth), axis=0)) for f in found], axis=1
    )  # fmt: skip
    scores = np.where(np.asarray(areas)[:, None] > 0, scores, 0.0)  # who is not seen is not found
    for person, other in zip(*linear_sum_assignment(-scores), strict=True):
        if scores[person, other] >= LEAST_SIMILARITY:
            result[int(person)] = int(other)
    return result


@dataclass(frozen=True)
class Agreement:
    """MediaPipe against the truth, by image. N images.

    ``detected`` (N,) bool; ``error`` (N, 33) in torso lengths, NaN if not detected; ``in_frame``
    (N, 33) bool, in the frame and not placed by proportion; ``oks`` (N,); ``aligned_cm`` (N,) NaN if not detected; ``swapped`` (N,) bool.
    """

    detected: np.ndarray
    error: np.ndarray
    in_frame: np.ndarray
    oks: np.ndarray
    aligned_cm: np.ndarray
    swapped: np.ndarray

    def pck(self, threshold: float, where: Any = slice(None)) -> float:
        """Share of in-frame landmarks within ``threshold`` torso lengths; NaN without any."""
        inside = self.in_frame[where]
        if not inside.any():
            return float("nan")
        return float((self.error[where] <= threshold)[inside].mean())

    def summary(self, where: Any = slice(None)) -> dict[str, float]:
        """The figures over the images that ``where`` selects; see ``labels.documents.AgreementFigures``."""
        detected = self.detected[where]
        aligned = self.aligned_cm[where]
        return {
            "images": len(detected),
            "detection_rate": float(detected.mean()),
            "pck_0.2": self.pck(0.2, where),
            "pck_0.1": self.pck(0.1, where),
            "oks": float(self.oks[where].mean()),
            "aligned_error_cm": float(np.nanmean(aligned))
            if np.isfinite(aligned).any()
            else float("nan"),
            "swaps": int(self.swapped[where].sum()),
        }


def compare(arrays: dict[str, np.ndarray], labels: np.ndarray, sizes: np.ndarray) -> Agreement:
    """Measure labels against a render set's truth.

    Args:
        arrays: the truth's arrays; see ``truth.Truth``.
        labels: (N, 33, 8) as from ``landmarker.to_array``.
        sizes: (N, 2) width and height of the images, pixels.
    """
    found = labels[..., :2] * sizes[:, None]
    detected = np.isfinite(found[:, 0, 0])
    torso = torso_pixels(arrays["world"], arrays["depth"], arrays["intrinsics"][:, 0, 0])
    distance = np.linalg.norm(found - arrays["pixels"], axis=-1) / torso[:, None]
    left, right = (np.array(side) for side in zip(*LIMB_PAIRS, strict=True))
    here, there = np.concatenate([left, right]), np.concatenate([right, left])
    crossed = np.linalg.norm(found[:, there] - arrays["pixels"][:, here], axis=-1)
    plain_error = distance[:, here].mean(axis=1)
    crossed_error = (crossed / torso[:, None]).mean(axis=1)
    with np.errstate(invalid="ignore"):
        swapped = (crossed_error < SWAP_RATIO * plain_error) & (plain_error > SWAP_MIN_ERROR)
    aligned = np.full(len(found), np.nan)
    for i in np.flatnonzero(detected):
        known = arrays["measured"][i]
        if known.sum() >= FEWEST_ALIGNED:
            world = arrays["world"][i, known]
            moved = align(labels[i, known, 5:8], world)
            aligned[i] = 100 * np.linalg.norm(moved - world, axis=1).mean()
    return Agreement(
        detected=detected,
        error=distance,
        in_frame=arrays["measured"],
        oks=keypoint_similarity(
            arrays["pixels"], arrays["measured"], arrays["bbox"], arrays["area"], found
        ),
        aligned_cm=aligned,
        swapped=swapped & detected,
    )


def by_landmark(agreement: Agreement) -> dict[str, float]:
    """PCK@0.2 of each landmark over all images."""
    inside = agreement.in_frame
    hit = (agreement.error <= 0.2) & inside
    count = inside.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = hit.sum(axis=0) / count
    return {name: float(share[i]) for i, name in enumerate(LANDMARKS)}


def draw_chart(
    views: dict[str, dict[str, float]], landmarks: dict[str, float], target: Any
) -> None:
    """Bars of PCK@0.2 and OKS by view, and of PCK@0.2 by landmark."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 2))
    names = list(views)
    place = np.arange(len(names))
    left.barh(
        place - 0.2, [views[n]["pck_0.2"] for n in names], 0.4, label="PCK@0.2", color="#2f6f9f"
    )
    left.barh(place + 0.2, [views[n]["oks"] for n in names], 0.4, label="OKS", color="#e0a030")
    left.set_yticks(place, names)
    left.invert_yaxis()
    left.set_xlim(0, 1)
    left.set_title("by view")
    left.legend(loc="lower left", fontsize=8)
    right.bar(list(landmarks), list(landmarks.values()), color="#2f6f9f")
    right.tick_params(axis="x", rotation=90, labelsize=7)
    right.set_ylim(0, 1)
    right.set_title("PCK@0.2 by landmark")
    figure.savefig(target, dpi=80)
