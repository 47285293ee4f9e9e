"""Build the sample characters from the CC0 body of the `anny` package, with hand-keyed motions.

    pip install -e .[people] && python assets_data/people/build_sample_people.py

Needs torch, so it is no part of the default install; what it makes is shipped in
``assets_data/characters``. The body's rest pose is an A-pose; it is brought to a T-pose with Mixamo's
bone axes, so that Mixamo motions can be cast on these people too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import anny
import bpy
import numpy as np
import torch
from anny.face_segmentation import get_face_segmentation_mask
from mathutils import Matrix, Vector

TARGET = Path(__file__).resolve().parents[1] / "characters"
FPS = 30
PREFIX = "mixamorig:"

Colour = tuple[float, float, float]
#: Degrees about an axis of the rest pose, by (bone without prefix, axis).
Pose = dict[tuple[str, str], float]


@dataclass(frozen=True)
class Person:
    """Who to build. ``body`` are anny's phenotypes, 0-1; the rest is dress, by material."""

    name: str
    body: dict[str, float]
    skin: Colour
    hair: Colour
    top: Colour
    trousers: Colour
    shoes: Colour
    long_sleeves: bool
    shorts: bool
    motion: Callable[[float], tuple[Pose, float, float]]
    frames: int


def walk(t: float) -> tuple[Pose, float, float]:
    """Three steps over ``t`` in 0-1; returns the pose, the height of a jump, and the way forward (metres)."""
    phase = 3 * math.pi * t
    swing, other = math.sin(phase), math.sin(phase + math.pi)
    pose: Pose = {("LeftArm", "y"): 72, ("RightArm", "y"): -72}
    for side, s, phi in (("Left", swing, phase), ("Right", other, phase + math.pi)):
        sign = 1 if side == "Left" else -1
        pose[(f"{side}UpLeg", "x")] = -24 * s - 4
        pose[(f"{side}Leg", "x")] = 8 + 44 * max(0.0, math.cos(phi)) ** 1.5
        pose[(f"{side}Foot", "x")] = -8 * s
        pose[(f"{side}Arm", "x")] = 22 * s
        pose[(f"{side}ForeArm", "z")] = -sign * (18 - 10 * s)
    pose[("Spine1", "z")] = 6 * swing
    pose[("Hips", "z")] = -5 * swing
    return pose, 0.0, 1.5 * t


def squat_and_reach(t: float) -> tuple[Pose, float, float]:
    """Down with both arms forward, then up with both arms overhead."""
    down = math.sin(math.pi * min(t / 0.6, 1.0)) ** 2
    up = math.sin(math.pi * max((t - 0.5) / 0.5, 0.0)) ** 2
    pose: Pose = {
        ("Spine", "x"): 24 * down - 4 * up,
        ("Spine1", "x"): 10 * down - 4 * up,
        ("Neck", "x"): -18 * down - 8 * up,
    }
    for side, sign in (("Left", 1), ("Right", -1)):
        pose[(f"{side}UpLeg", "x")] = -88 * down
        pose[(f"{side}UpLeg", "y")] = -sign * 12 * down
        pose[(f"{side}Leg", "x")] = 112 * down
        pose[(f"{side}Foot", "x")] = -22 * down
        pose[(f"{side}Arm", "y")] = sign * (70 * (1 - down) * (1 - up) - 66 * up + 8 * down)
        pose[(f"{side}Arm", "z")] = -sign * 72 * down
        pose[(f"{side}ForeArm", "z")] = -sign * (12 + 8 * down)
    return pose, 0.0, 0.0


def jumping_jack(t: float) -> tuple[Pose, float, float]:
    """A jumping jack with a twist, the left arm a little ahead."""
    air = max(0.0, math.sin(4 * math.pi * t)) ** 2
    pose: Pose = {("Spine1", "z"): 16 * math.sin(2 * math.pi * t)}
    for side, sign, lead in (("Left", 1, 0.07), ("Right", -1, 0.0)):
        wide = (1 - math.cos(2 * math.pi * (t + lead))) / 2
        pose[(f"{side}Arm", "y")] = sign * (74 - 130 * wide)
        pose[(f"{side}Shoulder", "y")] = -sign * 12 * wide
        pose[(f"{side}ForeArm", "z")] = -sign * 14
        pose[(f"{side}UpLeg", "y")] = -sign * (2 + 22 * wide)
        pose[(f"{side}UpLeg", "x")] = -14 * (1 - air)
        pose[(f"{side}Leg", "x")] = 24 * (1 - air)
        pose[(f"{side}Foot", "x")] = -10 * (1 - air) + 25 * air
    return pose, 0.12 * air, 0.0


PEOPLE = (
    Person(
        "ada_walk",
        {"gender": 1.0, "age": 0.55, "muscle": 0.45, "weight": 0.35, "height": 0.45, "proportions": 0.7,
         "cupsize": 0.5, "firmness": 0.6, "african": 0.9, "asian": 0.05, "caucasian": 0.05},
        (0.22, 0.11, 0.07), (0.02, 0.015, 0.01), (0.75, 0.35, 0.05), (0.04, 0.07, 0.20), (0.75, 0.75, 0.78),
        False, False, walk, 60,
    ),
    Person(
        "bruno_squat",
        {"gender": 0.0, "age": 0.72, "muscle": 0.55, "weight": 0.78, "height": 0.58, "proportions": 0.4,
         "cupsize": 0.5, "firmness": 0.5, "african": 0.05, "asian": 0.05, "caucasian": 0.9},
        (0.60, 0.36, 0.26), (0.30, 0.28, 0.26), (0.08, 0.22, 0.12), (0.10, 0.10, 0.11), (0.15, 0.07, 0.03),
        True, False, squat_and_reach, 90,
    ),
    Person(
        "chen_jack",
        {"gender": 0.1, "age": 0.42, "muscle": 0.6, "weight": 0.3, "height": 0.5, "proportions": 0.6,
         "cupsize": 0.5, "firmness": 0.5, "african": 0.05, "asian": 0.9, "caucasian": 0.05},
        (0.62, 0.42, 0.28), (0.015, 0.012, 0.012), (0.45, 0.05, 0.06), (0.30, 0.32, 0.36), (0.05, 0.05, 0.06),
        False, True, jumping_jack, 60,
    ),
)  # fmt: skip


def main() -> None:
    """Build every person, and say how large the files are."""
    model = anny.Anny(
        rig="mixamo", topology="anny-quads", phenotypes="all", phenotype_blendshapes="original"
    )
    TARGET.mkdir(exist_ok=True)
    for person in PEOPLE:
        bpy.ops.wm.read_factory_settings(use_empty=True)
        armature = build(model, person)
        animate(armature, person)
        path = TARGET / f"{person.name}.fbx"
        bpy.ops.export_scene.fbx(
            filepath=str(path), object_types={"ARMATURE", "MESH"}, add_leaf_bones=False,
            bake_anim=True, bake_anim_use_all_bones=True, bake_anim_use_nla_strips=False,
            bake_anim_use_all_actions=False, bake_anim_simplify_factor=0.2, path_mode="STRIP",
        )  # fmt: skip
        print(f"{path.name}: {path.stat().st_size / 1e6:.2f} MB")


def build(model: anny.Anny, person: Person) -> bpy.types.Object:
    """Mesh and armature of a person, metres, facing -Y, in a T-pose."""
    shape = {name: torch.tensor([value]) for name, value in person.body.items()}
    with torch.no_grad():
        result = model(phenotype_kwargs=shape)
    vertices = result["rest_vertices"][0].double().numpy()
    heads = result["rest_bone_heads"][0].double().numpy()
    tails = result["rest_bone_tails"][0].double().numpy()
    floor = vertices[:, 2].min()
    vertices[:, 2] -= floor
    heads[:, 2] -= floor
    tails[:, 2] -= floor
    faces = model.faces.numpy()

    mesh = bpy.data.meshes.new(person.name)
    mesh.from_pydata(vertices.tolist(), [], [list(dict.fromkeys(f)) for f in faces.tolist()])
    body = bpy.data.objects.new("Body", mesh)
    bpy.context.collection.objects.link(body)
    for polygon in mesh.polygons:
        polygon.use_smooth = True
    labels = list(model.bone_labels)
    for label in labels:
        body.vertex_groups.new(name=label)
    indices, weights = model.vertex_bone_indices.numpy(), model.vertex_bone_weights.numpy()
    for vertex in range(len(vertices)):
        for bone, weight in zip(indices[vertex], weights[vertex], strict=True):
            if weight > 1e-4:
                body.vertex_groups[labels[bone]].add([vertex], float(weight), "ADD")

    rig = bpy.data.armatures.new("Armature")
    armature = bpy.data.objects.new("Armature", rig)
    bpy.context.collection.objects.link(armature)
    bpy.context.view_layer.objects.active = armature
    bpy.ops.object.mode_set(mode="EDIT")
    for i, label in enumerate(labels):
        bone = rig.edit_bones.new(label)
        bone.head, bone.tail = heads[i], tails[i]
        parent = model.bone_parents[i]
        if parent is not None and int(parent) >= 0 and int(parent) != i:
            bone.parent = rig.edit_bones[labels[int(parent)]]
    bpy.ops.object.mode_set(mode="OBJECT")
    body.parent = armature
    body.modifiers.new("Armature", "ARMATURE").object = armature
    dress(model, body, person, labels, indices, weights, heads)
    to_t_pose(armature, body)
    return armature


def dress(
    model: anny.Anny,
    body: bpy.types.Object,
    person: Person,
    labels: list[str],
    indices: np.ndarray,
    weights: np.ndarray,
    heads: np.ndarray,
) -> None:
    """One material per piece of clothing, by the bone that owns a face and how high it lies."""
    colours = {
        "skin": person.skin, "hair": person.hair, "top": person.top, "trousers": person.trousers,
        "shoes": person.shoes, "eyes": (0.85, 0.85, 0.85), "iris": (0.03, 0.02, 0.01),
    }  # fmt: skip
    order = list(colours)
    for name, colour in colours.items():
        material = bpy.data.materials.new(name)
        material.use_nodes = True
        shader = material.node_tree.nodes["Principled BSDF"]
        shader.inputs["Base Color"].default_value = (*colour, 1)
        shader.inputs["Roughness"].default_value = 0.7
        body.data.materials.append(material)
    owner = np.array(labels)[indices[np.arange(len(indices)), weights.argmax(axis=1)]]
    owner = np.char.replace(owner.astype(str), PREFIX, "")
    points = np.array([v.co for v in body.data.vertices])
    place = dict(zip((x.replace(PREFIX, "") for x in labels), heads, strict=True))
    head_top = points[:, 2].max()
    neck = place["Head"][2]
    knee, hips, elbow = place["LeftLeg"][2], place["LeftUpLeg"][2], place["LeftForeArm"]
    segments = segment(model)
    for i, polygon in enumerate(body.data.polygons):
        bones = [owner[v] for v in polygon.vertices]
        bone = max(set(bones), key=bones.count)
        centre = points[list(polygon.vertices)].mean(axis=0)
        piece = "skin"
        if bone == "Head":
            share = (centre[2] - neck) / (head_top - neck)
            depth = centre[1] - place["Head"][1]
            if share > 0.86 or (share > 0.42 and depth > 0.02) or (share > 0.25 and depth > 0.055):
                piece = "hair"
        elif bone.endswith(("Foot", "ToeBase")):
            piece = "shoes"
        elif bone.endswith(("UpLeg", "Leg")) or (bone == "Hips" and centre[2] < hips + 0.09):
            piece = "trousers" if not person.shorts or centre[2] > knee + 0.06 else "skin"
        elif bone in ("Hips", "Spine", "Spine1", "Spine2") or bone.endswith("Shoulder"):
            piece = "top" if centre[2] < place["Neck"][2] + 0.02 else "skin"
        elif bone.endswith("ForeArm"):
            piece = "top" if person.long_sleeves else "skin"
        elif bone.endswith("Arm"):
            along = np.linalg.norm(np.abs(centre[[0, 2]]) - np.abs(elbow[[0, 2]]))
            piece = "top" if person.long_sleeves or along > 0.10 else "skin"
        piece = segments.get(i, piece)
        polygon.material_index = order.index(piece)


def segment(model: anny.Anny) -> dict[int, str]:
    """Faces of the eyeballs, by the map that comes with the body."""
    found: dict[int, str] = {}
    for piece, labels in (
        ("eyes", ["eye_back.L", "eye_back.R"]),
        ("iris", ["eye_front.L", "eye_front.R"]),
    ):
        mask = get_face_segmentation_mask(model, labels)
        found |= dict.fromkeys(np.flatnonzero(np.asarray(mask)).tolist(), piece)
    return found


def to_t_pose(armature: bpy.types.Object, body: bpy.types.Object) -> None:
    """Arms level, legs upright; then this is the rest pose, with Mixamo's bone axes."""
    wanted = {}
    for side, x in (("Left", 1.0), ("Right", -1.0)):
        for bone in ("Arm", "ForeArm", "Hand"):
            wanted[f"{PREFIX}{side}{bone}"] = Vector((x, 0, 0))
        for bone in ("UpLeg", "Leg"):
            wanted[f"{PREFIX}{side}{bone}"] = Vector((0, 0, -1))
    for name, direction in wanted.items():  # parents come before children
        bone = armature.pose.bones[name]
        bpy.context.view_layer.update()
        child = next(
            (c for c in bone.children if c.name.endswith(("ForeArm", "Hand", "Leg", "Foot"))), None
        )
        end = child.head if child else bone.tail
        turn = (end - bone.head).rotation_difference(direction).to_matrix()
        bone.matrix = Matrix.Translation(bone.head) @ (turn @ bone.matrix.to_3x3()).to_4x4()
    bpy.context.view_layer.update()
    bpy.context.view_layer.objects.active = body
    bpy.ops.object.modifier_apply(modifier="Armature")
    bpy.context.view_layer.objects.active = armature
    bpy.ops.object.mode_set(mode="POSE")
    bpy.ops.pose.armature_apply()
    bpy.ops.object.mode_set(mode="EDIT")
    for bone in armature.data.edit_bones:
        name = bone.name.replace(PREFIX, "")
        chain = [
            c
            for c in bone.children
            if c.name.endswith(
                ("ForeArm", "Hand", "Leg", "Foot", "ToeBase", "Spine1", "Spine2", "Neck", "Head")
            )
        ]
        if name != "Hips" and len(chain) == 1:
            bone.tail = chain[0].head
        if name in ("Hips", "Head"):
            bone.tail = bone.head + Vector((0, 0, 0.12))
        if "Arm" in name or "Hand" in name or "Shoulder" in name:
            bone.align_roll(Vector((0, 0, -1)))
        elif name.endswith("ToeBase"):
            bone.align_roll(Vector((0, 0, 1)))
        elif name.endswith("Foot"):
            bone.align_roll(Vector((0, -1, 1)))
        else:
            bone.align_roll(Vector((0, -1, 0)))
    bpy.ops.object.mode_set(mode="OBJECT")
    body.modifiers.new("Armature", "ARMATURE").object = armature
    lowest = min((body.matrix_world @ v.co).z for v in body.data.vertices)
    armature.location.z -= lowest
    bpy.ops.object.select_all(action="SELECT")
    bpy.ops.object.transform_apply(location=True, rotation=False, scale=False)


def animate(armature: bpy.types.Object, person: Person) -> None:
    """Key the motion on every third frame, with the lower foot kept on the floor."""
    scene = bpy.context.scene
    scene.render.fps = FPS
    scene.frame_start, scene.frame_end = 1, person.frames + 1
    bones = {b.name.replace(PREFIX, ""): b for b in armature.pose.bones}
    for bone in bones.values():
        bone.rotation_mode = "QUATERNION"
    rest_floor = min(bones[f"{s}ToeBase"].bone.tail_local.z for s in ("Left", "Right"))
    for frame in range(1, person.frames + 2, 3):
        pose, jump, travel = person.motion((frame - 1) / person.frames)
        turns: dict[str, Matrix] = {}
        for (name, axis), degrees in pose.items():
            turn = Matrix.Rotation(math.radians(degrees), 3, axis.upper())
            turns[name] = turn @ turns.get(name, Matrix.Identity(3))
        for name, turn in turns.items():
            rest = bones[name].bone.matrix_local.to_3x3()
            bones[name].rotation_quaternion = (rest.inverted() @ turn @ rest).to_quaternion()
        hips = bones["Hips"]
        hips.location = (0, 0, 0)
        bpy.context.view_layer.update()
        low = min(
            min(bones[f"{s}ToeBase"].tail.z, bones[f"{s}ToeBase"].head.z - 0.01, bones[f"{s}Foot"].head.z - 0.06)
            for s in ("Left", "Right")
        )  # fmt: skip
        shift = Vector((0, -travel, rest_floor - low + jump))
        hips.location = hips.bone.matrix_local.to_3x3().inverted() @ shift
        for name in {*turns, "Hips"}:
            bones[name].keyframe_insert("rotation_quaternion", frame=frame)
        hips.keyframe_insert("location", frame=frame)


if __name__ == "__main__":
    main()
