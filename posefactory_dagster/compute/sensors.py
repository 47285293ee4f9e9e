"""The sensor that ends what killed runs left on rented machines."""

import dagster as dg

from posefactory_dagster.compute.runpod.api import RunPodError
from posefactory_dagster.compute.runs import end_orphans
from posefactory_dagster.pipeline.runs import runs_in_progress
from posefactory_dagster.settings import environment
from posefactory_dagster.storage.io_manager import StoreResource
from posefactory_dagster.storage.store import StoreError


@dg.sensor(
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Ends pods and endpoint jobs of this installation whose run is over, and no one else's.",
)
def pod_janitor(context: dg.SensorEvaluationContext, store: StoreResource) -> dg.SkipReason:
    """Look after what a killed orchestrator left running."""
    runs_in_progress(
        context.instance
    )  # marks those whose process is gone; others wait for what they asked for
    if environment().runpod_api_key is None:
        return dg.SkipReason("RUNPOD_API_KEY is not set, so nothing can be rented")
    done = []
    try:
        for text in end_orphans(context.instance, store.sets().store):
            context.log.warning(text)
            done.append(text)
    except (RunPodError, StoreError) as error:
        context.log.error(str(error))
        return dg.SkipReason(str(error))
    return dg.SkipReason("; ".join(done) or "nothing to end")
