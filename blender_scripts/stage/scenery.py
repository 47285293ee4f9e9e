"""Where a person stands: a place, a landscape or a plain floor, its light, and how both come into a picture.

Two scenes share the camera. In the first are the person, the lamps, and the place as what it is to the person: it hides, it reflects
light, and it receives the person's shadow, but is not seen itself. In the second is the place alone, which shines by the light that
was computed for it once (``sets.bake``): a picture of it costs one ray a pixel. The pictures are laid over each other in linear light.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import bpy
import mathutils
import numpy as np

from blender_scripts.contract import HDRIS, RenderSettings
from blender_scripts.errors import InputError
from blender_scripts.stage import sets
from blender_scripts.stage.looks import drawn

#: Half the side of the floor that receives shadows, metres; it moves with the person.
SHADOW_HALF_M = 2.4
#: How high it lies over the floor: above rugs, below soles' edges.
SHADOW_HEIGHT_M = 0.004
#: Samples of a place's picture, which has no noise but that of edges and textures.
PLATE_SAMPLES = 4
#: A camera may stand so far away where nothing says otherwise, metres.
OPEN_REACH_M = 9.0


class Scenery:
    """The surroundings of a look in the present scene; built before people are imported or after, as both leave each other alone.

    Attributes:
        shines: what lights it, for the truth (see ``light.light``). drawn: the values that were drawn, for the record.
        reach: how far from the person a camera may stand, metres. objects: names of what can hide a person.
    """

    def __init__(
        self, look: Mapping[str, Any], settings: RenderSettings, chance: np.random.Generator
    ) -> None:
        self._settings = settings
        self._scene = bpy.context.scene
        self.reach = OPEN_REACH_M
        self.drawn: dict[str, Any] = {}
        self.shines: dict[str, Any] = {"sun_direction": [0.0, 0.0, 1.0], "sun_energy": 0.0, "ambient": 0.35}  # fmt: skip
        self._moved: list[tuple[bpy.types.Object, mathutils.Vector]] = []
        self._background: np.ndarray | None = None
        self.objects: set[str] = set()
        environment = look.get("environment", {})
        self._plate = bpy.data.scenes.new("plate")
        self._world(environment, look.get("light", {}), chance)
        seed = int(chance.integers(2**31)) if environment.get("seed") is None else int(environment["seed"])  # fmt: skip
        if "set" in environment:
            self._build_set(environment["set"], seed, chance)
        else:
            self._open_floor(look.get("floor", {}), chance)
        self._catcher = self._add_catcher()
        self._set_up_plate()

    # -- light ------------------------------------------------------------------------------------------------------------------

    def _world(self, environment: Mapping[str, Any], light: Mapping[str, Any], chance: np.random.Generator) -> None:  # fmt: skip
        world = bpy.data.worlds.new("surroundings")
        world.use_nodes = True
        self._scene.world = self._plate.world = world
        tree = world.node_tree
        background = tree.nodes["Background"]
        turn = math.radians(drawn(environment.get("rotation_degrees"), chance, float(chance.uniform(0, 360))))  # fmt: skip
        strength = 2.0 ** drawn(environment.get("exposure_stops"), chance, 0.0)
        self.drawn["environment_rotation_degrees"] = round(math.degrees(turn) % 360, 2)
        outdoor = environment.get("set") in sets.PLACES and sets.PLACES[environment["set"]][2]
        if "hdri" in environment:
            self._image_world(tree, background, environment["hdri"], turn, strength)
        elif outdoor or environment.get("sky"):
            self._sky(tree, background, light, strength, chance)
        else:
            level = drawn(environment.get("ambient"), chance, 0.06 if "set" in environment else 0.35)  # fmt: skip
            background.inputs["Color"].default_value = (1, 1, 1, 1)
            background.inputs["Strength"].default_value = level
            self.shines["ambient"] = level
        if "sun" in light and not (outdoor or environment.get("sky")):
            self._sun(light["sun"], chance)
        for lamp in light.get("areas", []):
            self._lamp(
                sets.Lamp(
                    tuple(lamp["position"]), tuple(-np.array(lamp["position"]) + (0, 0, 1.0)), (drawn(lamp.get("size_m"), chance, 1.0),) * 2,
                    drawn(lamp["watts"], chance), tuple(lamp.get("colour", (1.0, 1.0, 1.0))),
                )
            )  # fmt: skip

    def _image_world(self, tree: bpy.types.NodeTree, background: bpy.types.Node, name: str, turn: float, strength: float) -> None:  # fmt: skip
        path = Path(name)
        if name in HDRIS:
            maps = bpy.utils.system_resource("DATAFILES", path="studiolights/world")
            path = Path(maps) / f"{name}.exr"
        if not path.is_file():
            raise InputError(f"look: no environment map {name!r}; the names that ship are {', '.join(HDRIS)}")  # fmt: skip
        image = bpy.data.images.load(str(path))
        if not image.size[0] or image.size[0] < image.size[1]:
            raise InputError(f"look: {path.name} is no environment map that can be read (an equirectangular EXR or HDR is)")  # fmt: skip
        texture = tree.nodes.new("ShaderNodeTexEnvironment")
        texture.image = image
        mapping = tree.nodes.new("ShaderNodeMapping")
        mapping.inputs["Rotation"].default_value = (0, 0, turn)
        where = tree.nodes.new("ShaderNodeTexCoord")
        tree.links.new(where.outputs["Generated"], mapping.inputs["Vector"])
        tree.links.new(mapping.outputs["Vector"], texture.inputs["Vector"])
        tree.links.new(texture.outputs["Color"], background.inputs["Color"])
        background.inputs["Strength"].default_value = strength
        self.drawn["hdri"] = path.stem

    def _sky(self, tree: bpy.types.NodeTree, background: bpy.types.Node, light: Mapping[str, Any], strength: float, chance: np.random.Generator) -> None:  # fmt: skip
        """The sky of a time of day (Nishita's model), and the sun at its place in it."""
        sun = light.get("sun", {})
        elevation = drawn(sun.get("elevation_degrees"), chance, float(chance.uniform(18, 65)))
        azimuth = drawn(sun.get("azimuth_degrees"), chance, float(chance.uniform(0, 360)))
        sky = tree.nodes.new("ShaderNodeTexSky")
        sky.sky_type, sky.sun_disc = "NISHITA", False
        sky.sun_elevation, sky.sun_rotation = math.radians(elevation), math.radians(90 - azimuth)
        tree.links.new(sky.outputs["Color"], background.inputs["Color"])
        background.inputs["Strength"].default_value = 0.20 * strength
        low = math.sin(math.radians(elevation))
        warm = (1.0, 0.80 + 0.16 * low, 0.60 + 0.32 * low)
        self._sun({**sun, "elevation_degrees": elevation, "azimuth_degrees": azimuth, "colour": warm}, chance)  # fmt: skip

    def _sun(self, sun: Mapping[str, Any], chance: np.random.Generator) -> None:
        elevation = drawn(sun.get("elevation_degrees"), chance, 45.0)
        azimuth = drawn(sun.get("azimuth_degrees"), chance, float(chance.uniform(0, 360)))
        energy = drawn(sun.get("energy"), chance, 3.2)
        rise, heading = math.radians(elevation), math.radians(azimuth)
        towards = (math.cos(rise) * math.cos(heading), math.cos(rise) * math.sin(heading), math.sin(rise))  # fmt: skip
        lamp = bpy.data.lights.new("sun", "SUN")
        lamp.energy, lamp.angle = energy, math.radians(drawn(sun.get("angle_degrees"), chance, 0.9))
        lamp.color = sun.get("colour", (1.0, 0.97, 0.92))
        obj = bpy.data.objects.new("sun", lamp)
        obj.rotation_euler = mathutils.Vector(towards).to_track_quat("Z", "Y").to_euler()
        self._scene.collection.objects.link(obj)
        self.shines |= {"sun_direction": list(towards), "sun_energy": energy}
        self.drawn |= {"sun_elevation_degrees": round(elevation, 2), "sun_azimuth_degrees": round(azimuth % 360, 2), "sun_energy": round(energy, 3)}  # fmt: skip

    def _lamp(self, lamp: sets.Lamp, turn: float = 0.0) -> None:
        data = bpy.data.lights.new("lamp", "AREA")
        data.shape, data.energy, data.color = "RECTANGLE", lamp.watts, lamp.colour
        data.size, data.size_y = lamp.size
        obj = bpy.data.objects.new("lamp", data)
        turned = mathutils.Matrix.Rotation(turn, 3, "Z")
        obj.location = turned @ mathutils.Vector(lamp.location)
        obj.rotation_euler = (turned @ mathutils.Vector(lamp.towards)).to_track_quat("-Z", "Y").to_euler()  # fmt: skip
        self._scene.collection.objects.link(obj)
        self._moved.append((obj, obj.location.copy()))

    # -- places -----------------------------------------------------------------------------------------------------------------

    def _build_set(self, name: str, seed: int, chance: np.random.Generator) -> None:
        place, obj = sets.build(name, seed)
        self.reach = place.reach
        # Outdoors the sun's place in the sky is drawn, and the street lies as it was built.
        turn = 0.0 if place.outdoor else float(chance.uniform(0, 2 * math.pi))
        obj.rotation_euler = (0.0, 0.0, turn)
        for lamp in place.lamps:
            self._lamp(lamp, turn)
        self.drawn |= {"set": name, "set_seed": seed}
        sets.bake(obj)
        self._take_in(obj)

    def _open_floor(self, floor: Mapping[str, Any], chance: np.random.Generator) -> None:
        """A floor without walls, that ends in the environment or in a plain colour."""
        kind = floor.get("kind", "concrete")
        if kind == "none":
            return
        place = sets.Place("floor", np.random.default_rng(int(chance.integers(2**31))), self.reach, True)  # fmt: skip
        place.floor(40.0, place.material(FLOORS[kind](place.chance)))
        self.drawn["floor"] = kind
        obj = sets.finish(place)
        sets.bake(obj)
        self._take_in(obj)

    def _take_in(self, obj: bpy.types.Object) -> None:
        """Show an object in the pictures of the place; to the person it hides, reflects and takes shadows."""
        seen = bpy.data.objects.new(f"{obj.name}_seen", obj.data)
        seen.rotation_euler = obj.rotation_euler
        self._plate.collection.objects.link(seen)
        obj.is_shadow_catcher = True
        self.objects.add(obj.name)
        self._moved += [(obj, obj.location.copy()), (seen, seen.location.copy())]

    def _add_catcher(self) -> bpy.types.Object:
        half = SHADOW_HALF_M
        mesh = bpy.data.meshes.new("shadow_floor")
        mesh.from_pydata([(-half, -half, 0), (half, -half, 0), (half, half, 0), (-half, half, 0)], [], [(0, 1, 2, 3)])  # fmt: skip
        obj = bpy.data.objects.new("shadow_floor", mesh)
        obj.location.z = SHADOW_HEIGHT_M
        obj.is_shadow_catcher = True
        self._scene.collection.objects.link(obj)
        self.objects.add(obj.name)
        self._moved.append((obj, obj.location.copy()))
        return obj

    def _set_up_plate(self) -> None:
        plate, render = self._plate, self._plate.render
        plate.render.engine = "CYCLES"
        plate.cycles.device = "CPU"
        plate.cycles.samples = PLATE_SAMPLES
        plate.cycles.max_bounces = 0
        plate.cycles.use_denoising = plate.cycles.use_adaptive_sampling = False
        plate.cycles.seed = self._settings.seed
        render.use_persistent_data = True
        render.use_border = render.use_stamp = False
        plate.view_settings.view_transform = "Raw"
        output = render.image_settings
        output.file_format, output.color_depth, output.exr_codec = "OPEN_EXR", "32", "NONE"
        output.color_mode = "RGB"

    def stand_under(self, point: np.ndarray) -> None:
        """Move the place so that its middle lies under a point (3,), world frame."""
        for obj, start in self._moved:
            obj.location = start + mathutils.Vector((float(point[0]), float(point[1]), 0.0))

    def film(self, scratch: Path) -> np.ndarray:
        """The place as the camera sees it without people: (H, W, 3) float32, linear.

        Raises:
            OSError: the picture could not be written.
        """
        from blender_scripts.stage.film import read_exr

        path = scratch / "plate.exr"
        self._plate.render.filepath = str(path)
        bpy.ops.render.render(write_still=True, scene=self._plate.name)
        values, names = read_exr(path)
        return values[..., [names.index(c) for c in "RGB"]]

    @property
    def plate(self) -> bpy.types.Scene:
        """The scene of the place alone."""
        return self._plate


def _floor(one: sets.Colour, two: sets.Colour, pattern: str, scale: float, contrast: float) -> Any:
    def make(chance: np.random.Generator) -> bpy.types.Material:
        spread = chance.uniform(0.8, 1.2, 3)
        tinted = tuple(float(min(c * s, 0.85)) for c, s in zip(one, spread, strict=True))
        return sets.paint("floor", tinted, two, pattern, scale, contrast)  # type: ignore[arg-type]

    return make


#: Floors by kind.
FLOORS = {
    "concrete": _floor((0.34, 0.33, 0.32), (0.27, 0.27, 0.26), "noise", 2.5, 0.8),
    "wood": _floor((0.36, 0.22, 0.12), (0.28, 0.17, 0.09), "planks", 1.0, 0.6),
    "tiles": _floor((0.50, 0.48, 0.45), (0.40, 0.39, 0.37), "tiles", 2.0, 0.4),
    "grass": _floor((0.06, 0.13, 0.025), (0.14, 0.22, 0.06), "noise", 5.0, 1.1),
    "sand": _floor((0.45, 0.36, 0.25), (0.38, 0.30, 0.20), "noise", 4.0, 0.7),
    "asphalt": _floor((0.08, 0.08, 0.085), (0.12, 0.12, 0.12), "noise", 5.0, 0.9),
}
