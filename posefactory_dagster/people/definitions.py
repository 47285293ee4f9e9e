"""Definitions of the room `people`."""

import dagster as dg

from posefactory_dagster.characters.documents import PARTITIONS as CHARACTERS
from posefactory_dagster.motions.documents import CAST
from posefactory_dagster.people.assets import person
from posefactory_dagster.people.documents import ASSET
from posefactory_dagster.people.planning import PersonPlanner, people_among
from posefactory_dagster.pipeline.jobs import asset_job

defs = dg.Definitions(assets=[person], jobs=[asset_job(ASSET)])
PLANNERS = {ASSET: lambda sets, overrides: PersonPlanner(sets)}
PREPARATIONS = {CHARACTERS: people_among, CAST: people_among}
