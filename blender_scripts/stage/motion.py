"""Cast the motion of one file on the skin of another whose bones have the same names."""

from __future__ import annotations

from typing import Any

import bpy
import mathutils
import numpy as np

from blender_scripts.stage import fbx
from blender_scripts.stage.character import Character, action_moves
from blender_scripts.stage.errors import InputError
from blender_scripts.stage.rig import Rig, read_rig

#: Where a child bone sits, seen from its parent, may differ by so much between skin and motion.
#: Beyond it the two rigs' bone axes differ, and copied rotations would bend the limbs wrongly.
MAX_AXIS_DIFFERENCE_DEGREES = 25.0


def cast(character: Character, path: str, name: str) -> None:
    """Give ``character`` the motion in the file ``path``, as one action with a key on each frame.

    Rotations are copied relative to the parent bone, as Mixamo's rigs share their bone axes; bones
    that only one side has keep their rest pose. The travel of the hips is scaled by leg length.

    Raises:
        InputError: the file is no motion, has a skin of its own, or its rig does not fit.
    """
    imported = fbx.load(path)
    rig = read_rig(name, imported.armature, character.rig.map)
    if imported.meshes:
        raise InputError(
            f"{name}: has a skin of its own, and a cast takes the skin of {character.name}; "
            "name a motion (an FBX exported without skin)"
        )
    if not action_moves(imported.action):
        raise InputError(f"{name}: holds no motion to cast")
    if character.imported.action is not None:
        character.armature.animation_data.action = None
    source, target = imported.armature, character.armature
    shared = _shared_bones(source, rig, target, character.rig)
    _check_axes(name, source, target, shared, character.rig)

    start, end = (round(f) for f in imported.action.frame_range)
    ratio = _leg_length(target, character.rig) * character.scale_applied * character.scale_found
    source_unit = float(np.mean(np.abs(source.matrix_world.to_scale())))
    ratio /= _leg_length(source, rig) * source_unit
    scene = bpy.context.scene
    target.animation_data_create()
    action = bpy.data.actions.new(f"cast {name}")
    target.animation_data.action = action
    target.data.pose_position = "POSE"
    hips = rig.names[rig.map["hips"]]
    target_hips = target.pose.bones[character.rig.names[rig.map["hips"]]]
    target_rest = target_hips.bone.matrix_local
    # Root motion: metres from the stage's origin, in the target armature's own frame.
    into_target = (target.matrix_world.inverted() @ character.root.matrix_world).to_3x3()
    source_world = source.matrix_world.copy()
    stage = character.root.matrix_world.copy()
    for bone in target.pose.bones:
        bone.rotation_mode = "QUATERNION"
    for frame in range(start, end + 1):
        scene.frame_set(frame)
        for source_name, target_name in shared:
            bone = target.pose.bones[target_name]
            parent_relative = _parent_relative(source.pose.bones[source_name])
            rest = _rest_relative(bone.bone)
            bone.rotation_quaternion = (rest.inverted() @ parent_relative).to_quaternion()
            bone.keyframe_insert("rotation_quaternion", frame=frame)
        position = source_world @ source.pose.bones[hips].head  # metres, if the file is in metres
        wanted = stage.to_3x3().inverted() @ (position * ratio)
        armature_space = into_target @ wanted
        offset = armature_space - target_rest.translation
        target_hips.location = target_rest.to_3x3().inverted() @ offset
        target_hips.keyframe_insert("location", frame=frame)
    character.imported.action = action
    character.imported.fps = imported.fps
    bpy.data.objects.remove(source, do_unlink=True)


def _shared_bones(
    source: bpy.types.Object, source_rig: Rig, target: bpy.types.Object, target_rig: Rig
) -> list[tuple[str, str]]:
    plain = {actual: name for name, actual in target_rig.names.items()}
    return [
        (source_rig.names[plain[b.name]], b.name)
        for b in target.data.bones
        if b.name in plain and plain[b.name] in source_rig.names
    ]


def _check_axes(
    name: str,
    source: bpy.types.Object,
    target: bpy.types.Object,
    shared: list[tuple[str, str]],
    rig: Rig,
) -> None:
    to_source = {t: s for s, t in shared}
    limbs = [rig.names[b] for limb in (*rig.map["legs"], *rig.map["arms"]) for b in limb[1:]]
    for target_name in limbs:
        source_name = to_source[target_name]
        bone, source_bone = target.data.bones[target_name], source.data.bones[source_name]
        if source_bone.parent is None or to_source.get(bone.parent.name) != source_bone.parent.name:
            raise InputError(f"{name}: {source_name} hangs on another bone than in the skin's rig")
        here = bone.parent.matrix_local.inverted() @ bone.head_local
        there = source_bone.parent.matrix_local.inverted() @ source_bone.head_local
        difference = np.degrees(here.angle(there, 0.0))
        if difference > MAX_AXIS_DIFFERENCE_DEGREES:
            raise InputError(
                f"{name}: the bone axes of {source_name} differ by {difference:.0f} degrees from the "
                "skin's; the two rigs have the same names but not the same axes, so the motion "
                "cannot be copied. Download skin and motion for the same Mixamo character"
            )


def _parent_relative(bone: bpy.types.PoseBone) -> mathutils.Matrix:
    matrix = bone.matrix.to_3x3().normalized()
    if bone.parent is None:
        return matrix
    return bone.parent.matrix.to_3x3().normalized().inverted() @ matrix


def _rest_relative(bone: bpy.types.Bone) -> mathutils.Matrix:
    matrix = bone.matrix_local.to_3x3().normalized()
    if bone.parent is None:
        return matrix
    return bone.parent.matrix_local.to_3x3().normalized().inverted() @ matrix


def _leg_length(armature: bpy.types.Object, rig: Rig) -> float:
    """Mean length of thigh plus shank, in the armature's own units."""
    bones: Any = armature.data.bones
    lengths = []
    for leg in rig.map["legs"]:
        joints = [bones[rig.names[b]].head_local for b in leg]
        lengths.append(sum((b - a).length for a, b in zip(joints, joints[1:], strict=False)))
    return float(np.mean(lengths))
