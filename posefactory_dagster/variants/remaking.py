"""Make a variant once more from its record: the same provider, the same parameters, the same seed."""

from __future__ import annotations

import contextlib

from posefactory_dagster.quality.records import Attempt, Variant
from posefactory_dagster.storage.sets import CommittedSets, SetRef
from posefactory_dagster.variants.enhancers.base import CannotEnhance, Enhanced
from posefactory_dagster.variants.enhancers.opening import open_enhancer
from posefactory_dagster.variants.shots import Shots
from posefactory_dagster.variants.styles import Style, style_of


def style_of_record(variant: Variant) -> Style:
    """The style as it was when the variant was made."""
    return style_of(variant.style_name, variant.style)


def kept_attempt(variant: Variant) -> Attempt:
    """The attempt whose image counts.

    Raises:
        CannotEnhance: there is none.
    """
    if not variant.kept:
        raise CannotEnhance(f"{variant.variant}: it has no image that could be made again")
    return variant.attempts[variant.kept - 1]


def remake(sets: CommittedSets, variant: Variant) -> Enhanced:
    """Ask its enhancer for the same image again. A paid one charges for it.

    Raises:
        CannotEnhance: its render is gone, or its enhancer is not at hand.
        EnhancerError: no image came.
    """
    renders = sets.find(SetRef(*variant.source.set))
    if renders is None:
        raise CannotEnhance(f"{variant.variant}: its render set {variant.source.set} is gone")
    shots = Shots.of(renders)
    index = [i["file"] for i in shots.truth.images].index(variant.source.file)
    style = style_of_record(variant)
    attempt = kept_attempt(variant)
    parameters = attempt.parameters.model_copy(update={"seed": attempt.seed})
    with contextlib.closing(open_enhancer(style)) as enhancer:
        enhancer.check(shots.size)
        return enhancer.enhance(shots.read(index), style, parameters)
