"""The identity of a render set."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from blender_scripts.contract import PLAIN_LOOK, TRUTH_VERSION, RenderSettings
from posefactory_dagster.characters.documents import ASSET as CHARACTER
from posefactory_dagster.characters.documents import facts_of
from posefactory_dagster.compute.job import rig_map
from posefactory_dagster.pipeline.plans import Inputs, NotPlanned, required
from posefactory_dagster.renders.documents import ASSET
from posefactory_dagster.storage.sets import CommittedSet, SetRef, identity_of


def identity(
    character: CommittedSet, settings: RenderSettings, looks: Mapping[str, Mapping[str, Any]]
) -> str:
    """What a render set is made from: the character's files, the resolved settings and its own looks.

    Args:
        looks: the documents of all looks that the settings name.
    """
    values = _values(settings)
    mine = settings.looks_of(character.ref.partition)
    if mine != (PLAIN_LOOK,):
        # A look that another character is drawn for does not make this one's set stale.
        values["looks"] = [[name, looks.get(name, {})] for name in mine]
    return identity_of(
        ASSET,
        {"character": character.ref.identity, "rig_map": rig_map(), **_naming(character)},
        {"truth_version": TRUTH_VERSION, **values},
    )


def _values(settings: RenderSettings) -> dict[str, Any]:
    """The settings of an identity; one that came later is named only where it is used, so that older sets stay the same."""
    values = dataclasses.asdict(settings)
    if settings.frames == "even":
        del values["frames"]
    for name in ("looks", "looks_per_character"):
        del values[name]
    if settings.extra_folders:
        values["extra_truth"] = sorted(settings.extra_folders)
    else:
        del values["extra_truth"]
    return values


def _naming(character: CommittedSet) -> dict[str, Any]:
    """By which bones a rig was read, where their names are not Mixamo's."""
    bones = facts_of(character).rig_bones
    return {"rig_bones": bones} if bones else {}


@dataclass(frozen=True)
class RenderPlanner:
    """Plans `multi_angle_renders`: an inspected skin, and resolved render settings."""

    settings: RenderSettings
    looks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    asset: str = ASSET

    def __call__(self, key: str, inputs: Inputs) -> SetRef | None:
        source = required(key, inputs, CHARACTER, "inspected")
        if facts_of(source).is_motion:  # a set of the time when motions were characters
            raise NotPlanned(
                f"{key}: a motion without a skin cannot be rendered; posefactory cast SKIN --motion {key}"
            )
        return SetRef(ASSET, key, identity(source, self.settings, self.looks))
