"""Read a rig: which bone plays which role, and which way the character faces."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from typing import Any

import bpy
import numpy as np

from blender_scripts.errors import InputError
from blender_scripts.formats.naming import HUMANOID, Match, best_fit

#: Bones of an own kind that hang on a humanoid's bone, and are no part of its body: told by these words in their names.
APART = (
    "hair",
    "cloth",
    "skirt",
    "cape",
    "coat",
    "dress",
    "weapon",
    "sword",
    "gun",
    "prop",
    "hat",
    "bag",
    "tail",
    "wing",
)


@dataclass(frozen=True)
class Rig:
    """A rig map laid on an armature.

    Attributes:
        map: the rig map.
        naming: which family of names the armature has (``mixamo``, ``unreal``, ``vrm``, …).
        prefix: what stands before its names.
        names: the armature's bone for each bone of the humanoid; of Mixamo's rigs, for all bones with the prefix.
        helpers: other bones that are of one body part with a bone of ``names`` (twist bones), each with that bone.
    """

    map: dict[str, Any]
    naming: str
    prefix: str
    names: dict[str, str]
    helpers: dict[str, str]

    def has(self, bone: str) -> bool:
        """Whether the armature has ``bone`` (a name of the rig map)."""
        return bone in self.names

    def matching(self, patterns: list[str]) -> set[str]:
        """The armature's bones that fit one of the rig map's ``patterns`` (``LeftHand*``), with their helpers."""
        found = {
            actual
            for plain, actual in self.names.items()
            if any(fnmatch.fnmatchcase(plain, p) for p in patterns)
        }
        return found | {helper for helper, bone in self.helpers.items() if bone in found}


def read_rig(
    name: str,
    armature: bpy.types.Object,
    rig_map: dict[str, Any],
    humanoid: dict[str, str] | None = None,
) -> Rig:
    """Find out which bone is which: by the file's own table, by Mixamo's names, or by the naming that fits best.

    Args:
        rig_map: the humanoid; its ``namings`` are those of other rigs.
        humanoid: the file's own table of bones, if it has one.

    Raises:
        InputError: a required bone is missing; all of them are listed.
    """
    bones = [b.name for b in armature.data.bones]
    required = rig_map["required"]
    if humanoid:
        known = {bone: actual for bone, actual in humanoid.items() if actual in bones}
        _complete_spine(known, armature)
        if all(r in known for r in required):
            return Rig(rig_map, "vrm", "", known, _helpers(armature, known))
    prefix, missing = _mixamo(set(bones), required)
    mixamo = 0 if missing else sum(prefix + b in bones for b in HUMANOID)
    match = best_fit(bones, rig_map.get("namings", []), required)
    if match is not None and not match.missing and len(match.bones) > mixamo:
        return Rig(
            rig_map, match.naming, match.prefix, match.bones, _helpers(armature, match.bones)
        )
    if missing:
        _refuse(name, rig_map, len(required), missing, match)
    plain = {b[len(prefix) :]: b for b in bones if b.startswith(prefix)}
    return Rig(rig_map, rig_map["name"], prefix, plain, _helpers(armature, plain))


def _mixamo(bones: set[str], required: list[str]) -> tuple[str, list[str]]:
    """The prefix under which most required bones exist, and those that do not."""
    prefixes = {b[: -len(r)] for b in bones for r in required if b.endswith(r)} | {""}
    prefix = max(sorted(prefixes), key=lambda p: (sum(p + r in bones for r in required), -len(p)))
    return prefix, [r for r in required if prefix + r not in bones]


def _refuse(
    name: str, rig_map: dict[str, Any], required: int, missing: list[str], match: Match | None
) -> None:
    naming, lacks = rig_map["name"], missing
    if match is not None and len(match.missing) < len(missing):
        naming, lacks = match.naming, match.missing
    suggest = f"posefactory rigs suggest {name} drafts a map for it"
    if len(lacks) == required:
        raise InputError(
            f"{name}: not a humanoid that any rig map knows: none of the required bones "
            f"({', '.join(rig_map['required'])}) is in the file under any known name; {suggest}, or rig it with Mixamo's auto-rigger"
        )
    raise InputError(
        f"{name}: the rig lacks {', '.join(lacks)}, required by the rig map {naming!r}, which fits best; rename or add these "
        f"bones and export again, or {suggest}"
    )


def _complete_spine(known: dict[str, str], armature: bpy.types.Object) -> None:
    """A neck is optional in VRM's table: the last bone before the head stands for it."""
    if "Head" in known and "Neck" not in known:
        parent = armature.data.bones[known["Head"]].parent
        if parent is not None and parent.name not in known.values():
            known["Neck"] = parent.name


def _helpers(armature: bpy.types.Object, names: dict[str, str]) -> dict[str, str]:
    mapped = set(names.values())
    found: dict[str, str] = {}
    for bone in armature.data.bones:  # parents come before their children
        parent = bone.parent.name if bone.parent is not None else None
        if bone.name in mapped or parent is None or any(w in bone.name.lower() for w in APART):
            continue
        if parent in mapped:
            found[bone.name] = parent
        elif parent in found:
            found[bone.name] = found[parent]
    return found


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
