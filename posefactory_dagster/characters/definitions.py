"""Definitions of the room `characters`."""

import dagster as dg

from posefactory_dagster.characters.assets import character
from posefactory_dagster.characters.documents import ASSET
from posefactory_dagster.characters.planning import CharacterPlanner
from posefactory_dagster.characters.sensors import upload_sensor

defs = dg.Definitions(assets=[character], sensors=[upload_sensor])
PLANNERS = {ASSET: lambda sets, overrides: CharacterPlanner(sets)}
