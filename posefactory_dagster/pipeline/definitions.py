"""The factory's job, its settings, and the sensor that carries good keys past bad ones."""

import dagster as dg

from posefactory_dagster.pipeline.jobs import factory_job
from posefactory_dagster.pipeline.resources import ProjectResource
from posefactory_dagster.pipeline.sensors import carry_on_sensor

project = ProjectResource.configure_at_launch()
defs = dg.Definitions(
    jobs=[factory_job],
    sensors=[carry_on_sensor],
    resources={"project": project},
)
