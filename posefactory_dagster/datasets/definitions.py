"""What the room `datasets` brings to the house."""

import dagster as dg

from posefactory_dagster.datasets.assets import pose_dataset, variety
from posefactory_dagster.datasets.documents import VARIETY
from posefactory_dagster.pipeline.jobs import asset_job

defs = dg.Definitions(assets=[pose_dataset, variety], jobs=[asset_job(VARIETY)])
