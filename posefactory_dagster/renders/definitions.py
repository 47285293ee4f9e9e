"""What the room `renders` brings to the house."""

import dagster as dg

from posefactory_dagster.renders.assets import multi_angle_renders, wanted_settings
from posefactory_dagster.renders.documents import ASSET
from posefactory_dagster.renders.render_sets import RenderPlanner
from posefactory_dagster.settings import project_settings

defs = dg.Definitions(assets=[multi_angle_renders])
PLANNERS = {
    ASSET: lambda sets, overrides: RenderPlanner(
        wanted_settings(project_settings().render, dict(overrides.get(ASSET, {})))
    )
}
