"""Hands that touch: where a hand of the source lies on the body, on the other hand, or with it on a thing, the target's does too.

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
    UP,
    Motion,
    Skeleton,
    Surface,
    bend,
    heads_of,
    limb_turns,
    ramp,
    runs,
    turned_by,
    without_short,
)

#: Body parts: the joints at their ends, and their radius in legs (of an adult: trunk 13 cm, head 11, thigh 8, shank 6).
PARTS = {
    "trunk": ("Hips", "Neck", 0.15), "head": ("Neck", "Head", 0.13),
    **{f"{s} thigh": (f"{s}UpLeg", f"{s}Leg", 0.095) for s in SIDES},
    **{f"{s} shank": (f"{s}Leg", f"{s}Foot", 0.07) for s in SIDES},
}  # fmt: skip
#: Bones of the trunk, whose skin is the trunk's.
TRUNK = ("Spine", "Spine1", "Spine2")
#: A hand touches that is so near to a part's skin, or to the other hand, in legs; shorter touches are none. Seconds.
NEAR, NEAR_HANDS = 0.05, 0.16
TOUCH_SECONDS, FADE_SECONDS = 0.15, 0.2
#: Hands hold a thing that are so far before the hips and at most so far apart, at a distance that changes by less than this, in legs, for so
#: many seconds.
AHEAD, WIDEST, STEADY, HOLD_SECONDS = 0.22, 0.9, 0.02, 1.0
#: The middle of a hand beyond the wrist, in forearms.
PALM = 0.33
#: No bone of an arm is turned farther than this for a touch: beyond, limbs would no longer point where the motion's do. Degrees.
MOST_DEGREES = 8.0
#: Half a hand is so thick, metres: its bones lie so far over what it lies on.
HAND = 0.02


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
    apart = np.linalg.norm(palms[:, 0] - palms[:, 1], axis=1) / leg
    together = without_short(apart < NEAR_HANDS, least)
    part = np.full((len(palms), 2), -1)
    for side in range(2):
        gaps = np.full((len(PARTS), len(palms)), np.inf)
        for index, (start, end, radius) in enumerate(PARTS.values()):
            distance, along, _ = _seen_from(motion.heads, source, palms[:, side], start, end)
            beside = (along > -0.15) & (along < (1.3 if end == "Head" else 1.15))
            gaps[index, beside] = distance[beside] - radius * leg
        nearest = np.argmin(gaps, axis=0)
        for index in range(len(PARTS)):
            near = (nearest == index) & (gaps[index] < NEAR * leg)
            part[without_short(near, least), side] = index
    part[together] = -1
    together |= _hold_a_thing(source, motion, palms, apart) & (part < 0).all(axis=1)
    return Touches(np.stack([together, together], axis=1), part)


def _hold_a_thing(
    source: Skeleton, motion: Motion, palms: np.ndarray, apart: np.ndarray
) -> np.ndarray:
    """(F,) whether both hands are on one thing before the body: their distance does not change for a second.

    Args:
        palms: (F, 2, 3). apart: (F,) the distance of the hands, in legs.
    """
    heads, bones = motion.heads, source.bones
    left = heads[:, bones["LeftUpLeg"]] - heads[:, bones["RightUpLeg"]]
    front = np.cross(left, UP)
    front = front / np.maximum(np.linalg.norm(front, axis=1, keepdims=True), 1e-9)
    ahead = np.einsum("fsj,fj->fs", palms - heads[:, None, bones["Hips"]], front)
    before = (ahead > AHEAD * source.leg_length()).all(axis=1)
    half = max(round(motion.fps * HOLD_SECONDS / 2), 1)
    if len(apart) <= 2 * half:
        return np.zeros(len(apart), bool)
    windows = np.lib.stride_tricks.sliding_window_view(
        np.pad(apart, half, mode="edge"), 2 * half + 1
    )
    steady = np.ptp(windows, axis=1) < STEADY
    return steady & before & (apart < WIDEST)


def hold_hands(
    source: Skeleton,
    motion: Motion,
    target: Skeleton,
    rotations: np.ndarray,
    pelvis: np.ndarray,
    surface: Surface,
) -> None:
    """Bring the target's hands to what the source's touch. Changes ``rotations`` (F, B, 3, 3) of its arms.

    Args:
        pelvis: (F, 3) the middle of the target's hip joints.
        surface: the target's skin, on which its hands come to lie.
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
    for index, (first, last, radius) in enumerate(PARTS.values()):
        for side in range(2):
            for start, end in runs(touches.part[:, side] == index):
                distance, along, way = _seen_from(
                    motion.heads, source, theirs[:, side], first, last
                )
                a, b = heads[:, target.bones[first]], heads[:, target.bones[last]]
                way = _across(way, b - a)
                middle_frame = (start + end) // 2
                skin = _thickness(
                    target, surface, first, last, float(np.clip(along[middle_frame], 0, 1)),
                    target.rest[target.bones[first]] @ rotations[middle_frame, target.bones[first]].T @ way[middle_frame],
                )  # fmt: skip
                gap = np.maximum(distance - radius * source.leg_length(), 0.0) * ratio
                goal = a + along[:, None] * (b - a) + (skin + HAND + gap)[:, None] * way
                weight = ramp(len(ours), start, end, fade)[:, None]
                shift[:, side] += weight * _held(goal - ours[:, side], start, end)
    for side, name in enumerate(SIDES):
        wrist = heads[:, target.bones[f"{name}Hand"]]
        if not shift[:, side].any():
            continue
        spine = target.bones["Spine"]
        back = -(rotations[:, spine] @ target.rest[spine].T @ FRONT)  # where elbows point
        limb = (f"{name}Arm", f"{name}ForeArm", f"{name}Hand")
        part = np.ones((len(wrist), 1))
        # A straight arm bends with the root of the way, so one step is not enough.
        for _ in range(3):
            turns = limb_turns(target, heads, limb, wrist + part * shift[:, side], back)
            most = np.maximum(turned_by(turns[0]), turned_by(turns[1]))[:, None]
            part *= np.minimum(1.0, MOST_DEGREES / np.maximum(most, 1e-6))
        bend(target, rotations, heads, limb, wrist + part * shift[:, side], back)


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


def _thickness(
    target: Skeleton, surface: Surface, first: str, last: str, along: float, way: np.ndarray
) -> float:
    """How far the target's skin is from the line of a body part, metres, at a place along it and in a direction of its rest pose.

    Without skin there: as thick as the capsule.
    """
    a, b = target.head(first), target.head(last)
    axis = b - a
    bones = [
        target.bones[n]
        for n in (first, *TRUNK, *(["Head"] if last == "Head" else []))
        if n in target.bones and (n == first or first in ("Hips", "Neck"))
    ]
    points = surface.points[np.isin(surface.bones, bones)]
    places = (points - a) @ axis / max(float(axis @ axis), 1e-12)
    off = points - a - places[:, None] * axis
    distance = np.linalg.norm(off, axis=1)
    facing = off @ way / np.maximum(distance, 1e-9)
    near = (np.abs(places - along) < 0.2) & (facing > 0.7)
    if near.sum() < 5:
        radius = next(r for f, last_, r in PARTS.values() if (f, last_) == (first, last))
        return float(radius * target.leg_length())
    return float(np.percentile(distance[near], 70))


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
