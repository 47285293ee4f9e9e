"""What pictures of people differ in."""

from __future__ import annotations

import numpy as np
import pytest

from blender_scripts.contract import LANDMARKS
from posefactory_dagster.datasets import variety

STANDING = {
    "shoulder": (0.2, 0.0, 1.4), "elbow": (0.25, 0.0, 1.1), "wrist": (0.25, 0.0, 0.85), "hip": (0.1, 0.0, 0.9), "knee": (0.1, 0.0, 0.5),
    "ankle": (0.1, 0.0, 0.1),
}  # fmt: skip


def _figure(**moved: tuple[float, float, float]) -> np.ndarray:
    """A stick figure, left towards +x and facing -y; ``moved`` changes a joint of both sides, or of one by its whole name."""
    world = np.zeros((33, 3))
    for i, name in enumerate(LANDMARKS):
        side, _, joint = name.partition("_")
        if joint not in STANDING:
            continue
        x, y, z = moved.get(name) or moved.get(joint) or STANDING[joint]
        world[i] = (x if side == "left" else -x), y, z
    return world


@pytest.mark.parametrize(
    ("figure", "pose"),
    [
        (_figure(), "standing"),
        (_figure(wrist=(0.2, 0, 1.9)), "arms raised"),
        (_figure(left_knee=(0.1, -0.4, 0.9), left_ankle=(0.1, -0.8, 0.9)), "one leg raised"),
        (_figure(shoulder=(0.2, -0.45, 1.05), wrist=(0.2, -0.5, 0.4)), "bending"),
        (_figure(hip=(0.1, 0, 0.5), knee=(0.1, -0.4, 0.5), shoulder=(0.2, 0, 1.0), wrist=(0.2, 0, 0.5)), "squatting or sitting"),
        (_figure(hip=(0.1, 0, 0.1), knee=(0.1, -0.4, 0.1), ankle=(0.1, -0.8, 0.1), shoulder=(0.2, 0.5, 0.1), wrist=(0.2, 0, 0.1)), "lying"),
    ],
)  # fmt: skip
def test_poses_are_told_apart(figure: np.ndarray, pose: str) -> None:
    assert variety.pose_of(figure) == pose


def test_views_are_those_of_closed_form() -> None:
    """Cameras around a figure that faces -y, on a circle at known angles and heights."""
    angles, rises = np.radians([0, 45, 90, 180]), np.radians([0, 20, -10, 60])
    middle = np.array([0.0, 0.0, 1.15])
    cameras = middle + 4 * np.stack([np.cos(rises) * np.sin(angles), -np.cos(rises) * np.cos(angles), np.sin(rises)], axis=1)  # fmt: skip
    rotation = np.tile(np.eye(3), (4, 1, 1))  # where a camera looks does not matter
    arrays = {"world": np.tile(_figure(), (4, 1, 1)), "rotation": rotation, "translation": -cameras}
    azimuth, elevation = variety.views_of(arrays)
    assert np.allclose(azimuth, np.degrees(angles)) and np.allclose(elevation, np.degrees(rises))


def test_holes_are_named_with_what_fills_them() -> None:
    shares = {a.column: dict.fromkeys(a.values, 1 / len(a.values)) for a in variety.AXES}
    assert variety.holes(shares) == []
    shares["pose"]["lying"] = 0.01
    shares["age"] = {**dict.fromkeys(shares["age"], 0.0), variety.UNKNOWN: 1.0}
    (hole,) = variety.holes(shares)
    assert hole.value == "lying" and "lie_down" in hole.fill
