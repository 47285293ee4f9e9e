"""Is a render set what it must be? Asked before it is committed, since whoever made it may send anything.

Nothing is decoded before its size is known: arrays by their headers, pictures by theirs.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import numpy as np
from annotated_types import Len
from numpy.lib import format as npy
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from blender_scripts.contract import (
    BODY_PARTS,
    LANDMARKS,
    NO_PERSON,
    OCCLUDERS,
    PERSON_ARRAYS,
    PLAIN_LOOK,
    TRUTH_ARRAYS,
    TRUTH_DOCUMENT,
    TRUTH_VERSION,
    RenderSettings,
    SettingsError,
    image_folders,
    pictures,
)
from posefactory_dagster.renders.documents import (
    ASSET,
    ImageRecord,
    PersonRecord,
    RenderFacts,
    TruthDocument,
)
from posefactory_dagster.storage.sets import CommittedSet

MAX_DOCUMENT_BYTES = 64 * 2**20
#: No PNG of a render is larger than its pixels in 64 bits, and no array file than this for each image.
MAX_PIXEL_BYTES, MAX_ARRAY_BYTES = 8, 64 * 2**10


def size_limit(
    name: str, images: int, settings: RenderSettings, looks: Mapping[str, Mapping[str, Any]]
) -> int:
    """The maximum size of a file of a set in bytes. Larger files are not fetched."""
    if name == TRUTH_DOCUMENT:
        return MAX_DOCUMENT_BYTES
    if name == TRUTH_ARRAYS:
        return 2**20 + images * MAX_ARRAY_BYTES
    sizes = [s for look in (PLAIN_LOOK, *looks) for s in _sizes(look, settings, looks)]
    return 2**20 + max(width * height for width, height in sizes) * MAX_PIXEL_BYTES


def _sizes(
    look: str, settings: RenderSettings, looks: Mapping[str, Mapping[str, Any]]
) -> list[tuple[int, int]]:
    """Each (width, height) that a picture in a look may have, pixels."""
    own = looks.get(look, {}).get("cameras", {}).get("sizes")
    return [(w, h) for w, h in own] if own else [(settings.width, settings.height)]


def _size_of(record: ImageRecord, settings: RenderSettings) -> tuple[int, int]:
    """(width, height) that a picture is said to have: by the settings that were asked for, not by those that came with it."""
    return record.size or (settings.width, settings.height)


#: No coordinate of a person on a stage is farther away, metres; pixels of a point beside the camera may be.
MAX_METRES = 1e5
Origin = Literal["bone", "surface", "interpolated", "proportion"]
ORIGINS = frozenset(get_args(Origin))
#: What is read, is read as it stands: no text for a number, and no number that is not finite.
STRICT = ConfigDict(extra="ignore", frozen=True, strict=True, allow_inf_nan=False)

#: What each kind of image is in Pillow's words.
PICTURE_MODES = {
    "images": ("RGB",), "masks": ("L",), "depth": ("I", "I;16"), "albedo": ("RGBA",), "normals": ("RGB",),
    "parts": ("L",), "instances": ("L",), "flow": ("RGB",),
}  # fmt: skip

K = len(LANDMARKS)
#: Shape of each array behind its first axes (the images, the persons where it is a person's, the markers where its name begins
#: so), the kinds its numbers may have, and whether all are finite.
ARRAYS: dict[str, tuple[tuple[int, ...], str, bool]] = {
    "pixels": ((K, 2), "f", True), "depth": ((K,), "f", True), "camera": ((K, 3), "f", True), "world": ((K, 3), "f", True),
    "visibility": ((K,), "u", True), "in_frame": ((K,), "b", True), "occluder_gap_m": ((K,), "f", True),
    "facing": ((K,), "f", False), "first_hit_part": ((K,), "i", True), "visible": ((K,), "b", True),
    "visible_part": ((K,), "b", True), "intrinsics": ((3, 3), "f", True), "rotation": ((3, 3), "f", True),
    "translation": ((3,), "f", True), "bbox": ((4,), "f", True), "area": ((), "iu", True), "occluded_by": ((K,), "u", True),
    "occluded_by_person": ((K,), "i", True), "amodal_bbox": ((4,), "f", True), "foot_height_m": ((4,), "f", True),
    "foot_contact": ((4,), "b", True),
    "marker_pixels": ((2,), "f", True), "marker_world": ((3,), "f", True), "marker_visibility": ((), "u", True),
}  # fmt: skip


class InvalidRenders(ValueError):
    """A render set does not match its request; the text names the difference."""


Text = Annotated[str, StringConstraints(max_length=10_000)]
Texts = Annotated[list[Text], Len(max_length=10_000)]


class Light(BaseModel):
    """How the stage is lit. ``sun_direction``: unit vector; ``sun_energy`` W/m²."""

    model_config = STRICT

    sun_direction: tuple[float, float, float]
    sun_energy: float
    ambient: float


class SoundImage(ImageRecord):
    """A record of an image, of which nothing is believed."""

    model_config = STRICT

    azimuth_degrees: Annotated[float, Field(ge=-360.0, le=360.0)]


class SoundPerson(PersonRecord):
    """What is said of a person, of which nothing is believed."""

    model_config = STRICT


class SoundDocument(TruthDocument):
    """A truth document of the present version, whole."""

    model_config = STRICT

    truth_version: int
    landmarks: list[str]
    markers: Texts
    origin: Annotated[list[Origin], Len(K, 100 * K)]
    parts: Texts
    persons: Annotated[list[SoundPerson], Len(1, 100)]  # type: ignore[assignment]
    warnings: Texts
    fps: float
    frame_range: tuple[int, int]
    light: Light
    images: list[SoundImage]  # type: ignore[assignment]


def renders_fault(committed: CommittedSet) -> str | None:
    """The first fault of a committed set of the present truth version; None if it is sound or of an older version."""
    try:
        settings = RenderSettings.from_dict(dict(committed.settings))
        paths = committed.paths(committed.files)
        stored = json.loads(paths[TRUTH_DOCUMENT].read_bytes())
        if stored.get("truth_version") != TRUTH_VERSION:
            return None
        facts = committed.facts_as(RenderFacts)
        check_renders(
            paths,
            committed.ref.partition,
            facts.frames,
            settings,
            committed.inputs.get("looks", {}),
            persons=facts.persons,
            decode=True,
        )
    except (InvalidRenders, SettingsError) as error:
        return str(error)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return f"its documents are malformed ({type(error).__name__})"
    return None


def check_renders(
    paths: Mapping[str, Path],
    key: str,
    frames: Sequence[int],
    settings: RenderSettings,
    looks: Mapping[str, Mapping[str, Any]],
    *,
    persons: int = 1,
    decode: bool,
) -> SoundDocument:
    """Check all files of a set, and return its document.

    Args:
        paths: a local path of each file, by its name in the set.
        frames: those that were asked for. looks: the documents of the looks, by name.
        persons: how many people were asked for.
        decode: whether pictures are decoded too, beyond their headers.

    Raises:
        InvalidRenders: something is missing, of another shape or size, or no finite number.
    """
    document = _document(paths[TRUTH_DOCUMENT], key, frames, settings, looks)
    _need(len(document.origin) == K * persons, f"{TRUTH_DOCUMENT}: origin is malformed")
    _need(len(document.persons) == persons, f"{TRUTH_DOCUMENT}: other people than asked for")
    for record in document.images:
        name, size = record.file, _size_of(record, settings)
        for folder in image_folders(settings, persons):
            _check_picture(paths[f"{folder}/{name}"], f"{folder}/{name}", size, persons, decode)
    _check_arrays(paths[TRUTH_ARRAYS], document, settings)
    return document


def _need(condition: object, text: str) -> None:
    if not condition:
        raise InvalidRenders(text)


def _document(
    path: Path,
    key: str,
    frames: Sequence[int],
    settings: RenderSettings,
    looks: Mapping[str, Mapping[str, Any]],
) -> SoundDocument:
    _need(path.stat().st_size <= MAX_DOCUMENT_BYTES, f"{TRUTH_DOCUMENT} is too large")
    try:
        document = SoundDocument.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "all of it"
        raise InvalidRenders(
            f"{TRUTH_DOCUMENT}: {place} is malformed ({first['msg'][:200]})"
        ) from None
    asked = {
        "truth_version": TRUTH_VERSION,
        "key": key,
        "frames": list(frames),
        "landmarks": list(LANDMARKS),
    }
    for name, value in asked.items():
        said = getattr(document, name)
        _need(said == value, f"{TRUTH_DOCUMENT}: {name} is not what was asked for")
    wanted = pictures(frames, settings, key, looks)
    _need(len(document.images) == len(wanted), f"{TRUTH_DOCUMENT}: other images than asked for")
    for record, asked_for in zip(document.images, wanted, strict=True):
        _need(
            (record.file, record.frame, record.view, record.look)
            == (asked_for.file, asked_for.frame, asked_for.view.name, asked_for.look)
            and (size := _size_of(record, settings)) in _sizes(record.look, settings, looks)
            and 0 <= record.area <= size[0] * size[1]
            and all(abs(v) <= max(size) for v in record.bbox),
            f"{TRUTH_DOCUMENT}: what it says of {asked_for.file} is malformed",
        )
    return document


def _check_picture(
    path: Path, name: str, asked_for: tuple[int, int], persons: int, decode: bool
) -> None:
    try:
        with Image.open(path, formats=["PNG"]) as opened:
            size, mode = opened.size, opened.mode
            _need(
                size == asked_for,
                f"{name}: an image of {size[0]} x {size[1]} pixels",
            )
            modes = PICTURE_MODES[name.partition("/")[0]]
            _need(mode in modes, f"{name}: an image of another kind ({mode})")
            if decode:
                opened.load()
                most = {"parts": len(BODY_PARTS), "instances": persons}.get(name.partition("/")[0])
                highest = int(np.asarray(opened).max()) if most is not None else 0
                _need(highest <= (most or 0), f"{name}: names what is not there ({highest})")
    except InvalidRenders:
        raise
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # this machine's disk
        raise InvalidRenders(f"{name}: no PNG image") from None


def _check_arrays(path: Path, document: SoundDocument, settings: RenderSettings) -> None:
    count, parts, marked, persons = (
        len(document.images),
        len(document.parts),
        len(document.markers),
        len(document.persons),
    )
    arrays: dict[str, np.ndarray] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            names = {f"{n}.npy" for n in (*ARRAYS, "origin")}
            _need(
                set(archive.namelist()) == names, f"{TRUTH_ARRAYS}: other arrays than there must be"
            )
            for name, (shape, kinds, _) in ARRAYS.items():
                axes = (count, persons) if name in PERSON_ARRAYS else (count,)
                if name.startswith("marker_"):
                    axes = (*axes, marked)
                arrays[name] = _read_array(archive, name, (*axes, *shape), kinds)
            arrays["origin"] = _read_array(archive, "origin", (persons, K), "U")
    # zipfile raises NotImplementedError for a compression that it does not know, RuntimeError for an encrypted member.
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, KeyError) as error:  # fmt: skip
        raise InvalidRenders(f"{TRUTH_ARRAYS}: cannot be read ({type(error).__name__})") from None
    for name, (_, kinds, finite) in ARRAYS.items():
        if kinds == "f":
            values = arrays[name]
            _need(
                np.isfinite(values).all() or not finite,
                f"{TRUTH_ARRAYS}: {name} has values that are not finite",
            )
            if name not in ("pixels", "marker_pixels", "amodal_bbox", "intrinsics"):
                _need(
                    not (np.abs(values) > MAX_METRES).any(),
                    f"{TRUTH_ARRAYS}: {name} has values out of any range",
                )
    _need((arrays["visibility"] <= 2).all(), f"{TRUTH_ARRAYS}: visibility is not 0, 1 or 2")
    _need(set(arrays["origin"].ravel().tolist()) <= ORIGINS, f"{TRUTH_ARRAYS}: origin is malformed")
    _need((arrays["marker_visibility"] <= 2).all(), f"{TRUTH_ARRAYS}: marker_visibility is not 0, 1 or 2")  # fmt: skip
    _need((arrays["occluded_by"] < len(OCCLUDERS)).all(), f"{TRUTH_ARRAYS}: occluded_by names no cause")  # fmt: skip
    others = arrays["occluded_by_person"]
    _need((others >= NO_PERSON).all() and (others < persons).all(), f"{TRUTH_ARRAYS}: occluded_by_person names nobody")  # fmt: skip
    hit = arrays["first_hit_part"]
    _need(
        (hit >= -2).all() and (hit < parts).all(), f"{TRUTH_ARRAYS}: first_hit_part names no part"
    )
    sizes = [_size_of(i, settings) for i in document.images]
    most = np.prod(sizes, axis=1)[:, None]
    _need(
        ((arrays["area"] >= 0) & (arrays["area"] <= most)).all(),
        f"{TRUTH_ARRAYS}: area is no number of pixels",
    )
    _need((arrays["intrinsics"][:, 2, 2] == 1).all(), f"{TRUTH_ARRAYS}: intrinsics are no camera's")
    turned = np.einsum("nij,nkj->nik", arrays["rotation"], arrays["rotation"])
    _need(
        np.abs(turned - np.eye(3)).max(initial=0) < 1e-4, f"{TRUTH_ARRAYS}: rotation is no rotation"
    )


def _read_array(
    archive: zipfile.ZipFile, name: str, shape: tuple[int, ...], kinds: str
) -> np.ndarray:
    """One array, of whose size nothing is believed before its header was read."""
    with archive.open(f"{name}.npy") as member:
        try:
            version = npy.read_magic(member)
            read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            found, _, dtype = read(member)
        except ValueError as error:
            raise InvalidRenders(f"{TRUTH_ARRAYS}: {name} is no array ({error})") from None
    _need(found == shape, f"{TRUTH_ARRAYS}: {name} has the shape {found}, and should have {shape}")
    _need(
        dtype.kind in kinds and dtype.itemsize <= 256,
        f"{TRUTH_ARRAYS}: {name} holds another kind of values",
    )
    size = archive.getinfo(f"{name}.npy").file_size
    _need(
        size <= int(np.prod(shape)) * dtype.itemsize + 4096,
        f"{TRUTH_ARRAYS}: {name} is longer than its shape",
    )
    with archive.open(f"{name}.npy") as member:
        try:
            return npy.read_array(member, allow_pickle=False)
        except ValueError as error:
            raise InvalidRenders(f"{TRUTH_ARRAYS}: {name} cannot be read ({error})") from None


FAULTS = {ASSET: renders_fault}
