"""Looks: what surrounds and lights a person, and which cameras see it; YAML files that ship, and those of the user."""

from __future__ import annotations

import ast
import difflib
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from blender_scripts.contract import (
    HDRIS,
    MAX_IMAGE_SIZE,
    PLAIN_LOOK,
    RenderSettings,
    SettingsError,
)
from posefactory_dagster.settings import ASSETS_DATA, environment
from posefactory_dagster.storage.sets import file_sha256

#: The built places, as ``blender_scripts/stage/sets.py`` has them (a test compares).
SETS = ("living_room", "kitchen", "office", "gym", "studio", "street", "park")
FLOORS = ("concrete", "wood", "tiles", "grass", "sand", "asphalt", "projected", "none")
#: Things that may stand about people, as ``PROPS`` there has them (a test compares).
PROPS = ("chair", "table", "plant", "crate", "ball", "post", "screen")
#: Endings of the pictures in a look's folder of images, and how large a script is at most, bytes.
IMAGE_ENDINGS, MAX_SCRIPT_BYTES = (".png", ".jpg", ".jpeg"), 200_000
FRAMINGS = ("full", "upper_body", "close_up", "legs")
_MODEL = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _bounded(low: float, high: float) -> Any:
    """A number from ``low`` to ``high``, or a range [least, greatest] inside."""
    number = Annotated[float, Field(ge=low, le=high)]

    def ordered(value: float | tuple[float, float]) -> float | tuple[float, float]:
        if isinstance(value, tuple) and value[0] > value[1]:
            raise ValueError(f"the range {list(value)} ends before it begins")
        return value

    from pydantic import AfterValidator

    return Annotated[number | tuple[number, number], AfterValidator(ordered)]


#: A side of a picture, pixels, as in the render settings.
Side = Annotated[int, Field(ge=16, le=MAX_IMAGE_SIZE)]


class Environment(BaseModel):
    """What is around: a built ``set``, an environment map ``hdri`` (its name, or a file), a folder of ``images`` beside the look of which one is
    drawn for each picture, a ``sky``, or nothing but ``ambient`` light.

    ``rotation_degrees`` about the upright; ``exposure_stops`` of the map or the sky; ``ambient``: radiance from everywhere.
    """

    model_config = _MODEL

    set: Literal[SETS] | None = None  # type: ignore[valid-type]
    hdri: str | None = None
    images: str | None = None
    sky: bool = False
    rotation_degrees: _bounded(-360, 360) | None = None  # type: ignore[valid-type]
    exposure_stops: _bounded(-6, 6) | None = None  # type: ignore[valid-type]
    ambient: _bounded(0, 10) | None = None  # type: ignore[valid-type]

    @model_validator(mode="after")
    def _one(self) -> Environment:
        if (
            sum((self.set is not None, self.hdri is not None, self.images is not None, self.sky))
            > 1
        ):
            raise ValueError("name one of set, hdri, images and sky")
        return self


class Floor(BaseModel):
    """The floor where there is no set; ``projected`` shows the environment map's own ground."""

    model_config = _MODEL

    kind: Literal[FLOORS] = "concrete"  # type: ignore[valid-type]


class Props(BaseModel):
    """Things on the floor beside and before people: ``count`` of them, of some ``kinds``, each ``distance_m`` beyond where people go."""

    model_config = _MODEL

    count: _bounded(0, 30) = 2  # type: ignore[valid-type]
    kinds: tuple[Literal[PROPS], ...] = ()  # type: ignore[valid-type]
    distance_m: _bounded(0, 10) | None = None  # type: ignore[valid-type]


class Sun(BaseModel):
    """``elevation_degrees`` over the horizon, ``azimuth_degrees`` counter-clockwise from +x, ``energy`` W/m², ``angle_degrees`` of its disc."""

    model_config = _MODEL

    elevation_degrees: _bounded(1, 90) | None = None  # type: ignore[valid-type]
    azimuth_degrees: _bounded(-360, 360) | None = None  # type: ignore[valid-type]
    energy: _bounded(0, 50) | None = None  # type: ignore[valid-type]
    angle_degrees: _bounded(0, 90) | None = None  # type: ignore[valid-type]


class AreaLight(BaseModel):
    """A square lamp that shines at the person's middle: ``position`` metres from it, ``size_m``, ``watts``, linear ``colour``."""

    model_config = _MODEL

    position: tuple[float, float, float]
    watts: _bounded(0, 5000)  # type: ignore[valid-type]
    size_m: _bounded(0.05, 10) = 1.0  # type: ignore[valid-type]
    colour: tuple[float, float, float] = (1.0, 1.0, 1.0)


class Light(BaseModel):
    """What shines besides the environment."""

    model_config = _MODEL

    sun: Sun | None = None
    areas: tuple[AreaLight, ...] = Field(default=(), max_length=8)


class PlacedCamera(BaseModel):
    """A camera by hand: ``position`` metres from the person's place on the floor (x its left, y ahead of it, z up), angles in degrees."""

    model_config = _MODEL

    position: tuple[float, float, float]
    yaw: float = 0.0
    pitch: Annotated[float, Field(ge=-90, le=90)] = 0.0
    roll: float = 0.0
    fov: Annotated[float, Field(ge=5, le=120)] = 50.0


class Cameras(BaseModel):
    """``ring``: around the person, as many as the setting num_angles says; ``sphere``: ``count`` at random; ``placed``: by hand.

    ``lens_mm`` on 36 mm of the picture's shorter side; ``framing``: shares of framings; ``aim_sideways``: of the framing's radius; ``sizes``:
    width and height in pixels, of which each picture has one, where they shall not be those of the settings.
    """

    model_config = _MODEL

    kind: Literal["ring", "sphere", "placed"] = "ring"
    count: Annotated[int, Field(ge=1, le=100)] = 8
    placed: tuple[PlacedCamera, ...] = Field(default=(), max_length=100)
    elevation_degrees: _bounded(-60, 89) | None = None  # type: ignore[valid-type]
    azimuth_jitter_degrees: _bounded(-180, 180) | None = None  # type: ignore[valid-type]
    lens_mm: _bounded(12, 300) | None = None  # type: ignore[valid-type]
    roll_degrees: _bounded(-180, 180) | None = None  # type: ignore[valid-type]
    aim_sideways: _bounded(-1, 1) | None = None  # type: ignore[valid-type]
    framing: dict[Literal[FRAMINGS], Annotated[float, Field(ge=0, le=1)]] | None = None  # type: ignore[valid-type]
    sizes: Annotated[tuple[tuple[Side, Side], ...], Field(min_length=1, max_length=20)] | None = None  # fmt: skip

    @model_validator(mode="after")
    def _whole(self) -> Cameras:
        if (self.kind == "placed") != bool(self.placed):
            raise ValueError("placed cameras go with kind: placed, and only there")
        if self.framing is not None and not sum(self.framing.values()) > 0:
            raise ValueError("framing has no share above zero")
        if self.kind == "sphere" and self.elevation_degrees is not None and not isinstance(self.elevation_degrees, tuple):  # fmt: skip
            raise ValueError("a sphere needs a range of elevations, as [0, 45]")
        return self


class Effects(BaseModel):
    """What the camera adds: ``noise`` (deviation, of 1), ``exposure_stops``, ``white_balance_kelvin``, ``jpeg`` quality, ``aperture``
    (f-number), ``motion_blur`` (of a frame that the shutter is open), ``resolution`` (of the picture's pixels along a side that the sensor has)."""

    model_config = _MODEL

    noise: _bounded(0, 0.3) | None = None  # type: ignore[valid-type]
    exposure_stops: _bounded(-4, 4) | None = None  # type: ignore[valid-type]
    white_balance_kelvin: _bounded(3000, 12000) | None = None  # type: ignore[valid-type]
    jpeg: _bounded(5, 100) | None = None  # type: ignore[valid-type]
    aperture: _bounded(0.5, 64) | None = None  # type: ignore[valid-type]
    motion_blur: _bounded(0, 1) | None = None  # type: ignore[valid-type]
    resolution: _bounded(0.05, 1) | None = None  # type: ignore[valid-type]


class Look(BaseModel):
    """A look. ``variants``: of how many draws of place and light each person gets one. ``script``: a Python file beside the look whose function
    ``build(place, sets)`` adds to the place, within ``script_seconds``. ``seats``: people who sit get something to sit on."""

    model_config = _MODEL

    about: str = ""
    variants: Annotated[int, Field(ge=1, le=10_000)] = 3
    environment: Environment = Environment()
    floor: Floor | None = None
    props: Props | None = None
    seats: bool = True
    script: str | None = None
    script_seconds: Annotated[float, Field(gt=0, le=600)] = 20.0
    light: Light = Light()
    cameras: Cameras = Cameras()
    effects: Effects = Effects()

    @model_validator(mode="after")
    def _floors(self) -> Look:
        if self.floor is not None and self.environment.set is not None:
            raise ValueError("a set has a floor of its own; leave floor out")
        if self.floor is not None and self.floor.kind == "projected" and self.environment.hdri is None:  # fmt: skip
            raise ValueError("a projected floor shows the ground of an hdri; name one")
        if self.environment.images is not None and (self.floor or self.props or self.script):
            raise ValueError("images are flat: floor, props and script need a place")
        return self


def folders() -> list[Path]:
    """Where looks are: those that ship, and the folder ``looks`` beside the settings file."""
    return [ASSETS_DATA / "looks", environment().settings_file.parent / "looks"]


def known() -> dict[str, Path]:
    """The files of all looks by name; a user's look takes the place of one that ships."""
    return {p.stem: p for folder in folders() for p in sorted(folder.glob("*.yaml"))}


def read(path: Path) -> Look:
    """The look in a file.

    Raises:
        SettingsError: it is none; the text names the file, the field and what is wrong.
    """
    try:
        return _read(path, path.stat().st_mtime_ns)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsError(f"{path.name}: cannot be read as YAML ({type(error).__name__}); mend it") from error  # fmt: skip


@functools.cache
def _read(path: Path, modified_ns: int) -> Look:
    content = yaml.safe_load(path.read_text("utf-8"))
    if not isinstance(content, dict):
        raise SettingsError(f"{path.name}: no look; it has fields like environment and cameras")
    try:
        look = Look.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(p) for p in first["loc"] if not str(p).startswith(("function", "tuple", "constrained", "float"))) or "the look"  # fmt: skip
        raise SettingsError(f"{path.name}: {place}: {str(first['msg']).removeprefix('Value error, ')}; mend the file") from None  # fmt: skip
    hdri, images = look.environment.hdri, look.environment.images
    if look.script is not None:
        _script(path, look)
    if images is not None:
        _pictures(path, images)
    if hdri is not None and hdri not in HDRIS:
        found = _inside(path, hdri, "environment.hdri")
        if not found.is_file():
            raise SettingsError(f"{path.name}: environment.hdri: no file {hdri} beside the look, and no map that ships ({', '.join(HDRIS)})")  # fmt: skip
        look = look.model_copy(update={"environment": look.environment.model_copy(update={"hdri": str(found)})})  # fmt: skip
    return look


def _inside(path: Path, name: str, field: str) -> Path:
    """The path of what a look names, which must lie in the look's own folder."""
    found = (path.parent / name).resolve()
    if not found.is_relative_to(path.parent.resolve()):
        raise SettingsError(f"{path.name}: {field} leads out of {path.parent}; put the file beside the look")  # fmt: skip
    return found


def _script(path: Path, look: Look) -> dict[str, Any]:
    """The script of a look, as the renderer takes it."""
    name = str(look.script)
    found = _inside(path, name, "script")
    if found.suffix != ".py" or not found.is_file():
        raise SettingsError(f"{path.name}: script: no Python file {name} beside the look")
    if found.stat().st_size > MAX_SCRIPT_BYTES:
        raise SettingsError(f"{path.name}: script: {name} is larger than {MAX_SCRIPT_BYTES} bytes")
    try:
        text = found.read_text("utf-8")
        tree = ast.parse(text, name)
    except (SyntaxError, ValueError) as error:
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        raise SettingsError(f"{path.name}: script: {name}{line}: no Python ({error}); mend it") from None  # fmt: skip
    if not any(isinstance(n, ast.FunctionDef) and n.name == "build" for n in tree.body):
        raise SettingsError(f"{path.name}: script: {name} defines no function build(place, sets)")
    return {"name": found.name, "text": text, "seconds": look.script_seconds}


def _pictures(path: Path, name: str) -> list[dict[str, str]]:
    """The pictures in a look's folder, by path and digest, so that another picture is another look."""
    folder = _inside(path, name, "environment.images")
    if not folder.is_dir():
        raise SettingsError(f"{path.name}: environment.images: no folder {name} beside the look")
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_ENDINGS)
    if not files:
        raise SettingsError(f"{path.name}: environment.images: no {', '.join(IMAGE_ENDINGS)} in {name}")  # fmt: skip
    return [{"path": str(p), "sha256": file_sha256(p)} for p in files]


def documents(settings: RenderSettings) -> dict[str, dict[str, Any]]:
    """The looks of some settings as plain values, by name, without the plain one.

    Raises:
        SettingsError: there is no such look, or its file is malformed.
    """
    files = known()
    found = {}
    for name in settings.look_names:
        if name == PLAIN_LOOK:
            continue
        if name not in files:
            near = difflib.get_close_matches(name, [PLAIN_LOOK, *files], 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise SettingsError(f"no look {name!r}{hint} (posefactory looks list shows all)")
        look = read(files[name])
        document = look.model_dump(mode="json", exclude_none=True, exclude={"about", "script", "script_seconds"})  # fmt: skip
        if look.script is not None:
            document["script"] = _script(files[name], look)
        if look.environment.images is not None:
            document["environment"]["images"] = _pictures(files[name], look.environment.images)
        found[name] = document
    return found


def wanted_by(looks: Mapping[str, Mapping[str, Any]], settings: RenderSettings, key: str) -> dict[str, Any]:  # fmt: skip
    """Of some looks those that a character is rendered in."""
    return {n: dict(looks[n]) for n in settings.looks_of(key) if n in looks}
