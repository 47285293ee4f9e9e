"""Renders of shipped characters with one limb turned, from the cameras of a render set: what the gate must catch.

Runs in Blender's Python: turned_limbs.py ORDER.json, where the order names skin, rig map, settings, an output folder,
and for each picture its frame, camera, bone, axis and degrees. Writes images/, masks/, depth/ and turned.npz.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import bpy
import mathutils
import numpy as np

from blender_scripts.contract import IMAGE_FOLDERS, RenderSettings
from blender_scripts.stage import camera, film, importing, light, truth
from blender_scripts.stage.character import load_character


def main() -> None:
    """Render what the order asks for."""
    order = json.loads(Path(sys.argv[-1]).read_text("utf-8"))
    settings = RenderSettings.from_dict(order["settings"])
    output = Path(order["output"])
    for folder in IMAGE_FOLDERS:
        (output / folder).mkdir(parents=True, exist_ok=True)
    turned = {}
    for picture in order["pictures"]:
        importing.clear_scene()
        character = load_character(order["skin"], order["rig_map"], "turned")
        anchors = truth.anchor_landmarks(character)
        film.set_up(settings)
        light.light(settings, character.rest_facing)
        character.at_frame(picture["frame"])
        armature = character.armature
        held = {b.name: b.matrix_basis.copy() for b in armature.pose.bones}
        armature.animation_data_clear()  # else a render would take the turn back
        for bone in armature.pose.bones:
            bone.matrix_basis = held[bone.name]
        limb = armature.pose.bones[character.rig.names[picture["bone"]]]
        turn = mathutils.Matrix.Rotation(np.radians(picture["degrees"]), 4, picture["axis"])
        limb.matrix_basis = limb.matrix_basis @ turn
        bpy.context.view_layer.update()
        everywhere = character.all_points()
        vertices = everywhere[: len(character.rest_vertices)]
        intrinsics, rotation, translation = (np.array(picture[k]) for k in ("intrinsics", "rotation", "translation"))  # fmt: skip
        pinhole = camera.Pinhole(intrinsics, rotation, translation, settings.width, settings.height)
        camera.film(pinhole)
        outline = pinhole.project(vertices)
        taken = film.shoot(output, (*outline.min(axis=0), *outline.max(axis=0)))
        image = taken.over(film.plain_backdrop())
        film.save_all(output, picture["name"], image, taken, pinhole.rotation)
        points = truth.locate(character, anchors, everywhere)
        turned[picture["name"]] = pinhole.project(points)
        print(picture["name"], flush=True)
    np.savez(output / "turned.npz", **turned)
    sys.stdout.flush()
    os._exit(0)


main()
