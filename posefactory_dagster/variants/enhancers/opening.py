"""Which enhancer a style means."""

from __future__ import annotations

from typing import TYPE_CHECKING

from posefactory_dagster.settings import environment
from posefactory_dagster.variants.documents import Style
from posefactory_dagster.variants.enhancers.base import CannotEnhance, Enhancer

if TYPE_CHECKING:
    from posefactory_dagster.variants.enhancers.diffusion import Maker


def open_enhancer(style: Style, rented: Maker | None = None) -> Enhancer:
    """The enhancer of a style; close it after use. Imports only what that one needs.

    Args:
        rented: the pods that `diffusers` uses with POSEFACTORY_ENHANCE_ON=pod; without, nothing can be made there.

    Raises:
        CannotEnhance: a key or a package is missing.
    """
    if style.provider == "relight":
        from posefactory_dagster.variants.enhancers.relight import Relight

        return Relight(style)
    if style.provider == "diffusers":
        from posefactory_dagster.diffusion.engine import CannotGenerate
        from posefactory_dagster.variants.enhancers.diffusion import Diffusion, Here, NotRented

        try:
            if environment().enhance_on == "pod":
                return Diffusion(style, rented or NotRented())
            return Diffusion(style, Here())
        except CannotGenerate as error:
            raise CannotEnhance(str(error)) from error
    from posefactory_dagster.variants.enhancers.stability import Stability

    return Stability(style.provider, style.model)
