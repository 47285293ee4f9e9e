"""MediaPipe's landmarks and silhouettes for single, unrelated images."""

from __future__ import annotations

import contextlib
import os
import queue
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from blender_scripts.contract import LANDMARKS

#: Drawn between landmarks on overlays: the limbs and the trunk.
SKELETON = (
    ("left_shoulder", "right_shoulder"), ("left_hip", "right_hip"),
    ("left_shoulder", "left_hip"), ("right_shoulder", "right_hip"),
    ("left_shoulder", "left_elbow"), ("left_elbow", "left_wrist"),
    ("right_shoulder", "right_elbow"), ("right_elbow", "right_wrist"),
    ("left_hip", "left_knee"), ("left_knee", "left_ankle"),
    ("right_hip", "right_knee"), ("right_knee", "right_ankle"),
    ("left_ankle", "left_heel"), ("left_heel", "left_foot_index"),
    ("right_ankle", "right_heel"), ("right_heel", "right_foot_index"),
)  # fmt: skip
#: MediaPipe's segmentation is a confidence from 0 to 1.
SILHOUETTE_THRESHOLD = 0.5
#: Each holds its own copy of the model in memory.
MOST_LANDMARKERS = 8
VALUES = ("x", "y", "z", "visibility", "presence", "world_x", "world_y", "world_z")


@dataclass(frozen=True)
class Person:
    """One person that MediaPipe found.

    ``values`` (33, 8), columns as ``VALUES``: x and y are fractions of the image's width and height, z is
    MediaPipe's relative depth (not metric), world coordinates are metres from between the hips, y down.
    ``silhouette`` (H, W) bool, or None where none was asked for.
    """

    values: np.ndarray
    silhouette: np.ndarray | None


class Landmarkers:
    """As many landmarkers as there are cores, as each uses only one; to be shared by threads.

    Args:
        model: the ``.task`` bundle.
        min_confidence: of the detection, 0 to 1.
        people: how many are looked for at most.
        silhouettes: whether each person's silhouette is wanted.
        count: how many landmarkers, if not as many as there are cores.
    """

    def __init__(
        self,
        model: Path,
        min_confidence: float,
        people: int = 1,
        silhouettes: bool = False,
        count: int | None = None,
    ) -> None:
        from mediapipe.tasks.python import BaseOptions, vision  # 3 s to import: only where used

        self._options = vision.PoseLandmarkerOptions(
            base_options=BaseOptions(model_asset_path=str(model)),
            running_mode=vision.RunningMode.IMAGE,
            num_poses=people,
            min_pose_detection_confidence=min_confidence,
            output_segmentation_masks=silhouettes,
        )
        self.count = count or min(os.cpu_count() or 1, MOST_LANDMARKERS)
        self._stack = contextlib.ExitStack()
        self._idle: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def __enter__(self) -> Landmarkers:
        from mediapipe.tasks.python import vision

        for _ in range(self.count):
            landmarker = vision.PoseLandmarker.create_from_options(self._options)
            self._idle.put(self._stack.enter_context(landmarker))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def look(self, pixels: np.ndarray) -> list[Person]:
        """The people in an image (H, W, 3) uint8, the surest first."""
        import mediapipe as mp

        image = mp.Image(mp.ImageFormat.SRGB, np.ascontiguousarray(pixels))
        landmarker = self._idle.get()
        try:
            result = landmarker.detect(image)
        finally:
            self._idle.put(landmarker)
        people = []
        for i, (points, world) in enumerate(
            zip(result.pose_landmarks, result.pose_world_landmarks, strict=True)
        ):
            values = np.array(
                [
                    (p.x, p.y, p.z, p.visibility, p.presence, w.x, w.y, w.z)
                    for p, w in zip(points, world, strict=True)
                ]
            )
            masks = result.segmentation_masks
            silhouette = masks[i].numpy_view() > SILHOUETTE_THRESHOLD if masks else None
            people.append(Person(values, silhouette))
        return people


def detect(
    model: Path, images: Sequence[Path], min_confidence: float, people: int = 1
) -> Iterator[tuple[Path, list[np.ndarray]]]:
    """Each image with the values (33, 8) of whoever is found in it, the surest first; in the order given.

    Args:
        people: how many are looked for at most.
    """

    def look(path: Path) -> list[np.ndarray]:
        with Image.open(path) as image:
            return [p.values for p in landmarkers.look(np.asarray(image.convert("RGB")))]

    with (
        Landmarkers(model, min_confidence, people) as landmarkers,
        ThreadPoolExecutor(landmarkers.count) as pool,
    ):
        yield from zip(images, pool.map(look, images), strict=True)


def to_frame(detections: Iterable[tuple[dict[str, Any], np.ndarray | None]]) -> pd.DataFrame:
    """One row per image, person and landmark; one row with landmark -1 where a person was not found.

    Columns: file, frame, view, person_index (its place among those of the image), detected, landmark (index), name, and ``VALUES``
    (NaN if undetected).

    Args:
        detections: of each person of each image, a record with these columns up to person_index, and its values (33, 8).
    """
    parts = []
    for record, values in detections:
        head = {name: record[name] for name in ("file", "frame", "view", "person_index")}
        if values is None:
            blank = dict.fromkeys(VALUES, np.nan)
            row = {**head, "detected": False, "landmark": -1, "name": "", **blank}
            parts.append(pd.DataFrame([row]))
            continue
        part = pd.DataFrame(values, columns=list(VALUES))
        part.insert(0, "name", LANDMARKS)
        part.insert(0, "landmark", range(len(LANDMARKS)))
        part.insert(0, "detected", True)
        for i, (name, value) in enumerate(head.items()):
            part.insert(i, name, value)
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def to_array(frame: pd.DataFrame, files: list[str], persons: int = 1) -> np.ndarray:
    """(images x persons, 33, 8) in the order of ``files``, the people of an image one after the other; NaN where one was not found."""
    found = frame[frame["detected"]]
    result = np.full((len(files) * persons, len(LANDMARKS), len(VALUES)), np.nan)
    place = {name: i for i, name in enumerate(files)}
    rows = found["file"].map(place).to_numpy(int) * persons
    if "person_index" in found:  # not in tables of the version before
        rows += found["person_index"].to_numpy(int)
    result[rows, found["landmark"].to_numpy(int)] = found[list(VALUES)].to_numpy()
    return result


def draw_overlay(image: Path, truth: np.ndarray, found: Sequence[np.ndarray], target: Path) -> None:
    """The image with the true skeletons (green) and MediaPipe's (magenta) on it.

    Args:
        truth: (P, 33, 2) pixels.
        found: of each person that was found, (33, 2) pixels.
    """
    index = {name: i for i, name in enumerate(LANDMARKS)}
    with Image.open(image) as opened:
        picture = opened.convert("RGB")
    draw = ImageDraw.Draw(picture)
    skeletons = [(t, (20, 150, 60)) for t in truth] + [(f, (220, 0, 160)) for f in found]
    for points, colour in skeletons:
        for a, b in SKELETON:
            draw.line([tuple(points[index[a]]), tuple(points[index[b]])], fill=colour, width=2)
        for x, y in points:
            draw.ellipse((x - 2, y - 2, x + 2, y + 2), fill=colour)
    draw.text((4, 3), "truth", fill=(20, 150, 60))
    draw.text((40, 3), "MediaPipe" if len(found) else "MediaPipe: no person", fill=(220, 0, 160))
    picture.save(target, quality=85)
