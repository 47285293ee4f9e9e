"""The built-in enhancer, and honestly not AI: the person composited into places, in their light, as a camera sees it.

The render is exact, so its surface is known: from the depth come normals, the light that shone is divided out and the
light of the place multiplied in. Landmarks stay where they were, to the pixel.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from blender_scripts.contract import LANDMARKS
from posefactory_dagster.quality.records import Parameters
from posefactory_dagster.settings import ASSETS_DATA, PROJECT_ROOT
from posefactory_dagster.styles import RelightOptions, Style
from posefactory_dagster.variants.enhancers.base import CannotEnhance, Enhanced, Shot

#: Raised whenever the same seed gives another image.
VERSION = "1"
SHIPPED = ASSETS_DATA / "backgrounds"
PHOTO_ENDINGS = (".jpg", ".jpeg", ".png")
#: What a photo of unknown lens is taken for.
PHOTO_FIELD_DEGREES = 65.0
#: Looking further aside would leave the picture.
MOST_YAW_DEGREES = 18.0
#: Smoothing of the depth before normals are taken, pixels: a millimetre is a coarse step between neighbours.
DEPTH_SMOOTHING = 2.5
MOST_BRIGHTENING, MOST_DARKENING = 3.0, 0.25
#: Parts of the body that throw the shadow: landmarks at both ends, and half the thickness in metres.
BODY = (
    ("left_shoulder", "right_hip", 0.13), ("right_shoulder", "left_hip", 0.13),
    ("left_shoulder", "right_shoulder", 0.08), ("left_hip", "right_hip", 0.11),
    ("left_ear", "right_ear", 0.10), ("left_shoulder", "left_elbow", 0.05),
    ("right_shoulder", "right_elbow", 0.05), ("left_elbow", "left_wrist", 0.04),
    ("right_elbow", "right_wrist", 0.04), ("left_hip", "left_knee", 0.08),
    ("right_hip", "right_knee", 0.08), ("left_knee", "left_ankle", 0.05),
    ("right_knee", "right_ankle", 0.05), ("left_heel", "left_foot_index", 0.04),
    ("right_heel", "right_foot_index", 0.04),
)  # fmt: skip
SHADOW_STEPS = 10
_INDEX = {name: i for i, name in enumerate(LANDMARKS)}
_CODE = np.arange(256) / 255
#: sRGB's curve (IEC 61966-2-1) from 8 bits, and back over 4096 steps of the square root of light.
_TO_LINEAR = np.where(_CODE <= 0.04045, _CODE / 12.92, ((_CODE + 0.055) / 1.055) ** 2.4).astype(
    np.float32
)
_LIGHT = np.linspace(0, 1, 4096) ** 2
_TO_SRGB = np.where(
    _LIGHT <= 0.0031308, _LIGHT * 12.92, 1.055 * np.maximum(_LIGHT, 1e-9) ** (1 / 2.4) - 0.055
).astype(np.float32)


@dataclass(frozen=True)
class Background:
    """A place. ``ambient`` and ``key`` are light in three colours, in the picture's own exposure; ``direction`` is
    towards the key light, in the frame of the picture's level camera (x right, y down, z forward).
    """

    path: Path
    field_degrees: float
    ambient: np.ndarray
    key: np.ndarray
    direction: np.ndarray


class Relight:
    """See the module. Free, offline, and repeatable from its seed.

    Raises:
        CannotEnhance: a background is neither a kind that ships nor a folder with photos.
    """

    paid = False
    repeatable = True
    moves_pose = False

    def __init__(self, style: Style) -> None:
        options = style.options
        assert isinstance(options, RelightOptions)
        self._places = backgrounds(options.backgrounds)
        # Places are part of what makes an image: another photo in a folder is another enhancer.
        digest = hashlib.sha256((SHIPPED / "backgrounds.json").read_bytes())
        for place in self._places:
            digest.update(place.path.name.encode() + place.path.read_bytes())
        version = f"{VERSION}-{digest.hexdigest()[:8]}"
        self.name = {"provider": "relight", "model": "relight", "version": version}
        self.parallel = max(cv2.getNumberOfCPUs(), 1)

    def price(self) -> float:
        return 0.0

    def check(self, size: tuple[int, int]) -> None:
        for place in self._places:
            _read(place.path)

    def close(self) -> None:
        pass

    def enhance(self, shot: Shot, style: Style, parameters: Parameters) -> Enhanced:
        options = style.options
        assert isinstance(options, RelightOptions)
        rng = np.random.default_rng(parameters.seed)
        place = self._places[int(rng.integers(len(self._places)))]
        amount = parameters.strength
        height, width = shot.subject.mask.shape
        pixel = min(width, height) / 512

        yaw = np.radians(rng.uniform(-MOST_YAW_DEGREES, MOST_YAW_DEGREES))
        to_place = _towards(shot, yaw)
        behind = _TO_LINEAR[_view(place, shot, to_place)]
        blur = rng.uniform(*options.background_blur) * pixel
        if blur > 0.2:
            behind = cv2.GaussianBlur(behind, (0, 0), blur)
        direction = to_place.T @ place.direction
        behind *= _shadow(shot, direction, place)[..., None]

        person, alpha = _cut_out(shot)
        person *= _ratio(shot, place, direction, options.relight * amount)
        # The picture's own brightness hides how bright the place is; the person must not stand out of it.
        picture = behind + (person - behind) * alpha[..., None]

        picture *= 2.0 ** (rng.uniform(*options.exposure) * amount)
        tint = 1 + rng.uniform(-1, 1, 3).astype(np.float32) * options.white_balance * amount
        picture *= tint / tint.mean()
        softness = rng.uniform(*options.blur) * amount * pixel
        if softness > 0.2:
            picture = cv2.GaussianBlur(picture, (0, 0), softness)
        steps = np.sqrt(np.clip(picture, 0, 1)) * (len(_TO_SRGB) - 1)
        srgb = _TO_SRGB[steps.astype(np.int32)]
        grain = rng.uniform(*options.grain) * amount
        if grain > 0:
            noise = rng.standard_normal((height, width), dtype=np.float32)
            srgb = srgb + grain * noise[..., None]
        codes = np.clip(srgb * 255 + 0.5, 0, 255).astype(np.uint8)
        quality = int(rng.integers(options.jpeg_quality[0], options.jpeg_quality[1] + 1))
        done, data = cv2.imencode(".jpg", codes[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
        assert done, "OpenCV encodes JPEG"
        answer = {"background": place.path.stem, "yaw_degrees": round(float(np.degrees(yaw)), 2)}
        return Enhanced(data.tobytes(), "jpg", parameters.seed, {**answer, "jpeg_quality": quality})


@functools.cache
def shipped() -> dict[str, list[Background]]:
    """The places that ship, by kind."""
    document = json.loads((SHIPPED / "backgrounds.json").read_text("utf-8"))
    places: dict[str, list[Background]] = {}
    for name, entry in sorted(document.items()):
        ambient, key, direction = (
            np.array(entry[k], np.float32) for k in ("ambient", "key", "direction")
        )
        made = Background(SHIPPED / f"{name}.jpg", entry["field_degrees"], ambient, key, direction)
        places.setdefault(entry["kind"], []).append(made)
    return places


def backgrounds(names: Sequence[str]) -> list[Background]:
    """The places of some kinds, and the photos of some folders.

    Raises:
        CannotEnhance: a name is neither a kind nor a folder with photos.
    """
    places = []
    for name in names:
        if name in shipped():
            places += shipped()[name]
            continue
        folder = PROJECT_ROOT / name
        photos = sorted(p for p in folder.glob("*") if p.suffix.lower() in PHOTO_ENDINGS)
        if not photos:
            kinds = ", ".join(shipped())
            raise CannotEnhance(
                f"background {name!r}: choose {kinds}, or a folder with .jpg or .png photos"
            )
        places += [_photo(p) for p in photos]
    return places


def _photo(path: Path) -> Background:
    """A photo of somebody's, with its light guessed: ambient from all of it, the key from where it is brightest."""
    light = _TO_LINEAR[_read(path)]
    brightness = cv2.resize(light.mean(axis=-1), (32, 16), interpolation=cv2.INTER_AREA)
    columns = brightness.sum(axis=0)
    across = float((columns**4 * np.linspace(-1, 1, 32)).sum() / (columns**4).sum())
    mean = light.reshape(-1, 3).mean(axis=0)
    direction = np.array([across, -0.8, -0.5], np.float32)
    return Background(
        path, PHOTO_FIELD_DEGREES, mean * 0.8, mean * 0.9, direction / np.linalg.norm(direction)
    )


@functools.lru_cache(maxsize=64)
def _read(path: Path) -> np.ndarray:
    """(H, W, 3) uint8 RGB."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise CannotEnhance(
            f"{path.name}: not a picture that can be read; remove it from the backgrounds"
        )
    return np.ascontiguousarray(image[..., ::-1])


def _row(shot: Shot, name: str) -> np.ndarray:
    return np.asarray(shot.subject.arrays[name][0], np.float64)


def _towards(shot: Shot, yaw: float) -> np.ndarray:
    """The rotation (3, 3) from the shot's camera to a level camera that looks ``yaw`` further to the right."""
    forward = _row(shot, "rotation")[2]
    pitch = float(np.arcsin(np.clip(forward[2], -1, 1)))  # up is positive
    about_x = np.array(
        [[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]]
    )
    about_y = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    return about_y @ about_x


def _view(place: Background, shot: Shot, to_place: np.ndarray) -> np.ndarray:
    """The place as the shot's camera would see it, (H, W, 3) uint8: a turned camera is a homography."""
    picture = _read(place.path)
    rows, columns = picture.shape[:2]
    focal = columns / 2 / np.tan(np.radians(place.field_degrees) / 2)
    lens = np.array([[focal, 0, columns / 2], [0, focal, rows / 2], [0, 0, 1]])
    mapping = lens @ to_place @ np.linalg.inv(_row(shot, "intrinsics"))
    height, width = shot.subject.mask.shape
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpPerspective(
        picture, mapping, (width, height), flags=flags, borderMode=cv2.BORDER_REFLECT
    )


def _cut_out(shot: Shot) -> tuple[np.ndarray, np.ndarray]:
    """The person in linear light (H, W, 3), carried beyond the edge without the old background, and alpha (H, W)."""
    mask = shot.subject.mask.astype(np.uint8)
    inside = cv2.erode(mask, np.ones((3, 3), np.uint8))
    if not inside.any():
        inside = mask
    # Pixels at the edge are mixed with the old background: they take the colour of the nearest that are not.
    _, labels = cv2.distanceTransformWithLabels(
        1 - inside, cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL
    )
    rows, columns = np.nonzero(inside)
    where = np.zeros((labels.max() + 1, 2), np.int32)
    where[labels[rows, columns]] = np.stack([rows, columns], axis=1)
    alpha = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 0.7)
    band = (inside == 0) & (alpha > 0)
    pixels = shot.subject.pixels.copy()
    source = where[labels[band]]
    pixels[band] = pixels[source[:, 0], source[:, 1]]
    return _TO_LINEAR[pixels], alpha


def _normals(shot: Shot) -> np.ndarray:
    """The surface's normals in the camera's frame (H, W, 3); towards the camera where there is no surface."""
    known = (shot.depth > 0).astype(np.float32)
    weight = cv2.GaussianBlur(known, (0, 0), DEPTH_SMOOTHING)
    depth = cv2.GaussianBlur(shot.depth * known, (0, 0), DEPTH_SMOOTHING) / np.maximum(weight, 1e-6)
    intrinsics = _row(shot, "intrinsics")
    height, width = depth.shape
    x = ((np.arange(width) + 0.5 - intrinsics[0, 2]) / intrinsics[0, 0]).astype(np.float32)
    y = ((np.arange(height) + 0.5 - intrinsics[1, 2]) / intrinsics[1, 1]).astype(np.float32)
    points = np.stack([depth * x, depth * y[:, None], depth], axis=-1)
    right = cv2.Sobel(points, cv2.CV_32F, 1, 0, ksize=3)
    down = cv2.Sobel(points, cv2.CV_32F, 0, 1, ksize=3)
    normals = np.cross(down, right)
    length = np.linalg.norm(normals, axis=-1, keepdims=True)
    normals = np.where(
        length > 1e-9, normals / np.maximum(length, 1e-9), np.array([0, 0, -1], np.float32)
    )
    normals[known == 0] = (0, 0, -1)
    return normals.astype(np.float32)


def _ratio(shot: Shot, place: Background, direction: np.ndarray, amount: float) -> np.ndarray:
    """New light over old light on each pixel, (H, W, 3); ``amount`` 0 changes colour and brightness only as a whole."""
    normals = _normals(shot)
    sun = _row(shot, "rotation") @ np.array(shot.light["sun_direction"])
    facing_sun = np.maximum(normals @ sun.astype(np.float32), 0)
    facing_key = np.maximum(normals @ direction.astype(np.float32), 0)
    # Radiance over albedo: a Lambert surface gives back its irradiance over pi.
    old = shot.light["ambient"] + shot.light["sun_energy"] / np.pi * facing_sun
    new = place.ambient + place.key * facing_key[..., None]
    mask = shot.subject.mask
    overall = new[mask].mean(axis=0) / old[mask].mean()
    ratio = (1 - amount) * overall + amount * new / old[..., None]
    return np.clip(ratio, MOST_DARKENING, MOST_BRIGHTENING).astype(np.float32)


def _shadow(shot: Shot, direction: np.ndarray, place: Background) -> np.ndarray:
    """What the person leaves of the ground's light, (H, W) 0 to 1: a cast shadow, and the dark under the feet."""
    world, rotation = _row(shot, "world"), _row(shot, "rotation")
    translation, intrinsics = _row(shot, "translation"), _row(shot, "intrinsics")
    height, width = shot.subject.mask.shape
    to_light = rotation.T @ direction
    to_light[2] = max(to_light[2], 0.45)  # a low sun would throw it out of the picture
    ends = np.array([(_INDEX[a], _INDEX[b]) for a, b, _ in BODY])
    share = np.linspace(0, 1, SHADOW_STEPS)[:, None, None]
    points = (world[ends[:, 0]] * (1 - share) + world[ends[:, 1]] * share).reshape(-1, 3)
    radii = np.tile([r for *_, r in BODY], SHADOW_STEPS)
    result = np.ones((height, width), np.float32)
    lamp = float(place.key.mean() / max(place.key.mean() + place.ambient.mean(), 1e-6))
    feet = points[:, 2] < 0.15
    for chosen, slant, dark, soft in (
        (points[:, 2] > -1, to_light, 0.75 * lamp, 0.03),
        (feet, np.array([0, 0, 1.0]), 0.55, 0.05),
    ):
        above, size = points[chosen], radii[chosen]
        ground = above - slant * (np.maximum(above[:, 2:], 0) / slant[2])
        ground[:, 2] = 0
        inside = ground @ rotation.T + translation
        seen = inside[:, 2] > 0.3
        if not seen.any():
            continue
        projected = inside[seen] @ intrinsics.T
        scale = intrinsics[0, 0] / inside[seen, 2]
        spots = np.zeros((height, width), np.uint8)
        centres = np.clip(projected[:, :2] / projected[:, 2:], -4 * width, 4 * width)
        for (x, y), radius in zip(centres.tolist(), (size[seen] * scale).tolist(), strict=True):
            axes = (max(round(radius), 1), max(round(radius * 0.4), 1))
            cv2.ellipse(spots, (round(x), round(y)), axes, 0, 0, 360, (255,), -1)
        sigma = max(soft * float(scale.mean()), 0.5)
        result *= 1 - dark * cv2.GaussianBlur(spots, (0, 0), sigma).astype(np.float32) / 255
    return result
