"""Count the skin that pokes through clothes, and inner garments through outer ones, by rays, in frames of people's motions.

Usage: prove_clothes.py FRAMES FILE… [-- MOTION…]. A vertex of the skin pokes through where a ray from it into the body meets a garment within 15 mm: the garment
lies below the skin there. So does a vertex of trousers and the like that has a top below it. Motions are cast on each person; without any, people
play what their files hold. Prints of each person: skin that pokes and all that was tried, the same of inner garments, and the motion with most of these.
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
from blender_scripts.stage.motion import cast, load_clip, play

DEPTH_M, STEP_M = 0.015, 0.0005
#: What is worn below tops that hang over it, by the names of meshes.
INNER = ("trousers", "jeans", "leggings", "shorts")
OUTER = ("t_shirt", "tank_top", "shirt", "sweater", "hoodie", "jacket", "coat", "coat_skirt")


def main() -> None:
    count = int(sys.argv[1])
    files, _, motions = (list(part) for part in _parted(sys.argv[2:]))
    rig_map = json.loads((ROOT / "assets_data/rigs/mixamo.json").read_text())
    answer = {}
    for name in files:
        found = np.zeros(4, int)
        most = ("", 0.0)
        for motion in motions or [""]:
            importing.clear_scene()
            character = load_character(name, rig_map, Path(name).stem)
            if motion:
                play(character, cast(character, load_clip(motion, rig_map, "motion")))
            start, end = character.frame_range
            mine = np.zeros(4, int)
            for frame in np.linspace(start, end, count).round().astype(int):
                character.at_frame(int(frame))
                mine += counted(character.meshes)
            found += mine
            share = mine[2] / max(mine[3], 1)
            most = max(most, (Path(motion).stem, float(share)), key=lambda m: m[1])
        answer[Path(name).stem] = [*found.tolist(), *most]
    print("ANSWER " + json.dumps(answer), flush=True)
    os._exit(0)


def _parted(words: list[str]) -> tuple[list[str], list[str], list[str]]:
    place = words.index("--") if "--" in words else len(words)
    return words[:place], words[place : place + 1], words[place + 1 :]


def counted(meshes: list[bpy.types.Object]) -> np.ndarray:
    """Skin that pokes and all skin; inner garments that poke and all of them; vertices."""
    worn = [m for m in meshes if m.get("posefactory_role") in ("garment", "shoes", "hat")]
    body = next(m for m in meshes if m.get("posefactory_role") == "body")
    inner = [m for m in worn if m.name.rpartition(":")[2].partition(".")[0] in INNER]
    outer = [m for m in worn if m.name.rpartition(":")[2].partition(".")[0] in OUTER]
    result = []
    for below, above in (([body], worn), (inner, outer)):
        poking = tried = 0
        if below and above:
            clothes = tree_of(above)
            for mesh in below:
                points, _, normals = posed(mesh)
                for point, normal in zip(points, normals, strict=True):
                    start_at = Vector(point - STEP_M * normal)
                    poking += clothes.ray_cast(start_at, Vector(-normal), DEPTH_M)[0] is not None
                tried += len(points)
        result += [poking, tried]
    return np.array(result)


def tree_of(meshes: list[bpy.types.Object]) -> BVHTree:
    vertices, polygons = [], []
    for mesh in meshes:
        points, faces, _ = posed(mesh)
        polygons += (faces + len(vertices)).tolist()
        vertices += points.tolist()
    return BVHTree.FromPolygons(vertices, polygons)


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
