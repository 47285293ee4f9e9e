"""Skeletons over time as arrays: forward kinematics, limbs of two bones, and what is asked of flags and directions.

No bpy. Metres, z up. F frames, B bones; rotations are 3 x 3 matrices that turn a bone's rest axes into the world.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from blender_scripts.formats.naming import SIDES

LEFT, UP, FRONT = np.array([1.0, 0.0, 0.0]), np.array([0.0, 0.0, 1.0]), np.array([0.0, -1.0, 0.0])
#: A limb is never stretched beyond this share of its length.
MAX_REACH = 0.99999


@dataclass(frozen=True)
class Skeleton:
    """A skeleton in its rest pose, parents before children.

    Attributes:
        bones: the humanoid's bones that it has, each with its index.
        parents: (B,) index of each bone's parent, -1 for roots.
        rest: (B, 3, 3) rest axes in the world.
        heads: (B, 3) where bones begin.
    """

    bones: Mapping[str, int]
    parents: np.ndarray
    rest: np.ndarray
    heads: np.ndarray

    def has(self, *bones: str) -> bool:
        """Whether it has all of these."""
        return all(b in self.bones for b in bones)

    def head(self, bone: str) -> np.ndarray:
        """(3,) where a bone of the humanoid begins."""
        return self.heads[self.bones[bone]]

    def pelvis(self) -> np.ndarray:
        """(3,) the middle between the hip joints."""
        return (self.head("LeftUpLeg") + self.head("RightUpLeg")) / 2

    def leg_length(self) -> float:
        """Thigh and shank, mean of both sides."""
        joints = [[self.head(f"{s}{b}") for b in ("UpLeg", "Leg", "Foot")] for s in SIDES]
        return float(np.mean([np.linalg.norm(b - a) + np.linalg.norm(c - b) for a, b, c in joints]))


@dataclass(frozen=True)
class Motion:
    """A skeleton over time: ``rotations`` (F, B, 3, 3) and ``heads`` (F, B, 3) in the world."""

    rotations: np.ndarray
    heads: np.ndarray
    fps: float


@dataclass(frozen=True)
class Surface:
    """Points of the target's surface, each fixed to a bone, in the rest pose: ``points`` (P, 3), ``bones`` (P,)."""

    points: np.ndarray
    bones: np.ndarray


def heads_of(target: Skeleton, rotations: np.ndarray, pelvis: np.ndarray) -> np.ndarray:
    """Forward kinematics: (F, B, 3) where bones begin, with the middle of the hip joints at ``pelvis`` (F, 3)."""
    hips = target.bones["Hips"]
    heads = np.empty((*rotations.shape[:2], 3))
    local = np.zeros_like(target.heads)
    for index, parent in enumerate(target.parents):
        if parent >= 0:
            local[index] = target.rest[parent].T @ (target.heads[index] - target.heads[parent])
    to_pelvis = target.rest[hips].T @ (target.pelvis() - target.heads[hips])
    hips_heads = pelvis - rotations[:, hips] @ to_pelvis
    above = set()
    index = hips
    while index >= 0:
        above.add(index)
        index = int(target.parents[index])
    for index, parent in enumerate(target.parents):
        if (
            index in above
        ):  # roots above the hips stay where they are; the hips are placed in the world
            heads[:, index] = hips_heads if index == hips else target.heads[index]
        elif parent >= 0:
            heads[:, index] = heads[:, parent] + rotations[:, parent] @ local[index]
        else:
            heads[:, index] = target.heads[index]
    return heads


def bend(
    target: Skeleton,
    rotations: np.ndarray,
    heads: np.ndarray,
    limb: tuple[str, str, str],
    wanted: np.ndarray,
    ahead: np.ndarray,
) -> None:
    """Turn the two bones of a limb so that its end is where it is ``wanted`` (F, 3); see ``limb_turns``.

    What hangs on the end keeps its own turn. Changes ``rotations`` (F, B, 3, 3).
    """
    first, second, last = (target.bones[b] for b in limb)
    upper, lower = limb_turns(target, heads, limb, wanted, ahead)
    turn_limb(target, rotations, first, upper, second)
    turn_limb(target, rotations, second, lower, last)


def limb_turns(
    target: Skeleton,
    heads: np.ndarray,
    limb: tuple[str, str, str],
    wanted: np.ndarray,
    ahead: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """By what rotations (F, 3, 3) two bones bring the end of a limb to ``wanted`` (F, 3); the middle joint stays in its plane.

    Args:
        limb: the humanoid's bones: thigh, shank, foot; or upper arm, forearm, hand.
        ahead: (F, 3) where the middle joint points in a limb that is straight and does not say so.
    """
    first, second, last = (target.bones[b] for b in limb)
    start, middle, end = heads[:, first], heads[:, second], heads[:, last]
    a = float(np.linalg.norm(target.heads[second] - target.heads[first]))
    b = float(np.linalg.norm(target.heads[last] - target.heads[second]))
    to = wanted - start
    distance = np.linalg.norm(to, axis=1)
    reach = np.clip(distance, abs(a - b) + 1e-6, MAX_REACH * (a + b))
    to = to / np.maximum(distance, 1e-9)[:, None]
    pole = middle - start
    straight = (end - start) / np.maximum(np.linalg.norm(end - start, axis=1), 1e-9)[:, None]
    pole = pole - np.sum(pole * straight, axis=1)[:, None] * straight
    weak = np.linalg.norm(pole, axis=1) < 0.02 * (a + b)
    pole = np.where(weak[:, None], pole + 0.05 * (a + b) * ahead, pole)
    pole = pole - np.sum(pole * to, axis=1)[:, None] * to
    pole = pole / np.maximum(np.linalg.norm(pole, axis=1), 1e-9)[:, None]
    cosine = np.clip((a * a + reach**2 - b * b) / (2 * a * reach), -1, 1)
    new_middle = start + a * (cosine[:, None] * to + np.sqrt(1 - cosine**2)[:, None] * pole)
    new_end = start + reach[:, None] * to
    return (
        shortest_turn(middle - start, new_middle - start),
        shortest_turn(end - middle, new_end - new_middle),
    )


def turns_about(axes: np.ndarray, degrees: np.ndarray) -> np.ndarray:
    """Rotations (F, 3, 3) about unit axes (F, 3) by angles (F,); Rodrigues' formula."""
    angle = np.radians(degrees)[:, None, None]
    k = np.zeros((len(axes), 3, 3))
    k[:, 0, 1], k[:, 0, 2], k[:, 1, 2] = -axes[:, 2], axes[:, 1], -axes[:, 0]
    k[:, 1, 0], k[:, 2, 0], k[:, 2, 1] = axes[:, 2], -axes[:, 1], axes[:, 0]
    turn: np.ndarray = np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * (k @ k)
    return turn


def turned_by(turns: np.ndarray) -> np.ndarray:
    """The angles of rotations (..., 3, 3), degrees."""
    cosines = (np.trace(turns, axis1=-2, axis2=-1) - 1) / 2
    return np.degrees(np.arccos(np.clip(cosines, -1, 1)))


def turn_limb(
    target: Skeleton, rotations: np.ndarray, bone: int, turn: np.ndarray, stop: int
) -> None:
    """Turn a bone and what hangs on it (twist bones), but not the next joint of the limb, which has a turn of its own."""
    stopped = {stop}
    turned = {bone}
    rotations[:, bone] = turn @ rotations[:, bone]
    for index, parent in enumerate(target.parents):
        if int(parent) in stopped or index in stopped:
            stopped.add(index)
        elif int(parent) in turned:
            turned.add(index)
            rotations[:, index] = turn @ rotations[:, index]


def family(target: Skeleton, bone: int) -> set[int]:
    """A bone and all that hangs on it."""
    found = {bone}
    for index, parent in enumerate(target.parents):
        if int(parent) in found:
            found.add(index)
    return found


def speed(points: np.ndarray, fps: float) -> np.ndarray:
    """(F,) speed of a point (F, D), by central differences; 0 for a single frame."""
    if len(points) < 2:
        return np.zeros(len(points))
    return np.linalg.norm(np.gradient(points, axis=0), axis=1) * fps


def shortest_turn(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The smallest rotations that take directions ``a`` (..., 3) to ``b`` (..., 3), as (..., 3, 3); Rodrigues' formula."""
    a = a / np.maximum(np.linalg.norm(a, axis=-1, keepdims=True), 1e-12)
    b = b / np.maximum(np.linalg.norm(b, axis=-1, keepdims=True), 1e-12)
    axis, cosine = np.cross(a, b), np.sum(a * b, axis=-1)
    k = np.zeros((*axis.shape[:-1], 3, 3))
    k[..., 0, 1], k[..., 0, 2], k[..., 1, 2] = -axis[..., 2], axis[..., 1], -axis[..., 0]
    k[..., 1, 0], k[..., 2, 0], k[..., 2, 1] = axis[..., 2], -axis[..., 1], axis[..., 0]
    opposite = cosine < -1 + 1e-9
    factor = 1.0 / np.where(opposite, 1.0, 1.0 + cosine)
    turn = np.eye(3) + k + (k @ k) * factor[..., None, None]
    if np.any(opposite):  # half a turn about any axis across
        across = np.cross(a, np.where(np.abs(a[..., :1]) < 0.9, LEFT, UP))
        across /= np.maximum(np.linalg.norm(across, axis=-1, keepdims=True), 1e-12)
        half = 2 * across[..., :, None] * across[..., None, :] - np.eye(3)
        turn = np.where(opposite[..., None, None], half, turn)
    return turn


def quaternions(turns: np.ndarray) -> np.ndarray:
    """(..., 4) unit quaternions (w, x, y, z) of rotations (..., 3, 3), by the largest component (S. W. Shepperd, 1978)."""
    m = turns
    w = 1 + m[..., 0, 0] + m[..., 1, 1] + m[..., 2, 2]
    x = 1 + m[..., 0, 0] - m[..., 1, 1] - m[..., 2, 2]
    y = 1 - m[..., 0, 0] + m[..., 1, 1] - m[..., 2, 2]
    z = 1 - m[..., 0, 0] - m[..., 1, 1] + m[..., 2, 2]
    a, b, c = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    d, e, f = m[..., 1, 0] + m[..., 0, 1], m[..., 0, 2] + m[..., 2, 0], m[..., 2, 1] + m[..., 1, 2]
    rows = np.stack(
        [np.stack(r, axis=-1) for r in ((w, a, b, c), (a, x, d, e), (b, d, y, f), (c, e, f, z))],
        axis=-2,
    )
    best = np.argmax(np.stack([w, x, y, z], axis=-1), axis=-1)
    found = np.take_along_axis(rows, best[..., None, None], axis=-2)[..., 0, :]
    return found / np.linalg.norm(found, axis=-1, keepdims=True)


def runs(flags: np.ndarray) -> list[tuple[int, int]]:
    """The stretches of True in (F,) flags, as half-open ranges of frames."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(int)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def without_short(flags: np.ndarray, least: int) -> np.ndarray:
    """Runs of True that are shorter than ``least`` frames become False; gaps as short are closed before."""
    result = flags.copy()
    for value in (False, True):
        for start, end in runs(result == value):
            inside = start > 0 and end < len(result)
            if end - start < least and (value or inside):
                result[start:end] = not value
    return result


def ramp(count: int, start: int, end: int, fade: int) -> np.ndarray:
    """(count,) 1 from ``start`` to ``end``, and half a cosine down to 0 on either side."""
    frames = np.arange(count)
    away = np.maximum(np.maximum(start - frames, frames - (end - 1)), 0)
    return np.where(away > fade, 0.0, 0.5 + 0.5 * np.cos(np.pi * away / (fade + 1)))


def smooth_above(values: np.ndarray, reach: int) -> np.ndarray:
    """A smooth curve that is nowhere below ``values`` (F,): the widened maximum, averaged."""
    if not values.any():
        return values
    padded = np.pad(values, 2 * reach, mode="edge")
    widest = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1).max(axis=1)
    return np.lib.stride_tricks.sliding_window_view(widest, 2 * reach + 1).mean(axis=1)
