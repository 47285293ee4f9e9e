"""What the room `variants` brings to the house."""

import dagster as dg

from blender_scripts.contract import SettingsError
from posefactory_dagster.compute.resources import SERVICE_USERS
from posefactory_dagster.quality import model
from posefactory_dagster.settings import project_settings
from posefactory_dagster.storage.sets import file_sha256
from posefactory_dagster.variants.assets import enhanced_variants, variant_planner
from posefactory_dagster.variants.documents import ASSET, read_styles
from posefactory_dagster.variants.sensors import review_sensor

defs = dg.Definitions(assets=[enhanced_variants], sensors=[review_sensor])
PLANNERS = {ASSET: lambda sets, overrides: variant_planner(file_sha256(model.model_path()))}
CHECKS = [lambda: read_styles(project_settings().variants.styles)]


def _asks_pods() -> bool:
    """Whether images of the project's styles are made on pods."""
    try:
        return any(
            s.made_by.runs_on_pods() for s in read_styles(project_settings().variants.styles)
        )
    except SettingsError:
        return False  # told by the asset that needs them


SERVICE_USERS[ASSET] = _asks_pods
