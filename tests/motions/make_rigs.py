"""Build small people of every naming that ships: a box for each bone, one animation, as the files that users have.

    python make_rigs.py FOLDER    (run in Blender's Python)

FBX and glTF are written by Blender's own exporters; VRM gets its table of humanoid bones in the glTF's JSON; BVH is written here.
"""

from __future__ import annotations

import json
import math
import struct
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import bpy
import mathutils

from blender_scripts.formats.naming import FINGERS, HUMANOID, SIDES

RIGS = ROOT / "assets_data" / "rigs"
FRAMES = 12
BVH = ("mocap_bvh", "joint_bvh", "xsens_fbx")


def places(a_pose: float) -> dict[str, tuple[str, tuple[float, float, float]]]:
    """Parent and head of each bone of the humanoid, metres, z up, facing -y; arms ``a_pose`` degrees below level."""
    down = math.radians(a_pose)
    found: dict[str, tuple[str, tuple[float, float, float]]] = {
        "Hips": ("", (0, 0, 0.95)), "Spine": ("Hips", (0, 0, 1.05)), "Spine1": ("Spine", (0, 0, 1.17)),
        "Spine2": ("Spine1", (0, 0, 1.30)), "Neck": ("Spine2", (0, 0, 1.47)), "Head": ("Neck", (0, 0, 1.56)),
    }  # fmt: skip
    for side, x in zip(SIDES, (1, -1), strict=True):

        def along(length: float, y: float = 0.0, x: int = x) -> tuple[float, float, float]:
            return (x * (0.17 + length * math.cos(down)), y, 1.42 - length * math.sin(down))

        found |= {
            f"{side}Shoulder": ("Spine2", (x * 0.03, 0, 1.42)), f"{side}Arm": (f"{side}Shoulder", along(0)),
            f"{side}ForeArm": (f"{side}Arm", along(0.28)), f"{side}Hand": (f"{side}ForeArm", along(0.54)),
            f"{side}UpLeg": ("Hips", (x * 0.09, 0, 0.92)), f"{side}Leg": (f"{side}UpLeg", (x * 0.09, -0.005, 0.50)),
            f"{side}Foot": (f"{side}Leg", (x * 0.09, 0.01, 0.09)), f"{side}ToeBase": (f"{side}Foot", (x * 0.09, -0.12, 0.02)),
        }  # fmt: skip
        for number, finger in enumerate(FINGERS):
            for joint in (1, 2, 3):
                name = f"{side}Hand{finger}{joint}"
                parent = f"{side}Hand" if joint == 1 else f"{side}Hand{finger}{joint - 1}"
                found[name] = (parent, along(0.58 + 0.03 * joint, -0.03 + 0.02 * number))
    return found


def named(naming: dict[str, Any]) -> dict[str, str]:
    """The first spelling of each bone in a naming."""
    names = {}
    for bone, spellings in naming["bones"].items():
        for side in SIDES if "{Side}" in bone else ("",):
            values = {"Side": side, "side": naming["sides"].get(side, "")}
            names[bone.format(**values)] = spellings[0].format(**values)
    return names


def build(names: dict[str, str], prefix: str, a_pose: float) -> bpy.types.Object:
    """An armature with a box skinned to each bone, whose left arm rises and which walks off a little."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.context.scene.render.fps = 30
    rig = bpy.data.armatures.new("Armature")
    armature = bpy.data.objects.new("Armature", rig)
    bpy.context.collection.objects.link(armature)
    bpy.context.view_layer.objects.active = armature
    bpy.ops.object.mode_set(mode="EDIT")
    where = {b: p for b, p in places(a_pose).items() if b in names}
    for bone in HUMANOID:
        if bone not in where:
            continue
        parent, head = where[bone]
        while parent and parent not in where:
            parent = places(a_pose)[parent][0]
        made = rig.edit_bones.new(prefix + names[bone])
        made.head = head
        children = [h for b, (p, h) in where.items() if p == bone]
        made.tail = (
            children[0]
            if bone not in ("Hips", "Head") and children
            else mathutils.Vector(head) + mathutils.Vector((0, 0, 0.08))
        )
        if parent:
            made.parent = rig.edit_bones[prefix + names[parent]]
    bpy.ops.object.mode_set(mode="OBJECT")
    _skin(armature, {b: prefix + names[b] for b in where})
    _animate(armature, prefix + names["LeftArm"], prefix + names["Hips"])
    return armature


def _skin(armature: bpy.types.Object, bones: dict[str, str]) -> None:
    vertices: list[tuple[float, float, float]] = []
    faces: list[tuple[int, ...]] = []
    groups: dict[str, list[int]] = {}
    for bone, name in bones.items():
        data = armature.data.bones[name]
        head, tail = data.head_local, data.tail_local
        thick = 0.012 if any(f in bone for f in FINGERS) else 0.045
        if bone == "Head":  # an egg, as faces are felt by rays
            groups[name] = _egg(head + mathutils.Vector((0, -0.01, 0.11)), vertices, faces)
            continue
        first = len(vertices)
        for end in (head, tail):
            for dx, dy in ((-1, -1), (1, -1), (1, 1), (-1, 1)):
                side = (tail - head).normalized()
                across = side.orthogonal().normalized()
                other = side.cross(across)
                vertices.append(tuple(end + thick * (dx * across + dy * other)))
        faces += [
            tuple(first + i for i in f)
            for f in (
                (0, 3, 2, 1),
                (4, 5, 6, 7),
                (0, 1, 5, 4),
                (1, 2, 6, 5),
                (2, 3, 7, 6),
                (3, 0, 4, 7),
            )
        ]
        groups[name] = list(range(first, first + 8))
    mesh = bpy.data.meshes.new("Body")
    mesh.from_pydata(vertices, [], faces)
    body = bpy.data.objects.new("Body", mesh)
    bpy.context.collection.objects.link(body)
    for name, mine in groups.items():
        body.vertex_groups.new(name=name).add(mine, 1.0, "REPLACE")
    body.parent = armature
    body.modifiers.new("Armature", "ARMATURE").object = armature


def _egg(
    centre: mathutils.Vector,
    vertices: list[tuple[float, float, float]],
    faces: list[tuple[int, ...]],
) -> list[int]:
    first, rings, around = len(vertices), 9, 16
    for i in range(rings):
        tilt = math.pi * (i + 0.5) / rings
        for k in range(around):
            turn = 2 * math.pi * k / around
            x, y, z = (
                math.sin(tilt) * math.cos(turn),
                math.sin(tilt) * math.sin(turn),
                math.cos(tilt),
            )
            vertices.append((centre.x + 0.075 * x, centre.y + 0.095 * y, centre.z + 0.115 * z))
    for i in range(rings - 1):
        for k in range(around):
            a, b = first + i * around + k, first + i * around + (k + 1) % around
            faces.append((a, a + around, b + around, b))
    faces += [
        tuple(first + k for k in range(around)),
        tuple(first + (rings - 1) * around + k for k in reversed(range(around))),
    ]
    return list(range(first, len(vertices)))


def _animate(armature: bpy.types.Object, arm: str, hips: str) -> None:
    for name, rise in (("Raise", 50.0), ("Lower", -30.0)):
        armature.animation_data_create()
        action = bpy.data.actions.new(name)
        armature.animation_data.action = action
        bones = armature.pose.bones
        for frame, share in ((1, 0.0), (FRAMES, 1.0)):
            bone = bones[arm]
            bone.rotation_mode = bones[hips].rotation_mode = "QUATERNION"
            turn = mathutils.Matrix.Rotation(math.radians(-rise * share), 3, "Y")
            rest = bone.bone.matrix_local.to_3x3()
            bone.rotation_quaternion = (rest.inverted() @ turn @ rest).to_quaternion()
            bones[hips].location = bones[
                hips
            ].bone.matrix_local.to_3x3().inverted() @ mathutils.Vector((0, -0.3 * share, 0))
            bone.keyframe_insert("rotation_quaternion", frame=frame)
            bones[hips].keyframe_insert("location", frame=frame)
        track = armature.animation_data.nla_tracks.new()
        track.name = name
        track.strips.new(name, 1, action)
        armature.animation_data.action = None


def write_bvh(path: Path, names: dict[str, str], rise: float = 50.0) -> None:
    """A BVH whose left arm rises by ``rise`` degrees over the frames, 60 frames a second, inches, y up, facing +z."""
    where = {b: p for b, p in places(0.0).items() if b in names and "Hand" not in b[:-4]}
    lines, order = ["HIERARCHY"], []

    def joint(bone: str, depth: int) -> None:
        parent, head = where[bone]
        while parent and parent not in where:
            parent = places(0.0)[parent][0]
        start = places(0.0)[parent][1] if parent else (0.0, 0.0, 0.0)
        offset = [(h - s) / 0.0254 for h, s in zip(head, start, strict=True)]
        pad = "  " * depth
        channels = (
            "6 Xposition Yposition Zposition Zrotation Xrotation Yrotation"
            if not parent
            else "3 Zrotation Xrotation Yrotation"
        )
        lines.extend(
            [
                f"{pad}{'JOINT' if parent else 'ROOT'} {names[bone]}",
                f"{pad}{{",
                f"{pad}  OFFSET {offset[0]:.4f} {offset[2]:.4f} {-offset[1]:.4f}",
                f"{pad}  CHANNELS {channels}",
            ]
        )
        order.append(bone)
        children = [b for b in where if _parent(b, where) == bone]
        for child in children:
            joint(child, depth + 1)
        if not children:
            lines.extend([f"{pad}  End Site", f"{pad}  {{", f"{pad}    OFFSET 0 2 0", f"{pad}  }}"])
        lines.append(f"{pad}}}")

    joint("Hips", 0)
    rows = []
    for frame in range(FRAMES):
        values = [0.0, 0.95 / 0.0254, 0.0]
        for bone in order:
            values += (
                [rise * frame / (FRAMES - 1), 0.0, 0.0] if bone == "LeftArm" else [0.0, 0.0, 0.0]
            )
        rows.append(" ".join(f"{v:.4f}" for v in values))
    path.write_text(
        "\n".join([*lines, "MOTION", f"Frames: {FRAMES}", "Frame Time: 0.0166667", *rows]) + "\n"
    )


def _parent(bone: str, where: dict[str, Any]) -> str:
    parent = where[bone][0]
    while parent and parent not in where:
        parent = places(0.0)[parent][0]
    return str(parent)


def to_vrm(glb: Path, target: Path) -> None:
    """The glTF with VRM 1.0's table of humanoid bones, whose names say nothing."""
    data = glb.read_bytes()
    size = struct.unpack_from("<I", data, 12)[0]
    document = json.loads(data[20 : 20 + size])
    ours = {
        "Hips": "hips",
        "Spine": "spine",
        "Spine1": "chest",
        "Spine2": "upperChest",
        "Neck": "neck",
        "Head": "head",
    }
    for side in SIDES:
        low = side.lower()
        ours |= {
            f"{side}{a}": f"{low}{b}"
            for a, b in (
                ("Shoulder", "Shoulder"),
                ("Arm", "UpperArm"),
                ("ForeArm", "LowerArm"),
                ("Hand", "Hand"),
                ("UpLeg", "UpperLeg"),
                ("Leg", "LowerLeg"),
                ("Foot", "Foot"),
                ("ToeBase", "Toes"),
            )
        }
    bones = {}
    for index, node in enumerate(document["nodes"]):
        for bone, theirs in ours.items():
            if node.get("name") == f"b_{bone}_x":
                bones[theirs] = {"node": index}
    document["extensions"] = {"VRMC_vrm": {"specVersion": "1.0", "humanoid": {"humanBones": bones}}}
    document["extensionsUsed"] = [*document.get("extensionsUsed", []), "VRMC_vrm"]
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    rest = data[20 + size :]
    target.write_bytes(
        struct.pack("<4sII", b"glTF", 2, 20 + len(text) + len(rest))
        + struct.pack("<II", len(text), 0x4E4F534A)
        + text
        + rest
    )


def main() -> None:
    import addon_utils  # lies on the path since bpy was imported

    folder = Path(sys.argv[1])
    for addon in ("io_scene_fbx", "io_scene_gltf2"):
        addon_utils.enable(addon)
    namings = {
        p.stem: json.loads(p.read_text()) for p in sorted(RIGS.glob("*.json")) if p.stem != "mixamo"
    }
    plain = {b: b for b in HUMANOID}
    people = {
        n: (named(naming), "", 45.0 if n in ("unreal", "vroid", "makehuman") else 0.0)
        for n, naming in namings.items()
    }
    people |= {"mixamo": (plain, "mixamorig7:", 0.0), "ready_player_me": (plain, "", 55.0)}
    people["anonymous"] = ({b: f"b_{b}_x" for b in HUMANOID}, "", 30.0)
    for name, (names, prefix, a_pose) in people.items():
        if name in BVH:
            write_bvh(folder / f"{name}.bvh", names)
            continue
        build(names, prefix, a_pose)
        if name in ("rigify", "anonymous", "ready_player_me"):
            bpy.ops.export_scene.gltf(
                filepath=str(folder / f"{name}.glb"), export_animation_mode="NLA_TRACKS"
            )
        else:
            bpy.ops.export_scene.fbx(
                filepath=str(folder / f"{name}.fbx"), object_types={"ARMATURE", "MESH"}, add_leaf_bones=False,
                bake_anim_use_all_actions=False, bake_anim_use_nla_strips=True,
            )  # fmt: skip
    to_vrm(folder / "anonymous.glb", folder / "vrm.vrm")
    print("ANSWER " + json.dumps(sorted(p.name for p in folder.iterdir())))


if __name__ == "__main__":
    main()
