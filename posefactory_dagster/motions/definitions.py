"""Definitions of the room `motions`."""

import dagster as dg

from posefactory_dagster.characters.documents import PARTITIONS as CHARACTERS
from posefactory_dagster.compute.job import namings
from posefactory_dagster.motions.assets import cast, motion
from posefactory_dagster.motions.documents import CAST, MOTION
from posefactory_dagster.motions.planning import (
    CastPlanner,
    MotionPlanner,
    motions_of,
    preparations,
)
from posefactory_dagster.motions.sensors import cast_sensor
from posefactory_dagster.pipeline.jobs import asset_job

defs = dg.Definitions(
    assets=[motion, cast], jobs=[asset_job(MOTION), asset_job(CAST)], sensors=[cast_sensor]
)
PLANNERS = {
    MOTION: lambda sets, overrides: MotionPlanner(sets),
    CAST: lambda sets, overrides: CastPlanner(sets),
}
#: A rig map of the user's that is none is told before a run begins.
CHECKS = [namings]
PREPARATIONS = {CHARACTERS: preparations, CAST: motions_of}
HINTS = {
    MOTION: "{key}: a motion without a skin cannot be rendered; cast it on a character: posefactory cast SKIN --motion {key}",
    CAST: "{key}: the character that this cast makes is not registered; posefactory cast makes both",
}
