"""Make FBX files with one fault or oddity each, in the folder named on the command line.

Usage: make_bad_fbx.py FOLDER SAMPLE. What real files have and Blender can write is made here; ``fbx_bytes.py`` patches
bytes for the rest.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import bpy
import numpy as np

OUT, SAMPLE = Path(sys.argv[1]), sys.argv[2]


def fresh(sample: bool) -> None:
    bpy.ops.wm.read_factory_settings(use_empty=True)
    if sample:
        bpy.ops.wm.fbx_import(filepath=SAMPLE)


def save(name: str, **options: object) -> None:
    bpy.ops.export_scene.fbx(
        filepath=str(OUT / name), add_leaf_bones=False, **{"path_mode": "ABSOLUTE", **options}
    )


def armature() -> bpy.types.Object:
    return next(o for o in bpy.data.objects if o.type == "ARMATURE")


def body() -> bpy.types.Object:
    return bpy.data.objects["Body"]


def skin(obj: bpy.types.Object, bone: str) -> None:
    obj.vertex_groups.new(name=bone).add(list(range(len(obj.data.vertices))), 1.0, "ADD")
    obj.parent = armature()
    obj.modifiers.new("Armature", "ARMATURE").object = armature()


def textured(
    obj: bpy.types.Object, name: str, rgba: tuple[float, ...], alpha: bool = False
) -> None:
    """A material of one colour, by an image that is packed."""
    material = bpy.data.materials.new(name)
    material.use_nodes = True
    image = bpy.data.images.new(name, 16, 16, alpha=True)
    image.pixels = list(rgba) * 256
    image.filepath_raw = str(OUT / f"{name}.png")
    image.file_format = "PNG"
    image.save()
    node = material.node_tree.nodes.new("ShaderNodeTexImage")
    node.image = image
    shader = material.node_tree.nodes["Principled BSDF"]
    material.node_tree.links.new(node.outputs["Color"], shader.inputs["Base Color"])
    if alpha:
        material.node_tree.links.new(node.outputs["Alpha"], shader.inputs["Alpha"])
    obj.data.materials.clear()
    obj.data.materials.append(material)


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
save("second_armature.fbx")

fresh(True)
bpy.ops.wm.fbx_import(filepath=SAMPLE)
save("two_people.fbx")

fresh(True)
armature().scale = (0, 0, 0)
save("zero_scale.fbx")

fresh(True)
armature().animation_data_clear()
armature().location.x = float("nan")
save("nan.fbx")

fresh(True)
image = bpy.data.images.new("outside", 4, 4)
image.filepath_raw = str(OUT / "secret.png")
image.file_format = "PNG"
image.save()
material = body().data.materials[0]
node = material.node_tree.nodes.new("ShaderNodeTexImage")
node.image = image
shader = next(n for n in material.node_tree.nodes if n.type == "BSDF_PRINCIPLED")
material.node_tree.links.new(node.outputs["Color"], shader.inputs["Base Color"])
save("outside_texture.fbx")

# A sword in the hand and a loose stone: one hangs on a bone, the other on nothing.
fresh(True)
hand = armature().matrix_world @ armature().pose.bones["mixamorig:RightHand"].head
bpy.ops.mesh.primitive_cube_add(size=0.3, location=hand)
sword = bpy.context.object
sword.name = "Sword"
world = sword.matrix_world.copy()
sword.parent, sword.parent_type = armature(), "BONE"
sword.parent_bone = "mixamorig:RightHand"
bpy.context.view_layer.update()
sword.matrix_world = world
bpy.ops.mesh.primitive_cube_add(size=0.2, location=(2, 0, 0))
bpy.context.object.name = "Stone"
save("prop.fbx")

# A still of two frames first, then the walk.
fresh(True)
walk = armature().animation_data.action
walk.name = "Walk"
still = walk.copy()
still.name = "A_Still"
for bag in still.layers[0].strips[0].channelbags:
    for curve in bag.fcurves:
        first = curve.evaluate(1)
        curve.keyframe_points.clear()
        curve.keyframe_points.insert(1, first)
        curve.keyframe_points.insert(2, first)
armature().animation_data.action = still
save("takes.fbx", bake_anim_use_nla_strips=False, bake_anim_use_all_actions=True)

# A shape key that grows over the walk.
fresh(True)
body().shape_key_add(name="Basis")
fat = body().shape_key_add(name="Fat")
for i, vertex in enumerate(body().data.vertices):
    fat.data[i].co = vertex.co + vertex.normal * 0.05
bpy.context.scene.frame_end = 61
for frame, value in ((1, 0.0), (61, 1.0)):
    fat.value = value
    fat.keyframe_insert("value", frame=frame)
save("shapekey.fbx", bake_anim_use_nla_strips=False, bake_anim_use_all_actions=False)

# Colour and normal map embedded under one path.
fresh(True)
textured(body(), "tex", (0.9, 0.2, 0.1, 1.0))
material = body().data.materials[0]
nodes, links = material.node_tree.nodes, material.node_tree.links
normals = nodes.new("ShaderNodeNormalMap")
image = nodes.new("ShaderNodeTexImage")
image.image = bpy.data.images.load(str(OUT / "tex.png"))
links.new(image.outputs["Color"], normals.inputs["Color"])
links.new(normals.outputs["Normal"], nodes["Principled BSDF"].inputs["Normal"])
save("sametex.fbx", path_mode="COPY", embed_textures=True)

# One image that two materials share, embedded once.
fresh(True)
textured(body(), "atlas", (0.1, 0.8, 0.2, 1.0))
second = body().data.materials[0].copy()
body().data.materials.append(second)
for polygon in list(body().data.polygons)[::2]:
    polygon.material_index = 1
save("sharedtex.fbx", path_mode="COPY", embed_textures=True)

# A wholly transparent skirt before the knees.
fresh(True)
knees = armature().matrix_world @ armature().data.bones["mixamorig:LeftLeg"].head_local
bpy.ops.mesh.primitive_plane_add(size=0.8, location=(0, -0.3, knees.z), rotation=(np.pi / 2, 0, 0))
bpy.context.object.name = "Skirt"
skin(bpy.context.object, "mixamorig:Hips")
textured(bpy.context.object, "clear", (1.0, 1.0, 1.0, 0.0), alpha=True)
save("alpha.fbx", path_mode="COPY", embed_textures=True)

# Somebody who is transparent everywhere.
fresh(True)
textured(body(), "ghost", (1.0, 1.0, 1.0, 0.0), alpha=True)
save("ghost.fbx", path_mode="COPY", embed_textures=True)

# A helper around the whole body that the file hides: see fbx_bytes.py, which sets its visibility.
fresh(True)
bpy.ops.mesh.primitive_uv_sphere_add(radius=1.2, location=(0, 0, 0.9))
bpy.context.object.name = "Proxy"
skin(bpy.context.object, "mixamorig:Hips")
save("proxy.fbx")

# A person of 3.36 units, one of 68 (inches?), one of 170, mirrored by its armature's scale, and with left and right exchanged.
for name, factor in (("giant35", 3.36), ("inches", 68.0), ("centimetres", 170.0)):
    fresh(True)
    tall = max((body().matrix_world @ v.co).z for v in body().data.vertices)
    armature().scale = [s * factor / tall for s in armature().scale]
    save(f"{name}.fbx")
fresh(True)
armature().scale.x *= -1
save("mirrored.fbx")
fresh(True)
for side, other in (("Left", "Tmp"), ("Right", "Left"), ("Tmp", "Right")):
    for bone in armature().data.bones:
        if f":{side}" in bone.name:
            bone.name = bone.name.replace(f":{side}", f":{other}")
save("exchanged.fbx")

# A pose of two frames without a skin.
fresh(True)
bpy.data.objects.remove(body())
armature().animation_data_clear()
for bone in armature().pose.bones:
    bone.matrix_basis.identity()
bent = armature().pose.bones["mixamorig:LeftForeArm"]
bent.rotation_mode = "XYZ"
bent.rotation_euler = (0.0, 0.0, 0.5)
for frame in (1, 2):
    for bone in armature().pose.bones:
        bone.keyframe_insert(
            "rotation_euler" if bone == bent else "rotation_quaternion", frame=frame
        )
bpy.context.scene.frame_end = 2
save("pose.fbx", bake_anim_use_nla_strips=False, bake_anim_use_all_actions=False)

# A clip that walks out of every picture, and one whose keys are no pose.
for name, way in (("walkaway", 60.0), ("faraway", 1e9)):
    fresh(True)
    hips = armature().pose.bones["mixamorig:Hips"]
    for frame, metres in ((1, 0.0), (61, way)):
        hips.location = (0.0, 0.0, metres / armature().matrix_world.to_scale()[0])
        hips.keyframe_insert("location", frame=frame)
    save(f"{name}.fbx")

print('ANSWER "made"', flush=True)
os._exit(0)
