"""A person of joints and lengths, posed by where pelvis, feet and hands are; written as BVH.

World frame: metres, z up, facing -y, the left side at +x. T frames. Angles in degrees. Lengths are those of a man of 1.75 m (D. A.
Winter, Biomechanics and Motor Control of Human Movement, 4th edition, 2009, figure 4.1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

FPS = 30
X, Y, Z = np.eye(3)
FORWARD = -Y
SIDES = {"Left": 1.0, "Right": -1.0}
THIGH, SHANK, ANKLE = 0.43, 0.42, 0.08
UPPER_ARM, FOREARM = 0.29, 0.26
HIP_WIDTH, SHOULDER_WIDTH = 0.09, 0.18
#: From the ankle, in the frame of a foot that stands: the heel's end, and the joint of the toes.
HEEL, TOES = np.array([0.0, 0.05, -ANKLE]), np.array([0.0, -0.135, -ANKLE + 0.02])
#: The ball of the foot on the floor under the toes' joint, about which a heel rises.
BALL = TOES - 0.02 * Z
#: The hip joints of somebody who stands, knees bent by 8 degrees.
STANDING = THIGH + SHANK + ANKLE - 0.002

#: Joint: (parent, offset from it in the T-pose).
JOINTS: dict[str, tuple[str, np.ndarray]] = {
    "Hips": ("", np.array([0, 0, THIGH + SHANK + ANKLE])),
    "Spine": ("Hips", np.array([0, 0, 0.10])),
    "Spine1": ("Spine", np.array([0, 0, 0.12])),
    "Spine2": ("Spine1", np.array([0, 0, 0.13])),
    "Neck": ("Spine2", np.array([0, 0, 0.16])),
    "Head": ("Neck", np.array([0, 0, 0.10])),
}
for _side, _x in SIDES.items():
    JOINTS |= {
        f"{_side}Shoulder": ("Spine2", np.array([0.03 * _x, 0, 0.12])),
        f"{_side}Arm": (f"{_side}Shoulder", np.array([(SHOULDER_WIDTH - 0.03) * _x, 0, 0])),
        f"{_side}ForeArm": (f"{_side}Arm", np.array([UPPER_ARM * _x, 0, 0])),
        f"{_side}Hand": (f"{_side}ForeArm", np.array([FOREARM * _x, 0, 0])),
        f"{_side}UpLeg": ("Hips", np.array([HIP_WIDTH * _x, 0, 0])),
        f"{_side}Leg": (f"{_side}UpLeg", np.array([0, 0, -THIGH])),
        f"{_side}Foot": (f"{_side}Leg", np.array([0, 0, -SHANK])),
        f"{_side}ToeBase": (f"{_side}Foot", TOES),
    }
#: Where bones without a next joint end, for files and pictures.
ENDS = {
    "Head": np.array([0, 0, 0.18]),
    **{f"{s}Hand": np.array([0.17 * x, 0, 0]) for s, x in SIDES.items()},
    **{f"{s}ToeBase": np.array([0, -0.07, 0]) for s in SIDES},
}


@dataclass
class Foot:
    """A foot over time: ``ankle`` (T, 3); ``pitch`` (T,) toes up; ``yaw`` (T,) toes to the left; ``toes`` (T,) bent up."""

    ankle: np.ndarray
    pitch: np.ndarray
    yaw: np.ndarray
    toes: np.ndarray


@dataclass
class Hand:
    """A hand over time: ``wrist`` (T, 3) in the world, and ``elbow`` (T, 3), the direction to which the elbow points.

    ``roll`` (T,) turns the hand about the forearm, degrees of pronation: of an arm that hangs, from palm to the thigh to palm backwards.
    """

    wrist: np.ndarray
    elbow: np.ndarray
    roll: np.ndarray


@dataclass
class Act:
    """What a person does, frame by frame.

    ``pelvis`` (T, 3): the middle of the hip joints; ``turn`` (T, 3): of the pelvis, as (bend forward, lean to the left, yaw to the
    left); ``back`` (T, 3): the same of the chest towards the pelvis; ``head`` (T, 3): of the head towards the chest.
    """

    pelvis: np.ndarray
    turn: np.ndarray
    back: np.ndarray
    head: np.ndarray
    feet: Mapping[str, Foot]
    hands: Mapping[str, Hand]
    shrug: Mapping[str, np.ndarray] = field(default_factory=dict)


def about(axis: np.ndarray, degrees: np.ndarray | float) -> np.ndarray:
    """Rotations (T, 3, 3) about a unit axis."""
    angle = np.radians(np.atleast_1d(np.asarray(degrees, float)))
    k = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    sine, cosine = np.sin(angle)[:, None, None], np.cos(angle)[:, None, None]
    return np.eye(3) + sine * k + (1 - cosine) * (k @ k)


def turned(angles: np.ndarray) -> np.ndarray:
    """Rotations (T, 3, 3) of (bend forward, lean to the left, yaw to the left), yaw outermost."""
    return about(Z, angles[:, 2]) @ about(Y, angles[:, 1]) @ about(X, angles[:, 0])


def pose(act: Act) -> dict[str, np.ndarray]:
    """World rotations (T, 3, 3) of all joints from the T-pose, with ``pelvis`` untouched; arms and legs reach as far as they can."""
    count = len(act.pelvis)
    turns = {"Hips": turned(act.turn)}
    for index, bone in enumerate(("Spine", "Spine1", "Spine2"), 1):
        turns[bone] = turns["Hips"] @ turned(act.back * index / 3)
    turns["Neck"] = turns["Spine2"] @ turned(act.head * 0.4)
    turns["Head"] = turns["Spine2"] @ turned(act.head)
    heads = {"Hips": act.pelvis}
    for bone in ("Spine", "Spine1", "Spine2"):
        parent, offset = JOINTS[bone]
        heads[bone] = heads[parent] + turns[parent] @ offset
    for side, x in SIDES.items():
        foot, hand = act.feet[side], act.hands[side]
        sole = about(Z, foot.yaw) @ about(X, -foot.pitch)
        hip = act.pelvis + turns["Hips"] @ JOINTS[f"{side}UpLeg"][1]
        ahead = about(Z, foot.yaw) @ FORWARD * 0.6 + turns["Hips"] @ FORWARD * 0.4
        upper, lower = _two_bones(hip, foot.ankle, THIGH, SHANK, ahead, -Z, X)
        turns |= {f"{side}UpLeg": upper, f"{side}Leg": lower, f"{side}Foot": sole}
        turns[f"{side}ToeBase"] = sole @ about(X, -foot.toes)
        lift = act.shrug.get(side, np.zeros(count))
        turns[f"{side}Shoulder"] = turns["Spine2"] @ about(Y, -x * lift)
        shoulder = heads["Spine2"] + turns["Spine2"] @ JOINTS[f"{side}Shoulder"][1]
        shoulder = shoulder + turns[f"{side}Shoulder"] @ JOINTS[f"{side}Arm"][1]
        # The elbow points away from where the forearm folds to.
        upper, lower = _two_bones(
            shoulder, hand.wrist, UPPER_ARM, FOREARM, hand.elbow, x * X, -x * Z
        )
        turns |= {f"{side}Arm": upper, f"{side}ForeArm": lower}
        turns[f"{side}Hand"] = lower @ about(X, hand.roll)
    return turns


def _two_bones(
    start: np.ndarray,
    end: np.ndarray,
    a: float,
    b: float,
    pole: np.ndarray,
    rest: np.ndarray,
    hinge: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """World rotations of two bones from ``start`` to ``end`` (T, 3), whose middle joint points to ``pole`` (T, 3).

    Args:
        rest: direction of both in the T-pose. hinge: about which the second turns there when it bends.
    """
    to = end - start
    distance = np.linalg.norm(to, axis=1)
    to = to / np.maximum(distance, 1e-9)[:, None]
    reach = np.clip(distance, abs(a - b) + 0.01, 0.999 * (a + b))
    pole = pole - np.sum(pole * to, axis=1)[:, None] * to
    pole = pole / np.maximum(np.linalg.norm(pole, axis=1), 1e-9)[:, None]
    cosine = np.clip((a * a + reach**2 - b * b) / (2 * a * reach), -1, 1)
    first = cosine[:, None] * to + np.sqrt(1 - cosine**2)[:, None] * pole
    second = (reach[:, None] * to - a * first) / b
    axis = np.cross(pole, to)
    axis = axis / np.maximum(np.linalg.norm(axis, axis=1), 1e-9)[:, None]
    still = np.stack([rest, hinge, np.cross(rest, hinge)], axis=1)

    def frame(way: np.ndarray) -> np.ndarray:
        return np.stack([way, axis, np.cross(way, axis)], axis=-1) @ still.T

    return frame(first), frame(second)


def write(path: Path, act: Act) -> None:
    """A BVH file: y up, facing +z, centimetres; channels Z, X, Y as most readers expect."""
    turns, lines = pose(act), []
    order: list[str] = []

    def joint(name: str, depth: int) -> None:
        pad = "\t" * depth
        parent, offset = JOINTS[name]
        head = f"{pad}ROOT {name}" if not parent else f"{pad}JOINT {name}"
        channels = (
            "6 Xposition Yposition Zposition Zrotation Xrotation Yrotation"
            if not parent
            else "3 Zrotation Xrotation Yrotation"
        )
        lines.extend(
            [
                head,
                f"{pad}{{",
                f"{pad}\tOFFSET {_text(_y_up(offset) * 100)}",
                f"{pad}\tCHANNELS {channels}",
            ]
        )
        order.append(name)
        children = [n for n, (p, _) in JOINTS.items() if p == name]
        for child in children:
            joint(child, depth + 1)
        if not children:
            lines.extend(
                [
                    f"{pad}\tEnd Site",
                    f"{pad}\t{{",
                    f"{pad}\t\tOFFSET {_text(_y_up(ENDS[name]) * 100)}",
                    f"{pad}\t}}",
                ]
            )
        lines.append(f"{pad}}}")

    joint("Hips", 0)
    swap = np.array([X, Z, -Y])  # z up, facing -y, to y up, facing +z
    columns = [_y_up(act.pelvis) * 100]
    for name in order:
        parent = JOINTS[name][0]
        local = turns[name] if not parent else np.swapaxes(turns[parent], 1, 2) @ turns[name]
        columns.append(_zxy(swap @ local @ swap.T))
    values = np.hstack(columns)
    lines = ["HIERARCHY", *lines, "MOTION", f"Frames: {len(values)}", f"Frame Time: {1 / FPS:.7f}"]
    lines += [" ".join(f"{v:.2f}" for v in row) for row in values]
    path.write_text("\n".join(lines) + "\n", "utf-8")


def _y_up(points: np.ndarray) -> np.ndarray:
    return np.stack([points[..., 0], points[..., 2], -points[..., 1]], axis=-1)


def _text(values: Sequence[float] | np.ndarray) -> str:
    return " ".join(f"{v:.4f}" for v in values)


def _zxy(turn: np.ndarray) -> np.ndarray:
    """(T, 3) degrees z, x, y of R = Rz Rx Ry, unwrapped over time."""
    x = np.arcsin(np.clip(turn[:, 2, 1], -1, 1))
    z = np.arctan2(-turn[:, 0, 1], turn[:, 1, 1])
    y = np.arctan2(-turn[:, 2, 0], turn[:, 2, 2])
    return np.degrees(np.stack([np.unwrap(z), x, np.unwrap(y)], axis=1))
