"""The plain way to render eight views: one process, full frames, one after the other. No truth.

python benchmarks/plain_render.py CHARACTER.fbx FOLDER
"""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path

import bpy


def main() -> None:
    """Import, place a camera eight times, write eight files."""
    out = Path(sys.argv[2])
    out.mkdir()
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.ops.import_scene.fbx(filepath=sys.argv[1])
    scene = bpy.context.scene
    scene.frame_set(30)
    camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
    sun = bpy.data.objects.new("sun", bpy.data.lights.new("sun", "SUN"))
    sun.data.energy = 3.0
    sun.rotation_euler = (0.8, 0, 0.6)
    for obj in (camera, sun):
        scene.collection.objects.link(obj)
    scene.camera = camera
    camera.data.angle = math.radians(50)
    scene.world = bpy.data.worlds.new("world")
    scene.render.engine = "CYCLES"
    scene.cycles.samples = 8
    scene.cycles.use_denoising = False
    scene.render.resolution_x = scene.render.resolution_y = 512
    for i in range(8):
        angle = math.radians(45 * i)
        camera.location = (3 * math.sin(angle), -3 * math.cos(angle), 0.9)
        camera.rotation_euler = (math.pi / 2, 0, angle)
        scene.render.filepath = str(out / f"{i}.png")
        bpy.ops.render.render(write_still=True)
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
