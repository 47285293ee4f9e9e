"""What the room `renders` says to others: its asset, the names of its set's files beside those of the contract, and the exact truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from blender_scripts.contract import (
    DEPTH_UNITS_PER_METRE,
    MASK_LEVEL,
    OCCLUDERS,
    PERSON_ARRAYS,
    PLAIN_LOOK,
    TRUTH_ARRAYS,
    TRUTH_DOCUMENT,
)
from posefactory_dagster.storage.sets import CommittedSet

if (
    TYPE_CHECKING
):  # half of what the command line would take to start, so they are imported where they are used
    import numpy as np

ASSET = "multi_angle_renders"
#: Some of the images in rows, for previews.
STRIP = "strip.png"
#: Begins those warnings of a set that say how a cast misses its motion.
CAST_WARNING = "cast: "


class RenderFacts(BaseModel):
    """The numbers of a render set. ``frames``: those that were rendered; ``seconds`` by stage; ``peak_mb``: memory of the process.

    ``cropped_images`` show a part of the person, ``empty_images`` nothing; ``landmarks_by_proportion``: how many of the 33; ``licences``: of what
    others made of a person's clothes and hair, by the name of the piece.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    images: int
    frames: list[int]
    views: int = 0
    looks: list[str] = [PLAIN_LOOK]
    cropped_images: int = 0
    empty_images: int = 0
    landmarks_by_proportion: int = 0
    warnings: list[str] = []
    licences: dict[str, str] = {}
    seconds: dict[str, float] = {}
    peak_mb: float | None = None


class ImageSize(BaseModel):
    """Of the render settings in a document, what others need: width and height in pixels."""

    model_config = ConfigDict(extra="allow", frozen=True)

    width: int
    height: int


class ImageRecord(BaseModel):
    """One image of a set. ``file`` is its name in each folder of images; ``bbox`` x, y, width, height and ``area`` in pixels.

    ``azimuth_degrees``: clockwise from above, front = 0; ``look``: its name; ``cropped``: a part of the person is outside; ``close_up``: meant so.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    file: str
    frame: int
    view: str
    azimuth_degrees: float
    cropped: bool
    close_up: bool = False
    look: str = PLAIN_LOOK
    bbox: tuple[float, float, float, float]
    area: int


class TruthDocument(BaseModel):
    """What of a set's truth is best read as text; `truth.json`.

    ``parts``: names of the bones that ``first_hit_part`` counts; ``frames``: those that were rendered, ``frame_range`` first
    and last of the animation; ``height_m``: metres in the rest pose.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    key: str
    settings: ImageSize
    parts: list[str]
    frames: list[int]
    images: list[ImageRecord]
    markers: list[str] = []

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the images, pixels."""
        return self.settings.width, self.settings.height


@dataclass(frozen=True)
class Truth:
    """A render set's truth. N images of one person, 33 landmarks; see ``arrays`` for what there is.

    ``arrays``, those of the one person in each image: pixels (N, 33, 2) px, origin at the top-left corner; depth (N, 33) m; camera and world
    (N, 33, 3) m; visibility (N, 33) 0, 1, 2; in_frame, visible and visible_part (N, 33) bool; occluder_gap_m (N, 33) m;
    facing (N, 33) cosine, NaN for joints; first_hit_part (N, 33) index into the document's ``parts``; intrinsics and
    rotation (N, 3, 3), translation (N, 3) in OpenCV's convention; bbox (N, 4) x, y, width, height px; area (N,) px; origin
    (33,). Added here: measured (N, 33) bool, see ``measured``.
    """

    document: TruthDocument
    arrays: dict[str, np.ndarray]

    @property
    def images(self) -> list[ImageRecord]:
        """One record per image, in the order of the arrays."""
        return self.document.images


def read_truth(renders: CommittedSet) -> Truth:
    """The truth of a committed render set."""
    import numpy as np

    files = renders.paths([TRUTH_DOCUMENT, TRUTH_ARRAYS])
    document = TruthDocument.model_validate_json(files[TRUTH_DOCUMENT].read_bytes())
    with np.load(files[TRUTH_ARRAYS], allow_pickle=False) as stored:
        arrays = first_person({name: stored[name] for name in stored.files})
    return Truth(document, {**arrays, "measured": measured(arrays)})


def occluder_names(arrays: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """Why each landmark is not visible, (N, 33) words of ``OCCLUDERS``; None for sets that do not say it."""
    import numpy as np

    return np.array(OCCLUDERS)[arrays["occluded_by"]] if "occluded_by" in arrays else None


def first_person(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A set's arrays without their axis of persons, for the first of these.

    Sets of truth versions before 6 have no such axis and stay as they are.
    """
    if arrays["origin"].ndim == 1:
        return dict(arrays)
    # Sets of version 6 do not say why a landmark is hidden, nor have they markers.
    mine = {name: arrays[name][:, 0] for name in PERSON_ARRAYS if name in arrays}
    return {**arrays, **mine, "origin": arrays["origin"][0]}


def read_mask(path: Path) -> np.ndarray:
    """A mask image of a render set: (H, W) bool, true where the person fills most of a pixel."""
    import numpy as np
    from PIL import Image

    with Image.open(path) as opened:
        return np.asarray(opened.convert("L")) > MASK_LEVEL


def read_depth(path: Path) -> np.ndarray:
    """A depth image of a render set: (H, W) float32, metres along the camera's axis; 0 where the person is not."""
    import numpy as np
    from PIL import Image

    with Image.open(path) as opened:
        return np.asarray(opened).astype(np.float32) / DEPTH_UNITS_PER_METRE


def measured(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """Which landmarks others can be measured by, (N, 33) bool: in the frame, and not placed by proportion."""
    return (arrays["visibility"] > 0) & (arrays["origin"] != "proportion")


FACTS = {ASSET: RenderFacts}
