"""The whole graph, wired on one screen."""

import dagster as dg

from posefactory_dagster.assets import ASSETS
from posefactory_dagster.blender.pipes import BlenderResource
from posefactory_dagster.jobs import factory_job
from posefactory_dagster.sensors import carry_on_sensor, pod_janitor, review_sensor, upload_sensor
from posefactory_dagster.storage.io_manager import CommittedSetIOManager, StoreResource

# Set in the launchpad or here, the address holds for the assets and for the IO manager alike.
store = StoreResource.configure_at_launch()

defs = dg.Definitions(
    assets=ASSETS,
    jobs=[factory_job],
    sensors=[upload_sensor, carry_on_sensor, review_sensor, pod_janitor],
    resources={
        "store": store,
        "io_manager": CommittedSetIOManager(store=store),
        "blender": BlenderResource(),
    },
    # One process per run: a step costs seconds to start, and Blender is a process of its own anyway.
    executor=dg.in_process_executor,
)
