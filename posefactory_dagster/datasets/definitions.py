"""What the room `datasets` brings to the house."""

import dagster as dg

from posefactory_dagster.datasets.assets import pose_dataset

defs = dg.Definitions(assets=[pose_dataset])
