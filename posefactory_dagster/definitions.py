"""The whole graph, wired on one screen."""

import dagster as dg

from posefactory_dagster.blender.pipes import BlenderResource
from posefactory_dagster.characters.assets import character
from posefactory_dagster.costs.assets import gpu_prices, spending
from posefactory_dagster.datasets.assets import pose_dataset
from posefactory_dagster.jobs import factory_job
from posefactory_dagster.labels.assets import label_accuracy, pose_labels
from posefactory_dagster.renders.assets import multi_angle_renders
from posefactory_dagster.sensors import carry_on_sensor, pod_janitor, review_sensor, upload_sensor
from posefactory_dagster.storage.io_manager import CommittedSetIOManager, StoreResource
from posefactory_dagster.variants.assets import enhanced_variants

# Set in the launchpad or here, the address holds for the assets and for the IO manager alike.
store = StoreResource.configure_at_launch()

defs = dg.Definitions(
    assets=[
        character,
        multi_angle_renders,
        pose_labels,
        label_accuracy,
        enhanced_variants,
        pose_dataset,
        gpu_prices,
        spending,
    ],
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
