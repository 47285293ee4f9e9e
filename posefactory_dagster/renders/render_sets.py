"""The identity of a render set."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from blender_scripts.contract import TRUTH_VERSION, RenderSettings
from posefactory_dagster.characters.documents import ASSET as CHARACTER
from posefactory_dagster.characters.documents import facts_of
from posefactory_dagster.compute.job import rig_map
from posefactory_dagster.pipeline.plans import Inputs, NotPlanned, required
from posefactory_dagster.renders.documents import ASSET
from posefactory_dagster.storage.sets import CommittedSet, SetRef, identity_of


def identity(character: CommittedSet, settings: RenderSettings) -> str:
    """What a render set is made from: the character's files and the resolved settings."""
    return identity_of(
        ASSET,
        {"character": character.ref.identity, "rig_map": rig_map(), **_naming(character)},
        {"truth_version": TRUTH_VERSION, **_values(settings)},
    )


def _values(settings: RenderSettings) -> dict[str, Any]:
    """The settings of an identity; one that came later is named only where it is used, so that older sets stay the same."""
    values = dataclasses.asdict(settings)
    if settings.frames == "even":
        del values["frames"]
    return values


def _naming(character: CommittedSet) -> dict[str, Any]:
    """By which bones a rig was read, where their names are not Mixamo's."""
    bones = facts_of(character).rig_bones
    return {"rig_bones": bones} if bones else {}


@dataclass(frozen=True)
class RenderPlanner:
    """Plans `multi_angle_renders`: an inspected skin, and resolved render settings."""

    settings: RenderSettings
    asset: str = ASSET

    def __call__(self, key: str, inputs: Inputs) -> SetRef | None:
        source = required(key, inputs, CHARACTER, "inspected")
        if facts_of(source).is_motion:  # a set of the time when motions were characters
            raise NotPlanned(
                f"{key}: a motion without a skin cannot be rendered; posefactory cast SKIN --motion {key}"
            )
        return SetRef(ASSET, key, identity(source, self.settings))
