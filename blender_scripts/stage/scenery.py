"""Where a person stands: a place, a landscape or a plain floor, its light, and how both come into a picture.

Two scenes share the camera. In the second is the place alone, which shines by the light that was computed for it once
(``sets.bake``): a picture of it costs one ray a pixel. In the first is the person with sun and lamps, and of the place what it does
to the person: what stands before the person hides it, and all around light comes from a panorama of the place, taken where the person
stands. How much light the person takes from the floor is computed once for a pose, on a grid around its feet, and darkens the
pictures of the place. The two pictures are laid over each other in linear light.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import bmesh
import bpy
import mathutils
import numpy as np

from blender_scripts.contract import HDRIS, RenderSettings
from blender_scripts.errors import InputError
from blender_scripts.stage import looks, scripts, seating, sets
from blender_scripts.stage.camera import Pinhole
from blender_scripts.stage.film import evened, flat_image, read_exr
from blender_scripts.stage.looks import drawn

#: Half the side of the grid on which a person's shadow is known, metres, its points along a side, and how broad its border fades.
SHADOW_HALF_M, SHADOW_POINTS, SHADOW_FADE_M = 1.5, 81, 0.35
#: Around a group the grid goes so much further than anybody, metres; the room that is made for it comes in steps of so much, so that
#: groups share the light of a place.
SHADOW_AROUND_M, ROOM_STEP_M = 1.0, 0.5
#: Samples of a point of it, and how far its noise is evened out, in points.
SHADOW_SAMPLES, SHADOW_BLUR = 10, 0.8
#: What lies so near to z = 0 is floor, metres: rugs too.
FLOOR_M = 0.03
#: The panorama that lights the person: pixels, height over the floor in metres, and the brightest that it may be, as lamps and the sun
#: shine by themselves.
PANORAMA_SIZE, PANORAMA_HEIGHT_M, PANORAMA_MAX = (256, 128), 1.2, 4.0
#: How high over the ground environment maps are taken to be photographed, metres.
PROJECTION_HEIGHT_M = 1.7
#: Samples of a place's picture, which has no noise but that of edges and textures, and how far it is evened out, in pixels: two are
#: 43 dB from 64 so, where three as they are have 41.
PLATE_SAMPLES, PLATE_CLAMP, PLATE_BLUR = 2, 1.5, 0.5
#: A camera may stand so far away where nothing says otherwise, metres.
OPEN_REACH_M = 9.0


#: The light of places that this process has computed, (V, 3) by look, seed, variant and document.
_BAKED: dict[tuple[Any, ...], np.ndarray] = {}


class Scenery:
    """The surroundings of a look in the present scene; built before people are imported or after, as both leave each other alone.

    Attributes:
        shines: what lights it, for the truth (see ``light.light``). drawn: the values that were drawn, for the record.
        reach: how far from the person a camera may stand, metres.
    """

    def __init__(self, look: Mapping[str, Any], name: str, settings: RenderSettings, variant: int, around: float = 0.0, group: bool = False) -> None:  # fmt: skip
        """Build the surroundings.

        Args:
            look: its document. name: its name. variant: which of the look's variants; the same one is the same for everybody.
            around: how far from the middle anybody comes, metres. group: whether furniture must make room for so much, and the shadow reach so far: for groups, and where people go about a place that stands still.

        Raises:
            InputError: an image of it is none, or its script fails.
        """
        self._around = math.ceil(around / ROOM_STEP_M) * ROOM_STEP_M
        self._room = self._around if group else 0.0
        self._shadow_half = max(SHADOW_HALF_M, self._room + SHADOW_AROUND_M if group else 0.0)
        self._look, self._name = look, name
        # Without props, where people go changes nothing of a place.
        beside = self._around if look.get("props") else self._room
        chance = looks.chance_of(settings, "", name, variant)
        self._key = (
            name,
            settings.seed,
            variant,
            self._room,
            beside,
            json.dumps(look, sort_keys=True, default=list),
        )
        self._settings = settings
        self._scene = bpy.context.scene
        self.reach = OPEN_REACH_M
        self.drawn: dict[str, Any] = {"variant": variant}
        self.shines: dict[str, Any] = {"sun_direction": [0.0, 0.0, 1.0], "sun_energy": 0.0, "ambient": 0.35}  # fmt: skip
        self._moved: list[tuple[bpy.types.Object, mathutils.Vector]] = []
        self._projection: tuple[bpy.types.Image, float, float] | None = None
        environment = look.get("environment", {})
        self._plate = bpy.data.scenes.new("plate")
        self._world(environment, look.get("light", {}), chance)
        self._backdrops = [Path(i["path"]) for i in environment.get("images", [])]
        if self._backdrops:
            self.shines["ambient"] = 0.35
        elif "set" in environment:
            self._build_set(environment["set"], int(chance.integers(2**31)), chance)
        else:
            self._open_floor(look.get("floor", {}), chance)
        self._set_up_plate()
        self._light_by_panorama()
        self._grid = self._add_grid()
        self._lit: np.ndarray | None = None

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
        self._outdoors = outdoor or bool(environment.get("sky")) or "hdri" in environment
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
        self._projection = (image, turn, strength)

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
        place = sets.build(name, seed, self._room)
        self.reach = place.reach
        self._add_to(place, chance)
        obj = sets.finish(place)
        # Outdoors the sun's place in the sky is drawn, and the street lies as it was built.
        turn = 0.0 if place.outdoor else float(chance.uniform(0, 2 * math.pi))
        obj.rotation_euler = (0.0, 0.0, turn)
        for lamp in place.lamps:
            self._lamp(lamp, turn)
        self.drawn |= {"set": name, "set_seed": seed}
        self._bake(obj)
        self._take_in(obj)

    def _open_floor(self, floor: Mapping[str, Any], chance: np.random.Generator) -> None:
        """A floor without walls, that ends in the environment or in a plain colour."""
        kind = floor.get("kind", "concrete" if self._projection is None else "projected")
        place = sets.Place("floor", np.random.default_rng(int(chance.integers(2**31))), self.reach, True)  # fmt: skip
        self.drawn["floor"] = kind
        if self._projection is not None and kind == "projected":
            ground = sets.Place("ground", place.chance, self.reach, True)
            ground.floor(60.0, ground.material(_projected(*self._projection)))
            self._take_in(sets.finish(ground))
        elif kind != "none":
            place.floor(40.0, place.material(FLOORS[kind](place.chance)))
        self._add_to(place, chance)
        if not place.mesh.verts:
            place.mesh.free()
            return
        obj = sets.finish(place)
        for lamp in place.lamps:
            self._lamp(lamp)
        self._bake(obj)
        self._take_in(obj)

    def _add_to(self, place: sets.Place, chance: np.random.Generator) -> None:
        """Put what a look adds about people into a place that is built but not finished: its props, then what its script builds."""
        props = self._look.get("props")
        if props:
            names = props.get("kinds") or list(sets.PROPS)
            standing = []
            for _ in range(round(drawn(props.get("count"), chance, 2.0))):
                name = names[int(chance.integers(len(names)))]
                away = self._around + drawn(props.get("distance_m"), chance, float(chance.uniform(0.3, 1.2)))  # fmt: skip
                angle, turn = chance.uniform(0, 2 * math.pi), float(chance.uniform(0, 360))
                sets.PROPS[name](place, (away * math.cos(angle), away * math.sin(angle)), turn)
                standing.append(name)
            self.drawn["props"] = standing
        if "script" in self._look:
            scripts.run(self._look["script"], self._name, place)

    def _bake(self, obj: bpy.types.Object) -> None:
        """Compute the light of a place, or take what was computed for the same place before."""
        if self._key in _BAKED:
            sets.shine(obj, _BAKED[self._key])
            return
        _BAKED[self._key] = sets.bake(obj)

    def _take_in(self, obj: bpy.types.Object) -> None:
        """Show an object in the pictures of the place; to the person it hides, reflects and takes shadows."""
        seen = bpy.data.objects.new(f"{obj.name}_seen", obj.data)
        seen.rotation_euler = obj.rotation_euler
        self._plate.collection.objects.link(seen)
        # Nothing of its own look is needed to hide somebody.
        obj.data = obj.data.copy()
        obj.data.materials.clear()
        obj.is_holdout = True
        obj.visible_diffuse = obj.visible_glossy = obj.visible_shadow = False
        obj.visible_transmission = obj.visible_volume_scatter = False
        self._moved += [(obj, obj.location.copy()), (seen, seen.location.copy())]

    def furnish(self, seats: Sequence[seating.Seat], chance: np.random.Generator) -> list[bpy.types.Object]:  # fmt: skip
        """Put seats where people sit: they are lit and filmed with the people, as they touch them."""
        found = []
        for seat in seats:
            kinds = seating.OUTDOORS if self._outdoors else seating.INDOORS
            kind = kinds[int(chance.integers(len(kinds)))]
            found.append(seating.build(seat, kind, chance))
            self.drawn.setdefault("seats", []).append(kind)
        return found

    def _add_grid(self) -> bpy.types.Object:
        """The grid of floor around the person's feet, that is there only while light is computed on it."""
        made = bmesh.new()
        bmesh.ops.create_grid(made, x_segments=SHADOW_POINTS - 1, y_segments=SHADOW_POINTS - 1, size=self._shadow_half)  # fmt: skip
        mesh = bpy.data.meshes.new("shadow_grid")
        made.to_mesh(mesh)
        made.free()
        obj = bpy.data.objects.new("shadow_grid", mesh)
        obj.hide_render = obj.hide_viewport = True
        self._scene.collection.objects.link(obj)
        self._moved.append((obj, obj.location.copy()))
        points = np.empty(len(mesh.vertices) * 3, np.float32)
        mesh.vertices.foreach_get("co", points)
        # Row by row from the lowest y, in each from the lowest x.
        self._order = np.lexsort(points.reshape(-1, 3)[:, :2].round(4).T)
        return obj

    def cast_shadow(self, people: Sequence[bpy.types.Object]) -> np.ndarray:
        """How much of the floor's light the people leave as they stand now, (P, P, 3) on the grid; after ``stand_under``."""
        if self._lit is None:
            for obj in people:
                obj.hide_render = True
            self._lit = self._light_on_grid()
            for obj in people:
                obj.hide_render = False
        share = self._light_on_grid() / np.maximum(self._lit, 1e-6)
        axis = np.linspace(-self._shadow_half, self._shadow_half, SHADOW_POINTS)
        edge = np.clip((self._shadow_half - np.abs(axis)) / SHADOW_FADE_M, 0, 1)
        share = 1.0 - (1.0 - np.clip(share, 0.0, 1.0)) * (edge[:, None] * edge[None, :])[..., None]
        return share.astype(np.float32)

    def _light_on_grid(self) -> np.ndarray:
        """(P, P, 3) light on the grid, y upwards, even over a point or so."""
        self._grid.hide_render = self._grid.hide_viewport = False
        values = sets.bake_light(self._grid, SHADOW_SAMPLES)[self._order]
        self._grid.hide_render = self._grid.hide_viewport = True
        grid = values.reshape(SHADOW_POINTS, SHADOW_POINTS, 3)
        return evened(grid, SHADOW_BLUR)

    def shadowed(
        self, plate: np.ndarray, depth: np.ndarray, camera: Pinhole, shadow: np.ndarray
    ) -> np.ndarray:
        """A picture of the place with a shadow on its floor, and its edges evened out.

        Args:
            plate: (H, W, 3) linear. depth: (H, W) metres along the camera's axis. shadow: see ``cast_shadow``.
        """
        height, width = depth.shape
        x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
        k = camera.intrinsics
        rays = np.stack(
            [(x - k[0, 2]) / k[0, 0], (y - k[1, 2]) / k[1, 1], np.ones_like(x)], axis=-1
        )
        points = camera.position + (rays * depth[..., None]) @ camera.rotation
        centre = np.array(self._grid.location)
        at = (points[..., :2] - centre[:2] + self._shadow_half) / (2 * self._shadow_half) * (SHADOW_POINTS - 1)  # fmt: skip
        on_floor = (np.abs(points[..., 2]) < FLOOR_M) & (at >= 0).all(axis=-1) & (at < SHADOW_POINTS - 1).all(axis=-1)  # fmt: skip
        column, row = at[on_floor].T
        i, j = row.astype(int), column.astype(int)
        v, u = (row - i)[:, None], (column - j)[:, None]
        s = shadow
        share = (s[i, j] * (1 - u) + s[i, j + 1] * u) * (1 - v) + (s[i + 1, j] * (1 - u) + s[i + 1, j + 1] * u) * v  # fmt: skip
        darkened = plate.copy()
        darkened[on_floor] *= share
        return darkened if self._backdrops else evened(darkened, PLATE_BLUR)

    def _light_by_panorama(self) -> None:
        """Take a panorama of the place where the person will stand, and let the person be lit by it."""
        lens = bpy.data.cameras.new("panorama")
        lens.type, lens.panorama_type = "PANO", "EQUIRECTANGULAR"
        obj = bpy.data.objects.new("panorama", lens)
        # Environment textures have +x in their middle.
        obj.location, obj.rotation_euler = (0, 0, PANORAMA_HEIGHT_M), (math.pi / 2, 0, -math.pi / 2)
        self._plate.collection.objects.link(obj)
        render = self._plate.render
        self._plate.camera = obj
        render.resolution_x, render.resolution_y = PANORAMA_SIZE
        render.resolution_percentage = 100
        self._plate.cycles.sample_clamp_direct = 0.0
        with tempfile.TemporaryDirectory() as folder:
            values, _ = self.film(Path(folder))
        self._plate.cycles.sample_clamp_direct = PLATE_CLAMP
        bpy.data.objects.remove(obj, do_unlink=True)
        height, width = values.shape[:2]
        image = bpy.data.images.new("panorama", width, height, float_buffer=True, is_data=True)
        pixels = np.ones((height, width, 4), np.float32)
        pixels[..., :3] = np.minimum(
            values[::-1], PANORAMA_MAX
        )  # images lie with their bottom row first
        image.pixels.foreach_set(pixels.ravel())
        image.pack()
        self.shines["ambient"] = float(pixels[..., :3].mean())
        world = bpy.data.worlds.new("light_of_the_place")
        world.use_nodes = True
        tree = world.node_tree
        texture = tree.nodes.new("ShaderNodeTexEnvironment")
        texture.image = image
        tree.links.new(texture.outputs["Color"], tree.nodes["Background"].inputs["Color"])
        # What is bright in it is no brighter than PANORAMA_MAX, so rays that surfaces send by themselves find it well enough.
        world.cycles.sampling_method = "NONE"
        self._scene.world = world

    def _set_up_plate(self) -> None:
        plate, render = self._plate, self._plate.render
        plate.render.engine = "CYCLES"
        plate.cycles.device = "CPU"
        plate.cycles.samples = PLATE_SAMPLES
        plate.cycles.max_bounces = 0
        plate.cycles.use_denoising = plate.cycles.use_adaptive_sampling = False
        plate.cycles.seed = self._settings.seed
        # A sample of bright sky would else outweigh all others of its pixel, and edges before it would be stairs.
        plate.cycles.sample_clamp_direct = PLATE_CLAMP
        render.use_persistent_data = True
        render.use_border = render.use_stamp = False
        plate.view_settings.view_transform = "Raw"
        output = render.image_settings
        output.file_format, output.color_depth, output.exr_codec = (
            "OPEN_EXR_MULTILAYER",
            "32",
            "NONE",
        )
        plate.view_layers[0].use_pass_z = True

    def stand_under(self, point: np.ndarray) -> None:
        """Move the place so that its middle lies under a point (3,), world frame."""
        for obj, start in self._moved:
            obj.location = start + mathutils.Vector((float(point[0]), float(point[1]), 0.0))

    def backdrop(self, chance: np.random.Generator) -> str:
        """Draw which of the look's images is behind people; empty where it has none."""
        return str(self._backdrops[int(chance.integers(len(self._backdrops)))]) if self._backdrops else ""  # fmt: skip

    def film(self, scratch: Path, backdrop: str = "") -> tuple[np.ndarray, np.ndarray]:
        """The place as the camera sees it without people: (H, W, 3) float32, linear, and (H, W) metres along the camera's axis.

        Args:
            backdrop: the image to show instead, see ``backdrop``.

        Raises:
            OSError: the picture could not be written.
            InputError: the image cannot be read.
        """
        if backdrop:
            render = self._scene.render
            size = render.resolution_x, render.resolution_y
            return flat_image(Path(backdrop), *size), np.full(size[::-1], np.inf, np.float32)
        path = scratch / "plate.exr"
        self._plate.render.filepath = str(path)
        bpy.ops.render.render(write_still=True, scene=self._plate.name)
        values, names = read_exr(path)
        place = {name.split(".", 1)[1]: i for i, name in enumerate(names)}
        return values[..., [place[f"Combined.{c}"] for c in "RGB"]], values[..., place["Depth.Z"]]

    @property
    def plate(self) -> bpy.types.Scene:
        """The scene of the place alone."""
        return self._plate


def _projected(image: bpy.types.Image, turn: float, strength: float) -> bpy.types.Material:
    """A floor that shows what an environment map shows below its horizon, as if taken at eye height, with some grain."""
    material = bpy.data.materials.new("ground")
    material.use_nodes = True
    tree = material.node_tree
    where = tree.nodes.new("ShaderNodeTexCoord").outputs["Object"]
    mapping = tree.nodes.new("ShaderNodeMapping")
    mapping.inputs["Location"].default_value = (0, 0, -PROJECTION_HEIGHT_M)
    tree.links.new(where, mapping.inputs["Vector"])
    turned = tree.nodes.new("ShaderNodeMapping")
    turned.inputs["Rotation"].default_value = (0, 0, turn)
    tree.links.new(mapping.outputs["Vector"], turned.inputs["Vector"])
    texture = tree.nodes.new("ShaderNodeTexEnvironment")
    texture.image = image
    tree.links.new(turned.outputs["Vector"], texture.inputs["Vector"])
    grain = tree.nodes.new("ShaderNodeTexNoise")
    grain.inputs["Scale"].default_value, grain.inputs["Detail"].default_value = 14.0, 4.0
    tree.links.new(where, grain.inputs["Vector"])
    bright = tree.nodes.new("ShaderNodeMapRange")
    bright.inputs["To Min"].default_value, bright.inputs["To Max"].default_value = 0.72 * strength, 1.28 * strength  # fmt: skip
    tree.links.new(grain.outputs["Fac"], bright.inputs["Value"])
    emission = tree.nodes.new("ShaderNodeEmission")
    tree.links.new(texture.outputs["Color"], emission.inputs["Color"])
    tree.links.new(bright.outputs["Result"], emission.inputs["Strength"])
    output = next(n for n in tree.nodes if n.type == "OUTPUT_MATERIAL")
    tree.links.new(emission.outputs[0], output.inputs["Surface"])
    material.cycles.emission_sampling = "NONE"
    return material


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
