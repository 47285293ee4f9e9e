"""What the room `costs` brings to the house."""

import dagster as dg

from posefactory_dagster.costs.assets import ASSET, SPENDING, gpu_prices, spending

money_job = dg.define_asset_job(
    "money_job",
    selection=dg.AssetSelection.assets(ASSET, SPENDING),
    description="Prices as they are, and what was spent so far.",
)
#: Once a day, before people come; both are cheap, and without a key the prices stay.
daily = dg.ScheduleDefinition(
    name="money_daily",
    job=money_job,
    cron_schedule="30 5 * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Prices and spending are brought up to date every morning.",
)
defs = dg.Definitions(assets=[gpu_prices, spending], jobs=[money_job], schedules=[daily])
