"""Small pictures for the user interface."""

from __future__ import annotations

import base64
import functools
import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

STRIP_AZIMUTH_DEGREES = 35.0
STICK_COLOURS = {1: (200, 68, 47), -1: (47, 95, 200), 0: (60, 60, 60)}
STRIP_CELL = 120
#: Pixels of a picture in a strip: large enough to see a pose and its landmarks.
STRIP_SIDE = 208
#: What opening bytes of strangers as a picture can raise.
UNREADABLE = (
    OSError, ValueError, SyntaxError, EOFError, OverflowError, struct.error, zlib.error, Image.DecompressionBombError,
)  # fmt: skip
#: No picture that is only shown has more pixels; a header may announce any number.
MOST_SHOWN_PIXELS = 40_000_000


def small_picture(data: bytes, side: int) -> Image.Image | None:
    """Decode untrusted image data and shrink it to at most ``side`` pixels; None if it is not a readable image."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > MOST_SHOWN_PIXELS:
                return None
            image.thumbnail((side, side))
            return image.convert("RGB")
    except UNREADABLE:
        return None


def thumbnail_markdown(picture: Path | Image.Image, height: int = 192) -> str:
    """Markdown with the image inside; small, as every byte lands in the event database."""
    image = picture if isinstance(picture, Image.Image) else Image.open(picture)
    image.thumbnail((height * 8, height))
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "JPEG", quality=80)
    return f"![preview](data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()})"


def contact_strip(images: list[Path], cell: int = STRIP_SIDE, columns: int = 4) -> Image.Image:
    """A contact sheet: images in rows of square cells of ``cell`` pixels."""
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (cell * min(len(images), columns), cell * rows), "white")
    for i, path in enumerate(images):
        left, top = cell * (i % columns), cell * (i // columns)
        with Image.open(path) as image:
            image.thumbnail((cell, cell))
            place = (left + (cell - image.width) // 2, top + (cell - image.height) // 2)
            sheet.paste(image, place)
    return sheet


def draw_motion_strip(skeleton: Path, target: Path) -> None:
    """Stick figures of a motion, left to right in time, seen from half-left; left limbs red, right ones blue.

    ``skeleton`` is an NPZ with ``segments`` (frames, bones, 2, 3), metres, z up, facing -y, and ``sides`` (bones,) 1 left, -1 right.
    """
    with np.load(skeleton) as arrays:
        segments, sides = arrays["segments"], arrays["sides"]
    turn = np.radians(STRIP_AZIMUTH_DEGREES)
    flat = np.stack(
        [segments[..., 0] * np.cos(turn) + segments[..., 1] * np.sin(turn), segments[..., 2]],
        axis=-1,
    )
    low = min(float(flat[..., 1].min()), 0.0)
    tall = max(float(flat[..., 1].max()) - low, 1.2)
    scale = (STRIP_CELL - 20) / tall
    image = Image.new("RGB", (STRIP_CELL * len(flat), STRIP_CELL), (250, 250, 250))
    draw = ImageDraw.Draw(image)
    floor = STRIP_CELL - 10 + low * scale
    draw.line([(0, floor), (image.width, floor)], fill=(214, 200, 196), width=1)
    for i, frame in enumerate(flat):
        middle = (frame[..., 0].min() + frame[..., 0].max()) / 2
        for (start, end), side in zip(frame, sides, strict=True):
            xy = [
                (STRIP_CELL * (i + 0.5) + (p[0] - middle) * scale, floor - p[1] * scale)
                for p in (start, end)
            ]
            draw.line(xy, fill=STICK_COLOURS[int(side)], width=2)
    image.save(target)


def draw_contacts(skeleton: Path, target: Path) -> None:
    """How high a motion's feet are over time, with bars where they stand.

    ``skeleton`` is an NPZ with ``feet`` (F, 2) metres and ``stands`` (F, 2), left and right, ``fps`` and ``start``.
    """
    from matplotlib.figure import Figure

    with np.load(skeleton) as arrays:
        feet, stands, fps, start = (arrays[n] for n in ("feet", "stands", "fps", "start"))
    figure = Figure(figsize=(8, 2.6), layout="constrained")
    axes = figure.subplots()
    frames = np.arange(len(feet)) + int(start)
    for side, (name, colour) in enumerate((("left foot", "#c8442f"), ("right foot", "#2f5fc8"))):
        axes.plot(frames, 100 * feet[:, side], color=colour, label=name, linewidth=1.4)
        low = -2.0 - 2.5 * side
        axes.fill_between(
            frames, low - 1.6, low, where=stands[:, side], color=colour, step="mid", linewidth=0
        )
    axes.axhline(0, color="#999999", linewidth=0.6)
    axes.set_xlabel(f"frame at {float(fps):g} fps; bars: the foot stands")
    axes.set_ylabel("height, cm")
    axes.set_xlim(frames[0], max(frames[-1], frames[0] + 1))
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), frameon=False, ncols=2, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(target, dpi=110)


def landmark_colour(visibility: int) -> tuple[int, int, int]:
    """The colour of a true landmark: green if visible, orange if occluded."""
    return (20, 150, 60) if visibility == 2 else (235, 120, 0)


@functools.cache
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """A font that ships with Pillow, ``size`` pixels tall."""
    return ImageFont.load_default(size)
