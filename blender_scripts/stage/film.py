"""Set an engine up, and turn what the camera sees into a picture and a mask.

Only the border around the character is rendered, on transparent film; the background comes under it
afterwards. With Cycles on a CPU that is a third cheaper than the full frame.
"""

from __future__ import annotations

import errno
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import bpy
import numpy as np

from blender_scripts.contract import (
    DEPTH_UNITS_PER_METRE,
    FLOW_UNITS_PER_PIXEL,
    FLOW_ZERO,
    RenderSettings,
)
from blender_scripts.errors import InputError
from blender_scripts.stage import engines
from blender_scripts.stage.importing import image_library
from blender_scripts.stage.light import PLAIN_COLOUR

#: Pixels around the character's projected box that are rendered too.
BORDER_PIXELS = 3
MASK_THRESHOLD = 0.5
#: Metres. Where a ray meets nothing, engines write a huge depth.
NOTHING_BEYOND = 1e6
#: From so many samples on, outlines need no evening out; and how far fewer are evened out, deviation in pixels.
ENOUGH_SAMPLES, UNEVEN_PIXELS = 64, 0.5
#: Variance of light that is noise still, where it is denoised.
GUIDE_NOISE = 1e-4
#: Above this linear light the film's curve bends, as highlights do in photographs.
SHOULDER = 0.7
#: zlib's 1 to 9: higher is a tenth smaller and half as slow again.
PNG_COMPRESSION = 3


def set_up(
    settings: RenderSettings,
    *,
    in_place: bool = False,
    objects: bool = False,
    materials: bool = False,
) -> None:
    """Engine, samples, seed and output of the scene.

    Args:
        in_place: whether people stand in a look's surroundings: denoised.
        objects, materials: whether the coverage of each mesh, and of each material, is wanted.
    """
    scene = bpy.context.scene
    assert settings.samples is not None, "settings are resolved when a job is planned"
    if settings.engine in ("cycles", "cycles_gpu"):
        scene.render.engine = "CYCLES"
        scene.cycles.device = "CPU"
        if settings.engine == "cycles_gpu":
            engines.use_gpu(scene)
        scene.cycles.samples = settings.samples
        scene.cycles.seed = settings.seed
        scene.cycles.use_denoising = False
        scene.cycles.use_adaptive_sampling = False
        scene.cycles.max_bounces = 4
        scene.render.use_persistent_data = True
    else:
        scene.render.engine = "BLENDER_EEVEE_NEXT"
        scene.eevee.taa_render_samples = settings.samples
    scene.render.film_transparent = True
    scene.render.use_border = True
    scene.render.use_crop_to_border = True
    scene.render.use_stamp = False
    scene.view_settings.view_transform = "Standard"
    # All passes in one file, as linear 32-bit floats: read quickly, and nothing is dithered.
    layer = bpy.context.view_layer
    layer.use_pass_z = layer.use_pass_normal = True
    layer.use_pass_diffuse_color = layer.use_pass_emit = True
    layer.use_pass_cryptomatte_object, layer.use_pass_cryptomatte_material = objects, materials
    layer.pass_cryptomatte_depth = 6
    if in_place:
        scene.view_settings.view_transform = "Raw"
        if settings.engine in ("cycles", "cycles_gpu"):
            scene.cycles.max_bounces = 2
            # With the few lamps of a place, choosing among them costs more than it spares.
            scene.cycles.use_light_tree = False
            scene.cycles.use_denoising = True
            scene.cycles.denoiser = "OPENIMAGEDENOISE"
            # The guides have the same few samples as the picture: taken for clean, they would bring their noise into it.
            scene.cycles.denoising_quality, scene.cycles.denoising_prefilter = "BALANCED", "FAST"
    output = scene.render.image_settings
    output.file_format = "OPEN_EXR_MULTILAYER"
    output.color_mode = "RGBA"
    output.color_depth = "32"
    output.exr_codec = "NONE"


@dataclass(frozen=True)
class Picture:
    """A rendered view: what the border held, and where in the frame that lies.

    ``rgba`` (h, w, 4) float32 0-1, sRGB, straight alpha, top row first; ``distance`` (h, w) float32, metres
    along the camera's axis, infinite where nothing is; ``colour`` (h, w, 4) as ``rgba``, the surface's own colour without light
    and shadow; ``normal`` (h, w, 3) float32, world axes, not normalized at edges, zero where nothing is. Their top-left corner is at pixel (``left``, ``top``)
    of a frame of ``width`` x ``height``; all around it is transparent. ``linear`` (h, w, 4) is linear light multiplied with alpha, to be laid
    over a place: where samples are few, its alpha is evened out.
    Where people are told apart, ``coverage`` (h, w, P) is the share of each pixel that each of them covers; ``materials`` are the
    numbers and shares of the materials in each pixel, see ``_ranks``.
    """

    rgba: np.ndarray
    distance: np.ndarray
    colour: np.ndarray
    normal: np.ndarray
    left: int
    top: int
    width: int
    height: int
    linear: np.ndarray
    coverage: np.ndarray | None = None
    materials: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def _person(self) -> np.ndarray:
        """(h, w) share of each pixel that is people."""
        return (
            self.rgba[..., 3]
            if self.coverage is None
            else np.clip(self.coverage.sum(axis=-1), 0.0, 1.0)
        )

    @property
    def _window(self) -> tuple[slice, slice]:
        h, w = self.rgba.shape[:2]
        return slice(self.top, self.top + h), slice(self.left, self.left + w)

    @property
    def mask(self) -> np.ndarray:
        """(height, width) bool: pixels that are mostly people."""
        full = np.zeros((self.height, self.width), bool)
        full[self._window] = self._person > MASK_THRESHOLD
        return full

    @property
    def instances(self) -> np.ndarray:
        """(height, width) uint8: of pixels that are mostly people, 1 + the number of who covers most of it; else 0."""
        if self.coverage is None:
            return self.mask.astype(np.uint8)
        full = np.zeros((self.height, self.width), np.uint8)
        full[self._window] = np.where(
            self._person > MASK_THRESHOLD, 1 + self.coverage.argmax(axis=-1), 0
        )
        return full

    def mask_of(self, person: int) -> np.ndarray:
        """(height, width) bool: the pixels of one of the people."""
        return self.instances == 1 + person

    def parts(self, materials: Mapping[str, int]) -> np.ndarray:
        """(height, width) uint8: of pixels that are mostly people, 1 + the number of the part that covers most of it; else 0.

        Args:
            materials: the number of the part that each material is, by its name.
        """
        assert self.materials is not None
        count = 1 + max(materials.values())
        shares = _shares(*self.materials, materials, count)
        full = np.zeros((self.height, self.width), np.uint8)
        full[self._window] = np.where(self._person > MASK_THRESHOLD, 1 + shares.argmax(axis=-1), 0)
        return full

    @property
    def depth(self) -> np.ndarray:
        """(height, width) float32 metres along the camera's axis; 0 where the person is not, or is not met."""
        full = np.zeros((self.height, self.width), np.float32)
        person = (self._person > MASK_THRESHOLD) & np.isfinite(self.distance)
        full[self._window] = np.where(person, self.distance, 0.0)
        return full

    @property
    def albedo(self) -> np.ndarray:
        """(height, width, 4) float32 0-1: the surface's own colour, sRGB, and the person's alpha, anti-aliased and straight."""
        full = np.zeros((self.height, self.width, 4), np.float32)
        full[self._window] = self.colour
        return full

    def normals(self, rotation: np.ndarray) -> np.ndarray:
        """(height, width, 3) float32: unit normals in the camera's frame (x right, y down, z forward); zero where nothing is.

        Args:
            rotation: (3, 3), from the world to the camera.
        """
        turned = self.normal @ rotation.T.astype(np.float32)
        length = np.linalg.norm(turned, axis=-1, keepdims=True)
        full = np.zeros((self.height, self.width, 3), np.float32)
        there = (length > 1e-6) & (self._person[..., None] > 0)
        full[self._window] = np.where(there, turned / np.maximum(length, 1e-6), 0.0)
        return full

    def over(self, background: np.ndarray) -> np.ndarray:
        """(height, width, 3) float32: laid on a background of that shape or one colour (3,)."""
        full = np.empty((self.height, self.width, 3), np.float32)
        full[:] = background
        alpha = self.rgba[..., 3:]
        full[self._window] = self.rgba[..., :3] * alpha + full[self._window] * (1.0 - alpha)
        return full

    def in_place(self, plate: np.ndarray, exposure_stops: float, gains: tuple[float, float, float]) -> np.ndarray:  # fmt: skip
        """(height, width, 3) float32 sRGB: laid on the place in linear light, exposed and bent as film does.

        Args:
            plate: (height, width, 3) linear. gains: of red, green and blue.
        """
        full = plate.astype(np.float32).copy()
        alpha = np.clip(self.linear[..., 3:], 0.0, 1.0)
        full[self._window] = self.linear[..., :3] + full[self._window] * (1.0 - alpha)
        full = np.maximum(full * 2.0**exposure_stops * np.array(gains, np.float32), 0.0)
        bent = SHOULDER + (1 - SHOULDER) * (1 - np.exp(-(full - SHOULDER) / (1 - SHOULDER)))
        return _curve(np.where(full < SHOULDER, full, bent))


def read_exr(path: Path) -> tuple[np.ndarray, list[str]]:
    """The values (h, w, C) float32 and channel names of a picture that Blender wrote; the file is removed.

    Raises:
        OSError: Blender could not write it whole.
    """
    file = image_library().ImageInput.open(str(path))
    values = file.read_image("float") if file else None
    if values is None:
        raise OSError(errno.ENOSPC, "Blender could not write a picture whole")
    names = list(file.spec().channelnames)
    file.close()
    path.unlink()
    return values, names


def shoot(
    scratch: Path,
    box_pixels: tuple[float, float, float, float] | None,
    covering: Mapping[str, int] | None = None,
) -> Picture:
    """Render the scene's camera.

    Args:
        scratch: an existing folder for the file between Blender and numpy.
        box_pixels: (x0, y0, x1, y1) around all that is to be seen, or None for the whole frame.
        covering: where people are told apart, whose each mesh is, by its name.

    Raises:
        OSError: the file could not be written whole.
    """
    scene = bpy.context.scene
    width, height = scene.render.resolution_x, scene.render.resolution_y
    left, top, right, bottom = 0, 0, width, height
    scene.render.use_border = box_pixels is not None
    if box_pixels is not None:
        x0, y0, x1, y1 = box_pixels
        left, right = _span(x0, x1, width)
        top, bottom = _span(y0, y1, height)
        # Blender cuts the products down to whole pixels; the half keeps float32 off the edge.
        scene.render.border_min_x = (left + 0.5) / width
        scene.render.border_max_x = (right + 0.5) / width
        scene.render.border_min_y = (height - bottom + 0.5) / height
        scene.render.border_max_y = (height - top + 0.5) / height
    path = scratch / "shot.exr"
    scene.render.filepath = str(path)
    bpy.ops.render.render(write_still=True)
    values, names = read_exr(path)
    if values.shape[:2] != (bottom - top, right - left):
        # Blender itself goes on without a word.
        raise OSError(errno.ENOSPC, "Blender could not write a picture whole")
    place = {name.split(".", 1)[1]: i for i, name in enumerate(names)}

    def channels(name: str, letters: str) -> np.ndarray:
        return values[..., [place[f"{name}.{c}"] for c in letters]]

    linear = channels("Combined", "RGBA")
    distance = values[..., place["Depth.Z"]]
    distance = np.where(distance < NOTHING_BEYOND, distance, np.inf).astype(np.float32)
    # The pass of the diffuse colour comes divided by alpha, from both engines (measured at edges), that of the glow multiplied
    # with it. Of bare metal nothing is left, as its colour is what it mirrors.
    alpha = linear[..., 3:]
    coverage = None
    if covering:
        ranks = _ranks(values, place, "CryptoObject")
        coverage = _shares(*ranks, covering, 1 + max(covering.values()))
        alpha = np.clip(coverage.sum(axis=-1, keepdims=True), 0.0, 1.0)
    materials = None
    if bpy.context.view_layer.use_pass_cryptomatte_material:
        materials = _ranks(values, place, "CryptoMaterial")
    rgba = _to_srgb(linear)
    denoised = scene.render.engine == "CYCLES" and scene.cycles.use_denoising
    if denoised and scene.cycles.samples < ENOUGH_SAMPLES:
        linear[..., 3] = _steadied(linear)
    own = np.maximum(channels("DiffCol", "RGB") * alpha**2, channels("Emit", "RGB"))
    own = np.concatenate([own, alpha], axis=-1)
    normal = channels("Normal", "XYZ")
    return Picture(
        rgba, distance, _to_srgb(own), normal, left, top, width, height, linear, coverage, materials
    )  # fmt: skip


def _steadied(linear: np.ndarray) -> np.ndarray:
    """The alpha (h, w) of a picture (h, w, 4) with few samples, whose light is denoised as alpha is not.

    A guided filter (K. He, J. Sun and X. Tang, Guided image filtering, 2013): around each pixel, alpha is a line over the light, so an outline
    follows what was denoised. The guide is the brightest of the three colours, on sRGB's curve.
    """
    alpha, guide = linear[..., 3], _curve(np.clip(linear[..., :3].max(axis=-1), 0.0, 1.0))
    sums = np.stack([guide, alpha, guide * guide, guide * alpha], axis=-1)
    light, cover, squares, products = np.moveaxis(evened(sums, UNEVEN_PIXELS), -1, 0)
    slope = (products - light * cover) / (squares - light * light + GUIDE_NOISE)
    line = evened(np.stack([slope, cover - slope * light], axis=-1), UNEVEN_PIXELS)
    return np.clip(line[..., 0] * guide + line[..., 1], 0.0, 1.0)


def evened(values: np.ndarray, deviation: float) -> np.ndarray:
    """Values on a grid (H, W) or (H, W, C) under a Gaussian of some points' deviation; the outermost go on beyond the edges."""
    reach = math.ceil(3 * deviation)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / deviation) ** 2).astype(values.dtype)
    weights /= weights.sum()
    for axis in (0, 1):
        size = values.shape[axis]
        padded = np.pad(values, [(reach, reach) if a == axis else (0, 0) for a in range(values.ndim)], mode="edge")  # fmt: skip
        shifted = (padded[(slice(None),) * axis + (slice(k, k + size),)] for k in range(2 * reach + 1))  # fmt: skip
        values = sum(w * s for w, s in zip(weights, shifted, strict=True))  # type: ignore[assignment]
    return values


def _ranks(values: np.ndarray, place: Mapping[str, int], kind: str) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """A picture's cryptomatte: the numbers of what is in each pixel (h, w, L), and its share of it (h, w, L).

    A level has four channels: a number, its share, and the same of the next (J. Friedman and A. C. Jones, Fully automatic id
    mattes with support for motion blur and transparency, 2015). The number is a hash of the name of the object or the material.
    """
    numbers, shares = [], []
    level = 0
    while f"{kind}{level:02d}.r" in place or f"{kind}{level:02d}.R" in place:
        upper = f"{kind}{level:02d}.R" in place
        for number, share in ("RG", "BA") if upper else ("rg", "ba"):
            numbers.append(values[..., place[f"{kind}{level:02d}.{number}"]])
            shares.append(values[..., place[f"{kind}{level:02d}.{share}"]])
        level += 1
    return np.stack(numbers, axis=-1), np.stack(shares, axis=-1)


def _shares(numbers: np.ndarray, shares: np.ndarray, owners: Mapping[str, int], count: int) -> np.ndarray:  # fmt: skip
    """(h, w, count) the share of each pixel that each owner covers.

    Args:
        numbers, shares: see ``_ranks``. owners: the owner of each object or material, by its name.
    """
    total = np.zeros((*numbers.shape[:2], count), np.float32)
    for owner in range(count):
        mine = np.array([_cryptomatte_number(n) for n, o in owners.items() if o == owner], np.float32)  # fmt: skip
        total[..., owner] = np.where(np.isin(numbers, mine), shares, 0.0).sum(axis=-1)
    return np.clip(total, 0.0, 1.0)


def _cryptomatte_number(name: str) -> float:
    """The number that Cycles gives an object or a material: MurmurHash3 (32 bits, seed 0) of its name, as a float whose exponent is no special one."""
    value = _murmur3(name.encode("utf-8"))
    exponent = value >> 23 & 255
    if exponent in (0, 255):
        value ^= 1 << 23
    return float(np.frombuffer(np.uint32(value).tobytes(), np.float32)[0])


def _murmur3(data: bytes) -> int:
    """MurmurHash3_x86_32 by Austin Appleby (public domain), seed 0."""
    mask, h = 0xFFFFFFFF, 0
    blocks = len(data) // 4 * 4
    for i in range(0, blocks, 4):
        k = int.from_bytes(data[i : i + 4], "little") * 0xCC9E2D51 & mask
        k = (k << 15 | k >> 17) & mask
        h ^= k * 0x1B873593 & mask
        h = (h << 13 | h >> 19) & mask
        h = (h * 5 + 0xE6546B64) & mask
    k = int.from_bytes(data[blocks:], "little")
    if k:
        k = k * 0xCC9E2D51 & mask
        k = (k << 15 | k >> 17) & mask
        h ^= k * 0x1B873593 & mask
    h ^= len(data)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        h = (h ^ h >> shift) * factor & mask
    return h ^ h >> 16


def _to_srgb(linear: np.ndarray) -> np.ndarray:
    """Linear light with premultiplied alpha as sRGB (IEC 61966-2-1) with straight alpha, (h, w, 4)."""
    alpha = np.clip(linear[..., 3:], 0.0, 1.0)
    light = np.divide(linear[..., :3], alpha, out=np.zeros_like(linear[..., :3]), where=alpha > 0)
    return np.concatenate([_curve(np.clip(light, 0.0, 1.0)), alpha], axis=-1)


def _curve(light: np.ndarray) -> np.ndarray:
    """sRGB's curve of linear light from 0 to 1."""
    curve = 1.055 * np.maximum(light, 0.0031308) ** (1 / 2.4) - 0.055
    return np.where(light <= 0.0031308, light * 12.92, curve)


def _span(low: float, high: float, size: int) -> tuple[int, int]:
    """Whole pixels around (low, high) with the border, inside the frame; never none at all."""
    start = int(np.clip(np.floor(low) - BORDER_PIXELS, 0, size - 1))
    return start, int(np.clip(np.ceil(high) + BORDER_PIXELS, start + 1, size))


def flat_image(path: Path, width: int, height: int) -> np.ndarray:
    """A picture that fills a frame, cut where it is wider or higher: (height, width, 3) float32, linear light.

    Raises:
        InputError: it cannot be read.
    """
    oiio = image_library()
    picture = oiio.ImageBuf(str(path))
    if not picture.read(0, 0, True, "float") or not picture.spec().width:
        raise InputError(
            f"look: {path.name} is no picture that can be read; take it out of the folder"
        )
    spec = picture.spec()
    scale = max(width / spec.width, height / spec.height)
    across, down = max(width, round(spec.width * scale)), max(height, round(spec.height * scale))
    resized = oiio.ImageBufAlgo.resize(
        picture, roi=oiio.ROI(0, across, 0, down, 0, 1, 0, spec.nchannels)
    )
    pixels = np.clip(resized.get_pixels("float"), 0.0, 1.0)
    pixels = pixels[..., :3] if pixels.shape[2] >= 3 else np.repeat(pixels[..., :1], 3, axis=2)
    left, top = (across - width) // 2, (down - height) // 2
    cut = pixels[top : top + height, left : left + width]
    return np.where(cut <= 0.04045, cut / 12.92, ((cut + 0.055) / 1.055) ** 2.4).astype(np.float32)


def shoot_backdrop(scratch: Path, hidden: list[bpy.types.Object]) -> np.ndarray:
    """What is behind the character, (H, W, 3): the environment map with ``hidden`` left out."""
    scene = bpy.context.scene
    cycles_samples = scene.cycles.samples
    for obj in hidden:
        obj.hide_render = True
    scene.render.film_transparent = False
    scene.cycles.samples = 1
    backdrop = shoot(scratch, None).rgba[..., :3]
    scene.cycles.samples = cycles_samples
    scene.render.film_transparent = True
    for obj in hidden:
        obj.hide_render = False
    return backdrop


def plain_backdrop() -> np.ndarray:
    """The plain background's colour, (3,) float32 sRGB."""
    return np.array(PLAIN_COLOUR, np.float32)


def save_all(
    folder: Path, name: str, image: np.ndarray, picture: Picture, rotation: np.ndarray
) -> None:
    """Write a picture and what belongs to it into the folders of a render set.

    Args:
        folder: of the set; its folders are there.
        image: (H, W, 3) float 0-1, sRGB, the finished picture.
        rotation: (3, 3), from the world to the camera.

    Raises:
        OSError: a file cannot be written.
    """
    save_png(folder / "images" / name, image)
    save_png(folder / "masks" / name, picture.mask)
    save_depth(folder / "depth" / name, picture.depth)
    save_png(folder / "albedo" / name, picture.albedo)
    save_png(folder / "normals" / name, picture.normals(rotation) * 0.5 + 0.5)


def grained(image: np.ndarray, resolution: float, noise: float, jpeg: int, chance: np.random.Generator, scratch: Path) -> np.ndarray:  # fmt: skip
    """What a camera's sensor and its file do to a picture (H, W, 3), float 0-1.

    Args:
        resolution: how much of the picture's pixels, along a side, the sensor has. noise: deviation at mid-grey; more in the dark, as photons are counted. jpeg: quality 1 to 100, 0 for none.

    Raises:
        OSError: a file cannot be written.
    """
    height, width = image.shape[:2]
    if resolution < 1:
        image = _resized(image, max(1, round(resolution * width)), max(1, round(resolution * height)))  # fmt: skip
    if noise > 0:
        strength = noise * (1.25 - 0.5 * np.clip(image, 0, 1))
        image = image + strength * chance.normal(size=image.shape).astype(np.float32)
    if resolution < 1:
        image = np.clip(_resized(image, width, height), 0.0, 1.0)
    if jpeg <= 0:
        return image
    oiio = image_library()
    path = scratch / "sensor.jpg"
    pixels = np.clip(image * 255 + 0.5, 0, 255).astype(np.uint8)
    spec = oiio.ImageSpec(pixels.shape[1], pixels.shape[0], 3, "uint8")
    spec["Compression"] = f"jpeg:{jpeg}"
    file = oiio.ImageOutput.create(str(path))
    if not (file and file.open(str(path), spec) and file.write_image(np.ascontiguousarray(pixels)) and file.close()):  # fmt: skip
        raise OSError(errno.ENOSPC, "cannot write a picture")
    return read_exr(path)[0]


def _resized(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """A picture (H, W, 3) float32 in another size, with the library's own filters for less and for more pixels."""
    oiio = image_library()
    picture = oiio.ImageBuf(np.ascontiguousarray(image, np.float32))
    roi = oiio.ROI(0, width, 0, height, 0, 1, 0, image.shape[2])
    return oiio.ImageBufAlgo.resize(picture, roi=roi).get_pixels("float")


def save_png(path: Path, rgb_or_mask: np.ndarray) -> None:
    """Write (H, W, 3) or (H, W, 4) float 0-1, or a (H, W) bool mask as grey 0 and 255, as PNG without dates.

    Raises:
        OSError: the file cannot be written.
    """
    scaled = np.clip(rgb_or_mask.astype(np.float32) * 255.0 + 0.5, 0.0, 255.0)
    _write_png(path, scaled.astype(np.uint8))


def save_labels(path: Path, numbers: np.ndarray) -> None:
    """Write (H, W) uint8 numbers as a grey PNG.

    Raises:
        OSError: the file cannot be written.
    """
    _write_png(path, numbers)


def save_depth(path: Path, metres: np.ndarray) -> None:
    """Write (H, W) metres as 16-bit grey PNG in millimetres.

    Raises:
        OSError: the file cannot be written.
    """
    scaled = np.clip(metres * DEPTH_UNITS_PER_METRE + 0.5, 0, 65535)
    _write_png(path, scaled.astype(np.uint16))


def save_flow(path: Path, flow: np.ndarray) -> None:
    """Write an optical flow (H, W, 3) as KITTI has it; see ``contract.EXTRA_FOLDERS``. What moves farther than 511 pixels is not known.

    Raises:
        OSError: the file cannot be written.
    """
    known = (flow[..., 2] > 0) & (np.abs(flow[..., :2]) < FLOW_ZERO / FLOW_UNITS_PER_PIXEL - 1).all(axis=-1)  # fmt: skip
    scaled = np.round(flow[..., :2] * FLOW_UNITS_PER_PIXEL + FLOW_ZERO)
    _write_png(path, (np.dstack([scaled, known]) * known[..., None]).astype(np.uint16))


def _write_png(path: Path, pixels: np.ndarray) -> None:
    oiio = image_library()
    pixels = np.atleast_3d(pixels)
    height, width, channels = pixels.shape
    spec = oiio.ImageSpec(width, height, channels, str(pixels.dtype))
    spec["png:compressionLevel"] = PNG_COMPRESSION
    file = oiio.ImageOutput.create(str(path))
    if not (file and file.open(str(path), spec) and file.write_image(pixels) and file.close()):
        reason = file.geterror() if file else oiio.geterror()
        raise OSError(errno.ENOSPC, f"cannot write {path.name}: {reason}")
