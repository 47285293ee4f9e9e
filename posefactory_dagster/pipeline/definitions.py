"""The factory's job, and the sensor that carries good keys past bad ones."""

import dagster as dg

from posefactory_dagster.pipeline.jobs import factory_job
from posefactory_dagster.pipeline.sensors import carry_on_sensor

defs = dg.Definitions(jobs=[factory_job], sensors=[carry_on_sensor])
