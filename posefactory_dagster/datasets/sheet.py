"""The contact sheet: a row per character, its views with the true landmarks drawn on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from posefactory_dagster.datasets.members import Member, Picture
from posefactory_dagster.pictures import font, landmark_colour
from posefactory_dagster.renders.documents import Truth, read_truth

CELL = 240
COLUMNS = 8
ROWS = 12
TITLE = 26


def contact_sheet(
    members: Sequence[Member], pictures: Mapping[str, Sequence[Picture]], folder: Path, target: Path
) -> None:
    """Draw the first members, and below each a row of its variants.

    Args:
        pictures: of each member, by key.
        folder: the dataset's, with its images.
    """
    rows: list[tuple[str, Truth, list[Picture]]] = []
    for member in members[:ROWS]:
        truth = read_truth(member.renders)
        renders = [p for p in pictures[member.key] if p.variant is None]
        if not renders:
            continue
        places = np.linspace(0, len(renders) - 1, min(len(renders), COLUMNS)).round().astype(int)
        chosen = [renders[i] for i in np.unique(places)]
        split = ", ".join(dict.fromkeys(p.split for p in renders))
        rows.append((f"{member.key} ({split})", truth, chosen))
        variants = {p.render: p for p in reversed(pictures[member.key]) if p.variant is not None}
        shown = [variants[p.render] for p in chosen if p.render in variants]
        if shown:
            rows.append((f"{member.key}: variants", truth, shown))
    sheet = Image.new("RGB", (CELL * COLUMNS, TITLE + (CELL + TITLE) * len(rows)), "white")
    draw = ImageDraw.Draw(sheet)
    key = "true landmarks: green = visible, orange = in the frame and hidden, ring = placed by proportion"
    draw.text((6, 4), key, fill="black", font=font(16))
    for r, (title, truth, cells) in enumerate(rows):
        top = TITLE + r * (CELL + TITLE)
        draw.text((6, top + 4), title, fill="black", font=font(16))
        for c, picture in enumerate(cells):
            cell = _cell(folder / "images" / picture.name, truth, picture.index)
            sheet.paste(cell, (c * CELL, top + TITLE))
    sheet.save(target, quality=88)


def _cell(path: Path, truth: Truth, index: int) -> Image.Image:
    """A small picture of one image with its true landmarks."""
    with Image.open(path) as opened:
        scale = CELL / max(opened.size)
        size = (round(opened.width * scale), round(opened.height * scale))
        cell = opened.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    draw = ImageDraw.Draw(cell)
    rows = list(truth.rows_of(index))
    points = truth.arrays["pixels"][rows].reshape(-1, 2) * scale
    for (x, y), seen, origin in zip(points, truth.arrays["visibility"][rows].ravel(), truth.arrays["origin"][rows].ravel(), strict=True):  # fmt: skip
        if seen:
            colour = landmark_colour(int(seen))
            fill = None if origin == "proportion" else colour
            draw.ellipse((x - 2, y - 2, x + 2, y + 2), fill=fill, outline=colour)
    draw.text((4, cell.height - 18), truth.images[index].view, fill=(90, 90, 90), font=font(13))
    return cell
