"""Hands that touch: where a hand of the source lies on the body or on the other hand, the target's hand lies there too.

No bpy. A body part is a capsule: a segment between two joints with a radius, in parts of a leg (thigh and shank). Where a hand is near the skin of
one, it is said where along the segment, in which direction from it, and how far over its skin; the target's hand is brought to the same place on
its own body by two-bone inverse kinematics, soft on the way in and out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from blender_scripts.formats.naming import SIDES
from blender_scripts.stage.skeleton import (
    FRONT,
    Motion,
    Skeleton,
    bend,
    heads_of,
    ramp,
    runs,
    without_short,
)

#: Body parts: the joints at their ends, and their radius in legs (of an adult: trunk 13 cm, head 11, thigh 8, shank 6).
PARTS = {
    "trunk": ("Hips", "Neck", 0.15), "head": ("Neck", "Head", 0.13),
    **{f"{s} thigh": (f"{s}UpLeg", f"{s}Leg", 0.095) for s in SIDES},
    **{f"{s} shank": (f"{s}Leg", f"{s}Foot", 0.07) for s in SIDES},
}  # fmt: skip
#: A hand touches that is so near to a part's skin, or to the other hand, in legs; shorter touches are none. Seconds.
NEAR, NEAR_HANDS = 0.05, 0.16
TOUCH_SECONDS, FADE_SECONDS = 0.15, 0.2
#: The middle of a hand beyond the wrist, in forearms.
PALM = 0.33
#: A hand is never moved farther than this to touch, in legs: beyond, the bodies are too different.
FARTHEST = 0.25


@dataclass(frozen=True)
class Touches:
    """What hands touch, for (F, 2) frames and sides: ``other`` the other hand, ``part`` an index into ``PARTS`` or -1."""

    other: np.ndarray
    part: np.ndarray


def touches_of(source: Skeleton, motion: Motion) -> Touches:
    """Find what the source's hands touch."""
    leg = source.leg_length()
    palms = np.stack([_palm(source, motion.heads, s) for s in SIDES], axis=1)
    least = max(round(TOUCH_SECONDS * motion.fps), 1)
    together = np.linalg.norm(palms[:, 0] - palms[:, 1], axis=1) < NEAR_HANDS * leg
    together = without_short(together, least)
    part = np.full((len(palms), 2), -1)
    for index, (start, end, radius) in enumerate(PARTS.values()):
        for side in range(2):
            distance, along, _ = _seen_from(motion.heads, source, palms[:, side], start, end)
            gap = distance - radius * leg
            near = (
                (gap < NEAR * leg)
                & (along > -0.1)
                & (along < 1.3 if end == "Head" else along < 1.0)
            )
            part[without_short(near, least) & (part[:, side] < 0), side] = index
    part[together] = -1
    return Touches(np.stack([together, together], axis=1), part)


def hold_hands(
    source: Skeleton, motion: Motion, target: Skeleton, rotations: np.ndarray, pelvis: np.ndarray
) -> None:
    """Bring the target's hands to what the source's touch. Changes ``rotations`` (F, B, 3, 3) of its arms.

    Args:
        pelvis: (F, 3) the middle of the target's hip joints.
    """
    touches = touches_of(source, motion)
    if not touches.other.any() and (touches.part < 0).all():
        return
    ratio = target.leg_length() / source.leg_length()
    heads = heads_of(target, rotations, pelvis)
    theirs = np.stack([_palm(source, motion.heads, s) for s in SIDES], axis=1)
    ours = np.stack([_palm(target, heads, s) for s in SIDES], axis=1)
    shift = np.zeros_like(ours)
    fade = max(round(FADE_SECONDS * motion.fps), 1)
    middle, apart = ours.mean(axis=1), (theirs[:, 0] - theirs[:, 1]) * ratio / 2
    for start, end in runs(touches.other[:, 0]):
        weight = ramp(len(ours), start, end, fade)[:, None]
        for side, sign in ((0, 1.0), (1, -1.0)):
            shift[:, side] += weight * _held(middle + sign * apart - ours[:, side], start, end)
    for index, (first, last, _) in enumerate(PARTS.values()):
        for side in range(2):
            for start, end in runs(touches.part[:, side] == index):
                distance, along, way = _seen_from(
                    motion.heads, source, theirs[:, side], first, last
                )
                a, b = heads[:, target.bones[first]], heads[:, target.bones[last]]
                goal = (
                    a + along[:, None] * (b - a) + (distance * ratio)[:, None] * _across(way, b - a)
                )
                weight = ramp(len(ours), start, end, fade)[:, None]
                shift[:, side] += weight * _held(goal - ours[:, side], start, end)
    most = FARTHEST * target.leg_length()
    length = np.linalg.norm(shift, axis=2, keepdims=True)
    shift *= np.minimum(1.0, most / np.maximum(length, 1e-9))
    for side, name in enumerate(SIDES):
        wrist = heads[:, target.bones[f"{name}Hand"]]
        if not shift[:, side].any():
            continue
        spine = target.bones["Spine"]
        back = -(rotations[:, spine] @ target.rest[spine].T @ FRONT)  # where elbows point
        limb = (f"{name}Arm", f"{name}ForeArm", f"{name}Hand")
        bend(target, rotations, heads, limb, wrist + shift[:, side], back)


def _palm(skeleton: Skeleton, heads: np.ndarray, side: str) -> np.ndarray:
    """(F, 3) the middle of a hand: beyond the wrist, towards the knuckles where there are any."""
    elbow, wrist = (
        heads[:, skeleton.bones[f"{side}ForeArm"]],
        heads[:, skeleton.bones[f"{side}Hand"]],
    )
    knuckles = [
        skeleton.bones[b]
        for b in (f"{side}HandIndex1", f"{side}HandMiddle1", f"{side}HandPinky1")
        if skeleton.has(b)
    ]
    forearm = np.linalg.norm(wrist - elbow, axis=1, keepdims=True)
    way = heads[:, knuckles].mean(axis=1) - wrist if knuckles else wrist - elbow
    return wrist + PALM * forearm * way / np.maximum(
        np.linalg.norm(way, axis=1, keepdims=True), 1e-9
    )


def _seen_from(
    heads: np.ndarray, skeleton: Skeleton, points: np.ndarray, first: str, last: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of points (F, 3) seen from a segment: distance from its line (F,), place along it (F,), direction from it (F, 3)."""
    a, b = heads[:, skeleton.bones[first]], heads[:, skeleton.bones[last]]
    axis = b - a
    along = np.sum((points - a) * axis, axis=1) / np.maximum(np.sum(axis * axis, axis=1), 1e-12)
    off = points - a - along[:, None] * axis
    distance = np.linalg.norm(off, axis=1)
    return distance, along, off / np.maximum(distance, 1e-9)[:, None]


def _across(way: np.ndarray, axis: np.ndarray) -> np.ndarray:
    """Directions (F, 3) made perpendicular to segments (F, 3)."""
    axis = axis / np.maximum(np.linalg.norm(axis, axis=1, keepdims=True), 1e-9)
    way = way - np.sum(way * axis, axis=1, keepdims=True) * axis
    return way / np.maximum(np.linalg.norm(way, axis=1, keepdims=True), 1e-9)


def _held(correction: np.ndarray, start: int, end: int) -> np.ndarray:
    """Corrections (F, 3) of a touch, which before and after it stay as they are at its ends."""
    held = correction.copy()
    held[:start], held[end:] = correction[start], correction[end - 1]
    return held
