"""What the room `renders` says to others: its asset, the names of its set's files beside those of the contract, and the exact truth."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    others made of a person's clothes and hair, by the name of the piece; ``persons``: how many people its images show.
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
    persons: int = 1
    seconds: dict[str, float] = {}
    peak_mb: float | None = None


class ImageSize(BaseModel):
    """Of the render settings in a document, what others need: width and height in pixels, and how its frames were chosen."""

    model_config = ConfigDict(extra="allow", frozen=True)

    width: int
    height: int
    frames: str = "even"


class ImageRecord(BaseModel):
    """One image of a set. ``file`` is its name in each folder of images; ``bbox`` x, y, width, height and ``area`` in pixels;
    ``size`` width and height in pixels, absent where it is that of the settings.

    ``azimuth_degrees``: clockwise from above, front = 0; ``look``: its name; ``cropped``: a part of the person is outside; ``close_up``: meant so;
    ``drawn``: what was drawn for its shot in a look.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    file: str
    frame: int
    view: str
    azimuth_degrees: float
    cropped: bool
    close_up: bool = False
    look: str = PLAIN_LOOK
    drawn: dict[str, Any] = {}
    bbox: tuple[float, float, float, float]
    area: int
    size: tuple[int, int] | None = None


class PersonRecord(BaseModel):
    """One of the people in a set's images: the key of its character, its height in the rest pose in metres, and what it plays."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    key: str
    height_m: float
    take: str | None = None


class TruthDocument(BaseModel):
    """What of a set's truth is best read as text; `truth.json`.

    ``parts``: names of the bones that ``first_hit_part`` counts; ``frames``: those that were rendered, ``frame_range`` first
    and last of the animation; ``persons``: one of each in the images, in the order of the arrays' axis; none in sets before version 8; ``looks``: of each that is
    no plain one, its light and what was drawn for its place (``drawn``).
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    key: str
    settings: ImageSize
    parts: list[str]
    frames: list[int]
    fps: float | None = None
    images: list[ImageRecord]
    markers: list[str] = []
    persons: list[PersonRecord] = []
    looks: dict[str, dict[str, Any]] = {}


@dataclass(frozen=True)
class Truth:
    """A render set's truth: a row for each person of each image, R = images x persons; 33 landmarks.

    The rows of an image follow each other, person by person; see ``rows_of``.

    ``arrays``: pixels (R, 33, 2) px, origin at the top-left corner; depth (R, 33) m; camera and world
    (R, 33, 3) m; visibility (R, 33) 0, 1, 2; in_frame, visible and visible_part (R, 33) bool; occluder_gap_m (R, 33) m;
    facing (R, 33) cosine, NaN for joints; first_hit_part (R, 33) index into the document's ``parts``; occluded_by (R, 33) index into
    ``contract.OCCLUDERS``, occluded_by_person (R, 33) index of a person of the image or -1; intrinsics and
    rotation (R, 3, 3), translation (R, 3) in OpenCV's convention; bbox and amodal_bbox (R, 4) x, y, width, height px, of what is seen and of
    all of the person; area (R,) px; foot_height_m and foot_contact (R, 4), see ``contract.FOOT_PLACES``; marker_pixels (R, M, 2),
    marker_world (R, M, 3), marker_visibility (R, M); origin (R, 33). Added here: measured (R, 33) bool, see ``measured``.
    """

    document: TruthDocument
    arrays: dict[str, np.ndarray]

    @property
    def images(self) -> list[ImageRecord]:
        """One record per image."""
        return self.document.images

    @property
    def persons(self) -> int:
        """How many people are in each image."""
        return max(1, len(self.document.persons))

    def size_of(self, image: int) -> tuple[int, int]:
        """(width, height) of an image, pixels."""
        settings = self.document.settings
        return self.images[image].size or (settings.width, settings.height)

    @functools.cached_property
    def sizes(self) -> np.ndarray:
        """(R, 2) width and height of the image of each row, pixels."""
        import numpy as np

        return np.repeat([self.size_of(i) for i in range(len(self.images))], self.persons, axis=0).reshape(-1, 2)  # fmt: skip

    def rows_of(self, image: int) -> range:
        """The rows of an image, one for each person."""
        return range(image * self.persons, (image + 1) * self.persons)


def read_truth(renders: CommittedSet) -> Truth:
    """The truth of a committed render set."""
    import numpy as np

    files = renders.paths([TRUTH_DOCUMENT, TRUTH_ARRAYS])
    document = TruthDocument.model_validate_json(files[TRUTH_DOCUMENT].read_bytes())
    with np.load(files[TRUTH_ARRAYS], allow_pickle=False) as stored:
        arrays = person_rows({name: stored[name] for name in stored.files})
    return Truth(document, {**arrays, "measured": measured(arrays)})


def occluder_names(arrays: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """Why each landmark is not visible, (R, 33) words of ``OCCLUDERS``; None for sets that do not say it."""
    import numpy as np

    return np.array(OCCLUDERS)[arrays["occluded_by"]] if "occluded_by" in arrays else None


def person_rows(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A set's arrays with one axis for images and persons together, as ``Truth`` has them.

    Sets of truth versions before 6 have no axis for persons.
    """
    import numpy as np

    images = len(arrays["pixels"])
    if arrays["origin"].ndim == 1:
        return {**arrays, "origin": np.tile(arrays["origin"], (images, 1))}
    persons = len(arrays["origin"])
    rows = {}
    for name, values in arrays.items():
        if name == "origin":
            rows[name] = np.tile(values, (images, 1))
        elif name in PERSON_ARRAYS:
            rows[name] = values.reshape(images * persons, *values.shape[2:])
        else:
            rows[name] = np.repeat(values, persons, axis=0)
    return rows


def read_mask(path: Path) -> np.ndarray:
    """A mask image of a render set: (H, W) bool, true where the person fills most of a pixel."""
    import numpy as np
    from PIL import Image

    with Image.open(path) as opened:
        return np.asarray(opened.convert("L")) > MASK_LEVEL


def read_instances(path: Path) -> np.ndarray:
    """An image of instances of a render set: (H, W) uint8, 1 + the place of the person among those of the set; 0 where nobody is."""
    import numpy as np
    from PIL import Image

    with Image.open(path) as opened:
        return np.asarray(opened.convert("L"))


def read_depth(path: Path) -> np.ndarray:
    """A depth image of a render set: (H, W) float32, metres along the camera's axis; 0 where the person is not."""
    import numpy as np
    from PIL import Image

    with Image.open(path) as opened:
        return np.asarray(opened).astype(np.float32) / DEPTH_UNITS_PER_METRE


def measured(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """Which landmarks others can be measured by, (R, 33) bool: in the frame, and not placed by proportion."""
    return (arrays["visibility"] > 0) & (arrays["origin"] != "proportion")


FACTS = {ASSET: RenderFacts}
