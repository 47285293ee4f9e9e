"""What a motion is: how long, how far, which foot stands when, and what kind of thing is done.

No bpy. Lengths are metres of a person whose legs (thigh and shank) are 0.85 m long, whatever units the file has.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from blender_scripts.formats.naming import SIDES
from blender_scripts.stage.rest_pose import floor_of, heading, standing_rest, turned_to
from blender_scripts.stage.retarget import stands_of
from blender_scripts.stage.skeleton import UP, Motion, Skeleton, runs, speed

LEG = 0.85
#: A tag is given where it holds for so large a share of the frames.
TAG_SHARE = 0.25
#: A foot is in the air above this, metres; a person lies whose trunk leans farther than this from the vertical, degrees.
AIR, LYING_DEGREES = 0.10, 60.0
#: A person sits whose pelvis is lower than this share of a leg over the ankles, with the trunk upright.
SITTING = 0.72
#: A clip loops whose first and last pose differ by less than this, degrees; a clip of less variation is a still.
LOOP_DEGREES, STILL_DEGREES = 4.0, 1.0
#: The pelvis of somebody who sits moves slower than this, metres a second.
SEATED_SPEED = 0.15


@dataclass(frozen=True)
class MotionDescription:
    """A clip in numbers.

    Attributes:
        feet: (F, 2) height of the left and the right foot over the floor, metres.
        stands: (F, 2) whether each stands.
        segments: for pictures: (F', bones, 2, 3) ends of bones, metres, z up, floor at 0. sides: (bones,) 1 left, -1 right.
        facts: plain values; see ``MotionFacts`` of the room that reads them.
    """

    feet: np.ndarray
    stands: np.ndarray
    segments: np.ndarray
    sides: np.ndarray
    facts: dict[str, object]


def describe(source: Skeleton, motion: Motion, pictures: int) -> MotionDescription:
    """Measure a clip.

    Args:
        pictures: how many frames ``segments`` has.
    """
    source, motion = turned_to(source, motion, heading(-1.0))
    source, motion = standing_rest(source, motion)
    scale = LEG / source.leg_length()
    floor = floor_of(source, motion)
    heads = (motion.heads - floor * UP) * scale
    stands = np.stack([stands_of(source, motion, s, floor) for s in SIDES], axis=1)
    feet = np.stack([_foot_height(source, heads, s) for s in SIDES], axis=1)
    pelvis = (heads[:, source.bones["LeftUpLeg"]] + heads[:, source.bones["RightUpLeg"]]) / 2
    path = float(np.linalg.norm(np.diff(pelvis[:, :2], axis=0), axis=1).sum())
    seconds = max(len(heads) - 1, 0) / motion.fps
    facts: dict[str, object] = {
        "seconds": round(seconds, 3),
        "travel_m": round(float(np.linalg.norm(pelvis[-1, :2] - pelvis[0, :2])), 3),
        "path_m": round(path, 3),
        "speed_m_s": round(path / seconds, 3) if seconds else 0.0,
        "loops": _loops(source, motion),
        "contacts": {
            side.lower(): [list(r) for r in runs(stands[:, i])] for i, side in enumerate(SIDES)
        },
        "derived_tags": _tags(source, heads, pelvis, feet, stands, motion.fps),
    }
    chosen = np.linspace(0, len(heads) - 1, min(pictures, len(heads))).round().astype(int)
    limbs = [
        (name, index, _mapped_parent(source, index))
        for name, index in source.bones.items()
        if "Hand" not in name[:-4]
    ]
    limbs = [limb for limb in limbs if limb[2] >= 0]
    segments = np.array([[[heads[f, p], heads[f, i]] for _, i, p in limbs] for f in chosen])
    sides = np.array([name.startswith("Left") - name.startswith("Right") for name, _, _ in limbs])
    return MotionDescription(feet, stands, segments, sides, facts)


def _mapped_parent(source: Skeleton, index: int) -> int:
    """The next bone of the humanoid above a bone; -1 for the hips."""
    known = set(source.bones.values())
    parent = int(source.parents[index])
    while parent >= 0 and parent not in known:
        parent = int(source.parents[parent])
    return parent


def _foot_height(source: Skeleton, heads: np.ndarray, side: str) -> np.ndarray:
    joints = [f"{side}{b}" for b in ("Foot", "ToeBase") if source.has(f"{side}{b}")]
    return heads[:, [source.bones[j] for j in joints], 2].min(axis=1)


def _loops(source: Skeleton, motion: Motion) -> bool:
    """Whether the last pose goes on in the first: all limbs within some degrees, in a clip that moves."""
    limbs = [source.bones[b] for b in source.bones if "Hand" not in b]

    def apart(a: int, b: int) -> float:
        turn = np.swapaxes(motion.rotations[a, limbs], -1, -2) @ motion.rotations[b, limbs]
        cosines = (np.trace(turn, axis1=-2, axis2=-1) - 1) / 2
        return float(np.degrees(np.arccos(np.clip(cosines, -1, 1))).mean())

    count = len(motion.rotations)
    if count < 5:
        return False
    most = max(apart(0, f) for f in range(0, count, max(count // 16, 1)))
    return most > STILL_DEGREES and apart(0, count - 1) < min(LOOP_DEGREES, most / 2)


def _tags(
    source: Skeleton,
    heads: np.ndarray,
    pelvis: np.ndarray,
    feet: np.ndarray,
    stands: np.ndarray,
    fps: float,
) -> list[str]:
    trunk = heads[:, source.bones["Neck"]] - pelvis
    lean = np.degrees(
        np.arccos(np.clip(trunk[:, 2] / np.maximum(np.linalg.norm(trunk, axis=1), 1e-9), -1, 1))
    )
    ankles = np.stack([heads[:, source.bones[f"{s}Foot"]] for s in SIDES], axis=1)
    low = (pelvis[:, 2] - ankles[:, :, 2].min(axis=1)) < SITTING * LEG
    lying = (lean > LYING_DEGREES) & (pelvis[:, 2] < 0.6 * LEG)
    airborne = (feet > AIR).all(axis=1) & ~low & ~lying
    swing = (ankles[:, 0] - ankles[:, 1])[:, :2]
    # Who squats passes through the pose of somebody who sits; who sits stays there.
    still = speed(pelvis, fps) < SEATED_SPEED
    sitting = low & still & (lean < 45) & ~lying & _thighs_level(source, heads)
    down = stands.any(axis=1).mean() >= 1 - TAG_SHARE
    found = {
        "lying": lying.mean() >= TAG_SHARE,
        "sitting": sitting.mean() >= TAG_SHARE,
        "airborne": airborne.mean() >= 0.1,
    }
    settled = found["lying"] or found["sitting"]
    found["walking"] = not settled and _walks(swing, feet, fps)
    found["standing"] = down and not settled and not found["walking"]
    return [tag for tag, holds in found.items() if holds]


def _thighs_level(source: Skeleton, heads: np.ndarray) -> np.ndarray:
    """(F,) whether both thighs are nearer to level than to upright: a bent knee under an upright thigh kneels or crouches."""
    level = np.ones(len(heads), bool)
    for side in SIDES:
        thigh = heads[:, source.bones[f"{side}Leg"]] - heads[:, source.bones[f"{side}UpLeg"]]
        level &= np.abs(thigh[:, 2]) < 0.75 * np.linalg.norm(thigh, axis=1)
    return level


def _walks(swing: np.ndarray, feet: np.ndarray, fps: float) -> bool:
    """Whether feet take turns: each is lifted while the other is down, and they pass each other along one direction."""
    if len(swing) < 8:
        return False
    centred = swing - swing.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    along = centred @ axes[0]
    passes = int(np.sum(np.diff(np.sign(along)) != 0))
    stride = float(np.ptp(along))
    lifted = feet > feet.min(axis=0) + 0.03
    turns = (lifted[:, 0] & ~lifted[:, 1]).mean() > 0.1 and (
        lifted[:, 1] & ~lifted[:, 0]
    ).mean() > 0.1
    quick = float(np.median(speed(swing, fps))) > 0.5
    return passes >= 2 and stride > 0.5 and turns and quick
