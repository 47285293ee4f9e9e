"""Which enhancer a style means."""

from __future__ import annotations

from posefactory_dagster.variants.enhancers.base import Enhancer
from posefactory_dagster.variants.styles import Style


def open_enhancer(style: Style) -> Enhancer:
    """The enhancer of a style; close it after use. Imports only what that one needs.

    Raises:
        CannotEnhance: a key or a package is missing.
    """
    if style.provider == "relight":
        from posefactory_dagster.variants.enhancers.relight import Relight

        return Relight(style)
    if style.provider == "diffusers":
        from posefactory_dagster.variants.enhancers.diffusion import Diffusion

        return Diffusion(style)
    from posefactory_dagster.variants.enhancers.stability import Stability

    return Stability(style.provider, style.model)
