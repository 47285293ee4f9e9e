"""A motion and what a skin makes of it, side by side: a strip, or a film."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from blender_scripts.contract import COMPARISON
from posefactory_dagster.pictures import font

COLOURS = {"Left": "#c8442f", "Right": "#2f5fc8"}
MIDDLE_COLOUR, FLOOR_COLOUR = "#3c3c3c", "#d9b3ac"
#: Joints that a stick figure connects.
STICKS = [
    ("Hips", "Spine"), ("Spine", "Neck"), ("Neck", "Head"), ("LeftArm", "RightArm"), ("LeftUpLeg", "RightUpLeg"),
    *((f"{s}{a}", f"{s}{b}") for s in ("Left", "Right")
      for a, b in (("Arm", "ForeArm"), ("ForeArm", "Hand"), ("UpLeg", "Leg"), ("Leg", "Foot"), ("Foot", "ToeBase"))),
]  # fmt: skip


def panels(folder: Path) -> Iterator[Image.Image]:
    """For each compared frame, the source as a stick figure beside the skin; twice as wide as high.

    Args:
        folder: what ``blender_scripts/compare_motion.py`` wrote.
    """
    with np.load(folder / COMPARISON) as arrays:
        names = {str(n): i for i, n in enumerate(arrays["names"])}
        joints, floors = arrays["joints"], arrays["floor"]
        frames, stands = arrays["frames"], arrays["stands"]
    for index, frame in enumerate(frames):
        with Image.open(folder / f"{index + 1:04d}.png") as opened:
            skin = opened.convert("RGB")
        width, height = skin.size
        panel = Image.new("RGB", (2 * width, height), "white")
        panel.paste(skin, (width, 0))
        draw = ImageDraw.Draw(panel)
        corners = [tuple(p) for p in floors[index]]
        draw.line([*corners, corners[0]], fill=FLOOR_COLOUR, width=2)
        for a, b in STICKS:
            if a in names and b in names:
                side = next((s for s in COLOURS if a.startswith(s) and b.startswith(s)), "")
                colour = COLOURS.get(side, MIDDLE_COLOUR)
                ends = [tuple(joints[index][names[j]]) for j in (a, b)]
                draw.line(ends, fill=colour, width=max(width // 64, 2))
        standing = " and ".join(
            n for n, s in zip(("left", "right"), stands[index], strict=True) if s
        )
        draw.text(
            (6, 5),
            f"frame {frame}" + (f", {standing} stands" if standing else ""),
            "#222222",
            font(13),
        )
        yield panel


def strip(folder: Path, target: Path) -> None:
    """A picture with the source above and the skin below, a column for each frame."""
    columns = []
    for panel in panels(folder):
        half = panel.width // 2
        column = Image.new("RGB", (half, 2 * panel.height))
        column.paste(panel.crop((0, 0, half, panel.height)), (0, 0))
        column.paste(panel.crop((half, 0, panel.width, panel.height)), (0, panel.height))
        columns.append(column)
    sheet = Image.new("RGB", (sum(c.width for c in columns), columns[0].height))
    for index, column in enumerate(columns):
        sheet.paste(column, (index * column.width, 0))
    sheet.save(target)


def film(folder: Path, target: Path, fps: float) -> None:
    """An MP4 (H.264) of all compared frames, source left and skin right."""
    import av

    with av.open(str(target), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        stream.pix_fmt = "yuv420p"
        for index, panel in enumerate(panels(folder)):
            if index == 0:
                stream.width, stream.height = panel.width // 2 * 2, panel.height // 2 * 2
            frame = av.VideoFrame.from_image(panel)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
