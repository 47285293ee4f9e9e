"""Stable Diffusion held to the pose by ControlNets: on this machine's GPU, or on a pod."""

from __future__ import annotations

import importlib.metadata
from typing import Protocol

import cv2
from packaging.requirements import Requirement

from posefactory_dagster.budget.prices import estimate_cost
from posefactory_dagster.diffusion import engine
from posefactory_dagster.diffusion.engine import (
    Answer,
    CannotGenerate,
    Engine,
    Models,
    NotGenerated,
    Request,
)
from posefactory_dagster.settings import PROJECT_ROOT
from posefactory_dagster.variants.controls import CONTROLS
from posefactory_dagster.variants.documents import Parameters, Style
from posefactory_dagster.variants.enhancers.base import (
    CannotEnhance,
    Enhanced,
    EnhancerError,
    RenderView,
)
from posefactory_dagster.variants.providers import DiffusersOptions, DiffusersProvider


class DiffusionBackend(Protocol):
    """Where the models run. Safe to be used by ``parallel`` threads; all raise CannotGenerate if it cannot be used."""

    parallel: int
    #: Of diffusers.
    version: str

    def per_hour(self) -> float | None:
        """US dollars an hour of its GPU, where that is known."""

    def check(self, models: Models) -> None:
        """Whether it can be used with these models, as far as that shows before they are loaded."""

    def make(self, request: Request) -> Answer:
        """One image, or NotGenerated if it is only this one that cannot be made."""

    def close(self) -> None:
        """Let go of models and machines; who waits for an image gets none. May be called again."""


class Here:
    """This machine, which needs the extra.

    Raises:
        CannotGenerate: it is not installed.
    """

    parallel = 1

    def __init__(self) -> None:
        try:
            self.version = engine.version()
        except CannotGenerate as error:
            raise CannotGenerate(
                f"{error}; run .venv/bin/uv pip install -e '.[diffusers]', or take another style"
            ) from error
        self._engine = Engine(PROJECT_ROOT)
        self.make = self._engine.make

    def per_hour(self) -> None:
        return None

    def check(self, models: Models) -> None:
        engine.preflight(models, PROJECT_ROOT)

    def close(self) -> None:
        self._engine.close()


class NotRented:
    """Stands for a pod where none may be rented: only runs do that."""

    parallel = 1

    def __init__(self) -> None:
        self.version = pinned_version()

    def per_hour(self) -> None:
        return None

    def check(self, models: Models) -> None:
        raise CannotGenerate(
            "POSEFACTORY_ENHANCE_ON=pod, and only a run rents pods (posefactory run); to make it on this machine, "
            "unset it and install the extra"
        )

    def make(self, request: Request) -> Answer:
        self.check(request.models)
        raise AssertionError

    def close(self) -> None:
        """Nothing is open."""


def pinned_version() -> str:
    """The version of diffusers that this project's extra pins, as images of pods have it."""
    for line in importlib.metadata.requires("posefactory-dagster") or []:
        requirement = Requirement(line)
        if requirement.name == "diffusers":
            return next(iter(requirement.specifier)).version
    raise AssertionError("the extra `diffusers` pins its package")


class Diffusion:
    """Makes images with a backend; see the module."""

    #: It costs minutes of a GPU, so what is made is kept at once; and it may be made again where it was lost.
    paid = True
    repeatable = True
    moves_pose = True

    def __init__(self, style: Style, backend: DiffusionBackend) -> None:
        options = style.options
        assert isinstance(options, DiffusersOptions)
        self._style, self._options, self._backend = style, options, backend
        nets = {str(control): model for control, model in options.controlnets.items()}
        self._models = Models(options.base, nets, options.half_precision_files)
        self.parallel = backend.parallel
        self.name = {
            "provider": DiffusersProvider.name,
            "model": options.base,
            "version": backend.version,
        }

    def price(self) -> float:
        steps, model = self._style.steps, self._style.model
        hourly = self._backend.per_hour()
        return float(
            estimate_cost(DiffusersProvider.name, steps=steps, model=model, per_hour=hourly)[
                "per_image"
            ]
        )

    def check(self, size: tuple[int, int]) -> None:
        if int(self._style.steps * self._style.strength) < 1:
            raise CannotEnhance(
                f"{self._style.steps} steps at strength {self._style.strength} leave none to do; raise one of them"
            )
        try:
            self._backend.check(self._models)
        except CannotGenerate as error:
            raise CannotEnhance(str(error)) from error

    def close(self) -> None:
        self._backend.close()

    def enhance(self, render_view: RenderView, style: Style, parameters: Parameters) -> Enhanced:
        request = Request(
            models=self._models,
            image=render_view.png,
            controls={
                name: cv2.imencode(".png", CONTROLS[name](render_view)[..., ::-1])[1].tobytes()
                for name in self._options.controlnets
            },
            prompt=parameters.prompt,
            negative_prompt=parameters.negative_prompt,
            strength=parameters.strength,
            control=parameters.control,
            steps=style.steps,
            guidance=self._options.guidance,
            seed=parameters.seed,
            work_size=self._options.work_size,
        )
        try:
            answer = self._backend.make(request)
        except CannotGenerate as error:
            raise CannotEnhance(str(error)) from error
        except NotGenerated as error:
            raise EnhancerError(str(error)) from error
        said = {
            "device": answer.device,
            "work_size": list(answer.work_size),
            "seconds": round(answer.seconds, 3),
        }
        return Enhanced(answer.image, "png", parameters.seed, said, answer.filtered, answer.usd)
