"""Skeletons as arrays, for tests without Blender."""

from __future__ import annotations

import numpy as np

from blender_scripts.stage.skeleton import Skeleton

PARENTS = {
    "Hips": "", "Spine": "Hips", "Spine1": "Spine", "Spine2": "Spine1", "Neck": "Spine2", "Head": "Neck",
    **{f"{s}{b}": f"{s}{p}" if p not in ("Spine2", "Hips") else p for s in ("Left", "Right")
       for b, p in (("Shoulder", "Spine2"), ("Arm", "Shoulder"), ("ForeArm", "Arm"), ("Hand", "ForeArm"),
                    ("UpLeg", "Hips"), ("Leg", "UpLeg"), ("Foot", "Leg"), ("ToeBase", "Foot"))},
}  # fmt: skip


def person(
    arms_down: float, legs: float = 1.0, turned: np.ndarray | None = None, shoulders: float = 1.0
) -> Skeleton:
    """Somebody who stands on z = 0 and faces -y.

    Args:
        arms_down: how far below level the arms are held in the rest pose, degrees. legs: a factor of the legs' length.
        turned: a rotation (3, 3) of all of it. shoulders: a factor of their width.
    """
    down = np.radians(arms_down)
    hip = 0.08 + 0.85 * legs
    place = {
        "Hips": (0, 0, hip + 0.04), "Spine": (0, 0, hip + 0.12), "Spine1": (0, 0, hip + 0.25), "Spine2": (0, 0, hip + 0.37),
        "Neck": (0, 0, hip + 0.53), "Head": (0, 0, hip + 0.62),
    }  # fmt: skip
    for side, x in (("Left", 1), ("Right", -1)):
        place |= {
            f"{side}{b}": (
                x * (0.18 * shoulders + d * np.cos(down)),
                0,
                hip + 0.49 - d * np.sin(down),
            )
            for b, d in (("Arm", 0), ("ForeArm", 0.29), ("Hand", 0.55))
        }
        place |= {
            f"{side}Shoulder": (x * 0.04, 0, hip + 0.49), f"{side}UpLeg": (x * 0.09, 0, hip),
            f"{side}Leg": (x * 0.09, -0.004, 0.08 + 0.42 * legs), f"{side}Foot": (x * 0.09, 0, 0.08),
            f"{side}ToeBase": (x * 0.09, -0.13, 0.02),
        }  # fmt: skip
    names = list(PARENTS)
    index = {n: i for i, n in enumerate(names)}
    matrix = np.eye(3) if turned is None else turned
    heads = np.array([place[n] for n in names], float) @ matrix.T
    parents = np.array([index.get(PARENTS[n], -1) for n in names])
    return Skeleton(index, parents, np.repeat(matrix[None], len(names), 0), heads)
