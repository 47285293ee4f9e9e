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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from blender_scripts.formats.naming import FINGERS, SIDES

LEFT, UP, FRONT = np.array([1.0, 0.0, 0.0]), np.array([0.0, 0.0, 1.0]), np.array([0.0, -1.0, 0.0])
TRUNK = ("Spine", "Spine1", "Spine2", "Neck", "Head")
#: The next joint along each limb, by which its direction is told.
NEXT = {
    "Shoulder": "Arm",
    "Arm": "ForeArm",
    "ForeArm": "Hand",
    "UpLeg": "Leg",
    "Leg": "Foot",
    "Foot": "ToeBase",
}

#: A foot stands while it is this near to the height at which it rests, and slower than this, both in leg lengths (a second).
STAND_HEIGHT, STAND_SPEED = 0.05, 0.25
#: Shorter stands are no stands; a hold fades in and out over so long. Seconds.
STAND_SECONDS, FADE_SECONDS = 0.08, 0.12
#: A foot that drifts farther than this in one stand, in leg lengths, is held anew.
MAX_DRIFT = 0.04
#: A leg is never stretched beyond this share of its length.
MAX_REACH = 0.99999
#: How much of the difference in the forearms' rest twist the forearm takes; the wrist takes the rest.
FOREARM_TWIST = 0.5


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


@dataclass(frozen=True)
class Retargeted:
    """What the target does.

    Attributes:
        motion: in the world.
        local: (F, B, 4) quaternions (w, x, y, z) of each bone from its rest towards its parent.
        moved: (B,) bones that the motion moves; the others keep their rest towards their parent.
        pelvis_offset: (F, 3) of the hips' head from its rest, in the world.
        stands: (F, 2) whether the left and the right foot are held.
    """

    motion: Motion
    local: np.ndarray
    moved: np.ndarray
    hips_offset: np.ndarray
    stands: np.ndarray


def retarget(source: Skeleton, motion: Motion, target: Skeleton, surface: Surface) -> Retargeted:
    """Let ``target`` do what ``source`` does in ``motion``.

    Args:
        surface: points of the target that must not sink below z = 0.
    """
    source, motion = turned_to(source, motion, _heading(target))
    source, motion = standing_rest(source, motion)
    rotations, moved = _turned(source, motion, target)
    ratio = target.leg_length() / source.leg_length()
    floor = floor_of(source, motion)
    pelvis = _pelvis(source, motion, target, ratio, floor)
    stands = np.stack([stands_of(source, motion, side, floor) for side in SIDES], axis=1)
    heads = _heads(target, rotations, pelvis)
    pelvis = pelvis - _above_floor(target, heads, stands, motion.fps)[:, None] * UP
    heads = _heads(target, rotations, pelvis)
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
    heads = _heads(target, rotations, pelvis)
    _bend_legs(target, rotations, heads, held)
    heads = _heads(target, rotations, pelvis)
    pelvis = (
        pelvis + _lift(target, rotations, heads, surface, motion.fps, held, stands)[:, None] * UP
    )
    heads = _heads(target, rotations, pelvis)
    _bend_legs(target, rotations, heads, held)
    heads = _heads(target, rotations, pelvis)
    hips = target.bones["Hips"]
    offset = heads[:, hips] - target.heads[hips]
    local = _local(target, rotations)
    return Retargeted(Motion(rotations, heads, motion.fps), local, moved, offset, stands)


def scaled_to(
    source: Skeleton, motion: Motion, target: Skeleton, bones: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """The source as it would be at the target's leg length: (F, J, 3) heads of ``bones``, floor at 0, and (F, 2) its stands."""
    source, motion = turned_to(source, motion, _heading(target))
    source, motion = standing_rest(source, motion)
    floor = floor_of(source, motion)
    stands = np.stack([stands_of(source, motion, s, floor) for s in SIDES], axis=1)
    heads = motion.heads[:, [source.bones[b] for b in bones]] - floor * UP
    return heads * (target.leg_length() / source.leg_length()), stands


def turned_to(source: Skeleton, motion: Motion, wanted: float) -> tuple[Skeleton, Motion]:
    """The source turned so that it stands upright, and its rest pose faces along the heading ``wanted`` (radians).

    Upright is corrected by whole quarter turns only, and the heading by what is left: a rest pose that leans a little leans
    in the motion too.
    """
    turn = _to_upright(source)
    yaw = wanted - _heading(_apply(source, turn))
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
    yaw = _yaw(heading(-1.0) - _heading(rest))
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


def stands_of(source: Skeleton, motion: Motion, side: str, floor: float) -> np.ndarray:
    """(F,) whether a foot of the source stands: near the floor, and hardly moving along it."""
    leg = source.leg_length()
    standing = np.zeros(len(motion.heads), bool)
    for bone in ("Foot", "ToeBase"):
        if not source.has(f"{side}{bone}"):
            continue
        index = source.bones[f"{side}{bone}"]
        rest = max(source.heads[index, 2] - _rest_floor(source), 0.0)
        points = motion.heads[:, index]
        low = points[:, 2] - floor - rest < STAND_HEIGHT * leg
        slow = speed(points[:, :2], motion.fps) < STAND_SPEED * leg
        standing |= low & slow
    return _without_short(standing, max(round(STAND_SECONDS * motion.fps), 1))


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


# -- rest poses ---------------------------------------------------------------------------------------------------------


def _apply(skeleton: Skeleton, turn: np.ndarray) -> Skeleton:
    return Skeleton(skeleton.bones, skeleton.parents, turn @ skeleton.rest, skeleton.heads @ turn.T)


def _yaw(angle: float) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])


def _heading(skeleton: Skeleton) -> float:
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


def _rest_floor(skeleton: Skeleton) -> float:
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


def _frames_of(skeleton: Skeleton) -> dict[str, np.ndarray]:
    """The anatomical frame (3, 3) of each bone that has one: what turns the T-pose's direction into the rest pose's."""
    frames = {"Hips": np.eye(3)}
    trunk = shortest_turn(UP, skeleton.head("Neck") - skeleton.pelvis())
    for bone in TRUNK[:3]:
        frames[bone] = trunk
    frames["Neck"] = frames["Head"] = np.eye(3)
    for side in SIDES:
        out = LEFT if side == "Left" else -LEFT
        for bone, canonical in (
            ("Shoulder", out),
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


def _alignment(source: Skeleton, target: Skeleton) -> dict[str, np.ndarray]:
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


# -- motion -------------------------------------------------------------------------------------------------------------


def _turned(source: Skeleton, motion: Motion, target: Skeleton) -> tuple[np.ndarray, np.ndarray]:
    """The target's rotations (F, B, 3, 3) before any foot is held, and which bones the motion moves (B,)."""
    aligned = _alignment(source, target)
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


def _pelvis(
    source: Skeleton, motion: Motion, target: Skeleton, ratio: float, floor: float
) -> np.ndarray:
    """(F, 3) where the middle between the target's hip joints goes.

    Height is scaled above the ankles, as legs are what scales: the ankle of either stands as high as it does at rest.
    """
    left, right = source.bones["LeftUpLeg"], source.bones["RightUpLeg"]
    theirs = (motion.heads[:, left] + motion.heads[:, right]) / 2
    ankle = np.mean([source.head(f"{s}Foot")[2] for s in SIDES]) - _rest_floor(source)
    mine = np.mean([target.head(f"{s}Foot")[2] for s in SIDES])
    result = theirs * ratio
    result[:, 2] = (theirs[:, 2] - floor - ankle) * ratio + mine
    return result


def _heads(target: Skeleton, rotations: np.ndarray, pelvis: np.ndarray) -> np.ndarray:
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


# -- feet and floor -----------------------------------------------------------------------------------------------------


def _without_short(flags: np.ndarray, least: int) -> np.ndarray:
    """Runs of True that are shorter than ``least`` frames become False; gaps as short are closed before."""
    result = flags.copy()
    for value in (False, True):
        for start, end in runs(result == value):
            inside = start > 0 and end < len(result)
            if end - start < least and (value or inside):
                result[start:end] = not value
    return result


def runs(flags: np.ndarray) -> list[tuple[int, int]]:
    """The stretches of True in (F,) flags, as half-open ranges of frames."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(int)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


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
            ramp = _ramp(len(ankles), start, end, fade)
            total += ramp[:, None] * held
            weight += ramp
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


def _ramp(count: int, start: int, end: int, fade: int) -> np.ndarray:
    """(count,) 1 from ``start`` to ``end``, and half a cosine down to 0 on either side."""
    frames = np.arange(count)
    away = np.maximum(np.maximum(start - frames, frames - (end - 1)), 0)
    return np.where(away > fade, 0.0, 0.5 + 0.5 * np.cos(np.pi * away / (fade + 1)))


def _reach(target: Skeleton, heads: np.ndarray, ankles: np.ndarray) -> np.ndarray:
    """(F,) how far the pelvis must come down so that both legs reach their ankles; smooth over time."""
    drop = np.zeros(len(heads))
    for side, name in enumerate(SIDES):
        hip = heads[:, target.bones[f"{name}UpLeg"]]
        length = MAX_REACH * sum(_lengths(target, name))
        flat = np.linalg.norm((ankles[:, side] - hip)[:, :2], axis=1)
        height = np.sqrt(np.maximum(length**2 - flat**2, 0.0))
        drop = np.maximum(drop, hip[:, 2] - ankles[:, side, 2] - height)
    return _smooth_above(np.maximum(drop, 0.0), 3)


def _lengths(target: Skeleton, side: str) -> tuple[float, float]:
    hip, knee, ankle = (target.head(f"{side}{b}") for b in ("UpLeg", "Leg", "Foot"))
    return float(np.linalg.norm(knee - hip)), float(np.linalg.norm(ankle - knee))


def _smooth_above(values: np.ndarray, reach: int) -> np.ndarray:
    """A smooth curve that is nowhere below ``values`` (F,): the widened maximum, averaged."""
    if not values.any():
        return values
    padded = np.pad(values, 2 * reach, mode="edge")
    widest = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1).max(axis=1)
    return np.lib.stride_tricks.sliding_window_view(widest, 2 * reach + 1).mean(axis=1)


def _bend_legs(
    target: Skeleton, rotations: np.ndarray, heads: np.ndarray, ankles: np.ndarray
) -> None:
    """Turn thighs and shanks so that the ankles (F, 2, 3) are reached; feet keep their own turn. Changes ``rotations``."""
    for side, name in enumerate(SIDES):
        thigh, shank, foot = (target.bones[f"{name}{b}"] for b in ("UpLeg", "Leg", "Foot"))
        hip, knee, ankle = heads[:, thigh], heads[:, shank], heads[:, foot]
        a, b = _lengths(target, name)
        to = ankles[:, side] - hip
        distance = np.linalg.norm(to, axis=1)
        wanted = np.clip(distance, abs(a - b) + 1e-6, MAX_REACH * (a + b))
        to = to / np.maximum(distance, 1e-9)[:, None]
        pole = knee - hip
        straight = (ankle - hip) / np.maximum(np.linalg.norm(ankle - hip, axis=1), 1e-9)[:, None]
        pole = pole - np.sum(pole * straight, axis=1)[:, None] * straight
        # A straight leg does not say where its knee bends: forward, as seen from the foot.
        ahead = rotations[:, foot] @ target.rest[foot].T @ FRONT
        weak = np.linalg.norm(pole, axis=1) < 0.02 * (a + b)
        pole = np.where(weak[:, None], pole + 0.05 * (a + b) * ahead, pole)
        pole = pole - np.sum(pole * to, axis=1)[:, None] * to
        pole = pole / np.maximum(np.linalg.norm(pole, axis=1), 1e-9)[:, None]
        cosine = np.clip((a * a + wanted**2 - b * b) / (2 * a * wanted), -1, 1)
        new_knee = hip + a * (cosine[:, None] * to + np.sqrt(1 - cosine**2)[:, None] * pole)
        new_ankle = hip + wanted[:, None] * to
        upper = shortest_turn(knee - hip, new_knee - hip)
        lower = shortest_turn(ankle - knee, new_ankle - new_knee)
        _turn_limb(target, rotations, thigh, upper, stop=shank)
        _turn_limb(target, rotations, shank, lower, stop=foot)


def _turn_limb(
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
    feet = [_family(target, target.bones[f"{name}Foot"]) for name in SIDES]
    others = ~np.isin(surface.bones, list(feet[0] | feet[1]))
    body = _depth(target, rotations, heads, surface, others)
    depths = []
    for side, mine in enumerate(feet):
        depth = _depth(target, rotations, heads, surface, np.isin(surface.bones, list(mine)))
        body = np.maximum(body, np.where(stands[:, 1 - side], 0.0, depth))
        depths.append(depth)
    quick = max(round(0.05 * fps), 1)
    lift = _smooth_above(body, quick)
    for side, depth in enumerate(depths):
        raised = _smooth_above(depth, quick)
        ankles[:, side, 2] += np.where(stands[:, side], raised, np.maximum(raised, lift))
    return lift


def _family(target: Skeleton, bone: int) -> set[int]:
    """A bone and all that hangs on it."""
    found = {bone}
    for index, parent in enumerate(target.parents):
        if int(parent) in found:
            found.add(index)
    return found


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


def spread(values: Sequence[float]) -> tuple[float, float]:
    """Mean and 95th percentile."""
    array = np.asarray(values, float)
    return float(array.mean()), float(np.percentile(array, 95))
