"""Hold the landmarks of faces against the very vertices of the shipped people's known body, whatever they wear.

Usage: prove_faces.py FOLDER SAMPLE…. Dresses each sample in several ways, saves it as FBX in FOLDER, loads it as the factory
does, and prints for each the distance of each landmark from its vertex in metres, its origin, and the warnings.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import bpy  # isort: skip  (bmesh and mathutils exist once it is there)
import bmesh
import numpy as np
from mathutils import Matrix, Vector

from blender_scripts.contract import LANDMARKS
from blender_scripts.stage import importing, truth
from blender_scripts.stage.character import load_character

#: Vertices of the body that the samples are made of (anny 0.6.2, topology "anny-quads"): the tip of the nose; the fronts of
#: the eyeballs and the ears, as the nearest ones to what the package's COCO regressor gives; the ends of lids and lips.
VERTICES = {
    "nose": 297, "left_eye": 7758, "right_eye": 1082, "left_ear": 12197, "right_ear": 5616, "left_eye_inner": 7780,
    "left_eye_outer": 7766, "right_eye_inner": 1104, "right_eye_outer": 1090, "mouth_left": 7255, "mouth_right": 526,
}  # fmt: skip


def body() -> bpy.types.Object:
    return bpy.data.objects["Body"]


def armature() -> bpy.types.Object:
    return next(o for o in bpy.data.objects if o.type == "ARMATURE")


def at(vertex: int) -> Vector:
    return body().matrix_world @ body().data.vertices[vertex].co


def wear(obj: bpy.types.Object, bone: str = "mixamorig:Head", skinned: bool = True) -> None:
    """Hang an object on the head, by weights or as a child of the bone."""
    if not skinned:
        world = obj.matrix_world.copy()
        obj.parent, obj.parent_type, obj.parent_bone = armature(), "BONE", bone
        bpy.context.view_layer.update()
        obj.matrix_world = world
        return
    obj.vertex_groups.new(name=bone).add(list(range(len(obj.data.vertices))), 1.0, "ADD")
    obj.parent = armature()
    obj.modifiers.new("Armature", "ARMATURE").object = armature()


def head_vertices() -> list[int]:
    group = body().vertex_groups["mixamorig:Head"].index
    return [
        v.index
        for v in body().data.vertices
        if any(g.group == group and g.weight > 0.5 for g in v.groups)
    ]


def stretch(factors: tuple[float, float, float]) -> None:
    """Scale the head about its joint; metres, x to the sides, z up."""
    mesh = body().data
    weights = np.zeros(len(mesh.vertices))
    group = body().vertex_groups["mixamorig:Head"].index
    for v in mesh.vertices:
        weights[v.index] = next((g.weight for g in v.groups if g.group == group), 0.0)
    centre = armature().matrix_world @ armature().data.bones["mixamorig:Head"].head_local
    inverse = body().matrix_world.inverted()
    for v in mesh.vertices:
        place = body().matrix_world @ v.co
        grown = Vector(c + (p - c) * f for p, c, f in zip(place, centre, factors, strict=True))
        v.co = inverse @ place.lerp(grown, float(weights[v.index]))


def goggles() -> None:
    for eye in ("left_eye", "right_eye"):
        place = at(VERTICES[eye]) + Vector((0, -0.02, 0))
        bpy.ops.mesh.primitive_cylinder_add(
            radius=0.03, depth=0.03, location=place, rotation=(np.pi / 2, 0, 0)
        )
        wear(bpy.context.object)


def tall_hat() -> None:
    top = at(VERTICES["nose"]) + Vector((0, 0.09, 0.30))
    bpy.ops.mesh.primitive_cylinder_add(radius=0.16, depth=0.35, location=top)
    wear(bpy.context.object, skinned=False)


def bun_and_cigar() -> None:
    bpy.ops.mesh.primitive_uv_sphere_add(
        radius=0.06, location=at(VERTICES["nose"]) + Vector((0, 0.2, 0.16))
    )
    wear(bpy.context.object)
    mouth = (at(VERTICES["mouth_left"]) + at(VERTICES["mouth_right"])) / 2
    bpy.ops.mesh.primitive_cylinder_add(
        radius=0.009, depth=0.16, location=mouth + Vector((0, -0.08, 0)), rotation=(np.pi / 2, 0, 0)
    )
    wear(bpy.context.object)


def headphones() -> None:
    for ear, side in (("left_ear", 1), ("right_ear", -1)):
        bpy.ops.mesh.primitive_uv_sphere_add(
            radius=0.035, location=at(VERTICES[ear]) + Vector((side * 0.045, 0, 0))
        )
        wear(bpy.context.object)


def long_hair() -> None:
    """A shell around the back of the head and the shoulders, larger than the face and weighted down the spine."""
    centre = at(VERTICES["nose"]) + Vector((0, 0.12, 0))
    bpy.ops.mesh.primitive_uv_sphere_add(radius=0.14, location=centre)
    hair = bpy.context.object
    hair.scale = (1, 1, 2.2)
    bpy.ops.object.transform_apply(scale=True)
    edit = bmesh.new()
    edit.from_mesh(hair.data)
    bmesh.ops.delete(
        edit, geom=[f for f in edit.faces if f.calc_center_median().y < 0.02], context="FACES"
    )
    edit.to_mesh(hair.data)
    wear(hair)
    low = [v.index for v in hair.data.vertices if v.co.z < -0.12]
    hair.vertex_groups.new(name="mixamorig:Spine2").add(low, 2.0, "ADD")


def no_eyes() -> None:
    slots = {i for i, s in enumerate(body().material_slots) if s.material.name in ("eyes", "iris")}
    edit = bmesh.new()
    edit.from_mesh(body().data)
    edit.faces.ensure_lookup_table()
    # The vertices stay, so that the numbers of the others do.
    bmesh.ops.delete(
        edit, geom=[f for f in edit.faces if f.material_index in slots], context="FACES_ONLY"
    )
    edit.to_mesh(body().data)


def dense_cheeks() -> None:
    """Many more vertices in the front of the face; the old ones keep their numbers."""
    nose = at(VERTICES["nose"])
    edit = bmesh.new()
    edit.from_mesh(body().data)
    inside = [
        e
        for e in edit.edges
        if all((body().matrix_world @ v.co - nose).length < 0.09 for v in e.verts)
    ]
    bmesh.ops.subdivide_edges(edit, edges=inside, cuts=3, use_grid_fill=True)
    edit.to_mesh(body().data)


def half_size() -> None:
    armature().matrix_world = Matrix.Scale(0.62, 4) @ armature().matrix_world


LOOKS: dict[str, Callable[[], None]] = {
    "plain": lambda: None,
    "goggles": goggles,
    "tall_hat": tall_hat,
    "bun_and_cigar": bun_and_cigar,
    "headphones": headphones,
    "long_hair": long_hair,
    "no_eyes": no_eyes,
    "dense_cheeks": dense_cheeks,
    "wide_head": lambda: stretch((1.2, 1.0, 1.0)),
    "tall_head": lambda: stretch((0.95, 1.0, 1.15)),
    "large_head": lambda: stretch((1.4, 1.4, 1.4)),
    "half_size": half_size,
}


def measure(path: Path, rig_map: dict) -> dict:
    importing.clear_scene()
    character = load_character(str(path), rig_map, path.stem)
    anchors = truth.anchor_landmarks(character)
    vertices = character.rest_vertices
    points = dict(zip(LANDMARKS, truth.locate(character, anchors, vertices), strict=True))
    origins = dict(zip(LANDMARKS, (a.origin for a in anchors), strict=True))
    first = character.surface.offsets["Body"]
    # The anatomy by number, wherever the file put it; ears also by what sticks out most at their height.
    front = character.rest_facing
    left = np.cross((0, 0, 1.0), front)
    head = vertices[first : first + len(bpy.data.objects["Body"].data.vertices)]
    lateral = {}
    for side, sign in (("left", 1.0), ("right", -1.0)):
        ear = head[VERTICES[f"{side}_ear"]]
        level = (np.abs(head[:, 2] - ear[2]) < 0.006 * character.height) & (
            np.linalg.norm(head - ear, axis=1) < 0.2
        )
        out = sign * (head[level] @ left)
        most = head[level][out > out.max() - 0.003]
        lateral[side] = float(np.linalg.norm(most - points[f"{side}_ear"], axis=1).min())
    return {
        "error": {n: float(np.linalg.norm(points[n] - head[v])) for n, v in VERTICES.items()},
        "lateral": lateral,
        "origin": {n: origins[n] for n in VERTICES},
        "warnings": character.imported.warnings,
        "height": character.height,
    }  # fmt: skip


def main() -> None:
    folder, samples = Path(sys.argv[1]), [Path(a) for a in sys.argv[2:]]
    rig_map = json.loads((ROOT / "assets_data/rigs/mixamo.json").read_text())
    answer = {}
    for sample in samples:
        for look, dress in LOOKS.items():
            importing.clear_scene()
            bpy.ops.wm.fbx_import(filepath=str(sample))
            dress()
            path = folder / f"{sample.stem}_{look}.fbx"
            bpy.ops.export_scene.fbx(filepath=str(path), add_leaf_bones=False, bake_anim=False)
            answer[path.stem] = measure(path, rig_map)
    print("ANSWER " + json.dumps(answer), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
