"""Prove a render set's truth by pixels that do not come from its code.

Usage: prove_truth.py SKIN MOTION|- FRAME. Prints the landmarks' errors against small bright spheres
that Blender itself parents to bones and vertices, and how visibility compares with an image of part
numbers, rasterized by Cycles.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import bpy
import numpy as np

from blender_scripts.contract import LANDMARKS, RenderSettings, view_azimuths
from blender_scripts.stage import camera, fbx, film, truth
from blender_scripts.stage.character import load_character
from blender_scripts.stage.motion import cast

SIZE = 1024
RADIUS = 0.012


def main() -> None:
    skin, motion, frame = sys.argv[1], sys.argv[2], int(sys.argv[3])
    rig_map = json.loads((ROOT / "assets_data/rigs/mixamo.json").read_text())
    settings = RenderSettings(engine="cycles", samples=1, width=SIZE, height=SIZE)
    fbx.clear_scene()
    character = load_character(skin, rig_map, "hero")
    if motion != "-":
        cast(character, motion, "motion")
    anchors = truth.anchor_landmarks(character)
    film.set_up(settings)
    character.at_frame(frame)
    vertices = character.vertices()
    points = truth.locate(character, anchors, vertices)
    box = np.stack([vertices.min(axis=0), vertices.max(axis=0)])
    front = character.facing()
    cameras = [camera.place(settings, box, front, a) for _, a in view_azimuths(8)]
    with tempfile.TemporaryDirectory() as folder:
        answer = {
            "parts": compare_parts(character, anchors, points, cameras, Path(folder)),
            "markers": compare_markers(character, anchors, points, cameras[:3], Path(folder)),
        }
    print("ANSWER " + json.dumps(answer), flush=True)
    os._exit(0)


def emission(name: str, value: float) -> bpy.types.Material:
    material = bpy.data.materials.new(name)
    material.use_nodes = True
    nodes = material.node_tree.nodes
    nodes.clear()
    shader, output = nodes.new("ShaderNodeEmission"), nodes.new("ShaderNodeOutputMaterial")
    shader.inputs["Color"].default_value = (value, value, value, 1)
    material.node_tree.links.new(shader.outputs[0], output.inputs[0])
    return material


def compare_markers(character, anchors, points, cameras, folder: Path) -> dict[str, float]:
    """Largest distance in pixels, by landmark, between the truth and a rendered sphere's centre."""
    scene = bpy.context.scene
    scene.cycles.samples = 16
    scene.view_settings.view_transform = "Raw"
    white = emission("marker", 1.0)
    for mesh in character.meshes:
        mesh.hide_render = True
    errors: dict[str, float] = {}
    scale = character.armature.matrix_world.to_scale()[0]
    for name, anchor, point in zip(LANDMARKS, anchors, points, strict=True):
        if anchor.origin == "interpolated" or len(anchor.vertices) > 1:
            continue
        bpy.ops.mesh.primitive_ico_sphere_add(radius=RADIUS, subdivisions=3)
        marker = bpy.context.object
        marker.data.materials.append(white)
        if anchor.origin == "bone":
            bone = character.armature.data.bones[character.rig.names[anchor.bones[0]]]
            marker.parent = character.armature
            marker.parent_type = "BONE"
            marker.parent_bone = bone.name
            marker.location = (0, -bone.length, 0)  # a bone's children start at its tail
            marker.scale = (1 / scale,) * 3
        else:
            (vertex,) = anchor.vertices
            owner = next(
                m for m in reversed(character.meshes) if character.surface.offsets[m.name] <= vertex
            )
            marker.parent = owner
            marker.parent_type = "VERTEX"
            marker.parent_vertices[0] = (
                vertex - character.surface.offsets[owner.name]
            )  # no scale passed on
        bpy.context.view_layer.update()
        for pinhole in cameras:
            camera.film(pinhole)
            x, y = pinhole.project(point[None])[0]
            picture = film.shoot(folder, (x - 40, y - 40, x + 40, y + 40))
            weight = np.zeros((picture.height, picture.width))
            h, w = picture.rgba.shape[:2]
            weight[picture.top : picture.top + h, picture.left : picture.left + w] = picture.rgba[
                ..., 3
            ]
            rows, columns = np.mgrid[0:SIZE, 0:SIZE] + 0.5
            found = np.array([(weight * columns).sum(), (weight * rows).sum()]) / max(
                weight.sum(), 1e-9
            )
            error = float(np.hypot(found[0] - x, found[1] - y))
            errors[name] = max(errors.get(name, 0.0), error)
        bpy.data.objects.remove(marker, do_unlink=True)
    for mesh in character.meshes:
        mesh.hide_render = False
    return errors


def to_linear(srgb: np.ndarray) -> np.ndarray:
    """Undo sRGB's curve (IEC 61966-2-1)."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def compare_parts(character, anchors, points, cameras, folder: Path) -> dict[str, int]:
    """Counts of landmarks that agree, disagree, and lie on an edge between parts."""
    scene = bpy.context.scene
    scene.cycles.pixel_filter_type = "BOX"
    scene.cycles.filter_width = 0.01
    bones = [b.name for b in character.armature.data.bones]
    materials = [emission(f"part {i}", (i + 1) / 255) for i in range(len(bones) + 1)]
    for mesh in character.meshes:
        groups = {g.index: bones.index(g.name) for g in mesh.vertex_groups if g.name in bones}
        mesh.data.materials.clear()
        for material in materials:
            mesh.data.materials.append(material)
        heaviest = []
        for vertex in mesh.data.vertices:
            weights = {groups[g.group]: g.weight for g in vertex.groups if g.group in groups}
            heaviest.append(max(weights, key=weights.get) if weights else len(bones))
        for polygon in mesh.data.polygons:
            corners = [heaviest[v] for v in polygon.vertices]
            polygon.material_index = max(set(corners), key=corners.count)
    counts = {"agree": 0, "disagree": 0, "edge": 0}
    for pinhole in cameras:
        camera.film(pinhole)
        picture = film.shoot(folder, None)
        part = np.rint(to_linear(picture.rgba[..., 0]) * 255).astype(int) - 1
        part[picture.rgba[..., 3] < 0.5] = -2  # nothing there
        seen = truth.visibility(character, anchors, points, pinhole)
        for anchor, point, visible in zip(anchors, points, seen, strict=True):
            x, y = np.floor(pinhole.project(point[None])[0]).astype(int)
            own = {bones.index(b) for b in anchor.parts} | {-2}
            around = [int(p) in own for p in part[y - 1 : y + 2, x - 1 : x + 2].ravel()]
            if len(set(around)) > 1:
                counts["edge"] += 1
            elif around[0] == (visible == truth.VISIBLE):
                counts["agree"] += 1
            else:
                counts["disagree"] += 1
    return counts


main()
