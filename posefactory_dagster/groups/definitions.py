"""Definitions of the room `groups`."""

import dagster as dg

from posefactory_dagster.characters.documents import PARTITIONS as CHARACTERS
from posefactory_dagster.groups.assets import group
from posefactory_dagster.groups.documents import ASSET
from posefactory_dagster.groups.planning import GroupPlanner, groups_among, members_of
from posefactory_dagster.pipeline.jobs import asset_job

defs = dg.Definitions(assets=[group], jobs=[asset_job(ASSET)])
PLANNERS = {ASSET: lambda sets, overrides: GroupPlanner(sets)}
PREPARATIONS = {CHARACTERS: groups_among, ASSET: members_of}
