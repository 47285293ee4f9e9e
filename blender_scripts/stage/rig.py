"""Read a rig: which bone plays which role, and which way the character faces."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from typing import Any

import bpy
import numpy as np

from blender_scripts.stage.errors import InputError


@dataclass(frozen=True)
class Rig:
    """A rig map laid on an armature. ``names`` maps the map's bone names to the armature's."""

    map: dict[str, Any]
    prefix: str
    names: dict[str, str]

    def has(self, bone: str) -> bool:
        """Whether the armature has ``bone`` (a name of the rig map)."""
        return bone in self.names

    def matching(self, patterns: list[str]) -> set[str]:
        """The armature's bones that fit one of the rig map's ``patterns`` (``LeftHand*``)."""
        return {
            actual
            for plain, actual in self.names.items()
            if any(fnmatch.fnmatchcase(plain, p) for p in patterns)
        }


def read_rig(name: str, armature: bpy.types.Object, rig_map: dict[str, Any]) -> Rig:
    """Find the prefix under which most required bones exist.

    Raises:
        InputError: a required bone is missing; all of them are listed.
    """
    bones = {b.name for b in armature.data.bones}
    required = rig_map["required"]
    prefixes = {b[: -len(r)] for b in bones for r in required if b.endswith(r)} | {""}
    prefix = max(sorted(prefixes), key=lambda p: (sum(p + r in bones for r in required), -len(p)))
    missing = [r for r in required if prefix + r not in bones]
    if len(missing) == len(required):
        raise InputError(
            f"{name}: not a humanoid that the rig map {rig_map['name']!r} knows: none of its bones "
            f"({', '.join(required)}) is in the file; rig it with Mixamo's auto-rigger"
        )
    if missing:
        raise InputError(
            f"{name}: the rig lacks {', '.join(missing)}, required by the rig map "
            f"{rig_map['name']!r}; rename or add these bones and export again"
        )
    plain = {b[len(prefix) :]: b for b in bones if b.startswith(prefix)}
    return Rig(map=rig_map, prefix=prefix, names=plain)


def facing(lateral_pairs: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray | None:
    """The horizontal unit vector a body faces, from its left and right joints.

    Args:
        lateral_pairs: (left, right) joint positions, world frame, z up.

    Returns:
        A vector of shape (3,), or None where the body's sideways axis is upright (lying on a side).
    """
    lateral = sum(
        (left - right) / max(np.linalg.norm(left - right), 1e-9) for left, right in lateral_pairs
    )
    lateral = np.asarray(lateral) * (1.0, 1.0, 0.0)
    length = np.linalg.norm(lateral)
    if length < 0.2:
        return None
    left = lateral / length
    return np.cross(left, (0.0, 0.0, 1.0))
