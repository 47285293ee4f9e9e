"""Pictures that hold an image model to the pose, drawn from the exact truth: skeleton, depth, edges."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import cv2
import numpy as np

from blender_scripts.contract import LANDMARKS
from posefactory_dagster.variants.enhancers.base import RenderView

Control = Literal["openpose", "depth", "edges"]

#: OpenPose's 18 body points from MediaPipe's landmarks; the neck lies between the shoulders.
OPENPOSE_POINTS: tuple[tuple[str, ...], ...] = (
    ("nose",), ("left_shoulder", "right_shoulder"),
    ("right_shoulder",), ("right_elbow",), ("right_wrist",),
    ("left_shoulder",), ("left_elbow",), ("left_wrist",),
    ("right_hip",), ("right_knee",), ("right_ankle",),
    ("left_hip",), ("left_knee",), ("left_ankle",),
    ("right_eye",), ("left_eye",), ("right_ear",), ("left_ear",),
)  # fmt: skip
#: OpenPose's limbs between these points, in the order in which its palette colours them (COCO body model).
OPENPOSE_LIMBS = (
    (1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10),
    (1, 11), (11, 12), (12, 13), (1, 0), (0, 14), (14, 16), (0, 15), (15, 17),
)  # fmt: skip
#: Half the thickness of a limb in a 512-pixel picture, as ControlNets were trained on.
STICK_PIXELS = 4
LIMB_SHADE = 0.6
CANNY_LOW, CANNY_HIGH = 60, 140
#: Where the depth picture of the person begins; the background is black.
FARTHEST_GREY = 0.35


def palette() -> np.ndarray:
    """OpenPose's 18 colours around the hue circle, (18, 3) uint8 RGB."""
    hues = np.zeros((1, 18, 3), np.uint8)
    hues[0, :, 0] = np.arange(18) * 10  # OpenCV's hue goes to 180
    hues[0, :, 1:] = 255
    return cv2.cvtColor(hues, cv2.COLOR_HSV2RGB)[0]


def openpose(render_view: RenderView) -> np.ndarray:
    """The exact skeleton as OpenPose draws it, (H, W, 3) uint8. Points outside the frame are left out."""
    truth, seen = (
        render_view.subject.arrays["pixels"][0],
        render_view.subject.arrays["visibility"][0] > 0,
    )
    index = {name: i for i, name in enumerate(LANDMARKS)}
    rows = [[index[n] for n in names] for names in OPENPOSE_POINTS]
    points = np.array([truth[r].mean(axis=0) for r in rows])
    shown = np.array([seen[r].all() for r in rows])
    height, width = render_view.subject.mask.shape
    thickness = max(1, round(STICK_PIXELS * min(width, height) / 512))
    colours = palette()
    picture = np.zeros((height, width, 3), np.uint8)
    for number, (a, b) in enumerate(OPENPOSE_LIMBS):
        if not (shown[a] and shown[b]):
            continue
        middle, reach = (points[a] + points[b]) / 2, points[b] - points[a]
        axes = (max(round(float(np.hypot(*reach)) / 2), 1), thickness)
        angle = round(float(np.degrees(np.arctan2(reach[1], reach[0]))))
        outline = cv2.ellipse2Poly((round(middle[0]), round(middle[1])), axes, angle, 0, 360, 5)
        shade = [float(c) * LIMB_SHADE for c in colours[number]]
        cv2.fillConvexPoly(picture, np.array(outline), shade)
    for number in np.flatnonzero(shown):
        x, y = points[number]
        cv2.circle(
            picture, (round(x), round(y)), thickness, [float(c) for c in colours[number]], -1
        )
    return picture


def depth(render_view: RenderView) -> np.ndarray:
    """The exact depth as depth models give it: near is bright, in steps of inverse distance; (H, W, 3) uint8."""
    known = render_view.depth > 0
    picture = np.zeros(render_view.depth.shape, np.float32)
    if known.any():
        inverse = 1 / render_view.depth[known]
        low, high = inverse.min(), inverse.max()
        grey = (inverse - low) / max(high - low, 1e-9)
        picture[known] = FARTHEST_GREY + (1 - FARTHEST_GREY) * grey
    return np.repeat((picture * 255).astype(np.uint8)[..., None], 3, axis=-1)


def edges(render_view: RenderView) -> np.ndarray:
    """Edges inside the render and the person's exact outline, (H, W, 3) uint8."""
    inside = cv2.Canny(render_view.subject.pixels, CANNY_LOW, CANNY_HIGH)
    mask = render_view.subject.mask.astype(np.uint8)
    inside[mask == 0] = 0
    outline = cv2.morphologyEx(mask, cv2.MORPH_GRADIENT, np.ones((2, 2), np.uint8)) * 255
    return np.repeat(np.maximum(inside, outline)[..., None], 3, axis=-1)


CONTROLS: dict[Control, Callable[[RenderView], np.ndarray]] = {
    "openpose": openpose,
    "depth": depth,
    "edges": edges,
}
