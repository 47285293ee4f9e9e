"""Cast the motion of one file on the skin of another whose bones have the same names."""

from __future__ import annotations

import dataclasses

import bpy
import mathutils
import numpy as np

from blender_scripts.stage import fbx
from blender_scripts.stage.character import Character
from blender_scripts.stage.errors import InputError
from blender_scripts.stage.rig import Rig, read_rig

#: A limb of the motion's rest pose may point so far from the skin's. Both are T-poses then; beyond it
#: (an A-pose, or an importer that took the first frame for rest) copied rotations would miss.
MAX_REST_DIFFERENCE_DEGREES = 35.0


def cast(character: Character, path: str, name: str, take: str | None = None) -> None:
    """Give ``character`` the motion in the file ``path``, as one action with a key on each frame.

    A file that holds a pose and no motion is cast as that pose. ``take`` is as in ``fbx.load``.

    Each bone turns from its rest pose as the motion's bone does, in world axes, so the two rigs may
    have different bone axes (Mixamo itself uses two kinds). Bones that only one side has keep their
    rest pose towards their parent. The travel of the hips is scaled by leg length.

    Raises:
        InputError: the file is no motion, has a skin of its own, or its rest pose does not fit.
    """
    imported = fbx.load(path, character.rig.map, name, take)
    rig = read_rig(name, imported.armature, character.rig.map)
    if imported.meshes:
        raise InputError(
            f"{name}: has a skin of its own, and a cast takes the skin of {character.name}; "
            "name a motion (an FBX exported without skin)"
        )
    if imported.take is None:
        raise InputError(f"{name}: holds neither a motion nor a pose to cast")
    if character.armature.animation_data is not None:
        character.armature.animation_data.action = None
    source, target = imported.armature, character.armature
    shared = _shared_bones(source, rig, target, character.rig)
    _check_rest(name, source, rig, target, character.rig)

    # The skin keeps still meanwhile: only the source is asked for its pose.
    target.data.pose_position = "REST"
    source_rest = {b.name: _world_rotation(source, b.matrix_local) for b in source.data.bones}
    target_rest = {b.name: _world_rotation(target, b.matrix_local) for b in target.data.bones}
    ratio = _leg_length(target, character.rig) / _leg_length(source, rig)
    source_hips = source.pose.bones[rig.names[rig.map["hips"]]]
    hips = target.data.bones[character.rig.names[rig.map["hips"]]]
    hips_axes = hips.matrix_local.to_3x3().inverted()
    frames = range(imported.take.start, imported.take.end + 1)
    rotations = {name: np.empty((len(frames), 4)) for name in shared}
    locations = np.empty((len(frames), 3))
    for i, frame in enumerate(frames):
        bpy.context.scene.frame_set(frame)
        turned: dict[str, mathutils.Matrix] = {}
        for bone in target.data.bones:  # parents come before their children
            rest, parent = target_rest[bone.name], bone.parent
            towards_parent = target_rest[parent.name].inverted() @ rest if parent else rest
            still = turned[parent.name] @ towards_parent if parent else rest
            if bone.name not in shared:
                turned[bone.name] = still
                continue
            pose = source.pose.bones[shared[bone.name]]
            turn = _world_rotation(source, pose.matrix) @ source_rest[pose.name].inverted()
            turned[bone.name] = turn @ rest
            rotations[bone.name][i] = (still.inverted() @ turned[bone.name]).to_quaternion()
        position = (source.matrix_world @ source_hips.head) * ratio
        offset = target.matrix_world.inverted() @ position - hips.head_local
        locations[i] = hips_axes @ offset

    target.animation_data_create()
    action = bpy.data.actions.new(f"cast {name}")
    target.animation_data.action = action
    for bone in target.pose.bones:
        bone.rotation_mode = "QUATERNION"
    for bone_name, values in rotations.items():
        path_to = target.pose.bones[bone_name].path_from_id
        _key(action, target, path_to("rotation_quaternion"), frames, values)
    path_to = target.pose.bones[hips.name].path_from_id
    _key(action, target, path_to("location"), frames, locations)
    target.data.pose_position = "POSE"
    slot = target.animation_data.action_slot
    character.imported.take = dataclasses.replace(imported.take, action=action, slot=slot)
    character.imported.fps = imported.fps
    bpy.data.objects.remove(source, do_unlink=True)


def _key(
    action: bpy.types.Action,
    target: bpy.types.Object,
    data_path: str,
    frames: range,
    values: np.ndarray,
) -> None:
    """Key all frames at once (one by one, a cast took seven times as long); ``values`` (frames, axes)."""
    for axis in range(values.shape[1]):
        curve = action.fcurve_ensure_for_datablock(target, data_path, index=axis)
        curve.keyframe_points.add(len(frames))
        points = np.column_stack([frames, values[:, axis]])
        curve.keyframe_points.foreach_set("co", points.ravel())
        curve.update()


def _shared_bones(
    source: bpy.types.Object, source_rig: Rig, target: bpy.types.Object, target_rig: Rig
) -> dict[str, str]:
    """The target's bones that the source has too, each with the source's name for it."""
    plain = {actual: name for name, actual in target_rig.names.items()}
    return {
        b.name: source_rig.names[plain[b.name]]
        for b in target.data.bones
        if b.name in plain and plain[b.name] in source_rig.names
    }


def _check_rest(
    name: str, source: bpy.types.Object, source_rig: Rig, target: bpy.types.Object, target_rig: Rig
) -> None:
    for limb in (*target_rig.map["legs"], *target_rig.map["arms"]):
        for start, end in zip(limb, limb[1:], strict=False):
            here = _rest_head(target, target_rig, end) - _rest_head(target, target_rig, start)
            there = _rest_head(source, source_rig, end) - _rest_head(source, source_rig, start)
            difference = np.degrees(here.angle(there, 0.0))
            if difference > MAX_REST_DIFFERENCE_DEGREES:
                raise InputError(
                    f"{name}: its rest pose holds {start} {difference:.0f} degrees away from the "
                    "skin's, so its motion would bend the limbs wrongly; export both from the same "
                    "T-pose (Mixamo does)"
                )


def _rest_head(armature: bpy.types.Object, rig: Rig, bone: str) -> mathutils.Vector:
    return armature.matrix_world @ armature.data.bones[rig.names[bone]].head_local


def _world_rotation(armature: bpy.types.Object, matrix: mathutils.Matrix) -> mathutils.Matrix:
    return (armature.matrix_world @ matrix).to_3x3().normalized()


def _leg_length(armature: bpy.types.Object, rig: Rig) -> float:
    """Mean length of thigh plus shank, in the world."""
    lengths = []
    for leg in rig.map["legs"]:
        joints = [_rest_head(armature, rig, b) for b in leg]
        lengths.append(sum((b - a).length for a, b in zip(joints, joints[1:], strict=False)))
    return float(np.mean(lengths))
