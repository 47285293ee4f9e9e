"""Carry a motion from one skeleton to another: directions of limbs, travel of the body, and feet that stand.

No bpy. All arrays are in one world frame: metres of the target, z up, the target facing along ``front``. F frames,
B bones. Rotations are 3 x 3 matrices that turn a bone's rest axes into the world.

The method: each bone of the humanoid has an anatomical frame, which is its rest direction seen from the direction that
this limb has in a T-pose; the motion turns the target's anatomical frame as it turns the source's, so a T-pose, an A-pose and
hanging arms meet in the same directions. The pelvis travels with the ratio of leg lengths. Then feet that stand in the source
are held in place by two-bone inverse kinematics (the law of cosines, with the knee kept in its plane), and what would be
under the floor is raised.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from blender_scripts.formats.naming import SIDES
from blender_scripts.stage.rest_pose import (
    alignment,
    floor_of,
    heading_of,
    rest_floor,
    standing_rest,
    turned_to,
)
from blender_scripts.stage.skeleton import (
    FRONT,
    LEFT,
    MAX_REACH,
    UP,
    Motion,
    Skeleton,
    Surface,
    bend,
    family,
    heads_of,
    quaternions,
    ramp,
    runs,
    smooth_above,
    speed,
    turn_limb,
    turns_about,
    without_short,
)
from blender_scripts.stage.touching import hold_hands

#: A foot stands while it is this near to the height at which it rests, and slower than this, both in leg lengths (a second).
STAND_HEIGHT, STAND_SPEED = 0.05, 0.25
#: Shorter stands are no stands; a hold fades in and out over so long. Seconds.
STAND_SECONDS, FADE_SECONDS = 0.08, 0.12
#: A foot that drifts farther than this in one stand, in leg lengths, is held anew.
MAX_DRIFT = 0.04
#: How far knees bend backwards and fold, and elbows fold, degrees (A. Kapandji, The Physiology of the Joints, 2007: knees 5 to 10 of
#: passive hyperextension and 160 of passive flexion, elbows 160). A knee bends backwards if its axis is so much against its hinge.
KNEE_BACK, KNEE_MOST, ELBOW_MOST, HINGE = 5.0, 160.0, 155.0, 0.7


@dataclass(frozen=True)
class Retargeted:
    """What the target does.

    Attributes:
        motion: in the world.
        local: (F, B, 4) quaternions (w, x, y, z) of each bone from its rest towards its parent.
        moved: (B,) bones that the motion moves; the others keep their rest towards their parent.
        hips_offset: (F, 3) of the hips' head from its rest, in the world.
        stands: (F, 2) whether the left and the right foot are held.
    """

    motion: Motion
    local: np.ndarray
    moved: np.ndarray
    hips_offset: np.ndarray
    stands: np.ndarray


def retarget(
    source: Skeleton, motion: Motion, target: Skeleton, surface: Surface, *, touch: bool = True
) -> Retargeted:
    """Let ``target`` do what ``source`` does in ``motion``.

    Args:
        surface: points of the target that must not sink below z = 0.
        touch: whether hands that touch the body or each other in the source do so in the target; see ``touching``.
    """
    source, motion = turned_to(source, motion, heading_of(target))
    source, motion = standing_rest(source, motion)
    rotations, moved = _turned(source, motion, target)
    ratio = target.leg_length() / source.leg_length()
    floor = floor_of(source, motion)
    pelvis = _pelvis(source, motion, target, ratio, floor)
    if touch:
        hold_hands(source, motion, target, rotations, pelvis, surface)
    _limit_joints(target, rotations)
    stands = np.stack([stands_of(source, motion, side, floor) for side in SIDES], axis=1)
    heads = heads_of(target, rotations, pelvis)
    pelvis = pelvis - _above_floor(target, heads, stands, motion.fps)[:, None] * UP
    heads = heads_of(target, rotations, pelvis)
    holds = [
        _steady(
            motion.heads[:, _standing_bone(source, s)],
            runs(stands[:, i]),
            MAX_DRIFT * source.leg_length(),
        )
        for i, s in enumerate(SIDES)
    ]
    held = _hold_feet(target, heads, holds, motion.fps)
    drop = _reach(target, heads, held)
    pelvis = pelvis - drop[:, None] * UP
    heads = heads_of(target, rotations, pelvis)
    _bend_legs(target, rotations, heads, held)
    heads = heads_of(target, rotations, pelvis)
    pelvis = (
        pelvis + _lift(target, rotations, heads, surface, motion.fps, held, stands)[:, None] * UP
    )
    heads = heads_of(target, rotations, pelvis)
    _bend_legs(target, rotations, heads, held)
    heads = heads_of(target, rotations, pelvis)
    hips = target.bones["Hips"]
    offset = heads[:, hips] - target.heads[hips]
    local = _local(target, rotations)
    return Retargeted(Motion(rotations, heads, motion.fps), local, moved, offset, stands)


def scaled_to(
    source: Skeleton, motion: Motion, target: Skeleton, bones: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """The source as it would be at the target's leg length: (F, J, 3) heads of ``bones``, floor at 0, and (F, 2) its stands."""
    source, motion = turned_to(source, motion, heading_of(target))
    source, motion = standing_rest(source, motion)
    floor = floor_of(source, motion)
    stands = np.stack([stands_of(source, motion, s, floor) for s in SIDES], axis=1)
    heads = motion.heads[:, [source.bones[b] for b in bones]] - floor * UP
    return heads * (target.leg_length() / source.leg_length()), stands


def stands_of(source: Skeleton, motion: Motion, side: str, floor: float) -> np.ndarray:
    """(F,) whether a foot of the source stands: near the floor, and hardly moving along it."""
    leg = source.leg_length()
    standing = np.zeros(len(motion.heads), bool)
    for bone in ("Foot", "ToeBase"):
        if not source.has(f"{side}{bone}"):
            continue
        index = source.bones[f"{side}{bone}"]
        rest = max(source.heads[index, 2] - rest_floor(source), 0.0)
        points = motion.heads[:, index]
        low = points[:, 2] - floor - rest < STAND_HEIGHT * leg
        slow = speed(points[:, :2], motion.fps) < STAND_SPEED * leg
        standing |= low & slow
    return without_short(standing, max(round(STAND_SECONDS * motion.fps), 1))


def _turned(source: Skeleton, motion: Motion, target: Skeleton) -> tuple[np.ndarray, np.ndarray]:
    """The target's rotations (F, B, 3, 3) before any foot is held, and which bones the motion moves (B,)."""
    aligned = alignment(source, target)
    by_index = {target.bones[b]: b for b in aligned}
    frames, count = len(motion.rotations), len(target.parents)
    rotations = np.empty((frames, count, 3, 3))
    moved = np.zeros(count, bool)
    for index in range(count):
        bone = by_index.get(index)
        if bone is not None:
            theirs = source.bones[bone]
            turn = motion.rotations[:, theirs] @ source.rest[theirs].T @ aligned[bone]
            rotations[:, index] = turn @ target.rest[index]
            moved[index] = True
            continue
        parent = target.parents[index]
        if parent < 0:
            rotations[:, index] = target.rest[index]
        else:
            rotations[:, index] = rotations[:, parent] @ (
                target.rest[parent].T @ target.rest[index]
            )
    return rotations, moved


def _limit_joints(target: Skeleton, rotations: np.ndarray) -> None:
    """Let no knee bend backwards and no elbow fold farther than people's do. Changes ``rotations``; what is within stays as it is."""
    for name in SIDES:
        for upper, lower, end, least, most in (
            (f"{name}UpLeg", f"{name}Leg", f"{name}Foot", -KNEE_BACK, KNEE_MOST),
            (f"{name}Arm", f"{name}ForeArm", f"{name}Hand", None, ELBOW_MOST),
        ):
            first, second, last = (target.bones[b] for b in (upper, lower, end))
            to_middle = target.rest[first].T @ (target.heads[second] - target.heads[first])
            to_end = target.rest[second].T @ (target.heads[last] - target.heads[second])
            a, b = rotations[:, first] @ to_middle, rotations[:, second] @ to_end
            axis = np.cross(a, b)
            sine = np.linalg.norm(axis, axis=1)
            angle = np.degrees(np.arctan2(sine, np.sum(a * b, axis=1)))
            axis = axis / np.maximum(sine, 1e-9)[:, None]
            wanted = np.minimum(angle, most)
            if least is not None:  # a knee's hinge is the thigh's own left
                hinge = rotations[:, first] @ target.rest[first].T @ LEFT
                backwards = np.sum(axis * hinge, axis=1) < -HINGE
                wanted = np.where(backwards, np.minimum(angle, -least), wanted)
            excess = wanted - angle
            if (excess < 0).any():
                turn_limb(target, rotations, second, turns_about(axis, excess), last)


def _pelvis(
    source: Skeleton, motion: Motion, target: Skeleton, ratio: float, floor: float
) -> np.ndarray:
    """(F, 3) where the middle between the target's hip joints goes.

    Height is scaled above the ankles, as legs are what scales: the ankle of either stands as high as it does at rest.
    """
    left, right = source.bones["LeftUpLeg"], source.bones["RightUpLeg"]
    theirs = (motion.heads[:, left] + motion.heads[:, right]) / 2
    ankle = np.mean([source.head(f"{s}Foot")[2] for s in SIDES]) - rest_floor(source)
    mine = np.mean([target.head(f"{s}Foot")[2] for s in SIDES])
    result = theirs * ratio
    result[:, 2] = (theirs[:, 2] - floor - ankle) * ratio + mine
    return result


def _local(target: Skeleton, rotations: np.ndarray) -> np.ndarray:
    """(F, B, 4) quaternions of bones from their rest towards their parents; signs do not jump."""
    local = np.empty_like(rotations)
    for index, parent in enumerate(target.parents):
        if parent < 0:
            local[:, index] = target.rest[index].T @ rotations[:, index]
        else:
            still = rotations[:, parent] @ (target.rest[parent].T @ target.rest[index])
            local[:, index] = np.swapaxes(still, -1, -2) @ rotations[:, index]
    found = quaternions(local)
    for frame in range(1, len(found)):
        flip = np.sum(found[frame] * found[frame - 1], axis=-1) < 0
        found[frame][flip] *= -1
    return found


def _above_floor(target: Skeleton, heads: np.ndarray, stands: np.ndarray, fps: float) -> np.ndarray:
    """(F,) how far feet that stand are above the height at which they rest, mean of both; in between, from stand to stand.

    The body as a whole follows, so that legs need not bend for what is a difference of rigs and files.
    """
    counts = stands.sum(axis=1)
    if not counts.any():
        return np.zeros(len(heads))
    above = np.zeros(len(heads))
    for side, name in enumerate(SIDES):
        index = _standing_bone(target, name)
        above += np.where(
            stands[:, side], heads[:, index, 2] - max(target.heads[index, 2], 0.0), 0.0
        )
    known = np.flatnonzero(counts)
    between = np.interp(np.arange(len(heads)), known, above[known] / counts[known])
    width = max(round(FADE_SECONDS * fps), 1)
    padded = np.pad(between, width, mode="edge")
    return np.lib.stride_tricks.sliding_window_view(padded, 2 * width + 1).mean(axis=1)


def _hold_feet(
    target: Skeleton, heads: np.ndarray, holds: Sequence[Sequence[tuple[int, int]]], fps: float
) -> np.ndarray:
    """(F, 2, 3) where the ankles are to be: as they are, but at rest while a foot stands, with soft ways in and out."""
    ankles = np.stack([heads[:, target.bones[f"{s}Foot"]] for s in SIDES], axis=1)
    fade = max(round(FADE_SECONDS * fps), 1)
    shift = np.zeros_like(ankles)
    for side, name in enumerate(SIDES):
        index = _standing_bone(target, name)
        points = heads[:, index]
        weight = np.zeros(len(ankles))
        total = np.zeros((len(ankles), 3))
        for start, end in holds[side]:
            at = np.median(points[start:end], axis=0)
            at[2] = max(target.heads[index, 2], 0.0)
            held = np.empty((len(ankles), 3))
            held[start:end] = at - points[start:end]
            held[:start], held[end:] = held[start], held[end - 1]
            share = ramp(len(ankles), start, end, fade)
            total += share[:, None] * held
            weight += share
        shift[:, side] = total / np.maximum(weight, 1.0)[:, None]
    return ankles + shift


def _standing_bone(target: Skeleton, side: str) -> int:
    """The joint on which a foot stands: the toes' where there is one, else the ankle."""
    toes = f"{side}ToeBase"
    return target.bones[toes if target.has(toes) else f"{side}Foot"]


def _steady(
    points: np.ndarray, stands: Sequence[tuple[int, int]], most: float
) -> list[tuple[int, int]]:
    """Stands cut where the foot drifts farther than ``most`` from where it began: a slow shuffle is followed, not frozen."""
    cut = []
    for start, end in stands:
        begin = start
        for frame in range(start + 1, end):
            if np.linalg.norm(points[frame, :2] - points[begin, :2]) > most:
                cut.append((begin, frame))
                begin = frame
        cut.append((begin, end))
    return cut


def _reach(target: Skeleton, heads: np.ndarray, ankles: np.ndarray) -> np.ndarray:
    """(F,) how far the pelvis must come down so that both legs reach their ankles; smooth over time."""
    drop = np.zeros(len(heads))
    for side, name in enumerate(SIDES):
        hip = heads[:, target.bones[f"{name}UpLeg"]]
        length = MAX_REACH * sum(_lengths(target, name))
        flat = np.linalg.norm((ankles[:, side] - hip)[:, :2], axis=1)
        height = np.sqrt(np.maximum(length**2 - flat**2, 0.0))
        drop = np.maximum(drop, hip[:, 2] - ankles[:, side, 2] - height)
    return smooth_above(np.maximum(drop, 0.0), 3)


def _lengths(target: Skeleton, side: str) -> tuple[float, float]:
    hip, knee, ankle = (target.head(f"{side}{b}") for b in ("UpLeg", "Leg", "Foot"))
    return float(np.linalg.norm(knee - hip)), float(np.linalg.norm(ankle - knee))


def _bend_legs(
    target: Skeleton, rotations: np.ndarray, heads: np.ndarray, ankles: np.ndarray
) -> None:
    """Turn thighs and shanks so that the ankles (F, 2, 3) are reached; feet keep their own turn. Changes ``rotations``."""
    for side, name in enumerate(SIDES):
        foot = target.bones[f"{name}Foot"]
        ahead = rotations[:, foot] @ target.rest[foot].T @ FRONT
        limb = (f"{name}UpLeg", f"{name}Leg", f"{name}Foot")
        bend(target, rotations, heads, limb, ankles[:, side], ahead)


def _lift(
    target: Skeleton,
    rotations: np.ndarray,
    heads: np.ndarray,
    surface: Surface,
    fps: float,
    ankles: np.ndarray,
    stands: np.ndarray,
) -> np.ndarray:
    """(F,) how far the body must be raised so that nothing is under the floor.

    A foot beside another one that stands bends its own leg: its ankle in ``ankles`` (F, 2, 3) is raised. Whatever else is
    too deep raises the body, and both ankles with it unless they stand.
    """
    feet = [family(target, target.bones[f"{name}Foot"]) for name in SIDES]
    others = ~np.isin(surface.bones, list(feet[0] | feet[1]))
    body = _depth(target, rotations, heads, surface, others)
    depths = []
    for side, mine in enumerate(feet):
        depth = _depth(target, rotations, heads, surface, np.isin(surface.bones, list(mine)))
        body = np.maximum(body, np.where(stands[:, 1 - side], 0.0, depth))
        depths.append(depth)
    quick = max(round(0.05 * fps), 1)
    lift = smooth_above(body, quick)
    for side, depth in enumerate(depths):
        raised = smooth_above(depth, quick)
        ankles[:, side, 2] += np.where(stands[:, side], raised, np.maximum(raised, lift))
    return lift


def _depth(
    target: Skeleton, rotations: np.ndarray, heads: np.ndarray, surface: Surface, chosen: np.ndarray
) -> np.ndarray:
    """(F,) how deep the lowest of the chosen points is under z = 0, each carried by its bone alone."""
    depth = np.zeros(len(heads))
    for bone in np.unique(surface.bones[chosen]):
        points = surface.points[chosen & (surface.bones == bone)]
        local = (points - target.heads[bone]) @ target.rest[bone]
        heights = heads[:, bone, 2][:, None] + rotations[:, bone, 2] @ local.T
        depth = np.maximum(depth, -heights.min(axis=1))
    return depth
