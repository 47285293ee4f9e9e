"""Choose the frames of a motion whose poses differ most."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

#: Poses nearer than this are one pose, mean degrees over the limbs.
SAME_POSE_DEGREES = 2.0


def diverse_frames(poses: Path, count: int, seed: int) -> list[int]:
    """At most ``count`` frames, in order of time; fewer where a motion has no more distinct poses.

    Farthest-point sampling (T. F. Gonzalez, 1985): each next frame is the one whose nearest chosen pose is farthest away. The
    seed draws the first.

    Args:
        poses: an NPZ with ``directions`` (F, L, 3), unit vectors of limbs seen from the body, and ``start``, the first frame.
    """
    import numpy as np

    with np.load(poses) as arrays:
        directions, start = arrays["directions"].astype(np.float64), int(arrays["start"])
    first = int(np.random.default_rng(seed).integers(len(directions)))
    chosen = [first]
    nearest = pose_distance(directions, directions[first])
    while len(chosen) < count:
        farthest = int(np.argmax(nearest))
        if nearest[farthest] < SAME_POSE_DEGREES:
            break
        chosen.append(farthest)
        nearest = np.minimum(nearest, pose_distance(directions, directions[farthest]))
    return sorted(start + i for i in chosen)


def pose_distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Mean angle between limbs, degrees, of poses (..., L, 3)."""
    import numpy as np

    cosines = np.clip(np.sum(a * b, axis=-1), -1, 1)
    return np.degrees(np.arccos(cosines)).mean(axis=-1)
