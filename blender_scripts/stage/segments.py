"""Which part of a body a surface belongs to, for images of parts and for the numbers of bones in the truth."""

from __future__ import annotations

from collections.abc import Sequence

import bpy
import numpy as np

from blender_scripts.contract import BODY_PARTS
from blender_scripts.stage.character import Character

#: The humanoid's bone at which each part begins; bones below it belong to the part as long as no other part begins there.
_BEGINS = {
    "Hips": "torso", "Spine": "torso", "Neck": "head", "Head": "head", "LeftShoulder": "torso", "RightShoulder": "torso",
    "LeftArm": "left_upper_arm", "LeftForeArm": "left_lower_arm", "LeftHand": "left_hand",
    "RightArm": "right_upper_arm", "RightForeArm": "right_lower_arm", "RightHand": "right_hand",
    "LeftUpLeg": "left_upper_leg", "LeftLeg": "left_lower_leg", "LeftFoot": "left_foot",
    "RightUpLeg": "right_upper_leg", "RightLeg": "right_lower_leg", "RightFoot": "right_foot",
}  # fmt: skip


def bone_names(people: Sequence[Character]) -> list[str]:
    """The names of all bones of some people, each once."""
    return list(dict.fromkeys(n for c in people for n in c.surface.bone_names))


def bone_numbers(people: Sequence[Character]) -> list[np.ndarray]:
    """For each person (B + 2,) where its bones are among ``bone_names``; the last two stand for themselves, as -1 and -2 do."""
    place = {n: i for i, n in enumerate(bone_names(people))}
    return [np.array([place[n] for n in c.surface.bone_names] + [-2, -1], np.int16) for c in people]


def part_of_bones(character: Character) -> np.ndarray:
    """(B,) the number in ``BODY_PARTS`` that each bone of an armature belongs to; bones above the hips are torso."""
    begins = {character.rig.names[b]: p for b, p in _BEGINS.items() if b in character.rig.names}
    found: dict[str, str] = {}
    for bone in character.armature.data.bones:  # parents come before their children
        above = found[bone.parent.name] if bone.parent is not None else "torso"
        found[bone.name] = begins.get(bone.name, above)
    return np.array([BODY_PARTS.index(found[n]) for n in character.surface.bone_names])


class Parts:
    """Gives each part of each mesh a material of its own, a copy of what it had, so that a picture can tell them apart.

    Attributes:
        materials: which part each of these materials is, by name.
    """

    def __init__(self, people: Sequence[Character]) -> None:
        self.materials: dict[str, int] = {}
        for character in people:
            parts = part_of_bones(character)
            for mesh in character.meshes:
                self._split(mesh, parts, character.surface.polygon_bone[mesh.name])

    def _split(self, mesh: bpy.types.Object, parts: np.ndarray, owners: np.ndarray) -> None:
        data = mesh.data
        if not data.materials:
            data.materials.append(bpy.data.materials.new(mesh.name))
        if data.users > 1:
            data = mesh.data = data.copy()
        slots = np.empty(len(data.polygons), np.int32)
        data.polygons.foreach_get("material_index", slots)
        slots = np.minimum(slots, len(data.materials) - 1)
        mine = np.where(owners >= 0, parts[owners], BODY_PARTS.index("torso"))
        originals = [s.material or bpy.data.materials.new(mesh.name) for s in mesh.material_slots]
        wanted, numbers = np.unique(np.stack([slots, mine], axis=1), axis=0, return_inverse=True)
        data.materials.clear()
        for slot, part in wanted.tolist():
            copied = originals[slot].copy()
            self.materials[copied.name] = part
            data.materials.append(copied)
        data.polygons.foreach_set("material_index", numbers.astype(np.int32).ravel())
        data.update()
