"""Build a person beside a hat, a shirt and a horse with armatures of their own, and print what is read of the file.

python read_armatures.py SKIN FOLDER    (run in Blender's Python)
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import bpy
import mathutils

from blender_scripts.stage import importing


def thing(name: str, bone: str, place: tuple[float, float, float], size: float) -> None:
    """A cube that is skinned to an armature of one bone."""
    data = bpy.data.armatures.new(name)
    armature = bpy.data.objects.new(name, data)
    bpy.context.collection.objects.link(armature)
    bpy.context.view_layer.objects.active = armature
    bpy.ops.object.mode_set(mode="EDIT")
    made = data.edit_bones.new(bone)
    made.head, made.tail = place, mathutils.Vector(place) + mathutils.Vector((0, 0, 0.1))
    bpy.ops.object.mode_set(mode="OBJECT")
    bpy.ops.mesh.primitive_cube_add(size=size, location=place)
    mesh = bpy.context.object
    mesh.name = f"{name}Mesh"
    mesh.vertex_groups.new(name=bone).add(range(8), 1.0, "REPLACE")
    mesh.parent = armature
    mesh.modifiers.new("Armature", "ARMATURE").object = armature


def main() -> None:
    import addon_utils

    skin, folder = sys.argv[1], Path(sys.argv[2])
    rig_map = json.loads((ROOT / "assets_data/rigs/mixamo.json").read_text())
    importing.clear_scene()
    bpy.ops.wm.fbx_import(filepath=skin)
    thing("Hat", "hat_bone", (0, 0, 1.75), 0.2)
    thing("Shirt", "mixamorig:Spine1", (0, 0, 1.2), 0.3)
    thing("Horse", "horse_bone", (1.5, 0, 0.8), 1.5)
    addon_utils.enable("io_scene_fbx")
    path = folder / "many.fbx"
    bpy.ops.export_scene.fbx(
        filepath=str(path), object_types={"ARMATURE", "MESH"}, add_leaf_bones=False, bake_anim=False
    )
    importing.clear_scene()
    found = importing.load(str(path), rig_map, "many.fbx")
    props = {
        p.name: [p.parent_bone, [round(v, 3) for v in p.matrix_world.translation]]
        for p in found.props
    }
    print(
        "ANSWER "
        + json.dumps(
            {"meshes": [m.name for m in found.meshes], "props": props, "warnings": found.warnings}
        )
    )


if __name__ == "__main__":
    main()
