"""What does not enter a dataset: pictures that are nearly the same as another, and those in which people are too small to learn from."""

from __future__ import annotations

import numpy as np

from posefactory_dagster.renders.documents import Truth


def near_duplicates(truth: Truth, distance: float) -> np.ndarray:
    """Which images (N,) of a render set show what an earlier one of the same look and view shows already.

    Two images are nearly the same if no landmark of anybody lies further from its place in the other than ``distance`` lengths of that
    person's box (its longer side), whether hidden or not; 0 keeps all that differ at all.
    """
    persons = truth.persons
    pixels = truth.arrays["pixels"].reshape(len(truth.images), persons, -1, 2)
    scale = np.maximum(truth.arrays["bbox"][:, 2:].max(axis=1), 1).reshape(-1, persons)
    dropped = np.zeros(len(truth.images), bool)
    kept: dict[tuple[str, str], list[int]] = {}
    for number, image in enumerate(truth.images):
        others = kept.setdefault((image.look, image.view), [])
        if others:
            away = np.linalg.norm(pixels[others] - pixels[number], axis=3).max(axis=2)
            if (away / scale[number]).max(axis=1).min() < distance:
                dropped[number] = True
                continue
        others.append(number)
    return dropped


def too_small(truth: Truth, least: float) -> np.ndarray:
    """Who (R,), of the truth's rows, is seen, but with a box whose longer side is under ``least`` of the image's longer side."""
    longer = truth.arrays["bbox"][:, 2:].max(axis=1)
    return (truth.arrays["area"] > 0) & (longer < least * truth.sizes.max(axis=1))
