"""What an image costs with each provider: the contract of the original system, over one YAML file of prices."""

from __future__ import annotations

import datetime
import functools
import math
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, NonNegativeFloat, PositiveFloat, PositiveInt

from posefactory_dagster.settings import ASSETS_DATA, project_settings

DEFAULT_STEPS = 30
#: Counts and steps beyond this are a slip of the keyboard.
MOST = 1_000_000


class PriceError(ValueError):
    """No price is known for a request; the text lists the allowed values."""


class _Priced(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    source: str = ""
    date: datetime.date | None = None


class ModelPrice(_Priced):
    """One model or endpoint. ``legacy`` ones are priced by resolution and steps too, as the original did."""

    per_image: NonNegativeFloat = 0.0
    endpoint: str = ""
    legacy: bool = False
    multiplier: PositiveFloat = 1.0
    per_step_over_30: NonNegativeFloat = 0.0
    seconds_per_image: PositiveFloat | None = None
    steps: PositiveInt | None = None


class Provider(_Priced):
    """Who makes images: an API with a price an image, or a machine with a price an hour."""

    name: str
    kind: Literal["local", "api"]
    free: bool = False
    per_hour: NonNegativeFloat = 0.0
    models: dict[str, ModelPrice]


class Rented(_Priced):
    """Machines by the hour: US dollars by the names of their GPUs."""

    name: str
    per_hour: dict[str, PositiveFloat]


class PriceTable(BaseModel):
    """The content of ``assets_data/prices.yaml``."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    providers: dict[str, Provider]
    resolutions: dict[str, PositiveFloat]
    rented: dict[Literal["pod", "serverless"], Rented]


@functools.cache
def price_table() -> PriceTable:
    """The price table that ships with the project."""
    return PriceTable.model_validate(
        yaml.safe_load((ASSETS_DATA / "prices.yaml").read_text("utf-8"))
    )


def list_providers() -> list[str]:
    """The providers' names, as other functions take them."""
    return sorted(price_table().providers)


def rented_prices(kind: Literal["pod", "serverless"], gpu: str = "") -> dict[str, float]:
    """US dollars an hour of the machines whose GPU's name holds ``gpu``; all without one.

    Raises:
        PriceError: there is none.
    """
    prices = price_table().rented[kind].per_hour
    wanted = gpu.casefold().removeprefix("nvidia ").removeprefix("geforce ").strip()
    found = {name: usd for name, usd in prices.items() if wanted in name.casefold()}
    if not found:
        raise PriceError(f"GPU {gpu!r}: choose one of {'; '.join(prices)}")
    return found


def get_provider_info(provider: str) -> dict[str, Any]:
    """The prices of a provider.

    Raises:
        PriceError: there is no such provider.
    """
    return _provider(provider).model_dump(mode="json")


def hourly_providers() -> set[str]:
    """Providers that are billed by the hour."""
    found = price_table().providers.items()
    return {name for name, provider in found if provider.kind == "local" and not provider.free}


def is_free(provider: str) -> bool:
    """Whether a provider costs nothing.

    Raises:
        PriceError: there is no such provider.
    """
    return _provider(provider).free


def get_models(provider: str = "stability") -> list[str]:
    """The models of a provider.

    Raises:
        PriceError: there is no such provider.
    """
    return sorted(_provider(provider).models)


def get_resolutions() -> dict[str, float]:
    """The resolutions that legacy models are priced by, with their multipliers."""
    return dict(price_table().resolutions)


def estimate_cost(
    provider: str,
    resolution: str = "512x512",
    steps: int = DEFAULT_STEPS,
    model: str = "sd_1_5",
    count: int = 1,
    per_hour: float | None = None,
) -> dict[str, Any]:
    """Estimate the cost of ``count`` images in US dollars.

    Args:
        per_hour: what a machine really costs; None takes the table's price.

    Returns:
        ``total``, ``per_image``, ``count``, ``provider``, ``provider_name``, and ``breakdown`` with ``type``,
        ``base_cost``, ``resolution``, ``resolution_multiplier``, ``model``, ``model_multiplier``, ``steps``, ``steps_cost``.

    Raises:
        PriceError: a name is unknown, or a number is none to count with.
    """
    found = _provider(provider)
    price = found.models.get(model)
    if price is None:
        raise PriceError(f"model {model!r}: {provider} has {', '.join(sorted(found.models))}")
    sizes = price_table().resolutions
    if price.legacy and resolution not in sizes:
        raise PriceError(f"resolution {resolution!r}: choose one of {', '.join(sizes)}")
    _count("count", count)
    _count("steps", steps)
    if per_hour is not None and not (math.isfinite(per_hour) and per_hour >= 0):
        raise PriceError(f"per_hour is {per_hour!r}: give US dollars")
    size_factor = sizes.get(resolution, 1.0) if price.legacy else 1.0
    steps_cost = 0.0
    if found.kind == "local":
        hourly = found.per_hour if per_hour is None else per_hour
        seconds = price.seconds_per_image or 0.0
        base = hourly / 3600 * seconds * (steps / price.steps if price.steps else 1.0)
    else:
        base = price.per_image
        if price.legacy:
            steps_cost = max(steps - DEFAULT_STEPS, 0) * price.per_step_over_30
    each = base * size_factor * price.multiplier + steps_cost
    return {
        "total": each * count,
        "per_image": each,
        "count": count,
        "provider": provider,
        "provider_name": found.name,
        "breakdown": {
            "type": found.kind,
            "base_cost": base,
            "resolution": resolution,
            "resolution_multiplier": size_factor,
            "model": model,
            "model_multiplier": price.multiplier,
            "steps": steps,
            "steps_cost": steps_cost,
        },
    }


def validate_cost(total: float, max_cost: float | None = None) -> tuple[bool, str]:
    """Whether a sum may be spent on one job, and in words why not or what to heed; limits are the project's."""
    limits = project_settings().variants
    most = limits.max_cost_per_job if max_cost is None else max_cost
    if not math.isfinite(total) or total < 0:
        return False, f"{total} is no sum of money"
    if total > most:
        return False, f"${total:.2f} is over the limit of ${most:.2f} a job"
    if total >= limits.warn_cost:
        return True, f"${total:.2f} is much: a warning is given from ${limits.warn_cost:.2f} on"
    return True, f"${total:.2f} is within the limit of ${most:.2f} a job"


def _provider(name: str) -> Provider:
    found = price_table().providers.get(name)
    if found is None:
        raise PriceError(f"provider {name!r}: choose one of {', '.join(list_providers())}")
    return found


def _count(name: str, value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST:
        raise PriceError(f"{name} is {value!r}: give a whole number from 1 to {MOST}")
