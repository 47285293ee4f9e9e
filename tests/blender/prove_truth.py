"""Prove a render set's truth by pixels that do not come from its code.

Usage: prove_truth.py SKIN MOTION|- FRAME [CAMERAS]. Prints the landmarks' errors against small bright spheres
that Blender itself parents to bones and vertices, and how what rays say of sight compares with an image of part
numbers and an image of depth, rasterized by Cycles and read by code of this file. The cameras are the eight of the plain look, or those
that looks drew, as a JSON file of the looks' documents has it.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import bpy
import numpy as np

from blender_scripts.contract import (
    LANDMARKS,
    NOTHING_HIT,
    VISIBLE_WITHIN_M,
    RenderSettings,
    ring,
    sideless,
)
from blender_scripts.stage import camera, film, importing, looks, truth
from blender_scripts.stage.character import load_character
from blender_scripts.stage.motion import cast, load_clip, play
from blender_scripts.stage.opacity import Opacity

SIZE = 1024
RADIUS = 0.012


def main() -> None:
    skin, motion, frame = sys.argv[1], sys.argv[2], int(sys.argv[3])
    rig_map = json.loads((ROOT / "assets_data/rigs/mixamo.json").read_text())
    settings = RenderSettings(engine="cycles", samples=1, width=SIZE, height=SIZE)
    importing.clear_scene()
    character = load_character(skin, rig_map, "hero")
    if motion != "-":
        play(character, cast(character, load_clip(motion, rig_map, "motion")))
    anchors = truth.anchor_landmarks(character)
    film.set_up(settings)
    character.at_frame(frame)
    vertices = character.vertices()
    points = truth.locate(character, anchors, vertices)
    box = np.stack([vertices.min(axis=0), vertices.max(axis=0)])
    front = character.facing()
    cameras = [camera.place(settings, box, front, v.azimuth_degrees) for v in ring(8)]
    if len(sys.argv) > 4:
        cameras = drawn_cameras(json.loads(Path(sys.argv[4]).read_text()), settings, box, front)
    marked = cameras[:3] if len(sys.argv) < 5 else cameras[::2]  # one of each look
    with tempfile.TemporaryDirectory() as folder:
        answer = {
            "sight": compare_sight(character, anchors, points, vertices, cameras, Path(folder)),
            "markers": compare_markers(character, anchors, points, marked, Path(folder)),
        }
    print("ANSWER " + json.dumps(answer), flush=True)
    os._exit(0)


def drawn_cameras(documents, settings, box, front) -> list[camera.Pinhole]:
    """Two cameras of each look, drawn with its ranges of lens, height, roll and aim."""
    cameras = []
    for number, (name, document) in enumerate(sorted(documents.items())):
        for view in range(2):
            chance = looks.chance_of(settings, "hero", name, 1, view)
            shot = looks.draw_shot(document, settings, 90.0 * (2 * number + view), view, chance)
            cameras.append(looks.place(shot, box, front, 9.0))
    return cameras


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
        if anchor.origin == "interpolated":
            continue
        if anchor.vertices:  # Blender parents to a vertex, so the heaviest one stands for the point
            heaviest = anchor.vertices[int(np.argmax(anchor.weights))]
            anchor = dataclasses.replace(anchor, vertices=(heaviest,), weights=(1.0,))
            (point,) = truth.locate(character, [anchor], character.vertices())
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
            owner = next(
                m
                for m in reversed(character.meshes)
                if character.surface.offsets[m.name] <= heaviest
            )
            marker.parent = owner
            marker.parent_type = "VERTEX"  # no scale passed on
            marker.parent_vertices[0] = heaviest - character.surface.offsets[owner.name]
        bpy.context.view_layer.update()
        for pinhole in cameras:
            camera.film(pinhole)
            x, y = pinhole.project(point[None])[0]
            if not (50 < x < SIZE - 50 and 50 < y < SIZE - 50) or pinhole.to_camera(point[None])[0, 2] < 0.5:  # fmt: skip
                continue  # cut by the frame, or so near that a sphere is no point
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


def compare_sight(character, anchors, points, vertices, cameras, folder: Path) -> dict[str, int]:
    """Counts of landmarks: what the ray meets first, how far before the landmark, and whether it is visible."""
    scene = bpy.context.scene
    scene.cycles.pixel_filter_type = "BOX"
    scene.cycles.filter_width = 0.01
    bones = [b.name for b in character.armature.data.bones]
    opacity = Opacity(character.meshes)
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
    names = (
        "part_agree",
        "part_disagree",
        "gap_agree",
        "gap_disagree",
        "visible_agree",
        "visible_disagree",
        "within_tolerance",
        "edge",
    )
    counts = dict.fromkeys(names, 0)
    scale = min(1.0, character.height / truth.TOLERANCE_HEIGHT_M)
    for pinhole in cameras:
        camera.film(pinhole)
        picture = film.shoot(folder, None)
        part = np.rint(to_linear(picture.rgba[..., 0]) * 255).astype(int) - 1
        part[picture.rgba[..., 3] < 0.5] = NOTHING_HIT
        sight = truth.look(character, anchors, points, vertices, pinhole, picture.mask, opacity, {})
        rows, columns = np.mgrid[0:SIZE, 0:SIZE] + 0.5
        focal, centre = pinhole.intrinsics[0, 0], pinhole.intrinsics[:2, 2]
        slant = np.hypot(1.0, np.hypot((columns - centre[0]) / focal, (rows - centre[1]) / focal))
        along_ray = (
            picture.distance * slant
        )  # metres from the camera, where depth is along its axis
        for i, (name, anchor, point) in enumerate(zip(LANDMARKS, anchors, points, strict=True)):
            x, y = np.floor(pinhole.project(point[None])[0]).astype(int)
            if not sight.in_frame[i] or not (8 < x < SIZE - 8 and 8 < y < SIZE - 8):
                continue
            window = slice(y - 1, y + 2), slice(x - 1, x + 2)
            around, near = part[window].ravel(), along_ray[window]
            flat = np.isfinite(near).all() and np.ptp(near) < 0.01
            if len(set(around.tolist())) > 1 or not (flat or (around == NOTHING_HIT).all()):
                counts["edge"] += 1
                continue
            own = {bones.index(b) for b in anchor.parts} | {NOTHING_HIT}
            right = (int(around[0]) in own) == bool(sight.visible_part[i])
            counts["part_agree" if right else "part_disagree"] += 1
            distance = float(np.linalg.norm(point - pinhole.position))
            gap = max(0.0, distance - float(near[1, 1])) if flat else 0.0
            close = abs(gap - float(sight.occluder_gap_m[i])) < 0.005
            counts["gap_agree" if close else "gap_disagree"] += 1
            tolerance = VISIBLE_WITHIN_M[sideless(name)] * scale
            if abs(gap - tolerance) < 0.005:
                counts["edge"] += 1
                continue
            seen = gap <= tolerance
            if anchor.vertices and seen:
                # A point of the surface is in sight where pixels around it show the surface around it.
                r = max(1, round(truth.PATCH_M * focal / distance))
                there = np.s_[y - r : y + r + 1, x - r : x + r + 1]
                lateral = (
                    np.hypot(columns[there] - 0.5 - x, rows[there] - 0.5 - y) / focal
                ) * distance
                reach = np.hypot(lateral, along_ray[there] - distance)
                in_sight = bool((reach < truth.PATCH_M).any())
                if not in_sight and gap > truth.PATCH_M / 2:
                    counts["within_tolerance"] += (
                        1  # an ear from behind: not itself in sight, and told by the rule
                    )
                    continue
                seen = in_sight
            counts["visible_agree" if seen == sight.visible[i] else "visible_disagree"] += 1
    return counts


main()
