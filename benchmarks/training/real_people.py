"""Networks trained on our pictures, and BlazePose, on real people: four calibrated cameras, no labels, so what counts is whether the views agree.

    pip install --no-deps pose2sim==0.10.49          # its demo videos (BSD-3): a man in balance exercises, and three people
    npm pack @mediapipe/pose@0.5.1675469404          # BlazePose lite and heavy (Apache-2.0); unpack the archive
    .venv-people/bin/python -m benchmarks.training.real_people FOLDER [--blazepose UNPACKED/package]

FOLDER is that of ``factors.py``, with its networks. For every frame each joint is triangulated from all cameras; measured are the distance of the
joint's projections from what the model said (pixels of the 1080 x 1920 videos, without each camera's mean; a model that is consistently wrong can agree with itself), and how
much the length of each limb varies over the frames (cm), which it does not in people. Everybody is given to all models in the same crop,
around where BlazePose full (which is installed) sees the person.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch

from benchmarks.training import network as nets
from blender_scripts.contract import COCO_KEYPOINTS
from posefactory_dagster.quality.models import PoseModel, crop, crop_matrix, open_model

#: Joints that are compared: shoulders to ankles.
JOINTS = [n for n in COCO_KEYPOINTS if n.split("_")[-1] in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")]  # fmt: skip
LIMBS = [("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee"), ("knee", "ankle")]
#: Every so many frames of the videos (60 a second).
STEP = 4
#: The crop that finders of people are given, in lengths of the person's box.
ROOM = 1.6


@dataclass(frozen=True)
class Camera:
    """A calibrated camera in OpenCV's convention: matrix (3, 3), distortion (4,), rotation (3, 3) and translation (3,), metres."""

    matrix: np.ndarray
    distortion: np.ndarray
    rotation: np.ndarray
    translation: np.ndarray

    def rays(self, pixels: np.ndarray) -> np.ndarray:
        """Pixels (N, 2) without the lens's distortion, at a focal length of one."""
        return cv2.undistortPoints(pixels.reshape(-1, 1, 2), self.matrix, self.distortion)[:, 0]

    def project(self, points: np.ndarray) -> np.ndarray:
        """Points (N, 3) in pixels (N, 2)."""
        return cv2.projectPoints(points, cv2.Rodrigues(self.rotation)[0], self.translation, self.matrix, self.distortion)[0][:, 0]  # fmt: skip


def cameras_of(path: Path) -> list[Camera]:
    """The cameras of a Qualisys calibration file: lengths in mm, pixels in 64ths, rotations from the camera to the world, whose cameras look along +z."""
    found = []
    for entry in ET.parse(path).getroot().iter("camera"):
        inner, outer = entry.find("intrinsic"), entry.find("transform")
        assert inner is not None and outer is not None
        i = {k: float(v) / 64 for k, v in inner.attrib.items()}
        matrix = np.array([[i["focalLengthU"], 0, i["centerPointU"]], [0, i["focalLengthV"], i["centerPointV"]], [0, 0, 1]])  # fmt: skip
        distortion = np.array([i[k] for k in ("radialDistortion1", "radialDistortion2", "tangentalDistortion1", "tangentalDistortion2")])  # fmt: skip
        towards = np.array([[float(outer.attrib[f"r{a}{b}"]) for b in (1, 2, 3)] for a in (1, 2, 3)])  # fmt: skip
        place = np.array([float(outer.attrib[a]) for a in "xyz"]) / 1000
        # Qualisys cameras look along -z with y up; OpenCV's along +z with y down.
        rotation = np.diag([1.0, -1.0, -1.0]) @ towards
        found.append(Camera(matrix, distortion, rotation, -rotation @ place))
    return found


def triangulated(cameras: list[Camera], pixels: np.ndarray) -> np.ndarray:
    """Points (N, 3) that are seen at pixels (cameras, N, 2), by least squares (the direct linear transformation)."""
    rows = []
    for camera, mine in zip(cameras, pixels, strict=True):
        pose = np.column_stack([camera.rotation, camera.translation])
        rays = camera.rays(mine)
        rows += [rays[:, :1] * pose[2] - pose[0], rays[:, 1:] * pose[2] - pose[1]]
    system = np.stack(rows, axis=1)
    solved = np.linalg.svd(system)[2][:, -1]
    return solved[:, :3] / solved[:, 3:]


class Trained:
    """A network of ``factors.py`` as a model."""

    needs_boxes = True

    def __init__(self, path: Path) -> None:
        self._network = nets.Network()
        self._network.load_state_dict(torch.load(path, weights_only=True))
        self._network.eval()

    def people(self, image: np.ndarray, boxes: np.ndarray) -> list[np.ndarray]:
        """See ``PoseModel``."""
        matrices = np.stack([crop_matrix(b, nets.SIDE, nets.MARGIN) for b in boxes])
        crops = np.stack([crop(image, m, nets.SIDE) for m in matrices])
        return list(nets.back(nets.predict(self._network, crops), matrices))


def frames_of(folder: Path) -> list[list[np.ndarray]]:
    """Every ``STEP``th frame of each camera's video, RGB."""
    found = []
    for path in sorted((folder / "videos").glob("*.mp4")):
        video, frames = cv2.VideoCapture(str(path)), []
        while True:
            there, frame = video.read()
            if not there:
                break
            frames.append(frame[:, :, ::-1])
        found.append(frames[::STEP])
    return found


def boxes_of(finder: PoseModel, frames: list[list[np.ndarray]]) -> np.ndarray:
    """Where the person is: (cameras, frames, 4), around what the finder sees, smoothed over the frames as people do not jump."""
    result = np.full((len(frames), len(frames[0]), 4), np.nan)
    for c, mine in enumerate(frames):
        for f, image in enumerate(mine):
            height, width = image.shape[:2]
            people = finder.people(image, np.array([[0, 0, width, height]]))
            if people:
                low, high = people[0][:, :2].min(axis=0), people[0][:, :2].max(axis=0)
                result[c, f] = *(low - 0.06 * (high - low)), *(1.12 * (high - low))
    table = [pd.DataFrame(b).interpolate(limit_direction="both").rolling(9, 1, center=True).median().to_numpy() for b in result]  # fmt: skip
    return np.stack(table)


def seen_by(model: PoseModel, frames: list[list[np.ndarray]], boxes: np.ndarray) -> np.ndarray:
    """Keypoints (cameras, frames, 17, 2); NaN where nobody is found."""
    result = np.full((*boxes.shape[:2], 17, 2), np.nan)
    for c, mine in enumerate(frames):
        for f, image in enumerate(mine):
            x, y, w, h = boxes[c, f]
            side = max(w, h) * ROOM
            left, top = int(max(0, x + w / 2 - side / 2)), int(max(0, y + h / 2 - side / 2))
            part = np.ascontiguousarray(image[top : top + int(side), left : left + int(side)])
            people = model.people(part, np.array([[x - left, y - top, w, h]]))
            if people:
                result[c, f] = people[0][:, :2] + (left, top)
    return result


def measured(cameras: list[Camera], pixels: np.ndarray) -> dict[str, float]:
    """How well the views agree; of frames in which a camera saw nobody, nothing is known, and they are counted."""
    places = [COCO_KEYPOINTS.index(n) for n in JOINTS]
    known = np.isfinite(pixels).all(axis=(0, 2, 3))
    found = pixels[:, known][:, :, places]
    count = found.shape[1]
    points = triangulated(cameras, found.reshape(len(cameras), -1, 2)).reshape(count, len(JOINTS), 3)  # fmt: skip
    errors = np.stack([c.project(points.reshape(-1, 3)).reshape(count, -1, 2) - p for c, p in zip(cameras, found, strict=True)])  # fmt: skip
    # The package's calibration is off by a constant in each camera (some 10 to 16 pixels, alike for all models).
    errors -= errors.mean(axis=(1, 2), keepdims=True)
    away = np.linalg.norm(errors, axis=3)
    lengths = np.stack([np.linalg.norm(points[:, JOINTS.index(f"{s}_{a}")] - points[:, JOINTS.index(f"{s}_{b}")], axis=1) for a, b in LIMBS for s in ("left", "right")])  # fmt: skip
    left, right = lengths[::2].mean(axis=1), lengths[1::2].mean(axis=1)
    return {
        "frames": float(known.mean()),
        "reprojection_px_median": float(np.median(away)),
        "reprojection_px_mean": float(away.mean()),
        "within_20_px": float((away < 20).mean()),
        "limb_spread_cm": float(100 * lengths.std(axis=1).mean()),
        "limb_robust_spread_cm": float(100 * 1.4826 * np.median(np.abs(lengths - np.median(lengths, axis=1, keepdims=True)), axis=1).mean()),
        "left_right_cm": float(100 * np.abs(left - right).mean()),
    }  # fmt: skip


def main() -> None:
    """Measure all networks there are, and BlazePose, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("folder", type=Path)
    parser.add_argument("--blazepose", type=Path)
    parser.add_argument("--videos", type=Path, help="the package's folder, where it is not installed")  # fmt: skip
    options = parser.parse_args()
    place = options.videos
    if place is None:
        spec = importlib.util.find_spec("Pose2Sim")
        if spec is None:
            parser.error("pip install --no-deps pose2sim==0.10.49, or name its folder with --videos")  # fmt: skip
        place = Path(str((spec.submodule_search_locations or [""])[0]))
    demo = place / "Demo_SinglePerson"
    cameras, frames = cameras_of(demo / "calibration" / "Calib.qca.txt"), frames_of(demo)
    finder = open_model("blazepose")
    boxes = boxes_of(finder, frames)
    models: dict[str, PoseModel] = {"BlazePose full": finder}
    for kind in ("lite", "heavy"):
        path = options.blazepose and options.blazepose / f"pose_landmark_{kind}.tflite"
        if path is not None:
            models[f"BlazePose {kind}"] = open_model(str(path))
    models |= {p.stem: Trained(p) for p in sorted((options.folder / "networks").glob("*-[0-9].pt"))}
    rows = []
    for name, model in models.items():
        rows.append({"model": name, **measured(cameras, seen_by(model, frames, boxes))})
        print(json.dumps(rows[-1]), flush=True)
    table = pd.DataFrame(rows)
    table.to_json(options.folder / "real_people.json", orient="records", indent=1)
    table["model"] = table["model"].str.replace(r"-\d$", "", regex=True)
    print(table.groupby("model", sort=False).agg(["mean", "std"]).round(2).to_string())


if __name__ == "__main__":
    main()
