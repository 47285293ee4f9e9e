"""Bring an FBX file into an empty scene, and say plainly what is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import bpy
import numpy as np

from blender_scripts.stage.errors import InputError

RERIG = "rig it (for instance with Mixamo's auto-rigger) and export it as FBX with skin"


@dataclass
class Imported:
    """What came out of a file. ``action`` is None where the file holds no animation."""

    armature: bpy.types.Object
    meshes: list[bpy.types.Object]
    action: bpy.types.Action | None
    fps: float
    textures_found: list[str]
    textures_missing: list[str]
    warnings: list[str]


def clear_scene() -> None:
    """Empty Blender wholly: every data-block goes, so memory stays level over many characters."""
    bpy.ops.wm.read_factory_settings(use_empty=True)


def load(path: str) -> Imported:
    """Import ``path`` into the scene.

    Raises:
        InputError: the importer refuses the file, or it does not hold one armature with finite,
            non-zero transforms.
    """
    name = Path(path).name
    before = set(bpy.data.objects)
    actions_before = set(bpy.data.actions)
    try:
        outcome = bpy.ops.wm.fbx_import(filepath=path)
    except RuntimeError as error:
        reason = str(error).replace("Error:", "").replace(path, name)
        raise InputError(
            f"{name}: Blender cannot read it as FBX ({' '.join(reason.split())}); export the file again"
        ) from error
    new = [o for o in bpy.data.objects if o not in before]
    if "FINISHED" not in outcome or not new:
        raise InputError(f"{name}: Blender finds nothing in it; export the file again")

    armatures = [o for o in new if o.type == "ARMATURE"]
    meshes = [o for o in new if o.type == "MESH"]
    warnings: list[str] = []
    if not armatures:
        if not meshes:
            raise InputError(f"{name}: no mesh and no armature in it; {RERIG}")
        raise InputError(f"{name}: no armature, so nothing can be posed; {RERIG}")
    if len(armatures) > 1:
        names = ", ".join(sorted(a.name for a in armatures))
        raise InputError(
            f"{name}: {len(armatures)} armatures ({names}); export one character a file"
        )
    armature = armatures[0]
    skinned = [m for m in meshes if m.find_armature() is armature and len(m.data.polygons)]
    for loose in [m for m in meshes if m not in skinned]:
        warnings.append(f"{loose.name}: a mesh that is not skinned to the armature is left out")
        bpy.data.objects.remove(loose, do_unlink=True)
    if meshes and not skinned:
        raise InputError(f"{name}: no mesh is skinned to the armature; {RERIG}")
    for other in [o for o in new if o.name in bpy.data.objects and o.type in {"CAMERA", "LIGHT"}]:
        bpy.data.objects.remove(other, do_unlink=True)

    found, missing = _secure_textures(name)
    if missing:
        warnings.append(
            f"textures not inside the file, left out: {', '.join(missing)}; "
            "export with embedded media to keep them"
        )
    _check_transforms(name, armature, skinned)
    actions = [a for a in bpy.data.actions if a not in actions_before]
    action = armature.animation_data.action if armature.animation_data else None
    if action is None and actions:
        action = actions[0]
    return Imported(
        armature=armature,
        meshes=sorted(skinned, key=lambda o: o.name),
        action=action,
        fps=bpy.context.scene.render.fps / bpy.context.scene.render.fps_base,
        textures_found=found,
        textures_missing=missing,
        warnings=warnings,
    )


def _secure_textures(name: str) -> tuple[list[str], list[str]]:
    """Keep images packed in the file; drop every path, so that no file of this machine is read.

    A Mixamo file carries the absolute texture paths of somebody else's machine.
    """
    found: list[str] = []
    missing: list[str] = []
    for image in list(bpy.data.images):
        if image.source in {"VIEWER", "GENERATED"}:
            continue
        shown = Path(image.filepath.replace("\\", "/")).name or image.name
        if image.packed_file is not None:
            found.append(shown)
            continue
        missing.append(shown)
        for material in bpy.data.materials:
            if material.node_tree is None:
                continue
            for node in list(material.node_tree.nodes):
                if node.type == "TEX_IMAGE" and node.image == image:
                    material.node_tree.nodes.remove(node)
        bpy.data.images.remove(image)
    return sorted(found), sorted(missing)


def _check_transforms(
    name: str, armature: bpy.types.Object, meshes: list[bpy.types.Object]
) -> None:
    bpy.context.view_layer.update()
    for obj in [armature, *meshes]:
        matrix = np.array(obj.matrix_world)
        if not np.isfinite(matrix).all():
            raise InputError(
                f"{name}: {obj.name} has a transform that is not a number; export again"
            )
        if abs(np.linalg.det(matrix[:3, :3])) < 1e-12:
            raise InputError(
                f"{name}: {obj.name} is scaled to zero; apply a scale above zero and export again"
            )
    for bone in armature.data.bones:
        if not np.isfinite(np.array(bone.matrix_local)).all():
            raise InputError(f"{name}: bone {bone.name} is not a number; export again")
    for mesh in meshes:
        points = np.empty(len(mesh.data.vertices) * 3, np.float32)
        mesh.data.vertices.foreach_get("co", points)
        if not np.isfinite(points).all():
            raise InputError(f"{name}: {mesh.name} has vertices that are not numbers; export again")
