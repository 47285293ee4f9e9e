"""Rest poses: turn a source upright and towards the target, find its floor, and align limbs of two rest poses.

No bpy. World frame: metres, z up; the target faces along ``FRONT``.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from blender_scripts.formats.naming import FINGERS, SIDES
from blender_scripts.stage.skeleton import FRONT, LEFT, UP, Motion, Skeleton, shortest_turn

TRUNK = ("Spine", "Spine1", "Spine2")
#: The next joint along each limb, by which its direction is told.
NEXT = {"Arm": "ForeArm", "ForeArm": "Hand", "UpLeg": "Leg", "Leg": "Foot"}
#: How much of the difference in the forearms' rest twist the forearm takes; the wrist takes the rest.
FOREARM_TWIST = 0.5


def turned_to(source: Skeleton, motion: Motion, wanted: float) -> tuple[Skeleton, Motion]:
    """The source turned so that it stands upright, and its rest pose faces along the heading ``wanted`` (radians).

    Upright is corrected by whole quarter turns only, and the heading by what is left: a rest pose that leans a little leans
    in the motion too.
    """
    turn = _to_upright(source)
    yaw = wanted - heading_of(_apply(source, turn))
    quarter = np.pi / 2
    snapped = np.round(yaw / quarter) * quarter
    turn = _yaw(snapped if abs(yaw - snapped) < np.radians(10) else yaw) @ turn
    return _apply(source, turn), Motion(turn @ motion.rotations, motion.heads @ turn.T, motion.fps)


def heading(y: float, x: float = 0.0) -> float:
    """The angle of a horizontal direction, radians from +x."""
    return float(np.arctan2(y, x))


def standing_rest(source: Skeleton, motion: Motion) -> tuple[Skeleton, Motion]:
    """The source with a rest pose that is a person's, for files whose rest is none (all limbs along one axis, as in LAFAN1).

    The frame that is most like a person who stands is taken for it then.
    """
    if _humanlike(source.heads, source.bones) > 0.5:
        return source, motion
    likeness = [_humanlike(heads, source.bones) for heads in motion.heads]
    best = int(np.argmax(likeness))
    rest = Skeleton(source.bones, source.parents, motion.rotations[best], motion.heads[best])
    yaw = _yaw(heading(-1.0) - heading_of(rest))
    return _apply(rest, yaw), Motion(yaw @ motion.rotations, motion.heads @ yaw.T, motion.fps)


def floor_of(source: Skeleton, motion: Motion) -> float:
    """The height of the source's floor.

    It is z = 0 where the rest pose stands there, as files with a stage have it; else where the feet are lowest in the motion.
    """
    feet = [
        source.bones[f"{s}{b}"] for s in SIDES for b in ("Foot", "ToeBase") if source.has(f"{s}{b}")
    ]
    lowest = float(source.heads[feet, 2].min())
    leg = source.leg_length()
    over_time = motion.heads[:, feet, 2].min(axis=1)
    in_motion = float(np.percentile(over_time, 5)) - _ankle_height(source, lowest)
    if -0.02 * leg <= lowest <= 0.2 * leg and in_motion > -0.15 * leg:
        return 0.0
    return in_motion


def _apply(skeleton: Skeleton, turn: np.ndarray) -> Skeleton:
    return Skeleton(skeleton.bones, skeleton.parents, turn @ skeleton.rest, skeleton.heads @ turn.T)


def _yaw(angle: float) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])


def heading_of(skeleton: Skeleton) -> float:
    """The angle of the horizontal direction that a rest pose faces, radians."""
    left = skeleton.head("LeftUpLeg") - skeleton.head("RightUpLeg")
    left = left / max(np.linalg.norm(left), 1e-9)
    arms = skeleton.head("LeftArm") - skeleton.head("RightArm")
    left = left + arms / max(np.linalg.norm(arms), 1e-9)
    front = np.cross(left, UP)
    return heading(front[1], front[0])


def _to_upright(skeleton: Skeleton) -> np.ndarray:
    """The quarter turns (3, 3) that bring the axis next to hips-to-head onto z; the unit matrix for most files."""
    if _humanlike(skeleton.heads, skeleton.bones, upright=False) <= 0.5:
        return np.eye(3)
    up = skeleton.head("Head") - skeleton.head("Hips")
    axis = int(np.argmax(np.abs(up)))
    nearest = np.zeros(3)
    nearest[axis] = np.sign(up[axis])
    return shortest_turn(nearest, UP)


def _humanlike(heads: np.ndarray, bones: Mapping[str, int], *, upright: bool = True) -> float:
    """How much a pose is that of a person who stands, -1 to 1: legs against the trunk, and the trunk upright."""

    def way(a: str, b: str) -> np.ndarray:
        d = heads[bones[b]] - heads[bones[a]]
        return d / max(np.linalg.norm(d), 1e-9)

    trunk = way("Hips", "Head")
    parts = [-way(f"{s}UpLeg", f"{s}Leg") @ trunk for s in SIDES]
    parts += [-way(f"{s}Leg", f"{s}Foot") @ trunk for s in SIDES]
    if upright:
        parts.append(trunk @ UP)
    arms = [
        max(-way(f"{s}Arm", f"{s}ForeArm") @ trunk, 1 - abs(way(f"{s}Arm", f"{s}ForeArm") @ trunk))
        for s in SIDES
    ]
    return float(min([*parts, *arms]))


def rest_floor(skeleton: Skeleton) -> float:
    """The height of the floor under the rest pose: under the lowest joint of the feet, by the height of an ankle."""
    feet = [
        skeleton.bones[f"{s}{b}"]
        for s in SIDES
        for b in ("Foot", "ToeBase")
        if skeleton.has(f"{s}{b}")
    ]
    lowest = float(skeleton.heads[feet, 2].min())
    if 0.0 <= lowest <= 0.2 * skeleton.leg_length():
        return 0.0
    return lowest - _ankle_height(skeleton, lowest)


def _ankle_height(skeleton: Skeleton, lowest: float) -> float:
    """How high the lowest joint of a foot is above the sole: little for toes, a tenth of a leg for an ankle without toes."""
    return (0.02 if skeleton.has("LeftToeBase", "RightToeBase") else 0.1) * skeleton.leg_length()


def alignment(source: Skeleton, target: Skeleton) -> dict[str, np.ndarray]:
    """For each bone that both have, what turns the target's rest into the source's (3, 3)."""
    theirs, ours = _frames_of(source), _frames_of(target)
    both = {
        b: theirs[b] @ ours[b].T for b in ours if b in theirs and source.has(b) and target.has(b)
    }
    for side in SIDES:
        hand, fore = f"{side}Hand", f"{side}ForeArm"
        from_palm, to_palm = _palm(source, side), _palm(target, side)
        if hand in both and from_palm is not None and to_palm is not None:
            both[hand] = from_palm @ to_palm.T
            along = source.head(hand) - source.head(fore)
            twist = _twist_about(
                both[hand] @ both[fore].T, along / max(np.linalg.norm(along), 1e-9)
            )
            both[fore] = _about(along, FOREARM_TWIST * twist) @ both[fore]
        for finger in FINGERS:
            for joint in (1, 2, 3):
                bone = f"{hand}{finger}{joint}"
                if hand in both and source.has(bone) and target.has(bone):
                    both[bone] = _finger(source, target, bone, both[hand])
    return both


def _frames_of(skeleton: Skeleton) -> dict[str, np.ndarray]:
    """The anatomical frame (3, 3) of each bone that has one: what turns the T-pose's direction into the rest pose's."""
    frames = {"Hips": np.eye(3)}
    trunk = shortest_turn(UP, skeleton.head("Neck") - skeleton.pelvis())
    for bone in TRUNK:
        frames[bone] = trunk
    frames["Neck"] = frames["Head"] = np.eye(3)
    for side in SIDES:
        out = LEFT if side == "Left" else -LEFT
        # Where a rig begins a clavicle says nothing of how its shoulder is held: sloping ones would be shrugged.
        frames[f"{side}Shoulder"] = np.eye(3)
        for bone, canonical in (
            ("Arm", out),
            ("ForeArm", out),
            ("UpLeg", -UP),
            ("Leg", -UP),
        ):
            start, end = f"{side}{bone}", f"{side}{NEXT[bone]}"
            if skeleton.has(start, end):
                frames[start] = shortest_turn(canonical, skeleton.head(end) - skeleton.head(start))
        frames[f"{side}Foot"] = frames[f"{side}ToeBase"] = np.eye(3)
        if skeleton.has(
            f"{side}ToeBase"
        ):  # a sole stands flat: only its heading differs between rigs
            ahead = (skeleton.head(f"{side}ToeBase") - skeleton.head(f"{side}Foot")) * (1, 1, 0)
            if np.linalg.norm(ahead) > 0.02 * skeleton.leg_length():
                frames[f"{side}Foot"] = frames[f"{side}ToeBase"] = shortest_turn(FRONT, ahead)
        frames[f"{side}Hand"] = frames[f"{side}ForeArm"]
    return frames


def _palm(skeleton: Skeleton, side: str) -> np.ndarray | None:
    """The hand's frame (3, 3) in the rest pose by its knuckles: along the fingers, from index to pinky, out of the palm."""
    knuckles = [f"{side}HandIndex1", f"{side}HandPinky1"]
    if not skeleton.has(*knuckles):
        return None
    index, pinky = (skeleton.head(k) for k in knuckles)
    along = (index + pinky) / 2 - skeleton.head(f"{side}Hand")
    across = pinky - index
    along = along / max(np.linalg.norm(along), 1e-9)
    across = across - (across @ along) * along
    length = np.linalg.norm(across)
    if length < 1e-6:
        return None
    across = across / length
    return np.stack([along, across, np.cross(along, across)], axis=1)


def _finger(source: Skeleton, target: Skeleton, bone: str, hand: np.ndarray) -> np.ndarray:
    """A finger bone's alignment: as its hand's, and then by its own direction where both rigs show it."""
    following = bone[:-1] + str(int(bone[-1]) + 1)
    if not (source.has(following) and target.has(following)):
        return hand
    ours = hand @ (target.head(following) - target.head(bone))
    return shortest_turn(ours, source.head(following) - source.head(bone)) @ hand


def _about(axis: np.ndarray, angle: float) -> np.ndarray:
    axis = axis / max(np.linalg.norm(axis), 1e-9)
    k = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * (k @ k)


def _twist_about(turn: np.ndarray, axis: np.ndarray) -> float:
    """How far a rotation (3, 3) turns about an axis, radians; swing-twist decomposition."""
    vector = np.array([turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]])
    w = np.sqrt(max(1 + np.trace(turn), 1e-12)) / 2
    return float(2 * np.arctan2((vector / (4 * w)) @ axis, w))
