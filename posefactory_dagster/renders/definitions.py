"""What the room `renders` brings to the house."""

from typing import Any

import dagster as dg

from posefactory_dagster.renders import looks
from posefactory_dagster.renders.assets import multi_angle_renders, wanted_settings
from posefactory_dagster.renders.documents import ASSET
from posefactory_dagster.renders.render_sets import RenderPlanner
from posefactory_dagster.settings import project_settings

defs = dg.Definitions(assets=[multi_angle_renders])


def _planner(overrides: dict[str, Any]) -> RenderPlanner:
    settings = wanted_settings(project_settings().render, overrides)
    return RenderPlanner(settings, looks.documents(settings))


#: Looks that are not there, or malformed, are told before a run begins.
CHECKS = [lambda: looks.documents(project_settings().render)]
PLANNERS = {ASSET: lambda sets, overrides: _planner(dict(overrides.get(ASSET, {})))}
