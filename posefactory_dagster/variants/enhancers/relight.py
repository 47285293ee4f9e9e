"""The built-in enhancer, and honestly not AI: the person composited into places, in their light, as a camera sees it.

The render knows the surface's own colour and its normals, so no light of the render is in the picture: the light of the place
falls on the person as it would there, from all around and from its key, with the shadow that limbs throw on the body and the
body on the ground. Landmarks stay where they were, to the pixel.
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
from posefactory_dagster.settings import ASSETS_DATA, PROJECT_ROOT
from posefactory_dagster.variants.documents import Parameters, Style
from posefactory_dagster.variants.enhancers.base import CannotEnhance, Enhanced, RenderView
from posefactory_dagster.variants.providers import RelightOptions, RelightProvider

#: Raised whenever the same seed gives another image.
VERSION = "2"
SHIPPED = ASSETS_DATA / "backgrounds"
PHOTO_ENDINGS = (".jpg", ".jpeg", ".png")
#: What a photo of unknown lens is taken for.
PHOTO_FIELD_DEGREES = 65.0
#: Looking further aside would leave the picture.
MOST_YAW_DEGREES = 18.0
#: Of a photo: a spot so bright (linear light), so small a part of it, and so much brighter than the whole is a lamp or the sun.
LAMP_LIGHT, LAMP_SHARE, LAMP_CONTRAST = 0.85, 0.03, 3.0
#: The person's brightest parts, as linear light: above, the exposure gives way; below, it comes up. Then a soft shoulder.
BRIGHTEST, DARKEST, SHOULDER = 0.85, 0.15, 0.7
#: How far the whole picture follows where the person's exposure gives way.
DARKEST_PLACE = 0.5
#: Hollows of the body see less of the surroundings: over so many metres, by so much at most.
HOLLOW_M, HOLLOW_DEPTH_M, HOLLOW = 0.06, 0.08, 0.6
#: Shadows of the body on itself: how far is looked towards the light, how thick limbs are, and what is no shadow, metres.
SHADOW_REACH_M, LIMB_M, SHADOW_BIAS_M = 0.6, 0.35, 0.02
#: Looks towards the light: steps, and directions around it, as no lamp is a point.
MARCH_STEPS, LAMP_SPREAD = 14, (-0.08, 0.0, 0.08)
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
#: In the frame of a level camera.
UP = np.array([0.0, -1.0, 0.0])
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
    """A place and its light, as radiance of a white matt surface in the picture's own exposure, in three colours.

    ``ambient`` (9, 3) are coefficients of real spherical harmonics up to degree 2, by surface normal (Ramamoorthi and Hanrahan,
    "An efficient representation for irradiance environment maps", 2001; see ``harmonics``); ``key`` (3,) what faces the
    light fully gets of it; ``direction`` is towards it. All in the frame of the picture's level camera (x right, y down, z
    forward): a light behind the person has a positive z.
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
        self.name = {"provider": RelightProvider.name, "model": "relight", "version": version}
        self.parallel = max(cv2.getNumberOfCPUs(), 1)

    def price(self) -> float:
        return 0.0

    def check(self, size: tuple[int, int]) -> None:
        for place in self._places:
            _read(place.path)

    def close(self) -> None:
        pass

    def enhance(self, render_view: RenderView, style: Style, parameters: Parameters) -> Enhanced:
        options = style.options
        assert isinstance(options, RelightOptions)
        rng = np.random.default_rng(parameters.seed)
        place = self._places[int(rng.integers(len(self._places)))]
        amount = parameters.strength
        height, width = render_view.subject.mask.shape
        pixel = min(width, height) / 512

        yaw = np.radians(rng.uniform(-MOST_YAW_DEGREES, MOST_YAW_DEGREES))
        to_place = _towards(render_view, yaw)
        behind = _TO_LINEAR[_view(place, render_view, to_place)]
        blur = rng.uniform(*options.background_blur) * pixel
        if blur > 0.2:
            behind = cv2.GaussianBlur(behind, (0, 0), blur)
        direction = to_place.T @ place.direction  # in the render_view's camera's frame
        behind *= _shadow(render_view, direction, place)[..., None]

        alpha = render_view.albedo[..., 3:].astype(np.float32) / 255
        light = _light_on(render_view, place, to_place, direction)
        seen = alpha[..., 0] > 0.5
        if seen.any():
            even = light[seen].mean(axis=0)
            light = even + (light - even) * (options.relight * amount)
        person, gain = _exposed(_TO_LINEAR[render_view.albedo[..., :3]] * light, seen)
        behind *= gain
        picture = behind + (person - behind) * alpha

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
    """The backgrounds that ship, by kind."""
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
    """A photo of somebody's, with its light guessed: from all around it as it is on average, above and below, and one key."""
    light = _TO_LINEAR[_read(path)]
    small = cv2.resize(light, (48, 32), interpolation=cv2.INTER_AREA)
    mean = small.reshape(-1, 3).mean(axis=0)
    above, below = small[:10].reshape(-1, 3).mean(axis=0), small[-10:].reshape(-1, 3).mean(axis=0)
    ambient = np.zeros((9, 3), np.float32)
    ambient[0] = mean * 0.8 / 0.282095
    ambient[1] = -(above - below) * 0.25 / 0.488603  # y is down
    return Background(path, PHOTO_FIELD_DEGREES, ambient, mean * 0.9, _photo_light(small))


def _photo_light(small: np.ndarray) -> np.ndarray:
    """Where the light of a photo comes from, a unit vector (3,): from a lamp or sun that is in it, else from its brighter side."""
    bright = small.max(axis=-1)
    lamp = bright > LAMP_LIGHT
    if 0 < lamp.mean() <= LAMP_SHARE and bright[lamp].mean() > LAMP_CONTRAST * bright.mean():
        row, column = (float(v.mean()) + 0.5 for v in np.nonzero(lamp))
        focal = small.shape[1] / 2 / np.tan(np.radians(PHOTO_FIELD_DEGREES) / 2)
        towards = (column - small.shape[1] / 2, row - small.shape[0] / 2, focal)
    else:
        columns = bright.mean(axis=0) ** 4
        across = float((columns * np.linspace(-1, 1, len(columns))).sum() / columns.sum())
        towards = (across, -0.8, -0.5)
    direction = np.array(towards, np.float32)
    return direction / np.linalg.norm(direction)


@functools.lru_cache(maxsize=64)
def _read(path: Path) -> np.ndarray:
    """(H, W, 3) uint8 RGB."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise CannotEnhance(
            f"{path.name}: not a picture that can be read; remove it from the backgrounds"
        )
    return np.ascontiguousarray(image[..., ::-1])


def _row(render_view: RenderView, name: str) -> np.ndarray:
    return np.asarray(render_view.subject.arrays[name][0], np.float64)


def _towards(render_view: RenderView, yaw: float) -> np.ndarray:
    """The rotation (3, 3) from the render_view's camera to a level camera that looks ``yaw`` further to the right."""
    forward = _row(render_view, "rotation")[2]
    pitch = float(np.arcsin(np.clip(forward[2], -1, 1)))  # up is positive
    about_x = np.array(
        [[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]]
    )
    about_y = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    return about_y @ about_x


def _view(place: Background, render_view: RenderView, to_place: np.ndarray) -> np.ndarray:
    """The place as the render_view's camera would see it, (H, W, 3) uint8: a turned camera is a homography."""
    picture = _read(place.path)
    rows, columns = picture.shape[:2]
    focal = columns / 2 / np.tan(np.radians(place.field_degrees) / 2)
    lens = np.array([[focal, 0, columns / 2], [0, focal, rows / 2], [0, 0, 1]])
    mapping = lens @ to_place @ np.linalg.inv(_row(render_view, "intrinsics"))
    height, width = render_view.subject.mask.shape
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpPerspective(
        picture, mapping, (width, height), flags=flags, borderMode=cv2.BORDER_REFLECT
    )


def harmonics(directions: np.ndarray) -> np.ndarray:
    """The nine real spherical harmonics up to degree 2 at unit vectors (..., 3): (..., 9)."""
    x, y, z = directions[..., 0], directions[..., 1], directions[..., 2]
    return np.stack(
        [
            np.full_like(x, 0.282095), 0.488603 * y, 0.488603 * z, 0.488603 * x, 1.092548 * x * y,
            1.092548 * y * z, 0.315392 * (3 * z * z - 1), 1.092548 * x * z, 0.546274 * (x * x - y * y),
        ],
        axis=-1,
    )  # fmt: skip


def _light_on(
    render_view: RenderView, place: Background, to_place: np.ndarray, direction: np.ndarray
) -> np.ndarray:
    """The light on each pixel's surface, as radiance of a white matt one, (H, W, 3) float32.

    Args:
        direction: towards the key light, in the render_view's camera's frame.
    """
    normals = render_view.normals
    around = harmonics(normals @ to_place.T.astype(np.float32)) @ place.ambient
    around = np.maximum(around, 0) * (1 - HOLLOW * _hollows(render_view))[..., None]
    facing = np.maximum(normals @ direction.astype(np.float32), 0)
    return around + (facing * _reached(render_view, direction))[..., None] * place.key


def _hollows(render_view: RenderView) -> np.ndarray:
    """How deep a pixel lies behind its surroundings on the body, (H, W) 0 to 1."""
    known = (render_view.depth > 0).astype(np.float32)
    if not known.any():
        return known
    focal = float(_row(render_view, "intrinsics")[0, 0])
    sigma = max(HOLLOW_M * focal / float(render_view.depth[render_view.depth > 0].mean()), 0.5)
    weight = cv2.GaussianBlur(known, (0, 0), sigma)
    around = cv2.GaussianBlur(render_view.depth, (0, 0), sigma) / np.maximum(weight, 1e-6)
    return np.clip((render_view.depth - around) / HOLLOW_DEPTH_M, 0, 1) * known


def _reached(render_view: RenderView, direction: np.ndarray) -> np.ndarray:
    """How much of the key light reaches a pixel past the rest of the body, (H, W) 0 to 1.

    Looked for in the depth image, at half its size: from each point some steps towards the light, which another part of the
    body may hide.
    """
    height, width = render_view.depth.shape
    depth = render_view.depth[::2, ::2]
    rows, columns = np.nonzero(depth)
    reached = np.ones(depth.shape, np.float32)
    if len(rows) == 0:
        return np.ones((height, width), np.float32)
    intrinsics = _row(render_view, "intrinsics")
    focal, middle = intrinsics[[0, 1], [0, 1]] / 2, intrinsics[:2, 2] / 2
    start = depth[rows, columns].astype(np.float64)
    points = np.stack(
        [
            (columns + 0.5 - middle[0]) / focal[0] * start,
            (rows + 0.5 - middle[1]) / focal[1] * start,
            start,
        ],
        axis=-1,
    )
    aside = np.cross(direction, (0.0, 1.0, 0.0))
    aside /= max(float(np.linalg.norm(aside)), 1e-6)
    share = np.zeros(len(rows), np.float32)
    for spread in LAMP_SPREAD:
        way = direction + spread * aside
        hidden = np.zeros(len(rows), bool)
        for step in np.linspace(0, 1, MARCH_STEPS + 1)[1:] ** 1.5 * SHADOW_REACH_M:
            there = points + way * step
            z = np.maximum(there[:, 2], 1e-3)
            x = (there[:, 0] / z * focal[0] + middle[0]).astype(np.int32)
            y = (there[:, 1] / z * focal[1] + middle[1]).astype(np.int32)
            inside = (x >= 0) & (y >= 0) & (x < depth.shape[1]) & (y < depth.shape[0])
            met = np.where(
                inside, depth[y.clip(0, depth.shape[0] - 1), x.clip(0, depth.shape[1] - 1)], 0
            )
            behind = there[:, 2] - met
            # A longer way may pass more of the own slope.
            hidden |= (met > 0) & (behind > SHADOW_BIAS_M + 0.1 * step) & (behind < LIMB_M)
        share += (~hidden).astype(np.float32)
    reached[rows, columns] = share / len(LAMP_SPREAD)
    soft = cv2.GaussianBlur(reached, (0, 0), 0.8)
    return cv2.resize(soft, (width, height), interpolation=cv2.INTER_LINEAR)


def _exposed(person: np.ndarray, seen: np.ndarray) -> tuple[np.ndarray, float]:
    """The person with its highlights kept, (H, W, 3), and by how much the place gets darker with it.

    The picture's own brightness hides how bright the place is; a camera would expose for the person.
    """
    if not seen.any():
        return person, 1.0
    brightest = float(np.percentile(person[seen].max(axis=-1), 98))
    gain = float(np.clip(brightest, DARKEST, BRIGHTEST)) / max(brightest, 1e-6)
    person = person * min(gain, 3.0)
    over = np.maximum(person - SHOULDER, 0)
    person = np.minimum(person, SHOULDER) + (1 - SHOULDER) * (1 - np.exp(-over / (1 - SHOULDER)))
    return person.astype(np.float32), float(np.clip(np.sqrt(gain), DARKEST_PLACE, 1.0))


def _shadow(render_view: RenderView, direction: np.ndarray, place: Background) -> np.ndarray:
    """What the person leaves of the ground's light, (H, W) 0 to 1: a cast shadow, and the dark under the feet."""
    world, rotation = _row(render_view, "world"), _row(render_view, "rotation")
    translation, intrinsics = _row(render_view, "translation"), _row(render_view, "intrinsics")
    height, width = render_view.subject.mask.shape
    to_light = rotation.T @ direction
    to_light[2] = max(to_light[2], 0.45)  # a low sun would throw it out of the picture
    ends = np.array([(_INDEX[a], _INDEX[b]) for a, b, _ in BODY])
    share = np.linspace(0, 1, SHADOW_STEPS)[:, None, None]
    points = (world[ends[:, 0]] * (1 - share) + world[ends[:, 1]] * share).reshape(-1, 3)
    radii = np.tile([r for *_, r in BODY], SHADOW_STEPS)
    result = np.ones((height, width), np.float32)
    # Of the light on the ground, whose normal points up, so much comes from the key.
    around = float(np.maximum(harmonics(UP) @ place.ambient, 0).mean())
    lamp = float(place.key.mean() * to_light[2])
    lamp /= max(lamp + around, 1e-6)
    feet = points[:, 2] < 0.15
    for chosen, slant, dark, soft in (
        (points[:, 2] > -1, to_light, 0.75 * lamp, 0.03),
        (feet, np.array([0, 0, 1.0]), 0.5, 0.06),
        (points[:, 2] < 0.09, np.array([0, 0, 1.0]), 0.6, 0.012),
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
