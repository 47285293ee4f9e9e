"""Measure how well a skin does a motion, by what Blender evaluates of both; shares no code with ``retarget``.

World frame, z up; lengths in metres unless a name says otherwise, angles in degrees.
"""

from __future__ import annotations

from dataclasses import dataclass

import bpy
import numpy as np
from mathutils.bvhtree import BVHTree

from blender_scripts.stage.character import Character
from blender_scripts.stage.motion import Clip

#: Each limb from joint to joint, by the humanoid's bones; ``pelvis`` is the middle between the hip joints. Necks and feet are no
#: limbs here: where rigs place the joints of a head and of toes differs by 20 degrees between people who stand alike.
LIMBS = {
    "trunk": ("pelvis", "Neck"),
    "left_upper_arm": ("LeftArm", "LeftForeArm"), "right_upper_arm": ("RightArm", "RightForeArm"),
    "left_forearm": ("LeftForeArm", "LeftHand"), "right_forearm": ("RightForeArm", "RightHand"),
    "left_thigh": ("LeftUpLeg", "LeftLeg"), "right_thigh": ("RightUpLeg", "RightLeg"),
    "left_shank": ("LeftLeg", "LeftFoot"), "right_shank": ("RightLeg", "RightFoot"),
}  # fmt: skip
ENDS = ("LeftHand", "RightHand", "LeftFoot", "RightFoot")
#: Skins are measured against the floor and themselves in so many frames, spread evenly.
MESH_FRAMES, BODY_FRAMES = 40, 8
#: A source's foot stands while its lowest joint is so near to where it is lowest, moves so slowly, and strays so little from
#: where the stand began; metres (a second) of a person with legs of 0.85 m.
STAND_NEAR, STAND_SPEED, STAND_DRIFT = 0.03, 0.12, 0.02
LEG = 0.85
#: A knee may bend backwards by so much; an elbow may fold so far. Degrees (A. Kapandji, The Physiology of the Joints, 2007,
#: has 5 to 10 of passive hyperextension and 145 to 160 of flexion).
KNEE_BACK, ELBOW_MOST = 8.0, 160.0


@dataclass(frozen=True)
class Transfer:
    """The error of a cast.

    Attributes:
        limbs: for each limb, mean and 95th percentile of the angle between source and result.
        direction: mean over the limbs. worst_limb: the largest 95th percentile.
        slide_cm: how far a foot moves along the floor while the source's foot stands, 95th percentile over the stands.
        stands: how many stands there are.
        penetration_cm: how deep the skin is under the floor at most.
        self_penetration_cm: how deep hands and forearms are inside the trunk or the legs, 95th percentile over frames.
        joint_limits: share of frames in which a knee or an elbow bends as none does.
        jerk: third derivative of hands and feet, as a multiple of the source's.
    """

    limbs: dict[str, tuple[float, float]]
    direction: float
    worst_limb: float
    slide_cm: float
    stands: int
    penetration_cm: float
    self_penetration_cm: float
    joint_limits: float
    jerk: float


def measure(character: Character, clip: Clip) -> Transfer:
    """Compare a character that plays a cast with the clip that was cast on it; both are on the stage."""
    ours, theirs = _positions(character, clip)
    scale = _leg(ours) / _leg(theirs)
    theirs = {name: p * scale for name, p in theirs.items()}
    limbs = _directions(ours, theirs)
    slides = _slides(ours, theirs, clip.imported.fps)
    return Transfer(
        limbs={n: (float(a.mean()), float(np.percentile(a, 95))) for n, a in limbs.items()},
        direction=float(np.mean([a.mean() for a in limbs.values()])),
        worst_limb=float(max(np.percentile(a, 95) for a in limbs.values())),
        slide_cm=100 * float(np.percentile(slides, 95)) if slides else 0.0,
        stands=len(slides),
        penetration_cm=100 * _penetration(character, clip),
        self_penetration_cm=100 * _self_penetration(character, clip),
        joint_limits=_beyond_limits(ours),
        jerk=_jerk(ours, theirs),
    )


def _positions(
    character: Character, clip: Clip
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """(F, 3) of each joint of the humanoid that both have, of the skin and of the motion's armature."""
    joints = sorted({j for pair in LIMBS.values() for j in pair} - {"pelvis"})
    joints += ["Hips", "Head", "LeftToeBase", "RightToeBase"]
    shared = [j for j in joints if character.rig.has(j) and clip.rig.has(j)]
    pairs = ((character.armature, character.rig), (clip.imported.armature, clip.rig))
    bones = [[armature.pose.bones[rig.names[j]] for j in shared] for armature, rig in pairs]
    found: list[list[list]] = [[], []]
    for mesh in character.meshes:
        mesh.hide_viewport = True
    for frame in clip.frames:
        bpy.context.scene.frame_set(frame)
        for k, (armature, _) in enumerate(pairs):
            matrix = armature.matrix_world
            found[k].append([matrix @ b.head for b in bones[k]])
    for mesh in character.meshes:
        mesh.hide_viewport = False
    result = []
    for positions in found:
        array = np.array(positions)
        named = {j: array[:, i] for i, j in enumerate(shared)}
        named["pelvis"] = (named["LeftUpLeg"] + named["RightUpLeg"]) / 2
        result.append(named)
    return result[0], result[1]


def limb_directions(character: Character) -> np.ndarray:
    """(F, limbs, 3) where each limb points in each frame of a character's motion, seen from its pelvis.

    The frame's own axes are the line of the hips, levelled, and the vertical: a person who turns on the spot keeps a pose.
    """
    rig = character.rig
    joints = sorted({j for pair in LIMBS.values() for j in pair} - {"pelvis"})
    bones = {j: character.armature.pose.bones[rig.names[j]] for j in joints}
    start, end = character.frame_range
    for mesh in character.meshes:
        mesh.hide_viewport = True
    rows = []
    for frame in range(start, end + 1):
        character.at_frame(frame)
        matrix = np.array(character.armature.matrix_world)
        rows.append([matrix[:3, :3] @ np.array(bones[j].head) for j in joints])
    for mesh in character.meshes:
        mesh.hide_viewport = False
    array = np.array(rows)
    named = {j: array[:, i] for i, j in enumerate(joints)}
    named["pelvis"] = (named["LeftUpLeg"] + named["RightUpLeg"]) / 2
    left = named["LeftUpLeg"] - named["RightUpLeg"]
    yaw = np.arctan2(left[:, 1], left[:, 0])
    c, s, zero, one = np.cos(yaw), np.sin(yaw), np.zeros_like(yaw), np.ones_like(yaw)
    level = np.stack(
        [np.stack(r, axis=-1) for r in ((c, s, zero), (-s, c, zero), (zero, zero, one))], axis=-2
    )
    ways = np.stack([_unit(named[e] - named[b]) for b, e in LIMBS.values()], axis=1)
    return np.einsum("fij,flj->fli", level, ways)


def _leg(joints: dict[str, np.ndarray]) -> float:
    """Thigh and shank of the left leg, which bones do not change over time."""
    thigh = joints["LeftLeg"][0] - joints["LeftUpLeg"][0]
    shank = joints["LeftFoot"][0] - joints["LeftLeg"][0]
    return float(np.linalg.norm(thigh) + np.linalg.norm(shank))


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def _directions(
    ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """(F,) degrees between source and result for each limb, after one turn of the whole clip about the vertical.

    The turn is the one that fits best, in closed form. A file that is not upright is turned as a whole (W. Kabsch, 1976).
    """
    known = {n: p for n, p in LIMBS.items() if all(j in ours and j in theirs for j in p)}
    a = {n: _unit(ours[e] - ours[s]) for n, (s, e) in known.items()}
    b = {n: _unit(theirs[e] - theirs[s]) for n, (s, e) in known.items()}
    all_a, all_b = (np.concatenate(list(x.values())) for x in (a, b))
    cross = np.sum(all_b[:, 0] * all_a[:, 1] - all_b[:, 1] * all_a[:, 0])
    dot = np.sum(all_b[:, 0] * all_a[:, 0] + all_b[:, 1] * all_a[:, 1])
    angle = np.arctan2(cross, dot)
    c, s = np.cos(angle), np.sin(angle)
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])
    if np.mean(np.sum(all_a * (all_b @ turn.T), axis=1)) < np.cos(np.radians(20)):
        u, _, v = np.linalg.svd(all_a.T @ all_b)
        turn = u @ np.diag([1, 1, np.sign(np.linalg.det(u @ v))]) @ v
    cosines = {n: np.clip(np.sum(a[n] * (b[n] @ turn.T), axis=1), -1, 1) for n in known}
    return {n: np.degrees(np.arccos(x)) for n, x in cosines.items()}


def _slides(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray], fps: float) -> list[float]:
    """How far the result's foot strays along the floor in each stand of the source's foot, metres."""
    scale = _leg(theirs) / LEG
    found = []
    for side in ("Left", "Right"):
        joints = [f"{side}{b}" for b in ("ToeBase", "Foot") if f"{side}{b}" in ours]
        joint = joints[0]
        source = theirs[joint]
        near = source[:, 2] - np.percentile(source[:, 2], 2) < STAND_NEAR * scale
        step = np.linalg.norm(np.diff(source[:, :2], axis=0), axis=1) * fps < STAND_SPEED * scale
        still = near.copy()
        still[1:] &= step
        still[:-1] &= step
        least = max(3, round(0.1 * fps))
        for start, end in _stretches(still, source, STAND_DRIFT * scale):
            if end - start >= least:
                path = ours[joint][start:end, :2]
                found.append(float(np.max(np.linalg.norm(path - np.median(path, axis=0), axis=1))))
    return found


def _stretches(still: np.ndarray, path: np.ndarray, most: float) -> list[tuple[int, int]]:
    """Stretches of ``still`` (F,) in which the source's foot itself strays less than ``most``: beyond, it slides."""
    found, start = [], None
    for frame in range(len(still) + 1):
        goes_on = frame < len(still) and still[frame]
        if start is not None and (
            not goes_on or np.linalg.norm(path[frame, :2] - path[start, :2]) > most
        ):
            found.append((start, frame))
            start = None
        if goes_on and start is None:
            start = frame
    return found


def _spread(clip: Clip, count: int) -> list[int]:
    numbers = np.linspace(clip.start, clip.end, min(count, len(clip.frames)))
    return sorted({round(float(n)) for n in numbers})


def _penetration(character: Character, clip: Clip) -> float:
    deepest = 0.0
    for frame in _spread(clip, MESH_FRAMES):
        character.at_frame(frame)
        deepest = max(deepest, -float(character.skin_vertices()[:, 2].min()))
    return deepest


def _self_penetration(character: Character, clip: Clip) -> float:
    owner = np.array(character.surface.bone_names)[character.surface.vertex_bone]
    rig = character.rig
    arms = rig.matching(["LeftHand*", "RightHand*", "LeftForeArm", "RightForeArm"])
    body = rig.matching(
        ["Hips", "Spine", "Spine1", "Spine2", "LeftUpLeg", "RightUpLeg", "LeftLeg", "RightLeg"]
    )
    of_arms = np.flatnonzero(np.isin(owner, list(arms)) & (character.surface.vertex_bone >= 0))[::7]
    of_body = np.isin(owner, list(body))[character.surface.triangles].all(axis=1)
    triangles = character.surface.triangles[of_body]
    if not len(of_arms) or not len(triangles):
        return 0.0
    depths = []
    for frame in _spread(clip, BODY_FRAMES):
        character.at_frame(frame)
        points = character.vertices()
        tree = BVHTree.FromPolygons(points.tolist(), triangles.tolist())
        deepest = 0.0
        for point in points[of_arms]:
            near, normal, _, distance = tree.find_nearest(point, 0.1)
            if near is not None and (np.array(near) - point) @ np.array(normal) > 0:
                deepest = max(deepest, float(distance))
        depths.append(deepest)
    return float(np.percentile(depths, 95))


def _beyond_limits(ours: dict[str, np.ndarray]) -> float:
    beyond = np.zeros(len(ours["Hips"]), bool)
    left = _unit(ours["LeftUpLeg"] - ours["RightUpLeg"])
    for side in ("Left", "Right"):
        thigh = _unit(ours[f"{side}Leg"] - ours[f"{side}UpLeg"])
        shank = _unit(ours[f"{side}Foot"] - ours[f"{side}Leg"])
        hinge = np.cross(thigh, shank)
        bend = np.degrees(np.arcsin(np.clip(np.sum(hinge * left, axis=1), -1, 1)))
        aligned = np.abs(np.sum(_unit(hinge) * left, axis=1)) > 0.7
        beyond |= (bend < -KNEE_BACK) & aligned
        upper = _unit(ours[f"{side}ForeArm"] - ours[f"{side}Arm"])
        fore = _unit(ours[f"{side}Hand"] - ours[f"{side}ForeArm"])
        beyond |= np.degrees(np.arccos(np.clip(np.sum(upper * fore, axis=1), -1, 1))) > ELBOW_MOST
    return float(beyond.mean())


def _jerk(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> float:
    def of(joints: dict[str, np.ndarray]) -> float:
        paths = [joints[e] - joints["pelvis"] for e in ENDS]
        return float(
            np.mean([np.linalg.norm(np.diff(p, n=3, axis=0), axis=1).mean() for p in paths])
        )

    if len(ours["Hips"]) < 5:
        return 1.0
    source = of(theirs)
    return of(ours) / source if source > 1e-5 else 1.0
