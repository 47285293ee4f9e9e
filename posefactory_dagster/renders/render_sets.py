"""The identity of a render set, and its picture."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from PIL import Image

from blender_scripts.contract import TRUTH_VERSION, RenderSettings
from posefactory_dagster.blender.job import rig_map
from posefactory_dagster.storage.sets import CommittedSet, identity_of

ASSET = "multi_angle_renders"


def identity(character: CommittedSet, settings: RenderSettings) -> str:
    """What a render set is made from: the character's files and the resolved settings."""
    return identity_of(
        ASSET,
        {"character": character.ref.identity, "rig_map": rig_map()},
        {"truth_version": TRUTH_VERSION, **dataclasses.asdict(settings)},
    )


def contact_strip(images: list[Path], target: Path, cell: int = 128, columns: int = 8) -> None:
    """One picture with the first images side by side."""
    shown = images[:columns]
    sheet = Image.new("RGB", (cell * len(shown), cell), "white")
    for i, path in enumerate(shown):
        with Image.open(path) as image:
            image.thumbnail((cell, cell))
            sheet.paste(image, (cell * i + (cell - image.width) // 2, (cell - image.height) // 2))
    sheet.save(target)
