"""Count the skin that pokes through clothes, by rays, in frames of people's motions.

Usage: prove_clothes.py FRAMES FILE…. A vertex of the skin pokes through where a ray from it into the body meets a garment within 15 mm: the garment
lies below the skin there.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import bpy
import numpy as np
from mathutils import Vector
from mathutils.bvhtree import BVHTree

from blender_scripts.stage import importing
from blender_scripts.stage.character import load_character

DEPTH_M, STEP_M = 0.015, 0.0005


def main() -> None:
    count = int(sys.argv[1])
    rig_map = json.loads((ROOT / "assets_data/rigs/mixamo.json").read_text())
    answer = {}
    for name in sys.argv[2:]:
        importing.clear_scene()
        character = load_character(name, rig_map, Path(name).stem)
        start, end = character.frame_range
        poking, tried = 0, 0
        for frame in np.linspace(start, end, count).round().astype(int):
            character.at_frame(int(frame))
            worn = [
                m
                for m in character.meshes
                if m.get("posefactory_role") in ("garment", "shoes", "hat")
            ]
            vertices, polygons = [], []
            for mesh in worn:
                points, faces, _ = posed(mesh)
                polygons += (faces + len(vertices)).tolist()
                vertices += points.tolist()
            clothes = BVHTree.FromPolygons(vertices, polygons)
            skin, _, normals = posed(
                next(m for m in character.meshes if m.get("posefactory_role") == "body")
            )
            for point, normal in zip(skin, normals, strict=True):
                start_at = Vector(point - STEP_M * normal)
                poking += clothes.ray_cast(start_at, Vector(-normal), DEPTH_M)[0] is not None
            tried += len(skin)
        answer[Path(name).stem] = [poking, tried]
    print("ANSWER " + json.dumps(answer), flush=True)
    os._exit(0)


def posed(obj: bpy.types.Object) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices, triangles and vertex normals of a mesh as it is deformed now, world frame."""
    mesh = obj.evaluated_get(bpy.context.evaluated_depsgraph_get()).data
    matrix = np.array(obj.matrix_world)
    points = np.empty(len(mesh.vertices) * 3, np.float32)
    mesh.vertices.foreach_get("co", points)
    normals = np.empty(len(mesh.vertices) * 3, np.float32)
    mesh.vertex_normals.foreach_get("vector", normals)
    mesh.calc_loop_triangles()
    faces = np.empty(len(mesh.loop_triangles) * 3, np.int32)
    mesh.loop_triangles.foreach_get("vertices", faces)
    return points.reshape(-1, 3) @ matrix[:3, :3].T + matrix[:3, 3], faces.reshape(-1, 3), normals.reshape(-1, 3) @ matrix[:3, :3].T  # fmt: skip


main()
