"""Make FBX files with one fault each, in the folder named on the command line."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import bpy

OUT, SAMPLE = Path(sys.argv[1]), sys.argv[2]


def fresh(sample: bool) -> None:
    bpy.ops.wm.read_factory_settings(use_empty=True)
    if sample:
        bpy.ops.wm.fbx_import(filepath=SAMPLE)


def save(name: str) -> None:
    bpy.ops.export_scene.fbx(filepath=str(OUT / name), add_leaf_bones=False, path_mode="ABSOLUTE")


def armature() -> bpy.types.Object:
    return next(o for o in bpy.data.objects if o.type == "ARMATURE")


fresh(False)
bpy.ops.mesh.primitive_cube_add()
save("no_armature.fbx")

fresh(False)
bpy.ops.object.empty_add()
save("no_mesh.fbx")

fresh(False)
bpy.ops.object.armature_add()
chair = bpy.context.object
bpy.ops.mesh.primitive_cube_add()
cube = bpy.context.object
cube.parent = chair
cube.vertex_groups.new(name="Bone").add(list(range(8)), 1.0, "ADD")
cube.modifiers.new("Armature", "ARMATURE").object = chair
save("chair.fbx")

fresh(True)
bones = armature().data.bones
bpy.context.view_layer.objects.active = armature()
bpy.ops.object.mode_set(mode="EDIT")
edit = armature().data.edit_bones
for name in ("mixamorig:LeftLeg", "mixamorig:RightHand"):
    edit.remove(edit[name])
bpy.ops.object.mode_set(mode="OBJECT")
save("lacks_bones.fbx")

fresh(True)
bpy.ops.object.armature_add()
save("two_armatures.fbx")

fresh(True)
armature().scale = (0, 0, 0)
save("zero_scale.fbx")

fresh(True)
armature().animation_data_clear()
armature().location.x = float("nan")
save("nan.fbx")

fresh(True)
body = next(o for o in bpy.data.objects if o.type == "MESH")
image = bpy.data.images.new("outside", 4, 4)
image.filepath_raw = str(OUT / "secret.png")
image.file_format = "PNG"
image.save()
material = body.data.materials[0]
node = material.node_tree.nodes.new("ShaderNodeTexImage")
node.image = image
shader = next(n for n in material.node_tree.nodes if n.type == "BSDF_PRINCIPLED")
material.node_tree.links.new(node.outputs["Color"], shader.inputs["Base Color"])
save("outside_texture.fbx")

print('ANSWER "made"', flush=True)
os._exit(0)
