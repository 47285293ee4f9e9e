"""Make a variant once more from its record: the same provider, the same parameters, the same seed."""

from __future__ import annotations

import secrets

from posefactory_dagster.budget.ledger import Budget, Entry
from posefactory_dagster.review.approval import now
from posefactory_dagster.storage.sets import CommittedSets, SetRef
from posefactory_dagster.variants.documents import Attempt, Style, Variant, style_of
from posefactory_dagster.variants.enhancers.base import (
    CannotEnhance,
    Enhanced,
    Enhancer,
    EnhancerError,
    OutcomeUnknown,
)
from posefactory_dagster.variants.render_views import RenderViews


def style_of_record(variant: Variant) -> Style:
    """The style with which the variant was made."""
    return style_of(variant.style_name, variant.style)


def kept_attempt(variant: Variant) -> Attempt:
    """The attempt whose image counts.

    Raises:
        CannotEnhance: there is none.
    """
    if not variant.kept:
        raise CannotEnhance(f"{variant.variant}: it has no image that could be made again")
    return variant.attempts[variant.kept - 1]


def remake(sets: CommittedSets, variant: Variant, enhancer: Enhancer, budget: Budget) -> Enhanced:
    """Ask its enhancer for the same image again. A paid one charges for it, and the ledger is told.

    Raises:
        CannotEnhance: its render is gone, or its enhancer cannot make it.
        EnhancerError: no image came.
        OverBudget: it may not be paid for.
    """
    renders = sets.find(SetRef(*variant.source.set))
    if renders is None:
        raise CannotEnhance(f"{variant.variant}: its render set {variant.source.set} is gone")
    render_views = RenderViews.of(renders)
    index = [i.file for i in render_views.truth.images].index(variant.source.file)
    style = style_of_record(variant)
    attempt = kept_attempt(variant)
    parameters = attempt.parameters.model_copy(update={"seed": attempt.seed})
    enhancer.check(render_views.truth.size_of(index))
    if not enhancer.paid:
        return enhancer.enhance(render_views.read(index), style, parameters)
    price, name = enhancer.price(), f"remake-{variant.variant}-{secrets.token_hex(4)}"
    entry = Entry(
        at=now(), provider=style.provider, model=style.model, style=style.name,
        character=variant.character, what=name, cost_usd=price, estimate_usd=price,
    )  # fmt: skip
    budget.set_aside(price)
    try:
        made = enhancer.enhance(render_views.read(index), style, parameters)
    except OutcomeUnknown:
        budget.paid(name, entry.model_copy(update={"outcome": "unknown"}), price)
        raise
    except EnhancerError:
        budget.give_back(price)
        raise
    outcome = "filtered" if made.filtered else "done"
    budget.paid(name, entry.model_copy(update={"outcome": outcome}), price)
    return made
