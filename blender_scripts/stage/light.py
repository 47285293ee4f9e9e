"""One sun, and what is seen behind the character."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bpy
import numpy as np

from blender_scripts.contract import RenderSettings
from blender_scripts.errors import InputError

#: The plain background, sRGB 0-1; light, so that dark skins and dark cloth stand out.
PLAIN_COLOUR = (0.80, 0.81, 0.83)
#: Light from everywhere, so that the side turned from the sun is not black.
AMBIENT = 0.35
SUN_ELEVATION_DEGREES = 45.0
SUN_AZIMUTH_DEGREES = 35.0


def light(settings: RenderSettings, front: np.ndarray) -> dict[str, Any]:
    """A sun over the character's right shoulder, and ambient light or the named environment map.

    Returns:
        What shines, for the truth: ``sun_direction`` (a world vector towards the sun), ``sun_energy``
        (W/m²) and ``ambient`` (radiance from everywhere; under a map only its rough measure).
    """
    scene = bpy.context.scene
    sun = bpy.data.objects.new("sun", bpy.data.lights.new("sun", "SUN"))
    sun.data.energy = settings.sun_energy
    heading = np.arctan2(front[1], front[0]) + np.pi / 2 - np.radians(SUN_AZIMUTH_DEGREES)
    sun.rotation_euler = (np.radians(90 - SUN_ELEVATION_DEGREES), 0.0, heading)
    scene.collection.objects.link(sun)

    azimuth = heading - np.pi / 2
    level = np.cos(np.radians(SUN_ELEVATION_DEGREES))
    shines = {
        "sun_direction": [
            float(level * np.cos(azimuth)),
            float(level * np.sin(azimuth)),
            float(np.sin(np.radians(SUN_ELEVATION_DEGREES))),
        ],
        "sun_energy": settings.sun_energy,
        "ambient": AMBIENT,
    }

    world = bpy.data.worlds.new("world")
    world.use_nodes = True
    scene.world = world
    background = world.node_tree.nodes["Background"]
    if settings.background == "plain":
        background.inputs["Color"].default_value = (1, 1, 1, 1)
        background.inputs["Strength"].default_value = AMBIENT
        return shines
    maps = bpy.utils.system_resource("DATAFILES", path="studiolights/world")
    path = Path(maps) / f"{settings.background}.exr"
    if not path.is_file():
        raise InputError(f"background {settings.background!r}: this Blender ships no {path.name}")
    texture = world.node_tree.nodes.new("ShaderNodeTexEnvironment")
    texture.image = bpy.data.images.load(str(path))
    world.node_tree.links.new(texture.outputs["Color"], background.inputs["Color"])
    return shines
