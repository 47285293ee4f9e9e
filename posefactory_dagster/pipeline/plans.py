"""Plans: which committed set an asset would make for a key now. The asset itself and `run --stale` use the same planner.

A planner knows the present settings. Given a key and the committed sets that its asset reads, it says which set that
asset would make: the reference holds the digest of all inputs and settings. If readers get another set, the key is stale.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from posefactory_dagster.storage.sets import CommittedSet, CommittedSets, SetRef
from posefactory_dagster.storage.store import DamagedObject

#: Committed sets of one key, by the name of the asset that made them.
Inputs = Mapping[str, CommittedSet]


class NotPlanned(ValueError):
    """An asset can make nothing for a key now; the text names the key, the reason and the next step."""


#: Makes a planner with the present settings. Arguments: the sets, and by asset the settings that differ in this run.
PlannerFactory = Callable[[CommittedSets, Mapping[str, Mapping[str, Any]]], "Planner"]


class Planner(Protocol):
    """The protocol of a planner: it names the set that an asset would make."""

    @property
    def asset(self) -> str:
        """The asset's name."""

    def __call__(self, key: str, inputs: Inputs) -> SetRef | None:
        """The set that would be made for ``key``; None if the key ends before this asset.

        Raises:
            NotPlanned: an input is missing, or does not fit.
        """


def required(key: str, inputs: Inputs, asset: str, state: str) -> CommittedSet:
    """Return a required input of a plan.

    Args:
        asset: the asset that makes it.
        state: what the key is not without it, such as "rendered".

    Raises:
        NotPlanned: it is missing.
    """
    found = inputs.get(asset)
    if found is None:
        raise NotPlanned(f"{key}: not {state} yet; materialize `{asset}` for it first")
    return found


def stale(sets: CommittedSets, keys: Iterable[str], planners: Sequence[Planner]) -> list[str]:
    """Keys for which some asset would make another set than readers get now.

    Args:
        planners: each after those of the assets that it reads.
    """
    return [key for key in keys if not _fresh(sets, key, planners)]


def _fresh(sets: CommittedSets, key: str, planners: Sequence[Planner]) -> bool:
    current: dict[str, CommittedSet] = {}
    for planner in planners:
        try:
            planned = planner(key, current)
        except (NotPlanned, DamagedObject):
            return False
        if planned is None:
            return True
        found = sets.readable(planner.asset, key)
        if found is None or found.ref != planned:
            return False
        current[planner.asset] = found
    return True


def failures_by_key(standing: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Why keys failed, the first reason of each.

    Args:
        standing: reasons by asset, then by key.
    """
    told: dict[str, str] = {}
    for reasons in standing.values():
        for key, why in reasons.items():
            told.setdefault(key, why)
    return told
