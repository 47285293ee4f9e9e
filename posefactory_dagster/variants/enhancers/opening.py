"""Which enhancer a style means."""

from __future__ import annotations

from typing import TYPE_CHECKING

from posefactory_dagster.variants.documents import Style
from posefactory_dagster.variants.enhancers.base import Enhancer

if TYPE_CHECKING:
    from posefactory_dagster.variants.enhancers.diffusion import DiffusionBackend


def open_enhancer(style: Style, rented: DiffusionBackend | None = None) -> Enhancer:
    """The enhancer of a style; close it after use. See ``providers.Provider.open``."""
    return style.made_by.open(style, rented)
