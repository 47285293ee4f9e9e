"""Pinhole cameras: where they stand, and how they map the world to pixels.

Camera frame and matrices follow OpenCV: x right, y down, z forward, metres. Pixel positions have
their origin at the outer corner of the top-left pixel, whose centre is therefore (0.5, 0.5).
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import bpy
import mathutils
import numpy as np

from blender_scripts.contract import RenderSettings

FIXED_DISTANCE = 3.5
FIXED_HEIGHT = 1.6
FIXED_LENS_MM = 50.0
SENSOR_MM = 36.0


@dataclass(frozen=True)
class Pinhole:
    """``x_camera = rotation @ x_world + translation``; ``x_pixel ~ intrinsics @ x_camera``.

    Shapes: intrinsics (3, 3) in pixels, rotation (3, 3), translation (3,) in metres.
    """

    intrinsics: np.ndarray
    rotation: np.ndarray
    translation: np.ndarray
    width: int
    height: int

    @property
    def position(self) -> np.ndarray:
        """The camera's centre in the world, shape (3,)."""
        return -self.rotation.T @ self.translation

    def to_camera(self, points: np.ndarray) -> np.ndarray:
        """World points (N, 3) in the camera frame, (N, 3)."""
        return points @ self.rotation.T + self.translation

    def project(self, points: np.ndarray) -> np.ndarray:
        """World points (N, 3) as pixel positions (N, 2)."""
        seen = self.to_camera(points) @ self.intrinsics.T
        return seen[:, :2] / seen[:, 2:]


def focal_pixels(settings: RenderSettings) -> float:
    """Focal length in pixels: `fit` spans ``fov_degrees`` over the shorter side, `fixed` is 50 mm."""
    if settings.preset == "fixed":
        return FIXED_LENS_MM / SENSOR_MM * max(settings.width, settings.height)
    half = np.tan(np.radians(settings.fov_degrees) / 2)
    return min(settings.width, settings.height) / 2 / float(half)


#: A close-up: the distance as a share of what shows all, and how far beside the middle of the box the camera is aimed, in
#: parts of the box's size (sideways, up): from a face to half a person.
CLOSE_DISTANCE = (0.35, 0.7)
CLOSE_SIDEWAYS, CLOSE_UP = 0.2, (-0.3, 0.45)


@dataclass(frozen=True)
class CloseUp:
    """How a close-up differs: ``nearer`` scales the distance; ``sideways`` and ``up`` shift the aim, in parts of the box."""

    nearer: float
    sideways: float
    up: float


def draw_close_up(settings: RenderSettings, key: str, frame: int, view: int) -> CloseUp | None:
    """Whether a picture is a close-up, and which; the same for the same seed, character, frame and number of the view."""
    chance = np.random.default_rng([settings.seed, zlib.crc32(key.encode()), frame, view])
    if chance.random() >= settings.close_ups:
        return None
    return CloseUp(
        float(chance.uniform(*CLOSE_DISTANCE)),
        float(chance.uniform(-CLOSE_SIDEWAYS, CLOSE_SIDEWAYS)),
        float(chance.uniform(*CLOSE_UP)),
    )


def place(
    settings: RenderSettings,
    box: np.ndarray,
    front: np.ndarray,
    azimuth_degrees: float,
    close_up: CloseUp | None = None,
) -> Pinhole:
    """A camera around a box.

    Args:
        box: (2, 3) lowest and highest corner of what is filmed, world frame.
        front: (3,) horizontal unit vector that the character faces.
        azimuth_degrees: clockwise from above, 0 in front of the face.
    """
    centre = box.mean(axis=0)
    angle = -np.radians(azimuth_degrees)
    away = np.array(
        [
            front[0] * np.cos(angle) - front[1] * np.sin(angle),
            front[0] * np.sin(angle) + front[1] * np.cos(angle),
            0.0,
        ]
    )
    if settings.preset == "fixed":
        position = centre + FIXED_DISTANCE * away
        position[2] = FIXED_HEIGHT
    else:
        radius = float(np.linalg.norm(box[1] - box[0])) / 2
        half = np.tan(np.radians(settings.fov_degrees) / 2)
        position = centre + settings.padding * radius / float(half) * away
    if close_up is not None:
        size = box[1] - box[0]
        sideways = np.cross(away, (0.0, 0.0, 1.0))
        aim = centre + close_up.sideways * np.linalg.norm(size[:2]) * sideways
        aim[2] += close_up.up * size[2]
        position = aim + close_up.nearer * (position - centre)
        centre = aim
    return looking(position, centre, focal_pixels(settings), settings.width, settings.height)


def looking(
    position: np.ndarray,
    aim: np.ndarray,
    focal: float,
    width: int,
    height: int,
    roll_degrees: float = 0.0,
) -> Pinhole:
    """A level camera at a place that looks at another; (3,) each, metres.

    Args:
        focal: pixels. roll_degrees: about the camera's axis, clockwise as the camera sees it.
    """
    forward = (aim - position) / np.linalg.norm(aim - position)
    upwards = np.array((0.0, 0.0, 1.0))
    if abs(forward[2]) > 0.999:  # straight down or up, any direction is level
        upwards = np.array((0.0, 1.0, 0.0))
    right = np.cross(forward, upwards)
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    turn = np.radians(roll_degrees)
    right, down = np.cos(turn) * right + np.sin(turn) * down, np.cos(turn) * down - np.sin(turn) * right  # fmt: skip
    rotation = np.stack([right, down, forward])
    intrinsics = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    return Pinhole(intrinsics, rotation, -rotation @ position, width, height)


def film(camera: Pinhole, also: bpy.types.Scene | None = None) -> None:
    """Make the scene's camera this one, and that of another scene too."""
    scene = bpy.context.scene
    obj = scene.camera
    if obj is None:
        obj = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
        scene.collection.objects.link(obj)
        scene.camera = obj
    if also is not None and also.camera is not obj:
        also.collection.objects.link(obj)
        also.camera = obj
    data = obj.data
    data.sensor_fit = "HORIZONTAL"
    data.sensor_width = SENSOR_MM
    data.lens = camera.intrinsics[0, 0] * SENSOR_MM / camera.width
    data.clip_start, data.clip_end = 0.01, 1000.0
    for each in (scene, also):
        if each is not None:
            each.render.resolution_x, each.render.resolution_y = camera.width, camera.height
            each.render.resolution_percentage = 100
    matrix = np.eye(4)
    matrix[:3, :3] = camera.rotation.T @ np.diag((1.0, -1.0, -1.0))  # Blender: y up, -z forward
    matrix[:3, 3] = camera.position
    obj.matrix_world = mathutils.Matrix(matrix.tolist())


def see_no_farther(depth: float) -> None:
    """Let the camera's rays end at a depth along its axis, metres, until it is brought elsewhere."""
    bpy.context.scene.camera.data.clip_end = max(depth, 0.1)
