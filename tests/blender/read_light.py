"""Read the light of made panoramas with the builder of backgrounds; answers what it finds beside what is there."""

from __future__ import annotations

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "assets_data" / "backgrounds")]

import numpy as np
from build_backgrounds import PANORAMA, read_light

from posefactory_dagster.variants.enhancers.relight import UP, harmonics

SKY, LAMP, RADIUS_DEGREES = 0.4, 80.0, 6.0


def panorama(lamp: np.ndarray) -> np.ndarray:
    """An even sky with a round lamp."""
    width, height = PANORAMA
    across, up = np.meshgrid(
        ((np.arange(width) + 0.5) / width - 0.5) * 2 * np.pi,
        (0.5 - (np.arange(height) + 0.5) / height) * np.pi,
    )
    directions = np.stack(
        [np.sin(across) * np.cos(up), -np.sin(up), np.cos(across) * np.cos(up)], axis=-1
    )
    radiance = np.full((height, width, 3), SKY)
    radiance[directions @ lamp > np.cos(np.radians(RADIUS_DEGREES))] = LAMP
    return radiance


answers = []
for towards in ((0.2, -0.5, 1.0), (-1.0, -0.3, -0.2), (0.1, -1.0, 0.1), (0.05, -0.4, -1.0)):
    lamp = np.array(towards) / np.linalg.norm(towards)
    light = read_light(panorama(lamp))
    solid = 2 * np.pi * (1 - np.cos(np.radians(RADIUS_DEGREES)))
    answers.append(
        {
            "lamp": lamp.tolist(),
            "direction": light["direction"],
            "key": light["key"][0],
            "key_wanted": (LAMP - SKY) * solid / np.pi,
            "up": float(harmonics(UP) @ np.array(light["ambient"])[:, 0]),
            "sky": SKY,
        }
    )
print("ANSWER " + json.dumps(answers))
