"""The registry of providers: one class each, with its style options, where it runs, and how it is opened."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from posefactory_dagster.settings import environment

if TYPE_CHECKING:
    from posefactory_dagster.variants.documents import Style
    from posefactory_dagster.variants.enhancers.base import Enhancer
    from posefactory_dagster.variants.enhancers.diffusion import DiffusionBackend

Fraction = Annotated[float, Field(ge=0, le=1)]
Range = tuple[float, float]


class Options(BaseModel):
    """What a provider's styles may say beside prompts, strength and seed."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Provider(abc.ABC):
    """A provider; subclasses register themselves by their name, which stands in styles, prices and the ledger.

    ``needs_gpu``: it takes time on a GPU, on this machine's or on a pod's with POSEFACTORY_ENHANCE_ON=pod.
    """

    name: ClassVar[str]
    options: ClassVar[type[Options]]
    needs_gpu: ClassVar[bool] = False

    @classmethod
    @abc.abstractmethod
    def open(cls, style: Style, rented: DiffusionBackend | None) -> Enhancer:
        """The enhancer of a style; imports only what that one needs.

        Args:
            rented: a service on pods; None where none may be rented.

        Raises:
            CannotEnhance: a key or a package is missing.
        """

    @classmethod
    def runs_on_pods(cls) -> bool:
        """Whether it is asked of pods with the present environment."""
        return cls.needs_gpu and environment().enhance_on == "pod"


class RelightOptions(Options):
    """How far `relight` goes at strength 1; ranges are drawn from by the seed.

    ``backgrounds``: kinds that ship (room, street, map), or a folder of photos by its path from the project.
    ``exposure`` in stops; ``grain`` and ``white_balance`` as parts of full scale; blurs in pixels of a 512-pixel
    image; ``jpeg_quality`` 1 to 95.
    """

    backgrounds: tuple[str, ...] = ("room", "street", "map")
    relight: Fraction = 1.0
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


class RelightProvider(Provider):
    """Compositing on this machine; costs nothing."""

    name = "relight"
    options = RelightOptions

    @classmethod
    def open(cls, style: Style, rented: DiffusionBackend | None) -> Enhancer:
        """See ``enhancers.relight``."""
        from posefactory_dagster.variants.enhancers.relight import Relight

        return Relight(style)


class DiffusersOptions(Options):
    """Where the models of `diffusers` are, and how they are run. Folders, or hub ids (then they are downloaded).

    ``controlnets`` maps a control (openpose, depth, edges) to a model; ``guidance`` is the classifier-free one;
    ``work_size`` the longer side that the model works at, in pixels.
    """

    base: str
    controlnets: dict[Literal["openpose", "depth", "edges"], str]
    guidance: Annotated[float, Field(ge=0, le=50)] = 6.0
    work_size: Annotated[int, Field(ge=64, le=2048, multiple_of=8)] = 1024
    half_precision_files: bool = False


class DiffusersProvider(Provider):
    """Stable Diffusion with ControlNets on a GPU."""

    name = "diffusers"
    options = DiffusersOptions
    needs_gpu = True

    @classmethod
    def open(cls, style: Style, rented: DiffusionBackend | None) -> Enhancer:
        """See ``enhancers.diffusion``."""
        from posefactory_dagster.diffusion.engine import CannotGenerate
        from posefactory_dagster.variants.enhancers.base import CannotEnhance
        from posefactory_dagster.variants.enhancers.diffusion import Diffusion, Here, NotRented

        try:
            if cls.runs_on_pods():
                return Diffusion(style, rented or NotRented())
            return Diffusion(style, Here())
        except CannotGenerate as error:
            raise CannotEnhance(str(error)) from error


class StabilityOptions(Options):
    """What Stability's endpoints take beside prompts, strength and seed."""

    style_preset: str | None = None
    cfg_scale: Annotated[float, Field(ge=0, le=35)] = 7.0


class StabilityProvider(Provider):
    """Stability AI's API; each image costs money."""

    name = "stability"
    options = StabilityOptions

    @classmethod
    def open(cls, style: Style, rented: DiffusionBackend | None) -> Enhancer:
        """See ``enhancers.stability``."""
        from posefactory_dagster.variants.enhancers.stability import Stability

        return Stability(style.provider, style.model)


class DreamStudioProvider(StabilityProvider):
    """The same API with a key of its own, as in the original system."""

    name = "dreamstudio"


PROVIDERS: dict[str, type[Provider]] = {
    provider.name: provider
    for provider in (RelightProvider, StabilityProvider, DreamStudioProvider, DiffusersProvider)
}
