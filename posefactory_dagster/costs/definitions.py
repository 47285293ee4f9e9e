"""What the room `costs` brings to the house."""

import dagster as dg

from posefactory_dagster.costs.assets import gpu_prices, spending

defs = dg.Definitions(assets=[gpu_prices, spending])
