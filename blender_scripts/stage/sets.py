"""Built places for people to stand in: rooms and outdoor places from boxes, cylinders and blobs, textured by script, varied by a seed.

A place is one mesh, centred on where the person stands (z = 0 is its floor), so that its light can be computed once: ``bake`` lets
Cycles work out the light on each vertex, and from then on the place shines by itself (its own colour times that light). Looking at
it from any camera then costs one ray a pixel, and the person is lit by it as by a photograph of the place. Metres, z up.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import bmesh
import bpy
import mathutils
import numpy as np

#: Edges of a place's mesh are no longer than this near the person, metres: its light is known at vertices only.
FINE_M, COARSE_M = 0.18, 0.9
FINE_RADIUS_M = 4.5
#: Balls of foliage are finely modelled up to this far from the middle, metres.
FINE_BLOBS_M = 9.0
#: Where room is made for a group: what is lower is floor, what is larger is no furniture, and what is so near belongs together, metres.
LOW_M, LARGE_M, TOUCH_M = 0.05, 4.5, 0.01
#: The light's values at vertices.
LIGHT_ATTRIBUTE = "baked_light"
BAKE_SAMPLES, SOFTENING_STEPS = 6, 3
Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Lamp:
    """A rectangular lamp: where, which way it shines, its size in metres, watts, and colour (linear)."""

    location: tuple[float, float, float]
    towards: tuple[float, float, float]
    size: tuple[float, float]
    watts: float
    colour: Colour


@dataclass
class Place:
    """A place while it is built.

    Attributes:
        reach: how far from its middle a camera may stand, metres.
        outdoor: whether sun and sky light it.
        lamps: what lights it besides.
    """

    name: str
    chance: np.random.Generator
    reach: float
    outdoor: bool
    lamps: list[Lamp] = field(default_factory=list)
    mesh: bmesh.types.BMesh = field(default_factory=bmesh.new)
    materials: list[bpy.types.Material] = field(default_factory=list)

    def material(self, made: bpy.types.Material) -> int:
        """The number of a material in the place's mesh."""
        self.materials.append(made)
        return len(self.materials) - 1

    def box(self, size: tuple[float, float, float], at: tuple[float, float, float], material: int, turn: float = 0.0, bevel: float = 0.0) -> None:  # fmt: skip
        """A box: its size, the middle of its underside, degrees about z, and how far its edges are rounded."""
        where = mathutils.Matrix.Translation(
            (at[0], at[1], at[2] + size[2] / 2)
        ) @ mathutils.Matrix.Rotation(math.radians(turn), 4, "Z")
        if bevel:
            self._rounded_box(size, where, min(bevel, 0.49 * min(size)), material)
            return
        made = bmesh.ops.create_cube(self.mesh, size=1.0, matrix=where @ mathutils.Matrix.Diagonal((*size, 1.0)))  # fmt: skip
        for face in {f for v in made["verts"] for f in v.link_faces}:
            face.material_index = material

    def _rounded_box(self, size: tuple[float, float, float], where: mathutils.Matrix, bevel: float, material: int) -> None:  # fmt: skip
        """A box with round edges of two faces each, about the origin of ``where``.

        Blender's own bevel gives its vertices another order each time, and the light of a place is known by their order.
        """
        half = np.array(size) / 2
        flat = half - bevel
        vertices = {}
        for place in itertools.product(range(4), repeat=3):
            if 0 in place or 3 in place:
                corner = np.array([(-h, -f, f, h)[n] for h, f, n in zip(half, flat, place, strict=True)])  # fmt: skip
                inner = np.clip(corner, -flat, flat)
                out = (corner - inner) / np.linalg.norm(corner - inner)
                vertices[place] = self.mesh.verts.new(where @ mathutils.Vector(inner + bevel * out))
        for axis, side, u, v in itertools.product(range(3), (0, 3), range(3), range(3)):
            corners = []
            for x, y in ((u, v), (u + 1, v), (u + 1, v + 1), (u, v + 1)):
                at_corner = [0, 0, 0]
                at_corner[axis], at_corner[(axis + 1) % 3], at_corner[(axis + 2) % 3] = side, x, y
                corners.append(vertices[tuple(at_corner)])
            face = self.mesh.faces.new(corners if side else corners[::-1])
            face.material_index = material

    def cylinder(self, radius: float, height: float, at: tuple[float, float, float], material: int, top: float | None = None, sides: int = 16) -> None:  # fmt: skip
        """An upright cylinder or cone: the middle of its underside, and its radius above."""
        matrix = mathutils.Matrix.Translation((at[0], at[1], at[2] + height / 2))
        made = bmesh.ops.create_cone(
            self.mesh, cap_ends=True, segments=sides, radius1=radius, radius2=radius if top is None else top, depth=height, matrix=matrix
        )  # fmt: skip
        for face in {f for v in made["verts"] for f in v.link_faces}:
            face.material_index = material
            face.smooth = len(face.verts) == 4

    def blob(self, radius: float, at: tuple[float, float, float], material: int, rough: float = 0.25) -> None:  # fmt: skip
        """A lumpy ball, for foliage and cushions."""
        # Foliage far away is a few pixels.
        fine = 3 if math.hypot(at[0], at[1]) < FINE_BLOBS_M and radius < 2 else 2
        made = bmesh.ops.create_icosphere(self.mesh, subdivisions=fine, radius=radius, matrix=mathutils.Matrix.Translation(at))  # fmt: skip
        phases = self.chance.uniform(0, 6.28, (3, 3))
        points = np.array([v.co for v in made["verts"]])
        p = (points - at) / radius
        lumps = [np.sin(3.2 * (k + 1) * p[:, k % 3] + p @ phases[k % 3]) for k in range(3)]
        moved = np.array(at) + p * radius * (1 + rough * np.mean(lumps, axis=0))[:, None]
        for vertex, place in zip(made["verts"], moved.tolist(), strict=True):
            vertex.co = place
        for face in {f for v in made["verts"] for f in v.link_faces}:
            face.material_index = material
            face.smooth = True

    def floor(self, half: float, material: int) -> None:
        """A level square around the middle."""
        made = bmesh.ops.create_grid(self.mesh, x_segments=1, y_segments=1, size=half)
        for face in {f for v in made["verts"] for f in v.link_faces}:
            face.material_index = material

    def wall(self, start: tuple[float, float], end: tuple[float, float], height: float, material: int, base: float = 0.0) -> None:  # fmt: skip
        """An upright rectangle."""
        corners = [(*start, base), (*end, base), (*end, base + height), (*start, base + height)]
        face = self.mesh.faces.new([self.mesh.verts.new(c) for c in corners])
        face.material_index = material

    def spot(self, near: float, far: float) -> tuple[float, float]:
        """A random place on a ring around the middle."""
        radius, angle = self.chance.uniform(near, far), self.chance.uniform(0, 2 * math.pi)
        return radius * math.cos(angle), radius * math.sin(angle)


# -- materials ------------------------------------------------------------------------------------------------------------------


def paint(
    name: str, one: Colour, two: Colour | None = None, pattern: str = "noise", scale: float = 3.0, contrast: float = 0.5
) -> bpy.types.Material:  # fmt: skip
    """A matt material: colours (linear) in a pattern of the place's own coordinates.

    Args:
        pattern: noise, planks, tiles, bricks, windows, stripes, carpet.
        scale: pieces of the pattern a metre. contrast: 0 plain to 1.
    """
    material = bpy.data.materials.new(name)
    material.use_nodes = True
    tree = material.node_tree
    shader = tree.nodes["Principled BSDF"]
    shader.inputs["Roughness"].default_value = 0.8
    shader.inputs["Specular IOR Level"].default_value = 0.0
    second: Colour = two or (0.75 * one[0], 0.75 * one[1], 0.75 * one[2])
    where = tree.nodes.new("ShaderNodeTexCoord").outputs["Object"]
    mix = tree.nodes.new("ShaderNodeMix")
    mix.data_type = "RGBA"
    mix.inputs[6].default_value, mix.inputs[7].default_value = (*one, 1), (*second, 1)
    fine = tree.nodes.new("ShaderNodeTexNoise")
    fine.inputs["Scale"].default_value, fine.inputs["Detail"].default_value = 9.0 * scale, 3.0
    tree.links.new(where, fine.inputs["Vector"])
    share = fine.outputs["Fac"]
    if pattern in ("tiles", "bricks", "planks", "windows"):
        brick = tree.nodes.new("ShaderNodeTexBrick")
        brick.inputs["Scale"].default_value = scale
        shape = {"tiles": (1.0, 1.0, 0.0, 0.02), "bricks": (0.5, 0.17, 0.5, 0.02), "planks": (1.6, 0.16, 0.37, 0.006), "windows": (1.0, 1.25, 0.0, 0.34)}[pattern]  # fmt: skip
        brick.inputs["Brick Width"].default_value, brick.inputs["Row Height"].default_value = shape[
            :2
        ]
        brick.offset = shape[2]
        brick.inputs["Mortar Size"].default_value = shape[3]
        brick.inputs["Mortar Smooth"].default_value = 0.05
        dim = tuple((1 - 0.35 * contrast) * c for c in one)
        joint = tuple(0.55 * c for c in one)
        if pattern == "windows":
            brick.inputs["Color1"].default_value, brick.inputs["Color2"].default_value = (*second, 1), (*(0.6 * c for c in second), 1)  # fmt: skip
            joint = one
        else:
            brick.inputs["Color1"].default_value, brick.inputs["Color2"].default_value = (*one, 1), (*dim, 1)  # fmt: skip
        brick.inputs["Mortar"].default_value = (*joint, 1)
        tree.links.new(_flat(tree, where, upright=pattern in ("bricks", "windows")), brick.inputs["Vector"])  # fmt: skip
        grain = tree.nodes.new("ShaderNodeMix")
        grain.data_type, grain.blend_type = "RGBA", "MULTIPLY"
        grain.inputs[0].default_value = 0.25 + 0.3 * contrast
        tree.links.new(brick.outputs["Color"], grain.inputs[6])
        tree.links.new(fine.outputs["Fac"], grain.inputs[7])
        bright = tree.nodes.new("ShaderNodeMix")
        bright.data_type, bright.blend_type = "RGBA", "MULTIPLY"
        bright.inputs[0].default_value = 1.0
        bright.inputs[7].default_value = (1.25, 1.25, 1.25, 1)
        tree.links.new(grain.outputs[2], bright.inputs[6])
        colour = bright.outputs[2]
    else:
        if pattern == "stripes":
            wave = tree.nodes.new("ShaderNodeTexWave")
            wave.inputs["Scale"].default_value = scale
            tree.links.new(where, wave.inputs["Vector"])
            share = wave.outputs["Fac"]
        elif pattern == "carpet":
            cells = tree.nodes.new("ShaderNodeTexVoronoi")
            cells.inputs["Scale"].default_value = scale
            tree.links.new(where, cells.inputs["Vector"])
            share = cells.outputs["Distance"]
        strength = tree.nodes.new("ShaderNodeMath")
        strength.operation = "MULTIPLY"
        strength.inputs[1].default_value = contrast
        tree.links.new(share, strength.inputs[0])
        tree.links.new(strength.outputs[0], mix.inputs[0])
        colour = mix.outputs[2]
    tree.links.new(colour, shader.inputs["Base Color"])
    return material


def _flat(tree: bpy.types.NodeTree, where: bpy.types.NodeSocket, upright: bool) -> bpy.types.NodeSocket:  # fmt: skip
    """Coordinates for a flat pattern: (x, y) on floors, (x + y, z) on walls."""
    if not upright:
        return where
    apart = tree.nodes.new("ShaderNodeSeparateXYZ")
    together = tree.nodes.new("ShaderNodeCombineXYZ")
    total = tree.nodes.new("ShaderNodeMath")
    tree.links.new(where, apart.inputs[0])
    tree.links.new(apart.outputs[0], total.inputs[0])
    tree.links.new(apart.outputs[1], total.inputs[1])
    tree.links.new(total.outputs[0], together.inputs[0])
    tree.links.new(apart.outputs[2], together.inputs[1])
    return together.outputs[0]


def glow(name: str, colour: Colour, strength: float) -> bpy.types.Material:
    """A material that shines: windows, screens, lamp shades."""
    material = bpy.data.materials.new(name)
    material.use_nodes = True
    shader = material.node_tree.nodes["Principled BSDF"]
    shader.inputs["Base Color"].default_value = (*(0.3 * c for c in colour), 1)
    shader.inputs["Emission Color"].default_value = (*colour, 1)
    shader.inputs["Emission Strength"].default_value = strength
    material["glows"] = True
    return material


WOODS = ((0.36, 0.21, 0.11), (0.22, 0.12, 0.06), (0.50, 0.36, 0.22), (0.55, 0.45, 0.34))
WALLS = ((0.72, 0.70, 0.66), (0.60, 0.64, 0.66), (0.66, 0.58, 0.48), (0.48, 0.55, 0.50), (0.70, 0.66, 0.56), (0.55, 0.50, 0.56))  # fmt: skip
CLOTHS = ((0.16, 0.20, 0.30), (0.35, 0.12, 0.10), (0.20, 0.26, 0.18), (0.40, 0.36, 0.30), (0.10, 0.10, 0.11), (0.45, 0.30, 0.12))  # fmt: skip


def pick(place: Place, colours: tuple[Colour, ...]) -> Colour:
    """One of some colours, a little lighter or darker."""
    chosen = colours[int(place.chance.integers(len(colours)))]
    spread = place.chance.uniform(0.85, 1.15, 3)
    return tuple(float(min(c * s, 0.85)) for c, s in zip(chosen, spread, strict=True))  # type: ignore[return-value]


def _room(place: Place, half: float, height: float, floor: bpy.types.Material, windows: bool = True) -> int:  # fmt: skip
    """Floor, ceiling, four walls, skirting, windows that let day in, and lamps on the ceiling."""
    wall = place.material(paint("wall", pick(place, WALLS), contrast=0.25, scale=1.0))
    feature = place.material(paint("feature", pick(place, WALLS + CLOTHS[:3]), contrast=0.2, scale=1.0))  # fmt: skip
    white = place.material(paint("white", (0.74, 0.73, 0.71), contrast=0.1))
    day = place.material(glow("window", (0.75, 0.87, 1.0), float(place.chance.uniform(2.2, 4.5))))
    place.floor(half, place.material(floor))
    corners = [(-half, -half), (half, -half), (half, half), (-half, half)]
    featured = int(place.chance.integers(4))
    for number in range(4):
        start, end = corners[number], corners[(number + 1) % 4]
        place.wall(end, start, height, feature if number == featured else wall)
    ceiling = bmesh.ops.create_grid(place.mesh, x_segments=1, y_segments=1, size=half, matrix=mathutils.Matrix.Translation((0, 0, height)))  # fmt: skip
    for face in {f for v in ceiling["verts"] for f in v.link_faces}:
        face.material_index = white
        face.normal_flip()
    for sign in (-1, 1):
        place.box((2 * half, 0.025, 0.10), (0, sign * (half - 0.012), 0), white)
        place.box((0.025, 2 * half, 0.10), (sign * (half - 0.012), 0, 0), white)
    if windows:
        side = int(place.chance.integers(4))
        for offset in (-half * 0.5, half * 0.5):
            _window(place, half, side, offset, day, white)
            direction = [(0, 1), (-1, 0), (0, -1), (1, 0)][side]
            at = [(offset, -half + 0.2), (half - 0.2, offset), (offset, half - 0.2), (-half + 0.2, offset)][side]  # fmt: skip
            place.lamps.append(Lamp((*at, 1.6), (*direction, -0.15), (1.5, 1.3), float(place.chance.uniform(60, 130)), (0.82, 0.92, 1.0)))  # fmt: skip
    warm = place.chance.uniform(0, 1)
    tint = (1.0, 0.93 - 0.13 * warm, 0.85 - 0.32 * warm)
    for x in (-0.45 * half, 0.45 * half):
        y = float(place.chance.uniform(-0.3, 0.3) * half)
        place.lamps.append(Lamp((x, y, height - 0.06), (0, 0, -1), (0.9, 0.9), float(place.chance.uniform(50, 110)), tint))  # fmt: skip
        place.box((0.9, 0.9, 0.03), (x, y, height - 0.035), place.material(glow("lamp", tint, 4.0)))  # fmt: skip
    return white


def _window(place: Place, half: float, side: int, offset: float, day: int, frame: int) -> None:
    for width, height, depth, material in ((1.7, 1.5, 0.05, frame), (1.55, 1.35, 0.06, day), (0.06, 1.35, 0.075, frame)):  # fmt: skip
        lift = 0.9 + (1.5 - height) / 2
        if side in (0, 2):
            y = (-half if side == 0 else half) * (1 - 0.002)
            place.box((width, depth, height), (offset, y, lift), material)
        else:
            x = (half if side == 1 else -half) * (1 - 0.002)
            place.box((depth, width, height), (x, offset, lift), material)


def _along_wall(
    place: Place, half: float, number: int, count: int, depth: float
) -> tuple[float, float, float]:
    """The place of a piece of furniture against the walls: x, y, and degrees about z."""
    side, slot = number % 4, number // 4
    offset = (slot + 0.5) / max(1, (count + 3) // 4) * 1.5 * half - 0.75 * half + place.chance.uniform(-0.3, 0.3)  # fmt: skip
    away = half - depth / 2 - 0.03
    return [(offset, -away, 0.0), (away, offset, 90.0), (offset, away, 180.0), (-away, offset, 270.0)][side]  # fmt: skip


def _table(place: Place, at: tuple[float, float], size: tuple[float, float, float], wood: int, turn: float = 0.0) -> None:  # fmt: skip
    place.box((size[0], size[1], 0.04), (*at, size[2] - 0.04), wood, turn, 0.006)
    rotation = mathutils.Matrix.Rotation(math.radians(turn), 2)
    for sx in (-1, 1):
        for sy in (-1, 1):
            leg = rotation @ mathutils.Vector(
                (sx * (size[0] / 2 - 0.06), sy * (size[1] / 2 - 0.06))
            )
            place.box((0.05, 0.05, size[2] - 0.04), (at[0] + leg.x, at[1] + leg.y, 0), wood, turn)


def _chair(place: Place, at: tuple[float, float], turn: float, seat: int, legs: int) -> None:
    rotation = mathutils.Matrix.Rotation(math.radians(turn), 2)
    place.box((0.44, 0.44, 0.05), (*at, 0.42), seat, turn, 0.012)
    back = rotation @ mathutils.Vector((0, 0.20))
    place.box((0.42, 0.04, 0.45), (at[0] + back.x, at[1] + back.y, 0.47), seat, turn, 0.012)
    for sx in (-1, 1):
        for sy in (-1, 1):
            leg = rotation @ mathutils.Vector((sx * 0.19, sy * 0.19))
            place.box((0.035, 0.035, 0.42), (at[0] + leg.x, at[1] + leg.y, 0), legs, turn)


def _sofa(
    place: Place, at: tuple[float, float], turn: float, cloth: int, width: float = 2.0
) -> None:
    rotation = mathutils.Matrix.Rotation(math.radians(turn), 2)

    def put(size: tuple[float, float, float], x: float, y: float, z: float) -> None:
        moved = rotation @ mathutils.Vector((x, y))
        place.box(size, (at[0] + moved.x, at[1] + moved.y, z), cloth, turn, 0.05)

    put((width, 0.85, 0.30), 0, 0, 0.10)
    for k in (-1, 1):
        put((width / 2 - 0.12, 0.65, 0.16), k * (width / 4 - 0.06), -0.08, 0.38)
        put((0.18, 0.85, 0.50), k * (width / 2 - 0.02), 0, 0.10)
    put((width, 0.22, 0.50), 0, 0.34, 0.36)


def _plant(place: Place, at: tuple[float, float], leaf: int, pot: int) -> None:
    place.cylinder(0.15, 0.30, (*at, 0), pot, top=0.19)
    for _ in range(7):
        x, y = place.chance.normal(size=2) * 0.13
        place.blob(float(place.chance.uniform(0.10, 0.20)), (at[0] + x, at[1] + y, float(place.chance.uniform(0.45, 1.0))), leaf, 0.45)  # fmt: skip


def _picture(place: Place, half: float, number: int) -> None:
    side = number % 4
    offset = float(place.chance.uniform(-0.6, 0.6) * half)
    width, height = place.chance.uniform(0.5, 1.2), place.chance.uniform(0.4, 0.9)
    art = place.material(paint("art", pick(place, CLOTHS), pick(place, WALLS + CLOTHS), "noise", float(place.chance.uniform(0.15, 0.5)), 1.6))  # fmt: skip
    frame = place.material(paint("frame", pick(place, WOODS), contrast=0.2))
    for grow, depth, material in ((0.06, 0.03, frame), (0.0, 0.045, art)):
        size = (width + grow, depth, height + grow) if side in (0, 2) else (depth, width + grow, height + grow)  # fmt: skip
        away = half - 0.01
        at = [(offset, -away), (away, offset), (offset, away), (-away, offset)][side]
        place.box(size, (*at, 1.5 - (height + grow) / 2), material)


def living_room(place: Place) -> None:
    """Sofas, a low table, shelves with books, a carpet, plants, pictures."""
    half = place.reach + 0.5
    _room(place, half, 2.7, paint("floor", pick(place, WOODS), None, "planks", 1.0, 0.6))
    cloth, second = (place.material(paint("cloth", pick(place, CLOTHS), contrast=0.35, scale=8)) for _ in range(2))  # fmt: skip
    wood = place.material(paint("wood", pick(place, WOODS), None, "stripes", 2.0, 0.35))
    leaf = place.material(paint("leaf", (0.07, 0.17, 0.05), (0.15, 0.30, 0.08), contrast=0.9))
    pot = place.material(paint("pot", pick(place, WALLS), contrast=0.2))
    rug = place.material(paint("rug", pick(place, CLOTHS), pick(place, WALLS), "carpet", float(place.chance.uniform(2, 6)), 1.0))  # fmt: skip
    place.box((3.0, 2.2, 0.003), (0, 0, 0), rug, float(place.chance.uniform(-15, 15)))
    side = float(place.chance.choice((-1, 1)))
    _sofa(place, (0.3, side * 2.3), 0 if side > 0 else 180, cloth, float(place.chance.uniform(1.7, 2.3)))  # fmt: skip
    _sofa(place, (2.5, -side * 0.8), -90, second, 0.95)
    _table(place, (-side * 1.5, side * 1.4), (0.9, 0.55, 0.42), wood, float(place.chance.uniform(0, 90)))  # fmt: skip
    books = [place.material(paint("book", pick(place, CLOTHS), contrast=0.2)) for _ in range(5)]
    for number in range(5):
        x, y, turn = _along_wall(place, half, number, 5, 0.35)
        height = float(place.chance.uniform(1.2, 2.1))
        place.box((1.0, 0.32, height), (x, y, 0), wood, turn)
        rotation = mathutils.Matrix.Rotation(math.radians(turn), 2)
        for shelf in np.arange(0.15, height - 0.3, 0.38):
            for slot in np.arange(-0.42, 0.40, 0.075):
                if place.chance.random() < 0.75:
                    moved = rotation @ mathutils.Vector((slot, 0.10))
                    place.box((0.05, 0.20, float(place.chance.uniform(0.2, 0.3))), (x + moved.x, y + moved.y, shelf), books[int(place.chance.integers(5))], turn)  # fmt: skip
    for _ in range(3):
        _plant(place, place.spot(2.6, half - 0.6), leaf, pot)
    for number in range(5):
        _picture(place, half, number)


def kitchen(place: Place) -> None:
    """Counters and cupboards along the walls, a dining table with chairs, a refrigerator."""
    half = place.reach + 0.4
    _room(place, half, 2.6, paint("floor", pick(place, WALLS), None, "tiles", 2.0, 0.4))
    front = place.material(paint("front", pick(place, WALLS + CLOTHS[:3]), contrast=0.1))
    dark = place.material(paint("gap", (0.05, 0.05, 0.05), contrast=0.1))
    top = place.material(paint("top", pick(place, ((0.12, 0.12, 0.12), (0.5, 0.48, 0.45), (0.4, 0.26, 0.14))), None, "noise", 6, 0.6))  # fmt: skip
    steel = place.material(paint("steel", (0.42, 0.43, 0.44), contrast=0.15, scale=0.5))
    tiles = place.material(paint("splash", pick(place, WALLS), None, "bricks", 6.0, 0.3))
    wood = place.material(paint("wood", pick(place, WOODS), None, "stripes", 2.0, 0.35))
    for side in (1, 2):
        for slot in range(9):
            x, y, turn = [(0, 0, 0), (half - 0.33, -half + 0.65 + 0.7 * slot, 90.0), (-half + 0.65 + 0.7 * slot, half - 0.33, 180.0)][side]  # fmt: skip
            if max(abs(x), abs(y)) > half - 0.3:
                continue
            place.box((0.68, 0.60, 0.80), (x, y, 0.08), front, turn)
            place.box((0.70, 0.55, 0.08), (x, y, 0.0), dark, turn)
            place.box((0.70, 0.64, 0.04), (x, y, 0.88), top, turn)
            shift = mathutils.Matrix.Rotation(math.radians(turn), 2) @ mathutils.Vector((0, -0.14))
            if place.chance.random() < 0.75:
                place.box((0.68, 0.32, 0.68), (x + shift.x * 0, y + shift.y * 0, 1.5), front, turn)
            place.box((0.70, 0.01, 0.56), (x - shift.x * 2.2, y - shift.y * 2.2, 0.93), tiles, turn)
            if place.chance.random() < 0.5:
                place.cylinder(float(place.chance.uniform(0.05, 0.1)), float(place.chance.uniform(0.1, 0.28)), (x, y, 0.92), [steel, wood, front][int(place.chance.integers(3))])  # fmt: skip
    place.box((0.75, 0.70, 1.85), (-half + 0.42, half - 1.3, 0), steel, 270, 0.02)
    turn = float(place.chance.uniform(-20, 20))
    at = (float(place.chance.uniform(-2.2, -1.6)), float(place.chance.uniform(-2.3, -1.7)))
    _table(place, at, (1.5, 0.85, 0.75), wood, turn)
    seat = place.material(paint("seat", pick(place, CLOTHS), contrast=0.2))
    for k in range(4):
        offset = mathutils.Matrix.Rotation(math.radians(turn), 2) @ mathutils.Vector(((-0.4, 0.4)[k % 2], (-0.65, 0.65)[k // 2]))  # fmt: skip
        _chair(place, (at[0] + offset.x, at[1] + offset.y), turn + (180 if k < 2 else 0) + float(place.chance.uniform(-20, 20)), seat, wood)  # fmt: skip
    for number in range(3):
        _picture(place, half, number * 3)


def office(place: Place) -> None:
    """Desks with screens, chairs, cabinets, a carpet."""
    half = place.reach + 0.5
    _room(place, half, 2.8, paint("floor", pick(place, CLOTHS + WALLS[:2]), None, "carpet", 14.0, 0.35))  # fmt: skip
    wood = place.material(paint("desk", pick(place, WOODS + WALLS[:1]), contrast=0.2))
    black = place.material(paint("black", (0.03, 0.03, 0.035), contrast=0.2))
    screen = place.material(
        glow("screen", (0.35, 0.55, 0.95), float(place.chance.uniform(0.5, 1.2)))
    )
    cabinet = place.material(paint("cabinet", pick(place, WALLS), contrast=0.15))
    paper = place.material(paint("paper", (0.7, 0.7, 0.68), contrast=0.1))
    for k in range(5):
        angle = 2 * math.pi * (k + place.chance.uniform(0.0, 0.35)) / 5
        at = (2.45 * math.cos(angle), 2.45 * math.sin(angle))
        turn = math.degrees(angle) - 90 + float(place.chance.uniform(-12, 12))
        _table(place, at, (1.4, 0.7, 0.74), wood, turn)
        rotation = mathutils.Matrix.Rotation(math.radians(turn), 2)
        back = rotation @ mathutils.Vector((0, 0.18))
        place.box((0.05, 0.05, 0.18), (at[0] + back.x, at[1] + back.y, 0.74), black, turn)
        place.box((0.58, 0.04, 0.36), (at[0] + back.x, at[1] + back.y, 0.86), black, turn)
        face = rotation @ mathutils.Vector((0, 0.155))
        place.box((0.54, 0.01, 0.32), (at[0] + face.x, at[1] + face.y, 0.88), screen, turn)
        keys = rotation @ mathutils.Vector((0, -0.12))
        place.box((0.42, 0.14, 0.02), (at[0] + keys.x, at[1] + keys.y, 0.74), black, turn)
        sheet = rotation @ mathutils.Vector((0.45, 0.0))
        place.box((0.21, 0.30, 0.02), (at[0] + sheet.x, at[1] + sheet.y, 0.74), paper, turn + 15)
        if place.chance.random() < 0.7:
            seat = rotation @ mathutils.Vector((float(place.chance.uniform(-0.2, 0.2)), 0.75))
            _chair(place, (at[0] + seat.x, at[1] + seat.y), turn + float(place.chance.uniform(-40, 40)), black, black)  # fmt: skip
    for number in range(8):
        x, y, turn = _along_wall(place, half, number, 8, 0.45)
        place.box((0.8, 0.42, float(place.chance.choice((0.75, 1.3, 1.9)))), (x, y, 0), cabinet, turn)  # fmt: skip
    for number in range(4):
        _picture(place, half, number)


def gym(place: Place) -> None:
    """A hall with mats, benches, racks of weights, balls, a mirror wall."""
    half = place.reach + 0.8
    _room(place, half, 3.4, paint("floor", pick(place, ((0.10, 0.10, 0.11), (0.40, 0.28, 0.16), (0.16, 0.20, 0.26))), None, "tiles", 1.0, 0.5))  # fmt: skip
    black = place.material(paint("black", (0.03, 0.03, 0.035), contrast=0.3))
    steel = place.material(paint("steel", (0.4, 0.41, 0.43), contrast=0.2, scale=0.4))
    mats = [place.material(paint("mat", pick(place, CLOTHS), contrast=0.2)) for _ in range(3)]
    mat = mats[0]
    place.box((2.2, 2.2, 0.003), (0, 0, 0), mat, float(place.chance.uniform(0, 45)))
    for k in range(5):
        angle = 2 * math.pi * (k + place.chance.uniform(0, 0.5)) / 5
        at = (2.5 * math.cos(angle), 2.5 * math.sin(angle))
        turn = float(place.chance.uniform(0, 180))
        kind = int(place.chance.integers(3))
        if kind == 0:
            place.box((1.2, 0.32, 0.09), (*at, 0.38), black, turn, 0.02)
            place.box((0.08, 0.30, 0.38), (*at, 0), steel, turn)
        elif kind == 1:
            place.blob(float(place.chance.uniform(0.25, 0.36)), (*at, 0.33), mats[1], 0.0)
        else:
            for j in range(3):
                place.box((0.6, 0.5, 0.15), (*at, 0.15 * j), mats[2], turn, 0.02)
    for number in range(8):
        x, y, turn = _along_wall(place, half, number, 8, 0.5)
        for level in (0.35, 0.75, 1.15):
            place.box((1.3, 0.42, 0.04), (x, y, level), steel, turn)
            for slot in np.arange(-0.5, 0.55, 0.22):
                moved = mathutils.Matrix.Rotation(math.radians(turn), 2) @ mathutils.Vector(
                    (slot, 0.0)
                )
                place.cylinder(0.08, float(place.chance.uniform(0.12, 0.2)), (x + moved.x, y + moved.y, level + 0.04), black)  # fmt: skip
        place.box((0.05, 0.42, 1.3), (x, y, 0), steel, turn)
    for number in range(2):
        _picture(place, half, number + 1)


def street(place: Place) -> None:
    """A crossing: road, pavements, houses with windows, lamps, parked cars, trees."""
    asphalt = place.material(paint("asphalt", (0.075, 0.075, 0.08), (0.11, 0.11, 0.11), "noise", 4, 0.9))  # fmt: skip
    stone = place.material(paint("pavement", pick(place, ((0.30, 0.29, 0.27), (0.24, 0.24, 0.25))), None, "tiles", 1.6, 0.45))  # fmt: skip
    white = place.material(paint("line", (0.6, 0.6, 0.58), contrast=0.4))
    metal = place.material(paint("metal", (0.06, 0.07, 0.08), contrast=0.2))
    trunk = place.material(paint("trunk", (0.10, 0.07, 0.05), None, "noise", 6, 0.8))
    leaf = place.material(paint("leaf", (0.06, 0.14, 0.04), (0.14, 0.24, 0.07), "noise", 3, 1.2))
    glass = place.material(paint("glass", (0.05, 0.06, 0.07), contrast=0.2))
    tyre = place.material(paint("tyre", (0.02, 0.02, 0.02), contrast=0.2))
    # The person stands on the pavement; the road runs along x in front of it.
    place.floor(60, stone)
    road = -float(place.chance.uniform(6.0, 7.5))
    place.box((120, 7.0, 0.02), (0, road, 0.0), asphalt)
    for x in np.arange(-57, 60, 6.0):
        place.box((2.4, 0.15, 0.005), (float(x), road, 0.02), white)
    for sign in (-1, 1):
        place.box((120, 0.22, 0.06), (0, road + sign * 3.6, 0), place.material(paint("kerb", (0.36, 0.35, 0.33), contrast=0.3)))  # fmt: skip
    for y, turn in ((7.5, 1), (road - 9.5, -1)):
        x = -44.0
        while x < 44:
            width, height = float(place.chance.uniform(7, 14)), float(place.chance.uniform(8, 19))
            house = place.material(paint("house", pick(place, ((0.42, 0.24, 0.17), (0.52, 0.47, 0.38), (0.45, 0.46, 0.47), (0.50, 0.38, 0.26), (0.30, 0.33, 0.36))), (0.09, 0.11, 0.14), "windows", float(place.chance.uniform(0.32, 0.45)), 0.5))  # fmt: skip
            base = place.material(paint("shop", pick(place, CLOTHS + WALLS), None, "noise", 2, 0.3))
            depth = 8.0
            place.box((width, depth, height), (x + width / 2, y + turn * depth / 2, 0), house)
            place.box((width - 0.3, 0.25, 3.0), (x + width / 2, y - turn * 0.05, 0), base)
            for pane in np.arange(1.2, width - 1.2, 2.4):
                place.box((1.8, 0.05, 1.9), (x + float(pane) + 0.3, y - turn * 0.19, 0.6), glass)
            x += width
    for x in np.arange(-28, 30, 7.5):
        side = 2.6 + float(place.chance.uniform(-0.3, 0.3))
        if abs(x) > 2:
            if place.chance.random() < 0.6:
                _tree(place, (float(x), -2.9), trunk, leaf)
            else:
                place.cylinder(0.06, 4.6, (float(x), -2.9, 0), metal, top=0.045)
                place.box((0.9, 0.16, 0.10), (float(x), -2.6, 4.6), metal, 90)
        if place.chance.random() < 0.35 and abs(x) > 2:
            place.box((0.35, 0.35, 0.95), (float(x) + 2.0, side, 0), metal, 0, 0.03)
    for x in np.arange(-24, 26, 5.6):
        if place.chance.random() < 0.7:
            _car(place, (float(x) + float(place.chance.uniform(-0.5, 0.5)), road + 2.5), place.material(paint("car", pick(place, CLOTHS + WALLS[:2] + ((0.35, 0.03, 0.03),)), contrast=0.05)), glass, tyre)  # fmt: skip


def _car(place: Place, at: tuple[float, float], body: int, glass: int, tyre: int) -> None:
    place.box((4.2, 1.75, 0.62), (*at, 0.32), body, 0, 0.14)
    place.box((2.2, 1.55, 0.52), (at[0] - 0.15, at[1], 0.86), glass, 0, 0.18)
    place.box((1.9, 1.45, 0.06), (at[0] - 0.15, at[1], 1.36), body, 0, 0.02)
    for sx in (-1.3, 1.3):
        for sy in (-0.82, 0.82):
            matrix = mathutils.Matrix.Translation((at[0] + sx, at[1] + sy, 0.33)) @ mathutils.Matrix.Rotation(math.pi / 2, 4, "X")  # fmt: skip
            made = bmesh.ops.create_cone(place.mesh, cap_ends=True, segments=18, radius1=0.33, radius2=0.33, depth=0.22, matrix=matrix)  # fmt: skip
            for face in {f for v in made["verts"] for f in v.link_faces}:
                face.material_index = tyre


def _tree(place: Place, at: tuple[float, float], trunk: int, leaf: int, tall: float = 1.0) -> None:
    height = float(place.chance.uniform(1.9, 2.6)) * tall
    place.cylinder(0.14 * tall, height + 1.0, (*at, 0), trunk, top=0.07)
    for _ in range(9):
        x, y = place.chance.normal(size=2) * 0.75 * tall
        z = height + float(place.chance.uniform(0.2, 2.2)) * tall
        place.blob(float(place.chance.uniform(0.55, 1.05)) * tall, (at[0] + x, at[1] + y, z), leaf, 0.4)  # fmt: skip


def park(place: Place) -> None:
    """A lawn with a path, trees, bushes, benches and hills."""
    grass = place.material(paint("grass", (0.06, 0.13, 0.025), (0.15, 0.22, 0.06), "noise", 5, 1.1))
    path = place.material(paint("path", pick(place, ((0.34, 0.29, 0.22), (0.30, 0.28, 0.26))), None, "noise", 5, 0.5))  # fmt: skip
    trunk = place.material(paint("trunk", (0.11, 0.08, 0.055), None, "noise", 6, 0.8))
    leaves = [place.material(paint("leaf", (0.05, 0.12, 0.03), pick(place, ((0.13, 0.24, 0.06), (0.22, 0.26, 0.07), (0.30, 0.20, 0.06))), "noise", 3, 1.2)) for _ in range(3)]  # fmt: skip
    wood = place.material(paint("bench", pick(place, WOODS), None, "stripes", 2, 0.3))
    iron = place.material(paint("iron", (0.04, 0.045, 0.05), contrast=0.2))
    place.floor(80, grass)
    turn = float(place.chance.uniform(-30, 30))
    place.box((90, 2.6, 0.003), (0, 0, 0), path, turn)
    across = mathutils.Matrix.Rotation(math.radians(turn), 2)
    for k in range(4):
        moved = across @ mathutils.Vector(((-7, -3.2, 3.4, 8)[k], 2.3 if k % 2 else -2.3))
        for slat in range(4):
            y = mathutils.Matrix.Rotation(math.radians(turn), 2) @ mathutils.Vector((0, 0.11 * slat - 0.16))  # fmt: skip
            place.box((1.6, 0.09, 0.035), (moved.x + y.x, moved.y + y.y, 0.42), wood, turn)
        place.box(
            (1.6, 0.04, 0.30), (moved.x, moved.y + (0.24 if k % 2 else -0.24), 0.52), wood, turn
        )
        for side in (-0.65, 0.65):
            foot = across @ mathutils.Vector((side, 0))
            place.box((0.06, 0.42, 0.42), (moved.x + foot.x, moved.y + foot.y, 0), iron, turn)
    for _ in range(26):
        at = place.spot(5.2, 34)
        if abs((across.inverted() @ mathutils.Vector(at)).y) > 2.2:
            _tree(place, at, trunk, leaves[int(place.chance.integers(3))], float(place.chance.uniform(0.9, 1.7)))  # fmt: skip
    for _ in range(14):
        at = place.spot(3.4, 18)
        if abs((across.inverted() @ mathutils.Vector(at)).y) > 1.9:
            for _ in range(3):
                x, y = place.chance.normal(size=2) * 0.3
                place.blob(float(place.chance.uniform(0.3, 0.55)), (at[0] + x, at[1] + y, 0.3), leaves[int(place.chance.integers(3))], 0.4)  # fmt: skip
    hill = place.material(paint("hill", (0.07, 0.13, 0.06), (0.11, 0.17, 0.09), "noise", 0.2, 1.0))
    for k in range(9):
        angle = 2 * math.pi * k / 9 + place.chance.uniform(0, 0.4)
        place.blob(float(place.chance.uniform(14, 24)), (62 * math.cos(angle), 62 * math.sin(angle), -9), hill, 0.25)  # fmt: skip


def studio(place: Place) -> None:
    """A photographer's studio: floor and wall in one round sweep of one colour, a large lamp in front, smaller ones beside."""
    paper = place.material(paint("paper", pick(place, WALLS + CLOTHS), contrast=0.12, scale=0.5))
    profile = [(0.0, 0.0), (2.0, 0.0), (3.6, 0.0), (4.4, 0.08), (4.9, 0.35), (5.2, 0.9), (5.3, 1.8), (5.3, 6.0)]  # fmt: skip
    turns = 64
    rings = [
        [place.mesh.verts.new((r * math.cos(2 * math.pi * k / turns), r * math.sin(2 * math.pi * k / turns), z)) for k in range(turns)]
        for r, z in profile[1:]
    ]  # fmt: skip
    middle = place.mesh.verts.new((0.0, 0.0, 0.0))
    for k in range(turns):
        following = (k + 1) % turns
        faces = [place.mesh.faces.new((middle, rings[0][k], rings[0][following]))]
        for lower, upper in zip(rings, rings[1:], strict=False):
            faces.append(place.mesh.faces.new((lower[k], upper[k], upper[following], lower[following])))  # fmt: skip
        for face in faces:
            face.material_index = paper
            face.smooth = True
    for angle, high, watts, size in ((-1.9, 2.9, 330, 1.8), (0.2, 2.4, 110, 1.0), (1.7, 3.0, 130, 0.9), (3.4, 2.6, 90, 1.2)):  # fmt: skip
        angle += float(place.chance.uniform(-0.4, 0.4))
        at = (3.4 * math.cos(angle), 3.4 * math.sin(angle), high)
        power = watts * float(place.chance.uniform(0.5, 1.3))
        place.lamps.append(Lamp(at, (-at[0], -at[1], 1.0 - high), (size, size), power, (1.0, 0.96, 0.92)))  # fmt: skip


#: The places there are: how they are built, how far from the middle a camera may stand (metres), and whether they are outdoors.
PLACES: dict[str, tuple[Callable[[Place], None], float, bool]] = {
    "living_room": (living_room, 3.7, False), "kitchen": (kitchen, 3.7, False), "office": (office, 3.7, False),
    "gym": (gym, 4.2, False), "studio": (studio, 4.3, False), "street": (street, 5.0, True), "park": (park, 5.0, True),
}  # fmt: skip


def build(name: str, seed: int, room: float = 0.0) -> Place:
    """A place that is built, and may be added to; see ``finish``.

    Args:
        room: how far around the middle no furniture may stand, metres.
    """
    make, reach, outdoor = PLACES[name]
    place = Place(name, np.random.default_rng([seed, sum(map(ord, name))]), reach, outdoor)
    make(place)
    if room:
        _clear(place.mesh, room)
    return place


def _prop_chair(place: Place, at: tuple[float, float], turn: float) -> None:
    seat = place.material(paint("seat", pick(place, CLOTHS), contrast=0.25))
    _chair(place, at, turn, seat, place.material(paint("legs", pick(place, WOODS), None, "stripes", 2, 0.3)))  # fmt: skip


def _prop_table(place: Place, at: tuple[float, float], turn: float) -> None:
    wood = place.material(paint("wood", pick(place, WOODS), None, "stripes", 2.0, 0.35))
    size = place.chance.uniform((0.5, 0.5, 0.45), (0.9, 0.7, 0.8))
    _table(place, at, (float(size[0]), float(size[1]), float(size[2])), wood, turn)


def _prop_plant(place: Place, at: tuple[float, float], turn: float) -> None:
    leaf = place.material(paint("leaf", (0.07, 0.17, 0.05), (0.15, 0.30, 0.08), contrast=0.9))
    _plant(place, at, leaf, place.material(paint("pot", pick(place, WALLS), contrast=0.2)))


def _prop_crate(place: Place, at: tuple[float, float], turn: float) -> None:
    wood = place.material(paint("crate", pick(place, WOODS + CLOTHS), None, "planks", 3.0, 0.5))
    size = place.chance.uniform(0.3, 0.6, 3)
    place.box((float(size[0]), float(size[1]), float(size[2])), (*at, 0.0), wood, turn, 0.01)


def _prop_ball(place: Place, at: tuple[float, float], turn: float) -> None:
    radius = float(place.chance.uniform(0.11, 0.35))
    skin = place.material(paint("ball", pick(place, CLOTHS), pick(place, WALLS), "stripes", 3.0, 0.8))  # fmt: skip
    place.blob(radius, (*at, radius), skin, 0.0)


def _prop_post(place: Place, at: tuple[float, float], turn: float) -> None:
    metal = place.material(paint("post", pick(place, CLOTHS), contrast=0.15))
    place.cylinder(0.16, 0.03, (*at, 0.0), metal)
    place.cylinder(0.025, float(place.chance.uniform(1.2, 2.0)), (*at, 0.0), metal)


def _prop_screen(place: Place, at: tuple[float, float], turn: float) -> None:
    cloth = place.material(paint("screen", pick(place, CLOTHS + WALLS), contrast=0.3, scale=6))
    place.box((1.0, 0.04, float(place.chance.uniform(0.8, 1.3))), (*at, 0.0), cloth, turn, 0.01)


#: Things that may stand about people, by name: how each is put at (x, y) on the floor, turned by degrees.
PROPS: dict[str, Callable[[Place, tuple[float, float], float], None]] = {
    "chair": _prop_chair, "table": _prop_table, "plant": _prop_plant, "crate": _prop_crate, "ball": _prop_ball, "post": _prop_post,
    "screen": _prop_screen,
}  # fmt: skip


def _clear(mesh: bmesh.types.BMesh, room: float) -> None:
    """Take furniture away that comes nearer to the middle than ``room`` metres: pieces whole, with what stands on them."""
    pieces = _pieces(mesh)
    low = np.array([np.min([v.co for v in p], axis=0) for p in pieces])
    high = np.array([np.max([v.co for v in p], axis=0) for p in pieces])
    # Floors, carpets, roads and walls stay.
    movable = (high[:, 2] > LOW_M) & ((high - low)[:, :2].max(axis=1) < LARGE_M) & ((high - low).min(axis=1) > 1e-4)  # fmt: skip
    nearest = np.maximum(np.maximum(low[:, :2], -high[:, :2]), 0.0)
    gone = movable & (np.linalg.norm(nearest, axis=1) < room)
    while True:  # what touches a piece that goes is a part of it
        near = np.zeros(len(pieces), bool)
        for i in np.flatnonzero(gone):
            near |= ((low <= high[i] + TOUCH_M) & (high >= low[i] - TOUCH_M)).all(axis=1)
        more = near & movable & ~gone
        if not more.any():
            break
        gone |= more
    bmesh.ops.delete(mesh, geom=[v for i in np.flatnonzero(gone) for v in pieces[i]], context="VERTS")  # fmt: skip


def _pieces(mesh: bmesh.types.BMesh) -> list[list[bmesh.types.BMVert]]:
    """The vertices of each connected part."""
    seen: set[bmesh.types.BMVert] = set()
    pieces = []
    for start in mesh.verts:
        if start in seen:
            continue
        seen.add(start)
        piece, queue = [], [start]
        while queue:
            vertex = queue.pop()
            piece.append(vertex)
            for edge in vertex.link_edges:
                other = edge.other_vert(vertex)
                if other not in seen:
                    seen.add(other)
                    queue.append(other)
        pieces.append(piece)
    return pieces


def finish(place: Place) -> bpy.types.Object:
    """The object of a place that is built, in the scene."""
    _refine(place.mesh)
    mesh = bpy.data.meshes.new(place.name)
    place.mesh.to_mesh(mesh)
    place.mesh.free()
    for material in place.materials:
        mesh.materials.append(material)
    obj = bpy.data.objects.new(place.name, mesh)
    bpy.context.scene.collection.objects.link(obj)
    return obj


def _refine(mesh: bmesh.types.BMesh) -> None:
    """Split edges until they are short: near the middle finely, further away coarsely."""
    bmesh.ops.triangulate(mesh, faces=mesh.faces[:])
    for _ in range(9):
        long = []
        for edge in mesh.edges:
            middle = (edge.verts[0].co + edge.verts[1].co) / 2
            distance = max(0.0, middle.xy.length - FINE_RADIUS_M)
            limit = FINE_M + (COARSE_M - FINE_M) * min(1.0, distance / 6.0) + 0.08 * max(0.0, distance - 6.0)  # fmt: skip
            if edge.calc_length() > 2 * limit:
                long.append(edge)
        if not long:
            return
        bmesh.ops.subdivide_edges(mesh, edges=long, cuts=1, use_grid_fill=True)
        bmesh.ops.triangulate(mesh, faces=[f for f in mesh.faces if len(f.verts) > 3])


def bake(obj: bpy.types.Object, samples: int = BAKE_SAMPLES) -> np.ndarray:
    """Compute the light on each vertex of a place, (V, 3) linear, and let its materials shine by it from then on."""
    scene = bpy.context.scene
    # People who are there already must leave no shadow in the light.
    hidden = [o for o in scene.objects if o.type == "MESH" and o.name != obj.name and not o.hide_render]  # fmt: skip
    for other in hidden:
        other.hide_render = True
    values = _softened(obj.data, bake_light(obj, samples))
    for other in hidden:
        other.hide_render = False
    shine(obj, values)
    return values


def shine(obj: bpy.types.Object, light: np.ndarray) -> None:
    """Let a place shine by the light on its vertices, (V, 3) linear."""
    mesh = obj.data
    values = np.ones((len(mesh.vertices), 4), np.float32)
    values[:, :3] = light
    _light_attribute(mesh).data.foreach_set("color", values.ravel())
    for material in mesh.materials:
        if not material.get("glows"):
            _shine(material)


def _light_attribute(mesh: bpy.types.Mesh) -> bpy.types.Attribute:
    attribute = mesh.color_attributes.get(LIGHT_ATTRIBUTE)
    if attribute is None:
        attribute = mesh.color_attributes.new(LIGHT_ATTRIBUTE, "FLOAT_COLOR", "POINT")
    return attribute


def bake_light(obj: bpy.types.Object, samples: int) -> np.ndarray:
    """The light that falls on each vertex of an object in the present scene, (V, 3) linear: what a white matt surface would show."""
    scene, mesh = bpy.context.scene, obj.data
    mesh.color_attributes.active_color = _light_attribute(mesh)
    cycles = scene.cycles
    before = (
        scene.render.engine,
        cycles.samples,
        cycles.use_denoising,
        cycles.use_adaptive_sampling,
    )
    scene.render.engine = "CYCLES"
    cycles.samples, cycles.use_denoising, cycles.use_adaptive_sampling = samples, False, False
    bpy.context.view_layer.update()
    for other in bpy.context.view_layer.objects:
        other.select_set(other.name == obj.name)
    bpy.context.view_layer.objects.active = obj
    bpy.ops.object.bake(
        type="DIFFUSE", pass_filter={"DIRECT", "INDIRECT"}, target="VERTEX_COLORS", margin=0, use_clear=True
    )  # fmt: skip
    scene.render.engine, cycles.samples, cycles.use_denoising, cycles.use_adaptive_sampling = before
    values = np.empty(len(mesh.vertices) * 4, np.float32)
    mesh.color_attributes[LIGHT_ATTRIBUTE].data.foreach_get("color", values)
    return values.reshape(-1, 4)[:, :3]


def _softened(mesh: bpy.types.Mesh, values: np.ndarray) -> np.ndarray:
    """Values (V, 3) with what few samples leave between neighbouring vertices evened out: steps towards the neighbours' mean."""
    edges = np.empty(len(mesh.edges) * 2, np.int32)
    mesh.edges.foreach_get("vertices", edges)
    edges = edges.reshape(-1, 2)
    degree = np.maximum(np.bincount(edges.ravel(), minlength=len(values)), 1)[:, None]
    for _ in range(SOFTENING_STEPS):
        total = np.zeros_like(values)
        np.add.at(total, edges[:, 0], values[edges[:, 1]])
        np.add.at(total, edges[:, 1], values[edges[:, 0]])
        values = 0.5 * values + 0.5 * total / degree
    return values


def _shine(material: bpy.types.Material) -> None:
    """Replace a matt material's shader by light: its colour times what was baked."""
    tree = material.node_tree
    shader = tree.nodes["Principled BSDF"]
    light = tree.nodes.new("ShaderNodeAttribute")
    light.attribute_name = LIGHT_ATTRIBUTE
    product = tree.nodes.new("ShaderNodeMix")
    product.data_type, product.blend_type = "RGBA", "MULTIPLY"
    product.inputs[0].default_value = 1.0
    source = shader.inputs["Base Color"]
    if source.links:
        tree.links.new(source.links[0].from_socket, product.inputs[6])
    else:
        product.inputs[6].default_value = source.default_value
    tree.links.new(light.outputs["Color"], product.inputs[7])
    emission = tree.nodes.new("ShaderNodeEmission")
    tree.links.new(product.outputs[2], emission.inputs["Color"])
    output = next(n for n in tree.nodes if n.type == "OUTPUT_MATERIAL")
    tree.links.new(emission.outputs[0], output.inputs["Surface"])
    material.cycles.emission_sampling = "NONE"
