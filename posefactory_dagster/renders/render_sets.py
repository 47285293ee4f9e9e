"""The identity of a render set."""

from __future__ import annotations

import dataclasses

from blender_scripts.contract import TRUTH_VERSION, RenderSettings
from posefactory_dagster.blender.job import rig_map
from posefactory_dagster.storage.sets import CommittedSet, identity_of

ASSET = "multi_angle_renders"


def identity(character: CommittedSet, settings: RenderSettings) -> str:
    """What a render set is made from: the character's files and the resolved settings."""
    return identity_of(
        ASSET,
        {"character": character.ref.identity, "rig_map": rig_map()},
        {"truth_version": TRUTH_VERSION, **dataclasses.asdict(settings)},
    )


def motion_text(key: str) -> str:
    """What to say when somebody wants a motion rendered."""
    return (
        f"{key}: a motion without a skin cannot be rendered; cast it on a character: "
        f"posefactory cast SKIN --motion {key}"
    )
