"""A look's chances: from the ranges of its document to the values of a character, and of each picture.

A document's value is one number or ``[least, greatest]``; all are drawn by the seed, the character's key, the look's name, and for
pictures by frame and view, so that a picture has the same values wherever and in whatever order it is made.
"""

from __future__ import annotations

import dataclasses
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from blender_scripts.contract import RenderSettings
from blender_scripts.stage.camera import SENSOR_MM, Pinhole, looking

#: Part of a person's box that a framing shows, from its top, and how much room is left around.
FRAMINGS = {"full": (1.0, 1.2), "upper_body": (0.56, 1.15), "close_up": (0.30, 1.1), "legs": (-0.55, 1.2)}  # fmt: skip
#: No camera is lower or nearer, metres.
LEAST_HEIGHT_M, LEAST_DISTANCE_M = 0.12, 0.35
#: The widest lens, degrees.
MAX_FOV = 100.0


@dataclass(frozen=True)
class Shot:
    """The drawn values of a picture.

    Attributes:
        azimuth_degrees: clockwise from above, front = 0. elevation_degrees: of the camera over the aim.
        fov_degrees: over the shorter side. framing: one of ``FRAMINGS``. roll_degrees: of the camera about its axis.
        exposure: stops. white_balance: (3,) factors. noise: deviation of 0 to 1. jpeg: quality, 0 for none.
        aperture: f-number, 0 for everything sharp. blur: of the shutter, in frames. sideways: how far the aim is off, of the framing's radius.
        size: (width, height) of the picture, pixels. resolution: how much of that, along a side, the sensor has.
    """

    azimuth_degrees: float
    elevation_degrees: float
    fov_degrees: float
    framing: str
    roll_degrees: float
    exposure: float
    white_balance: tuple[float, float, float]
    noise: float
    jpeg: int
    aperture: float
    blur: float
    sideways: float
    size: tuple[int, int]
    resolution: float
    placed: Mapping[str, Any] | None = None


def chance_of(settings: RenderSettings, key: str, look: str, *more: int) -> np.random.Generator:
    """The random numbers of a character in a look, or of one of its pictures."""
    return np.random.default_rng([settings.seed, zlib.crc32(key.encode()), zlib.crc32(look.encode()), *more])  # fmt: skip


def drawn(value: Any, chance: np.random.Generator, default: float = 0.0) -> float:
    """A number out of ``[least, greatest]``, or the number itself."""
    if value is None:
        return default
    if isinstance(value, list | tuple):
        return float(chance.uniform(value[0], value[1]))
    return float(value)


def fov_of(lens_mm: float) -> float:
    """Degrees that a lens sees over the shorter side of a square picture of 36 mm."""
    return math.degrees(2 * math.atan(SENSOR_MM / 2 / lens_mm))


def draw_shot(look: Mapping[str, Any], settings: RenderSettings, azimuth_degrees: float, view: int, chance: np.random.Generator) -> Shot:  # fmt: skip
    """The values of one picture.

    Args:
        settings: say its size where the look does not.
        azimuth_degrees: of the view, where the look has a ring of cameras. view: its number.
    """
    cameras, effects = look.get("cameras", {}), look.get("effects", {})
    kind = cameras.get("kind", "ring")
    placed = cameras["placed"][view] if kind == "placed" else None
    elevation = drawn(cameras.get("elevation_degrees"), chance, 0.0)
    if kind == "sphere":
        azimuth_degrees = float(chance.uniform(0, 360))
        low, high = (math.sin(math.radians(v)) for v in cameras.get("elevation_degrees", (-10, 50)))
        elevation = math.degrees(math.asin(chance.uniform(low, high)))  # even on the sphere
    azimuth_degrees += drawn(cameras.get("azimuth_jitter_degrees"), chance, 0.0)
    shares = cameras.get("framing", {"full": 1.0})
    total = np.cumsum(list(shares.values()))
    framing = list(shares)[int(np.searchsorted(total, chance.random() * total[-1], side="right").clip(0, len(shares) - 1))]  # fmt: skip
    kelvin = drawn(effects.get("white_balance_kelvin"), chance, 6500.0)
    shot = Shot(
        azimuth_degrees, elevation, fov_of(drawn(cameras.get("lens_mm"), chance, 38.6)), framing,
        drawn(cameras.get("roll_degrees"), chance), drawn(effects.get("exposure_stops"), chance), warmth(kelvin),
        drawn(effects.get("noise"), chance), round(drawn(effects.get("jpeg"), chance)), drawn(effects.get("aperture"), chance),
        drawn(effects.get("motion_blur"), chance), drawn(cameras.get("aim_sideways"), chance),
        (settings.width, settings.height), 1.0, placed,
    )  # fmt: skip
    # Drawn last, so that a look without them has the values that it always had.
    sizes = cameras.get("sizes")
    if sizes:
        width, height = sizes[int(chance.integers(len(sizes)))]
        shot = dataclasses.replace(shot, size=(width, height))
    return dataclasses.replace(shot, resolution=drawn(effects.get("resolution"), chance, 1.0))


def warmth(kelvin: float) -> tuple[float, float, float]:
    """Factors of red, green and blue of a camera set to 6500 K under light of ``kelvin``; a fit to the black body's colour, green 1."""
    shift = (kelvin - 6500.0) / 6500.0
    return (1.0 - 0.34 * shift, 1.0, 1.0 + 0.42 * shift)


def place(shot: Shot, box: np.ndarray, front: np.ndarray, reach: float) -> Pinhole:
    """The camera of a shot.

    Args:
        box: (2, 3) of what is filmed, world frame. front: (3,) where the person faces.
        reach: how far from the box's middle a camera may stand, metres; beyond it the lens is wider instead.
    """
    if shot.placed is not None:
        return _placed(shot.placed, shot.size, box, front)
    share, room = FRAMINGS[shot.framing]
    low, high = box[0].copy(), box[1].copy()
    height = high[2] - low[2]
    if share > 0:
        low[2] = high[2] - share * height
    else:
        high[2] = low[2] - share * height
    if abs(share) < 1.0:
        # Arms held wide need not be in a picture of the upper body.
        middle, half = (low[:2] + high[:2]) / 2, np.minimum((high[:2] - low[:2]) / 2, 0.42 * height)
        low[:2], high[:2] = middle - half, middle + half
    aim = (low + high) / 2
    radius = float(np.linalg.norm(high - low)) / 2 * room
    fov = min(shot.fov_degrees, MAX_FOV)
    distance = radius / math.tan(math.radians(fov) / 2)
    if distance > reach:
        distance = reach
        fov = min(MAX_FOV, math.degrees(2 * math.atan(radius / reach)))
    distance = max(distance, LEAST_DISTANCE_M)
    angle = -math.radians(shot.azimuth_degrees)
    away = np.array((front[0] * math.cos(angle) - front[1] * math.sin(angle), front[0] * math.sin(angle) + front[1] * math.cos(angle), 0.0))  # fmt: skip
    rise = math.radians(shot.elevation_degrees)
    position = aim + distance * (math.cos(rise) * away + math.sin(rise) * np.array((0.0, 0.0, 1.0)))
    position[2] = max(position[2], LEAST_HEIGHT_M)
    sideways = np.cross(away, (0.0, 0.0, 1.0))
    aim = aim + shot.sideways * radius * sideways
    focal = min(shot.size) / 2 / math.tan(math.radians(fov) / 2)
    return looking(position, aim, focal, *shot.size, shot.roll_degrees)


def _placed(camera: Mapping[str, Any], size: tuple[int, int], box: np.ndarray, front: np.ndarray) -> Pinhole:  # fmt: skip
    """A camera placed by hand: position in metres from the middle of the person's box on the floor (x to the person's left, y the way
    it faces, z up), yaw, pitch and roll in degrees (yaw 0 looks back at the person along -y, pitch up)."""
    left = np.cross((0.0, 0.0, 1.0), front)
    floor = np.array((*box.mean(axis=0)[:2], 0.0))
    x, y, z = camera["position"]
    position = floor + x * left + y * front + np.array((0.0, 0.0, z))
    yaw, pitch = math.radians(camera.get("yaw", 0.0)), math.radians(camera.get("pitch", 0.0))
    level = -front * math.cos(yaw) + left * math.sin(yaw)
    towards = math.cos(pitch) * level + math.sin(pitch) * np.array((0.0, 0.0, 1.0))
    fov = math.radians(camera.get("fov", 50.0))
    focal = min(size) / 2 / math.tan(fov / 2)
    return looking(position, position + towards, focal, *size, camera.get("roll", 0.0))
