"""Build the backgrounds that `relight` puts people into: procedural rooms and streets, and views of environment maps.

    .venv/bin/python assets_data/backgrounds/build_backgrounds.py [--light] [NAME…]

Each place is rendered from a level camera at hip height, 90 degrees wide, with free ground around 2.5 m ahead,
where a person will stand. From there a panorama is rendered too, and the light that falls on the person is read from it: one
key light, from the panorama's own brightest part, and what comes from all around, as spherical harmonics.
``backgrounds.json`` holds it. With --light the pictures stay as they are.
"""

from __future__ import annotations

import json
import math
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

import bpy
import numpy as np

from blender_scripts.contract import HDRIS
from blender_scripts.stage.importing import image_library
from posefactory_dagster.variants.enhancers.relight import harmonics

WIDTH, HEIGHT = 960, 640
FIELD_DEGREES = 90.0
CAMERA_HEIGHT_M = 0.9
PERSON_AT_M = 2.6
SAMPLES = 24
JPEG_QUALITY = 82
PANORAMA = (256, 128)
#: What belongs to the key light: within so many degrees of the brightest part.
KEY_DEGREES = 30.0
#: The brightest part is looked for in a panorama blurred by so many pixels, so that a glint is no sun.
KEY_BLUR_PIXELS = 3.0
#: The maps are 1024 pixels around, so a quarter of one is soft: blurred on purpose, like a lens far open.
MAP_BLUR_PIXELS = 3.0


def material(
    name: str, colour: tuple[float, float, float], roughness: float = 0.7
) -> bpy.types.Material:
    """A plain surface."""
    made = bpy.data.materials.new(name)
    made.use_nodes = True
    shader = made.node_tree.nodes["Principled BSDF"]
    shader.inputs["Base Color"].default_value = (*colour, 1)
    shader.inputs["Roughness"].default_value = roughness
    return made


def textured(
    name: str,
    kind: str,
    colours: list[tuple[float, float, float]],
    scale: float,
    roughness: float = 0.7,
) -> bpy.types.Material:
    """A surface of bricks, checks, or noise between two colours; ``scale`` in features a metre."""
    made = material(name, colours[0], roughness)
    nodes, links = made.node_tree.nodes, made.node_tree.links
    texture = nodes.new(
        {
            "brick": "ShaderNodeTexBrick",
            "checker": "ShaderNodeTexChecker",
            "noise": "ShaderNodeTexNoise",
        }[kind]
    )
    place = nodes.new("ShaderNodeTexCoord")
    links.new(place.outputs["Object"], texture.inputs["Vector"])
    texture.inputs["Scale"].default_value = scale
    if kind == "noise":
        ramp = nodes.new("ShaderNodeValToRGB")
        ramp.color_ramp.elements[0].color = (*colours[0], 1)
        ramp.color_ramp.elements[1].color = (*colours[1], 1)
        ramp.color_ramp.elements[0].position, ramp.color_ramp.elements[1].position = 0.35, 0.65
        texture.inputs["Detail"].default_value = 8
        links.new(texture.outputs["Fac"], ramp.inputs["Fac"])
        out = ramp.outputs["Color"]
    else:
        for i, colour in enumerate(colours):
            socket = texture.inputs.get(f"Color{i + 1}") or texture.inputs["Mortar"]
            socket.default_value = (*colour, 1)
        out = texture.outputs["Color"]
    links.new(out, nodes["Principled BSDF"].inputs["Base Color"])
    return made


def glowing(name: str, colour: tuple[float, float, float], strength: float) -> bpy.types.Material:
    """A surface that gives light."""
    made = material(name, colour)
    shader = made.node_tree.nodes["Principled BSDF"]
    shader.inputs["Emission Color"].default_value = (*colour, 1)
    shader.inputs["Emission Strength"].default_value = strength
    return made


def box(
    x: tuple[float, float],
    y: tuple[float, float],
    z: tuple[float, float],
    surface: bpy.types.Material,
    bevel: float = 0.0,
) -> bpy.types.Object:
    """A box between two corners, metres; x right, y away from the camera, z up."""
    bpy.ops.mesh.primitive_cube_add(size=1)
    made = bpy.context.object
    made.location = [sum(s) / 2 for s in (x, y, z)]
    made.scale = [max(s[1] - s[0], 1e-3) for s in (x, y, z)]
    bpy.ops.object.transform_apply(location=False, rotation=False, scale=True)
    if bevel:
        modifier = made.modifiers.new("bevel", "BEVEL")
        modifier.width, modifier.segments = bevel, 3
    made.data.materials.append(surface)
    return made


def ball(
    at: tuple[float, float, float], radius: float, surface: bpy.types.Material
) -> bpy.types.Object:
    """A smooth ball."""
    bpy.ops.mesh.primitive_uv_sphere_add(radius=radius, location=at, segments=48, ring_count=24)
    bpy.ops.object.shade_smooth()
    bpy.context.object.data.materials.append(surface)
    return bpy.context.object


def pick(rng: random.Random, *colours: str) -> tuple[float, float, float]:
    """One of some sRGB colours, as linear values, slightly varied."""
    text = rng.choice(colours)
    srgb = [int(text[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    return tuple(min(1.0, (c**2.2) * rng.uniform(0.85, 1.1)) for c in srgb)  # type: ignore[return-value]


def sky(rng: random.Random, elevation: tuple[float, float], strength: float) -> None:
    """A clear sky with its sun somewhere at the camera's back or sides."""
    world = bpy.data.worlds.new("sky")
    world.use_nodes = True
    bpy.context.scene.world = world
    nodes, links = world.node_tree.nodes, world.node_tree.links
    texture = nodes.new("ShaderNodeTexSky")
    texture.sky_type = "NISHITA"
    texture.sun_elevation = math.radians(rng.uniform(*elevation))
    texture.sun_rotation = math.radians(rng.uniform(100, 260))
    texture.sun_size = math.radians(3)
    links.new(texture.outputs["Color"], nodes["Background"].inputs["Color"])
    nodes["Background"].inputs["Strength"].default_value = strength


def room(seed: int) -> None:
    """A living room, an office or a hall."""
    rng = random.Random(seed)
    wide, deep, high = rng.uniform(2.6, 4.0), rng.uniform(4.6, 6.5), rng.uniform(2.5, 3.1)
    wall = material(
        "wall", pick(rng, "e8e2d4", "cfd8dc", "d8cbb8", "b9c4b1", "c9b7a8", "8fa3ad"), 0.9
    )
    floor = rng.choice(
        [
            textured(
                "planks",
                "brick",
                [pick(rng, "9a6b3f", "b98a5a"), pick(rng, "84572f", "a5784a"), (0.05, 0.03, 0.02)],
                2.2,
                0.45,
            ),
            textured(
                "tiles",
                "checker",
                [pick(rng, "d9d4c8", "c8c8c8"), pick(rng, "b3a998", "8d8d8d")],
                2.5,
                0.3,
            ),
            textured(
                "carpet",
                "noise",
                [pick(rng, "6e6259", "55606e"), pick(rng, "85786c", "69788a")],
                40,
                0.95,
            ),
        ]
    )
    white = material("white", (0.75, 0.74, 0.72), 0.5)
    box((-wide, wide), (-2.0, deep), (-0.1, 0.0), floor)
    box((-wide, wide), (-2.0, deep), (high, high + 0.1), white)
    box((-wide, wide), (deep, deep + 0.1), (0, high), wall)
    box((-wide - 0.1, -wide), (-2.0, deep), (0, high), wall)
    box((wide, wide + 0.1), (-2.0, deep), (0, high), wall)
    box((-wide, wide), (-2.1, -2.0), (0, high), wall)
    box((-wide, wide), (deep - 0.02, deep), (0, 0.1), white)
    # A window in a side wall, as a panel of light, and a lamp on the ceiling.
    side = rng.choice((-1, 1))
    at = rng.uniform(0.5, 2.5)
    day = rng.choice([(1.0, 0.97, 0.9), (0.85, 0.93, 1.0), (1.0, 0.85, 0.65)])
    x = side * (wide - 0.02)
    box(
        (x - 0.02, x + 0.02), (at, at + 1.8), (0.9, 2.2), glowing("window", day, rng.uniform(7, 13))
    )
    for z in (0.88, 1.55, 2.2):
        box((x - 0.04, x + 0.04), (at - 0.05, at + 1.85), (z - 0.02, z + 0.02), white)
    box(
        (-0.5, 0.5),
        (1.2, 2.2),
        (high - 0.04, high - 0.02),
        glowing("lamp", (1.0, 0.9, 0.75), rng.uniform(3, 6)),
    )
    # Furniture along the walls; the middle stays free.
    cloth = textured(
        "cloth",
        "noise",
        [
            pick(rng, "7a3b3b", "3f5b76", "6b7a4c", "8c8375"),
            pick(rng, "8f4a4a", "4e6d8a", "7d8c5d", "9d9486"),
        ],
        30,
        0.95,
    )
    wood = textured(
        "wood", "noise", [pick(rng, "5b3a21", "8a6642"), pick(rng, "6d4829", "9c7852")], 3, 0.5
    )
    left = rng.uniform(-wide + 0.1, -0.4)
    if rng.random() < 0.75:  # a sofa at the far wall
        y = deep - 1.0
        box((left, left + 2.0), (y, y + 0.9), (0.12, 0.45), cloth, 0.06)
        box((left, left + 2.0), (y + 0.65, y + 0.9), (0.45, 0.9), cloth, 0.08)
        for edge in (left, left + 1.8):
            box((edge, edge + 0.2), (y, y + 0.9), (0.12, 0.65), cloth, 0.06)
    shelf = rng.uniform(0.6, wide - 1.1) if left < -1 else -wide + 0.2
    box((shelf, shelf + 0.9), (deep - 0.35, deep - 0.02), (0, 1.9), wood, 0.01)
    for row in range(4):
        x = shelf + 0.06
        while x < shelf + 0.8:
            thick = rng.uniform(0.025, 0.06)
            book = material(
                "book", pick(rng, "8b2e2e", "2f4f6f", "d9c27e", "3f6b4f", "4a3f55", "c7c2b8"), 0.6
            )
            box(
                (x, x + thick),
                (deep - 0.4, deep - 0.34),
                (0.1 + row * 0.45, 0.1 + row * 0.45 + rng.uniform(0.2, 0.32)),
                book,
            )
            x += thick + 0.004
    for _ in range(rng.randint(1, 3)):  # pictures
        px, pz, half = (
            rng.uniform(-wide + 0.5, wide - 0.5),
            rng.uniform(1.4, 1.8),
            rng.uniform(0.2, 0.4),
        )
        box(
            (px - half, px + half),
            (deep - 0.05, deep - 0.02),
            (pz - half * 0.7, pz + half * 0.7),
            textured(
                "picture",
                "noise",
                [pick(rng, "d6b98c", "4d6a80", "a0522d"), pick(rng, "f0e6d2", "243447", "556b2f")],
                3,
            ),
        )
    if rng.random() < 0.7:  # a plant
        px = -side * (wide - 0.45)
        py = deep - rng.uniform(0.5, 1.5)
        box(
            (px - 0.15, px + 0.15),
            (py - 0.15, py + 0.15),
            (0, 0.35),
            material("pot", pick(rng, "b5651d", "dddddd")),
            0.03,
        )
        leaf = material("leaf", pick(rng, "2f6b3a", "41803f"))
        for _ in range(40):
            made = ball(
                (px + rng.gauss(0, 0.16), py + rng.gauss(0, 0.16), 0.75 + rng.gauss(0, 0.22)),
                rng.uniform(0.05, 0.1),
                leaf,
            )
            made.scale = (1.0, 0.25, 1.0)
            made.rotation_euler = [rng.uniform(0, 6) for _ in range(3)]
    world = bpy.data.worlds.new("dark")
    world.use_nodes = True
    world.node_tree.nodes["Background"].inputs["Strength"].default_value = 0.05
    bpy.context.scene.world = world


def street(seed: int) -> None:
    """A street between houses, or a yard, under a clear sky."""
    rng = random.Random(seed)
    sky(rng, (12, 60), 0.1)
    ground = rng.choice(
        [
            textured("asphalt", "noise", [(0.06, 0.06, 0.065), (0.1, 0.1, 0.1)], 25, 0.9),
            textured(
                "paving",
                "brick",
                [pick(rng, "a9a49a", "9a8f84"), pick(rng, "97928a", "887d73"), (0.08, 0.08, 0.08)],
                2.5,
                0.85,
            ),
            textured(
                "grass",
                "noise",
                [pick(rng, "4c6b2f", "5a7a35"), pick(rng, "3b5626", "6d8a45")],
                12,
                1.0,
            ),
        ]
    )
    box((-80, 80), (-20, 160), (-0.2, 0.0), ground)
    kerb = material("kerb", (0.35, 0.34, 0.32), 0.9)
    half = rng.uniform(4.0, 7.0)
    glass = material("glass", (0.04, 0.06, 0.08), 0.08)
    for side in (-1, 1):
        box(tuple(sorted((side * half, side * (half - 0.2)))), (-15, 120), (0, 0.12), kerb)
        y = rng.uniform(1, 5)
        while y < 90:
            long, tall, back = rng.uniform(7, 14), rng.uniform(5, 15), rng.uniform(1.5, 3)
            front = textured(
                "front",
                rng.choice(["brick", "noise"]),
                [
                    pick(rng, "a4553c", "c9b18f", "d7d2c8", "8d9aa3"),
                    pick(rng, "8f4630", "b89f7e", "c7c2b7", "7c8992"),
                    (0.4, 0.38, 0.35),
                ],
                3.5,
                0.9,
            )
            near = side * (half + back)
            box(tuple(sorted((near, near + side * 8))), (y, y + long), (0, tall), front)
            for storey in range(int(tall // 3)):
                wy = y + 0.9
                while wy + 1.1 < y + long:
                    z = 1.0 + storey * 3
                    frame = tuple(sorted((near - side * 0.04, near + side * 0.05)))
                    pane = tuple(sorted((near - side * 0.06, near + side * 0.02)))
                    box(
                        frame,
                        (wy - 0.08, wy + 1.08),
                        (z - 0.08, z + 1.58),
                        material("frame", (0.6, 0.6, 0.58)),
                    )
                    box(pane, (wy, wy + 1.0), (z, z + 1.5), glass)
                    wy += 2.3
            y += long + rng.choice((0.0, 0.0, 3.5))
    leaf = textured(
        "leaves", "noise", [pick(rng, "36592b", "4c7a35"), pick(rng, "254520", "6b9a48")], 9, 1.0
    )
    bark = material("bark", pick(rng, "5b4632", "6d5a45"), 0.95)
    for _ in range(rng.randint(2, 6)):
        x, y = rng.choice((-1, 1)) * rng.uniform(half - 1.5, half + 0.5), rng.uniform(5, 30)
        box((x - 0.12, x + 0.12), (y - 0.12, y + 0.12), (0, 2.2), bark, 0.05)
        for _ in range(14):
            ball(
                (x + rng.gauss(0, 0.6), y + rng.gauss(0, 0.6), 3.2 + rng.gauss(0, 0.6)),
                rng.uniform(0.4, 0.8),
                leaf,
            )
    for y in range(8, 60, 14):  # lamp posts
        x = (half - 0.5) * rng.choice((-1, 1))
        box(
            (x - 0.05, x + 0.05),
            (y - 0.05, y + 0.05),
            (0, 4.5),
            material("post", (0.08, 0.09, 0.09), 0.4),
        )
    for _ in range(rng.randint(1, 4)):  # parked cars
        x = rng.choice((-1, 1)) * (half - 1.3)
        y = rng.uniform(6, 25)
        paint = material("paint", pick(rng, "8a1c1c", "1f3a5f", "c0c0c0", "2b2b2b", "d8d4c8"), 0.25)
        box((x - 0.85, x + 0.85), (y, y + 4.2), (0.3, 0.85), paint, 0.15)
        box((x - 0.75, x + 0.75), (y + 0.9, y + 3.3), (0.8, 1.4), glass, 0.2)
        for wx in (x - 0.8, x + 0.8):
            for wy in (y + 0.8, y + 3.4):
                wheel = ball((wx, wy, 0.32), 0.32, material("tyre", (0.02, 0.02, 0.02), 0.9))
                wheel.scale = (0.35, 1, 1)


def environment_map(name: str) -> None:
    """One of Blender's own maps, with nothing in it."""
    world = bpy.data.worlds.new(name)
    world.use_nodes = True
    bpy.context.scene.world = world
    nodes, links = world.node_tree.nodes, world.node_tree.links
    texture = nodes.new("ShaderNodeTexEnvironment")
    folder = Path(bpy.utils.system_resource("DATAFILES", path="studiolights/world"))
    texture.image = bpy.data.images.load(str(folder / f"{name}.exr"))
    links.new(texture.outputs["Color"], nodes["Background"].inputs["Color"])


PLACES: dict[str, tuple[str, Callable[[], None]]] = {
    **{f"room_{i}": ("room", lambda i=i: room(100 + i)) for i in range(1, 7)},  # type: ignore[misc]
    **{f"street_{i}": ("street", lambda i=i: street(200 + i)) for i in range(1, 7)},  # type: ignore[misc]
    **{f"map_{name}": ("map", lambda name=name: environment_map(name)) for name in HDRIS},  # type: ignore[misc]
}


def look(width: int, height: int, field_degrees: float, samples: int) -> None:
    """Put the camera up, and set Cycles."""
    scene = bpy.context.scene
    data = bpy.data.cameras.new("camera")
    camera = bpy.data.objects.new("camera", data)
    scene.collection.objects.link(camera)
    camera.location = (0, 0, CAMERA_HEIGHT_M)
    camera.rotation_euler = (math.pi / 2, 0, 0)
    data.sensor_fit, data.sensor_width = "HORIZONTAL", 36.0
    data.lens = 18.0 / math.tan(math.radians(field_degrees) / 2)
    scene.camera = camera
    scene.render.engine = "CYCLES"
    scene.cycles.device = "CPU"
    scene.cycles.samples = samples
    scene.cycles.seed = 0
    scene.cycles.use_denoising = True
    scene.cycles.use_adaptive_sampling = False
    scene.cycles.max_bounces = 4
    scene.render.resolution_x, scene.render.resolution_y = width, height
    scene.render.film_transparent = False
    scene.view_settings.view_transform = "Standard"


def exposure(linear: np.ndarray) -> float:
    """The factor by which brighter parts of a view are kept."""
    return 0.8 / max(float(np.percentile(linear.max(axis=-1), 92)), 1e-4)


def save_place(name: str, linear: np.ndarray, target: Path) -> None:
    """Write the view."""
    from PIL import Image, ImageFilter

    values = np.clip(linear * exposure(linear), 0, 1)
    srgb = np.where(
        values <= 0.0031308,
        values * 12.92,
        1.055 * np.maximum(values, 0.0031308) ** (1 / 2.4) - 0.055,
    )
    picture = Image.fromarray((srgb * 255 + 0.5).astype(np.uint8))
    if name.startswith("map_"):
        picture = picture.filter(ImageFilter.GaussianBlur(MAP_BLUR_PIXELS))
    picture.save(target, quality=JPEG_QUALITY, optimize=True)


def render_linear(path: Path) -> np.ndarray:
    """What the camera sees, (H, W, 3), linear light."""
    scene = bpy.context.scene
    scene.render.image_settings.file_format = "OPEN_EXR"
    scene.render.image_settings.color_mode = "RGB"
    scene.render.image_settings.color_depth = "32"
    scene.render.filepath = str(path)
    bpy.ops.render.render(write_still=True)
    file = image_library().ImageInput.open(str(path))
    values = file.read_image("float")
    file.close()
    path.unlink()
    return values[..., :3]


def light_on_person(factor: float) -> dict[str, list]:
    """The light where the person will stand, in the exposure of the picture; see ``relight.Background``."""
    scene = bpy.context.scene
    camera = scene.camera
    camera.location = (0, PERSON_AT_M, CAMERA_HEIGHT_M + 0.2)
    camera.rotation_euler = (math.pi / 2, 0, 0)
    camera.data.type, camera.data.panorama_type = "PANO", "EQUIRECTANGULAR"
    scene.render.resolution_x, scene.render.resolution_y = PANORAMA
    radiance = render_linear(HERE / "panorama.exr") * factor
    return read_light(radiance)


def read_light(radiance: np.ndarray) -> dict[str, list]:
    """Key and surroundings of a panorama (H, W, 3), whose middle is straight ahead; see ``relight.Background``."""
    import cv2

    height, width = radiance.shape[:2]
    across = (np.arange(width) + 0.5) / width * 2 * np.pi - np.pi
    up = np.pi / 2 - (np.arange(height) + 0.5) / height * np.pi
    level = np.cos(up)[:, None]
    directions = np.stack(
        np.broadcast_arrays(np.sin(across) * level, -np.sin(up)[:, None], np.cos(across) * level),
        axis=-1,
    )
    solid = (2 * np.pi / width) * (np.pi / height) * np.broadcast_to(level, (height, width))
    blurred = cv2.GaussianBlur(np.concatenate([radiance] * 3, axis=1), (0, 0), KEY_BLUR_PIXELS)[
        :, width : 2 * width
    ].sum(axis=-1)
    blurred = blurred * (directions[..., 1] < 0.2)  # the floor gives back light, and is no lamp
    brightest = directions[np.unravel_index(blurred.argmax(), blurred.shape)]
    near = directions @ brightest > np.cos(np.radians(KEY_DEGREES))
    weights = solid * near
    elsewhere = (radiance * (solid * ~near)[..., None]).sum(axis=(0, 1)) / (solid * ~near).sum()
    excess = np.maximum(radiance - elsewhere, 0) * near[..., None]
    strength = (excess.sum(axis=-1) * weights)[..., None]
    direction = (directions * strength).sum(axis=(0, 1))
    direction /= np.linalg.norm(direction)
    key = (excess * solid[..., None]).sum(axis=(0, 1)) / np.pi
    rest = (radiance - excess) * solid[..., None]
    # Convolved with the cosine and divided by pi: 1, 2/3 and 1/4 by degree (Ramamoorthi and Hanrahan 2001).
    degree = np.array([1.0, *[2 / 3] * 3, *[1 / 4] * 5])[:, None]
    ambient = np.einsum("hwk,hwc->kc", harmonics(directions), rest) * degree
    return {
        "direction": [round(float(v), 4) for v in direction],
        "ambient": [[round(float(v), 4) for v in row] for row in ambient],
        "key": [round(float(v), 4) for v in key],
    }


def main() -> None:
    """Build all places, or those named."""
    only_light = "--light" in sys.argv
    wanted = [a for a in sys.argv[1:] if a != "--light"] or list(PLACES)
    document_path = HERE / "backgrounds.json"
    document = json.loads(document_path.read_text()) if document_path.exists() else {}
    for name in wanted:
        kind, build = PLACES[name]
        bpy.ops.wm.read_factory_settings(use_empty=True)
        build()
        # The exposure is that of the picture's brighter parts, which a small one shows as well.
        size = (WIDTH // 4, HEIGHT // 4) if only_light else (WIDTH, HEIGHT)
        look(*size, FIELD_DEGREES, 16 if kind == "map" else SAMPLES)
        linear = render_linear(HERE / "shot.exr")
        if not only_light:
            save_place(name, linear, HERE / f"{name}.jpg")
        light = light_on_person(exposure(linear))
        document[name] = {"kind": kind, "field_degrees": FIELD_DEGREES, **light}
        print(name, light["direction"], light["key"], flush=True)
        document_path.write_text(json.dumps(dict(sorted(document.items())), indent=1) + "\n")
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
