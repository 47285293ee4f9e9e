"""Set an engine up, and turn what the camera sees into a picture and a mask.

Only the border around the character is rendered, on transparent film; the background comes under it
afterwards. With Cycles on a CPU that is a third cheaper than the full frame.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from pathlib import Path

import bpy
import numpy as np

from blender_scripts.contract import RenderSettings
from blender_scripts.stage.light import PLAIN_COLOUR

#: Pixels around the character's projected box that are rendered too.
BORDER_PIXELS = 3
MASK_THRESHOLD = 0.5


def set_up(settings: RenderSettings) -> None:
    """Engine, samples, seed and output of the scene."""
    scene = bpy.context.scene
    assert settings.samples is not None, "settings are resolved when a job is planned"
    if settings.engine == "cycles":
        scene.render.engine = "CYCLES"
        scene.cycles.device = "CPU"
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
    scene.render.use_crop_to_border = False
    scene.render.use_stamp = False
    scene.render.image_settings.file_format = "PNG"
    scene.render.image_settings.color_mode = "RGBA"
    scene.render.image_settings.color_depth = "8"
    scene.render.image_settings.compression = 0
    scene.view_settings.view_transform = "Standard"


@dataclass(frozen=True)
class Picture:
    """A rendered view. ``rgba`` (H, W, 4) float32 0-1, sRGB, straight alpha, top row first."""

    rgba: np.ndarray

    @property
    def mask(self) -> np.ndarray:
        """(H, W) bool: pixels that are mostly the person."""
        return self.rgba[..., 3] > MASK_THRESHOLD

    def over(self, background: np.ndarray) -> np.ndarray:
        """(H, W, 3) float32: the picture laid on a background of that shape or one colour (3,)."""
        alpha = self.rgba[..., 3:]
        return self.rgba[..., :3] * alpha + background * (1.0 - alpha)


def shoot(scratch: Path, box_pixels: tuple[float, float, float, float] | None) -> Picture:
    """Render the scene's camera.

    Args:
        scratch: an existing folder for the file between Blender and numpy.
        box_pixels: (x0, y0, x1, y1) around all that is to be seen, or None for the whole frame.
    """
    scene = bpy.context.scene
    width, height = scene.render.resolution_x, scene.render.resolution_y
    scene.render.use_border = box_pixels is not None
    if box_pixels is not None:
        x0, y0, x1, y1 = box_pixels
        scene.render.border_min_x = float(np.clip((x0 - BORDER_PIXELS) / width, 0, 1))
        scene.render.border_max_x = float(np.clip((x1 + BORDER_PIXELS) / width, 0, 1))
        scene.render.border_min_y = float(np.clip(1 - (y1 + BORDER_PIXELS) / height, 0, 1))
        scene.render.border_max_y = float(np.clip(1 - (y0 - BORDER_PIXELS) / height, 0, 1))
    path = scratch / "shot.png"
    scene.render.filepath = str(path)
    bpy.ops.render.render(write_still=True)
    image = bpy.data.images.load(str(path))
    if tuple(image.size) != (width, height):  # Blender itself goes on without a word
        raise OSError(errno.ENOSPC, "Blender could not write a picture whole")
    pixels = np.empty(width * height * 4, np.float32)
    image.pixels.foreach_get(pixels)
    bpy.data.images.remove(image)
    path.unlink()
    return Picture(pixels.reshape(height, width, 4)[::-1])


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


def save_png(path: Path, rgb_or_mask: np.ndarray) -> None:
    """Write (H, W, 3) float 0-1, or a (H, W) bool mask as grey 0 and 255, as PNG without dates.

    Blender's writer of *images* adds no text chunks, other than its writer of *renders*.
    """
    array = rgb_or_mask.astype(np.float32)
    if array.ndim == 2:
        array = np.repeat(array[..., None], 3, axis=2)
    height, width = array.shape[:2]
    image = bpy.data.images.new("out", width, height, alpha=False)
    rgba = np.ones((height, width, 4), np.float32)
    rgba[..., :3] = array
    image.pixels.foreach_set(rgba[::-1].ravel())
    image.file_format = "PNG"
    image.save(filepath=str(path))
    bpy.data.images.remove(image)
