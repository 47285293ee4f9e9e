"""A render set's exact truth, read back from its committed files."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from posefactory_dagster.storage.sets import CommittedSet


@dataclass(frozen=True)
class Truth:
    """A render set's truth. N images, 33 landmarks; see ``arrays`` for what there is.

    ``arrays``: pixels (N, 33, 2) px, origin at the top-left corner; depth (N, 33) m; camera and world
    (N, 33, 3) m; visibility (N, 33) 0, 1, 2; intrinsics and rotation (N, 3, 3), translation (N, 3)
    in OpenCV's convention; bbox (N, 4) x, y, width, height px; area (N,) px; origin (33,).
    """

    document: dict[str, Any]
    arrays: dict[str, np.ndarray]

    @property
    def images(self) -> list[dict[str, Any]]:
        """One record per image: file, frame, view, azimuth_degrees, cropped."""
        return self.document["images"]


def read_truth(renders: CommittedSet) -> Truth:
    """The truth of a committed render set."""
    files = renders.paths(["truth.json", "truth.npz"])
    document = json.loads(files["truth.json"].read_text("utf-8"))
    with np.load(files["truth.npz"]) as arrays:
        return Truth(document, {name: arrays[name] for name in arrays.files})
