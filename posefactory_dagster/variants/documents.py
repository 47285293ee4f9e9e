"""Styles: how variants are to look and who makes them, as YAML files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from blender_scripts.contract import SettingsError
from posefactory_dagster.quality.records import Parameters
from posefactory_dagster.settings import ASSETS_DATA
from posefactory_dagster.storage.sets import identity_of

FOLDER = ASSETS_DATA / "styles"
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_Fraction = Annotated[float, Field(ge=0, le=1)]
Range = tuple[float, float]


class _Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RelightOptions(_Options):
    """How far `relight` goes at strength 1; ranges are drawn from by the seed.

    ``backgrounds``: kinds that ship (room, street, map), or a folder of photos by its path from the project.
    ``exposure`` in stops; ``grain`` and ``white_balance`` as parts of full scale; blurs in pixels of a 512-pixel
    image; ``jpeg_quality`` 1 to 95.
    """

    backgrounds: tuple[str, ...] = ("room", "street", "map")
    relight: _Fraction = 1.0
    exposure: Range = (-0.5, 0.4)
    white_balance: Annotated[float, Field(ge=0, le=0.3)] = 0.06
    background_blur: Annotated[Range, Field()] = (0.0, 2.5)
    blur: Range = (0.0, 0.7)
    grain: Range = (0.0, 0.03)
    jpeg_quality: tuple[Annotated[int, Field(ge=1, le=95)], Annotated[int, Field(ge=1, le=95)]] = (
        75,
        92,
    )

    @model_validator(mode="after")
    def _in_order(self) -> RelightOptions:
        for name in ("exposure", "background_blur", "blur", "grain", "jpeg_quality"):
            low, high = getattr(self, name)
            if not low <= high:
                raise ValueError(f"{name} is {low} to {high}: give the lower first")
        return self


class DiffusersOptions(_Options):
    """Where the models of `diffusers` are, and how they are run. Folders, or hub ids (then they are downloaded).

    ``controlnets`` maps a control (openpose, depth, edges) to a model; ``guidance`` is the classifier-free one;
    ``work_size`` the longer side that the model works at, in pixels.
    """

    base: str
    controlnets: dict[Literal["openpose", "depth", "edges"], str]
    guidance: Annotated[float, Field(ge=0, le=50)] = 6.0
    work_size: Annotated[int, Field(ge=64, le=2048, multiple_of=8)] = 1024
    half_precision_files: bool = False


class StabilityOptions(_Options):
    """What Stability's endpoints take beside prompts, strength and seed."""

    style_preset: str | None = None
    cfg_scale: Annotated[float, Field(ge=0, le=35)] = 7.0


class Style(BaseModel):
    """One look. ``count`` variants are made of each image; ``strength`` is how far an image may go from the render,
    ``control`` how tightly it is held to the pose; both 0 to 1.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    description: str = ""
    provider: Literal["relight", "stability", "dreamstudio", "diffusers"]
    model: str
    prompt: Annotated[str, Field(max_length=10_000)] = ""
    negative_prompt: Annotated[str, Field(max_length=10_000)] = ""
    strength: _Fraction = 0.5
    control: _Fraction = 0.7
    steps: Annotated[int, Field(ge=1, le=150)] = 30
    seed: Annotated[int, Field(ge=0, le=2**32 - 2)] = 0
    count: Annotated[int, Field(ge=1, le=16)] = 1
    options: RelightOptions | StabilityOptions | DiffusersOptions

    @property
    def content(self) -> dict[str, Any]:
        """What shapes the images: all but the name, the description and how many there are."""
        return self.model_dump(mode="json", exclude={"name", "description", "count"})

    @property
    def fingerprint(self) -> str:
        """The digest of ``content``."""
        return identity_of("style", {}, self.content)

    def parameters(self, variant: str) -> Parameters:
        """What the first attempt at a variant is made with: the style's values, and a seed of the variant's own."""
        return Parameters(
            prompt=self.prompt,
            negative_prompt=self.negative_prompt,
            strength=self.strength,
            control=self.control,
            seed=(self.seed + int(variant[:8], 16)) % (2**32 - 2) + 1,  # 0 means random to some
        )


OPTIONS: dict[str, type[_Options]] = {
    "relight": RelightOptions,
    "stability": StabilityOptions,
    "dreamstudio": StabilityOptions,
    "diffusers": DiffusersOptions,
}


def style_names() -> list[str]:
    """The styles there are."""
    return sorted(p.stem for p in FOLDER.glob("*.yaml"))


def read_style(name: str) -> Style:
    """The style in ``assets_data/styles/<name>.yaml``.

    Raises:
        SettingsError: there is none of that name, or it is not one; the text names the file and the fault.
    """
    if not _NAME.fullmatch(name) or not (FOLDER / f"{name}.yaml").is_file():
        raise SettingsError(f"style {name!r}: choose from {', '.join(style_names())}")
    return parse_style(FOLDER / f"{name}.yaml")


def parse_style(path: Path) -> Style:
    """The style in a file.

    Raises:
        SettingsError: it is not one; the text names the file and the fault.
    """
    try:
        values = yaml.safe_load(path.read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path.name}: not YAML: {error}") from error
    if not isinstance(values, dict):
        raise SettingsError(f"{path.name}: not a style; provider, model and options are wanted")
    try:
        return style_of(path.stem, values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(p) for p in first["loc"])
        raise SettingsError(
            f"{path.name}: {place}: {first['msg']} (it is {first['input']!r})"
        ) from error


def style_of(name: str, values: Mapping[str, Any]) -> Style:
    """The style with this content.

    Raises:
        pydantic.ValidationError: it is none.
    """
    kind = OPTIONS.get(str(values.get("provider")))
    options = values.get("options") or {}
    if kind is not None:  # by provider, so that faults are told of the right options
        options = kind.model_validate(options)
    return Style(**{**values, "name": name, "options": options})


def read_styles(names: tuple[str, ...]) -> list[Style]:
    """Styles by name, in that order.

    Raises:
        SettingsError: see ``read_style``; or two are the same.
    """
    styles = [read_style(name) for name in names]
    first: dict[str, str] = {}
    for style in styles:
        other = first.setdefault(style.fingerprint, style.name)
        if len([s for s in styles if s.name == style.name]) > 1 or other != style.name:
            raise SettingsError(
                f"styles {other} and {style.name} are the same; take one, and say in it how many (count)"
            )
    return styles
