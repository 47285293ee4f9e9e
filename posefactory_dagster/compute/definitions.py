"""Where work runs, and the sensor that ends what killed runs left on rented machines."""

import dagster as dg

from posefactory_dagster.compute.pipes import BlenderResource
from posefactory_dagster.compute.resources import RentedPods
from posefactory_dagster.compute.runs import end_leftovers
from posefactory_dagster.compute.sensors import pod_janitor
from posefactory_dagster.pipeline.definitions import project
from posefactory_dagster.storage.definitions import store

defs = dg.Definitions(
    sensors=[pod_janitor],
    resources={"blender": BlenderResource(), "pods": RentedPods(store=store, project=project)},
)
BEFORE_RUNS = [end_leftovers]
