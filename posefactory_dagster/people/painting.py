"""Textures made by script: skins, irises, fabrics, hair. Images are (H, W, 3 or 4) uint8, sRGB unless a name says otherwise.

The masks of lips, lids, nails and ears come with MakeHuman's base mesh (CC0); all else is computed. Noise on skin is a function of
the place on the body and not of the texture's plane, so it has no seams.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy.ndimage import distance_transform_edt, gaussian_filter

from posefactory_dagster.people.body import data_folder, topology
from posefactory_dagster.people.hair import brow_strength
from posefactory_dagster.people.mesh import triangulate, waves

#: Side of skin textures and fabric tiles, pixels.
SKIN_SIZE, FABRIC_SIZE, HAIR_SIZE = 1024, 256, 128
#: The ten tones of the Monk Skin Tone scale (Ellis Monk, 2019; the orbs' sRGB values as published by Google, CC BY 4.0 facts).
MONK = (
    (246, 237, 228), (243, 231, 219), (247, 234, 208), (234, 218, 186), (215, 189, 150),
    (160, 126, 86), (130, 92, 67), (96, 65, 52), (58, 49, 42), (41, 36, 32),
)  # fmt: skip
#: Names of hair and eye colours, sRGB.
HAIR_COLOURS = {
    "black": (34, 30, 28), "dark_brown": (66, 46, 34), "brown": (98, 67, 46), "light_brown": (134, 98, 66),
    "blond": (196, 160, 108), "red": (150, 72, 36), "grey": (140, 138, 136), "white": (215, 213, 210),
}  # fmt: skip
EYE_COLOURS = {
    "dark_brown": (48, 28, 18), "brown": (88, 54, 30), "hazel": (112, 88, 48), "green": (84, 108, 72), "blue": (82, 120, 156),
    "grey": (112, 122, 128),
}  # fmt: skip
CLOTH_COLOURS = {
    "white": (226, 224, 218), "black": (30, 30, 33), "grey": (120, 122, 126), "charcoal": (58, 60, 66), "navy": (32, 42, 76),
    "blue": (44, 84, 150), "light_blue": (140, 172, 206), "teal": (30, 112, 112), "green": (50, 102, 62), "olive": (96, 98, 58),
    "yellow": (214, 172, 52), "orange": (204, 104, 42), "red": (166, 36, 42), "burgundy": (92, 26, 40), "pink": (212, 138, 152),
    "purple": (98, 62, 122), "brown": (98, 68, 48), "beige": (196, 176, 146), "tan": (166, 130, 92), "khaki": (150, 138, 104),
}  # fmt: skip


@dataclass(frozen=True)
class SkinLook:
    """What a skin is painted by.

    Attributes:
        tone: 1 to 10 on the Monk scale, fractions between. years: age. female: 0 to 1.
        freckles, ruddiness: 0 to 1. lips: 0 natural to 1 painted. stubble: 0 to 1. brow: colour of the brows, sRGB.
    """

    tone: float
    years: float
    female: float
    freckles: float = 0.0
    ruddiness: float = 0.3
    lips: float = 0.0
    stubble: float = 0.0
    brow: tuple[int, int, int] = (46, 32, 24)


def tone_colour(tone: float) -> np.ndarray:
    """(3,) sRGB of a tone of the Monk scale, 1 to 10, linear between its steps."""
    steps = np.array(MONK, float)
    return np.array([np.interp(tone, np.arange(1, 11), steps[:, i]) for i in range(3)])


@functools.cache
def _places(size: int) -> tuple[np.ndarray, np.ndarray]:
    """For each texel of the skin: where it is on the mean body ((H, W, 3), metres), and whether the mesh uses it."""
    shape = topology()
    positions = _template()
    faces = triangulate(shape.faces["body"])
    corner_uvs = shape.uvs[triangulate_uvs()]
    where = np.zeros((size, size, 3), np.float32)
    used = np.zeros((size, size), bool)
    pixels = corner_uvs * (1, -1) * size + (0, size) - 0.5
    for corners, places in zip(pixels, positions[faces], strict=True):
        low = np.maximum(np.floor(corners.min(axis=0)).astype(int), 0)
        high = np.minimum(np.ceil(corners.max(axis=0)).astype(int) + 1, size)
        if (high <= low).any():
            continue
        x, y = np.meshgrid(np.arange(low[0], high[0]), np.arange(low[1], high[1]))
        (ax, ay), (bx, by), (cx, cy) = corners
        area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
        if abs(area) < 1e-9:
            continue
        v = ((x - ax) * (cy - ay) - (cx - ax) * (y - ay)) / area
        w = ((bx - ax) * (y - ay) - (x - ax) * (by - ay)) / area
        inside = (v >= -0.02) & (w >= -0.02) & (v + w <= 1.02)
        yy, xx = y[inside], x[inside]
        weights = np.stack([1 - v[inside] - w[inside], v[inside], w[inside]], axis=1)
        where[yy, xx] = weights @ places
        used[yy, xx] = True
    return where, used


@functools.cache
def triangulate_uvs() -> np.ndarray:
    """(T, 3) texture coordinate indices of the body's triangles, in the order of ``triangulate``."""
    shape = topology()
    faces, uvs = shape.faces["body"], shape.face_uvs["body"]
    return np.concatenate([uvs[:, :3], uvs[:, [0, 2, 3]][faces[:, 2] != faces[:, 3]]])


@functools.cache
def _template() -> np.ndarray:
    """(19158, 3) the mesh of `base.obj` in metres, z up: where noise is defined."""
    rows = []
    with (data_folder() / "3dobjs" / "base.obj").open(encoding="utf-8") as file:
        for line in file:
            if line.startswith("v "):
                rows.append([float(w) for w in line.split()[1:4]])
    points = np.array(rows) * 0.1
    return np.stack([points[:, 0], -points[:, 2], points[:, 1]], axis=1)


@functools.cache
def _mask(name: str, size: int) -> np.ndarray:
    """A mask of MakeHuman's base mesh, (H, W) 0 to 1."""
    with Image.open(data_folder() / "textures" / f"mpfb_{name}.jpg") as opened:
        return np.asarray(opened.convert("L").resize((size, size)), np.float32) / 255


def skin(look: SkinLook, chance: np.random.Generator, size: int = SKIN_SIZE) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Colour (H, W, 3) and normal map (H / 2, W / 2, 3) of a skin."""
    where, used = _places(size)
    points = where[used].astype(np.float64)
    tone = tone_colour(look.tone) / 255
    # The scale's patches are lit evenly and paler than flesh, which is darker and redder where light comes through it (by eye).
    dark = float(np.interp(look.tone, (1, 10), (0.0, 1.0)))
    flesh = (1 - dark) * np.array((0.93, 0.79, 0.71)) + dark * np.array((1.12, 0.94, 0.83))
    base = 0.96 * tone**1.1 * flesh
    colour = np.ones((len(points), 3)) * base
    blotch = waves(points, chance, 0.11) * 0.6 + waves(points, chance, 0.045) * 0.4
    fine = waves(points, chance, 0.012, 30) * 0.5 + chance.normal(size=len(points)) * 0.5
    colour *= 1 + 0.035 * blotch[:, None] * (1, 0.8, 0.7) + 0.022 * fine[:, None]
    red = np.array((0.10, -0.035, -0.03)) * (1 - 0.55 * dark)
    template = _template()
    features = _features(template)
    for centre, radius, strength in features["warm"]:
        near = np.exp(-(np.linalg.norm(points - centre, axis=1) ** 2) / (2 * radius**2))
        colour += (near * strength * (0.4 + look.ruddiness))[:, None] * red
    colour += (0.15 * _mask("ears", size)[used])[:, None] * red * 2
    lips = gaussian_filter(_mask("lips", size), 1.2)[used]
    lip = base * np.array((0.86, 0.60, 0.60)) * (1 - 0.25 * dark) + 0.02
    painted = np.array((0.62, 0.12, 0.17)) * (0.6 + 0.4 * chance.uniform()) * (1 - 0.3 * dark)
    colour = _mix(colour, lip * (1 - look.lips) + painted * look.lips, 0.75 * lips)
    colour = _mix(
        colour,
        base * (1.02, 0.86, 0.84) * (1 - 0.1 * dark) + 0.05,
        0.5 * _mask("fingernails", size)[used],
    )
    colour = _mix(colour, base * (1.02, 0.86, 0.84), 0.5 * _mask("toenails", size)[used])
    colour = _mix(colour, base * (0.72, 0.50, 0.46), 0.7 * _mask("aureolae", size)[used])
    lids = gaussian_filter(_mask("eyelids", size), 2)[used]
    colour = _mix(colour, base * (0.86, 0.76, 0.74), (0.35 + 0.25 * look.female * look.lips) * lids)
    colour = _mix(colour, base * (0.55, 0.28, 0.26), 0.9 * _mask("inside-mouth", size)[used])
    if look.freckles > 0:
        spots = _spots(points, chance, int(700 * look.freckles), (0.0012, 0.0028), features["face"])
        colour = _mix(colour, base * (0.68, 0.50, 0.38), 0.65 * spots)
    if look.years > 45:
        spots = _spots(
            points, chance, int(6 * (look.years - 45)), (0.0015, 0.005), features["skin"]
        )
        colour = _mix(colour, base * (0.76, 0.62, 0.52), 0.5 * spots)
    if look.stubble > 0:
        beard = np.zeros(len(points))
        for centre, radius in features["beard"]:
            beard = np.maximum(beard, np.exp(-((np.linalg.norm(points - centre, axis=1) / radius) ** 4)))  # fmt: skip
        grain = 0.75 + 0.25 * chance.random(len(points))
        colour = _mix(colour, np.array(look.brow) / 255 * 0.8, 0.55 * look.stubble * beard * grain * (1 - np.clip(2 * lips, 0, 1)))  # fmt: skip
    left, right = template[14598:14670].mean(axis=0), template[14670:14742].mean(axis=0)
    brow = brow_strength(points, (left + right) / 2, float(np.linalg.norm(left - right)))
    brow *= np.linalg.norm(points - (left + right) / 2, axis=1) < 0.08
    colour = _mix(colour, np.array(look.brow) / 255 * 0.9, 0.5 * brow)
    image = np.zeros((size, size, 3))
    image[used] = np.clip(colour, 0.005, 0.98)
    image = _bleed(image, used)
    rough = np.zeros((size, size))
    wrinkles = waves(points * (1.0, 1.0, 3.0), chance, 0.02) * np.clip((look.years - 35) / 45, 0, 1)
    rough[used] = 0.5 * fine + 0.9 * wrinkles
    height = _bleed(rough[..., None], used)[..., 0]
    # Pores are finer than a texel; half the size keeps what can be seen of the rest.
    height = height.reshape(size // 2, 2, size // 2, 2).mean(axis=(1, 3))
    return (image * 255 + 0.5).astype(np.uint8), normal_map(height, 0.6)


def _features(template: np.ndarray) -> dict:
    """Where on the mean body warm skin, freckles, spots and beards are; found by helpers of the mesh."""
    left, right = template[14598:14670].mean(axis=0), template[14670:14742].mean(axis=0)
    apart = np.linalg.norm(left - right)
    middle = (left + right) / 2
    front = template[:13380]
    face = front[(np.abs(front[:, 0]) < 0.02) & (front[:, 2] < middle[2]) & (front[:, 2] > middle[2] - 1.0 * apart)]  # fmt: skip
    nose = face[face[:, 1].argmin()]
    cheeks = [np.array((s * 0.62 * apart, nose[1] + 0.035, middle[2] - 0.62 * apart)) for s in (-1, 1)]  # fmt: skip
    mouth = np.array((0, nose[1] + 0.02, middle[2] - 1.15 * apart))
    chin = np.array((0, nose[1] + 0.025, middle[2] - 1.75 * apart))
    jaws = [np.array((s * 0.80 * apart, nose[1] + 0.07, middle[2] - 1.45 * apart)) for s in (-1, 1)]
    return {
        "warm": [(nose, 0.012, 0.9), *((c, 0.022, 0.8) for c in cheeks)],
        "face": [(nose, 0.05), *((c, 0.03) for c in cheeks)],
        "skin": [(nose, 0.09), (np.array((0.62, 0.0, 1.0)), 0.2), (np.array((-0.62, 0.0, 1.0)), 0.2)],
        "beard": [(chin, 0.034), *((j, 0.034) for j in jaws), (mouth + (0, 0.0, 0.012), 0.022), (mouth + (0.022, 0.008, -0.01), 0.02), (mouth + (-0.022, 0.008, -0.01), 0.02)],
    }  # fmt: skip


def _spots(points: np.ndarray, chance: np.random.Generator, count: int, radii: tuple[float, float], places: list) -> np.ndarray:  # fmt: skip
    """(P,) 0 to 1: round spots at random places of the skin near some centres."""
    from scipy.spatial import cKDTree

    total = np.zeros(len(points))
    tree = cKDTree(points)
    for centre, spread in places:
        near = tree.query_ball_point(centre, 2.2 * spread)
        if not near:
            continue
        for index in chance.choice(near, size=min(count, len(near))):
            radius = chance.uniform(*radii)
            found = tree.query_ball_point(points[index], 2 * radius)
            distance = np.linalg.norm(points[found] - points[index], axis=1)
            strength = chance.uniform(0.4, 1.0) * np.exp(-((distance / radius) ** 2))
            total[found] = np.maximum(total[found], strength)
    return total


def _mix(colour: np.ndarray, other: np.ndarray, share: np.ndarray) -> np.ndarray:
    return colour * (1 - share[:, None]) + np.asarray(other) * share[:, None]


def _bleed(image: np.ndarray, used: np.ndarray) -> np.ndarray:
    """Texels outside the mesh's islands take the nearest colour, so that filtering never mixes black in."""
    nearest = distance_transform_edt(~used, return_distances=False, return_indices=True)
    return image[tuple(nearest)]


def normal_map(height: np.ndarray, strength: float) -> np.ndarray:
    """Tangent-space normals (H, W, 3) uint8 of a height field (H, W), y upwards as glTF has it; wraps around."""
    dx = (np.roll(height, -1, axis=1) - np.roll(height, 1, axis=1)) * strength / 2
    dy = (np.roll(height, -1, axis=0) - np.roll(height, 1, axis=0)) * strength / 2
    normal = np.stack([-dx, dy, np.ones_like(height)], axis=-1)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    return (normal * 127.5 + 128).clip(0, 255).astype(np.uint8)


def iris(colour: tuple[int, int, int], chance: np.random.Generator, size: int = 128) -> np.ndarray:
    """An eye seen from the front, (H, W, 3): sclera, iris with fibres, limbus, pupil; the eyeball fills the square."""
    y, x = np.mgrid[0:size, 0:size] / (size - 1) * 2 - 1
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    image = np.ones((size, size, 3)) * (0.80, 0.78, 0.755)
    image += (0.06 * np.clip(radius - 0.5, 0, 1) * (1 + np.sin(7 * angle)))[..., None] * (0, -1, -1)
    fibres = sum(np.sin(k * angle + chance.uniform(0, 6.28)) / 6 for k in chance.integers(9, 60, 8))
    tint = np.array(colour) / 255
    inner = tint * (1.25 + 0.35 * fibres[..., None]) * (0.75 + 0.5 * (radius[..., None] / 0.44))
    soft = np.clip((0.46 - radius) / 0.035, 0, 1)[..., None]
    limbus = np.clip(1 - np.abs(radius - 0.445) / 0.05, 0, 1)[..., None]
    image = image * (1 - soft) + np.clip(inner, 0, 1) * soft
    image *= 1 - 0.65 * limbus
    pupil = np.clip((0.17 - radius) / 0.025, 0, 1)[..., None]
    image = image * (1 - pupil) + 0.01 * pupil
    return (np.clip(image, 0, 1) * 255).astype(np.uint8)


def hair(colour: tuple[int, int, int], chance: np.random.Generator, grey: float = 0.0) -> np.ndarray:  # fmt: skip
    """Strands side by side, (H, W, 3): each column of texels is one strand, root above, tip below.

    Args:
        grey: share of grey strands.
    """
    size = HAIR_SIZE
    base = np.array(colour) / 255
    level = np.exp(0.22 * chance.normal(size=size))[None, :, None]
    rows = np.linspace(0.75, 1.25, size)[:, None, None]
    image = base * level * rows * (1 + 0.05 * chance.normal(size=(size, size, 1)))
    white = (chance.random(size) < grey)[None, :, None]
    image = np.where(white, (0.55, 0.545, 0.54) * rows * level, image)
    return (np.clip(image, 0.006, 1) * 255).astype(np.uint8)


def fabric(pattern: str, colour: tuple[int, int, int], second: tuple[int, int, int], chance: np.random.Generator) -> tuple[np.ndarray, np.ndarray, float]:  # fmt: skip
    """Colour (H, W, 3), normal map (H, W, 3) and roughness of a fabric; both tile."""
    size = FABRIC_SIZE
    y, x = np.mgrid[0:size, 0:size] / size * 2 * np.pi
    one, two = np.array(colour) / 255, np.array(second) / 255
    noise = chance.normal(size=(size, size))
    soft = gaussian_filter(noise, 6, mode="wrap")
    soft /= soft.std()
    image = np.ones((size, size, 3)) * one
    weave = 0.5 * (np.sin(64 * x) * np.sin(64 * y))
    height, rough = weave + 0.3 * noise, 0.85
    if pattern == "heather":
        fibre = gaussian_filter(noise, (1.2, 0.4), mode="wrap")
        image *= 1 + 0.20 * (fibre / fibre.std())[..., None]
    elif pattern == "stripes":
        bands = int(chance.integers(4, 14))
        wide = chance.uniform(0.25, 0.6)
        image = np.where((((y / (2 * np.pi) * bands) % 1) < wide)[..., None], two, one)
    elif pattern == "plaid":
        bands = int(chance.integers(3, 7))
        across, along = (((t / (2 * np.pi) * bands) % 1) < 0.42 for t in (x, y))
        thin = (np.abs(((x / (2 * np.pi) * bands) % 1) - 0.72) < 0.03) | (np.abs(((y / (2 * np.pi) * bands) % 1) - 0.72) < 0.03)  # fmt: skip
        share = 0.5 * across + 0.5 * along
        image = one * (1 - share[..., None]) + two * share[..., None]
        image = np.where(thin[..., None], 0.5 * image + 0.5 * (1 - two) * 0.8, image)
    elif pattern == "denim":
        twill = np.sin(48 * x + 48 * y)
        image *= 1 + 0.10 * twill[..., None] + 0.10 * noise[..., None]
        height = twill + 0.4 * noise
    elif pattern == "knit":
        rows = np.abs(np.sin(16 * x)) * (0.7 + 0.3 * np.sin(32 * y + 3 * np.abs(np.sin(16 * x))))
        image *= 0.78 + 0.3 * rows[..., None]
        height = 4 * rows
    elif pattern == "dots":
        bands = int(chance.integers(3, 8))
        shifted = (
            x / (2 * np.pi) * bands + 0.5 * (np.floor(y / (2 * np.pi) * 2 * bands) % 2)
        ) % 1 - 0.5
        upright = (y / (2 * np.pi) * 2 * bands) % 1 - 0.5
        image = np.where((np.hypot(shifted, upright / 2) < 0.16)[..., None], two, image)
    elif pattern == "print":
        blots = gaussian_filter(chance.normal(size=(size, size)), 11, mode="wrap")
        third = np.clip(one * 0.5 + two * 0.5 + chance.uniform(-0.15, 0.15, 3), 0, 1)
        image = np.where((blots > 0.6 * blots.std())[..., None], two, image)
        image = np.where((blots < -0.9 * blots.std())[..., None], third, image)
    elif pattern == "leather":
        grain = gaussian_filter(noise, 1.5, mode="wrap")
        image *= 1 + 0.08 * (grain / grain.std())[..., None]
        height, rough = 0.4 * grain / grain.std(), 0.42
    image = image * (1 + 0.012 * soft[..., None] + 0.02 * noise[..., None])
    return (np.clip(image, 0.005, 0.95) * 255).astype(np.uint8), normal_map(height, 0.35), rough
