"""The sensor that takes up what people decided on variants."""

import dagster as dg

from posefactory_dagster.datasets.documents import ASSET as DATASET
from posefactory_dagster.pipeline.jobs import factory_job
from posefactory_dagster.review.approval import ApprovalError, read_decisions, settle
from posefactory_dagster.storage import layout
from posefactory_dagster.storage.io_manager import StoreResource
from posefactory_dagster.storage.sets import text_digest
from posefactory_dagster.variants.documents import Variant
from posefactory_dagster.variants.variant_sets import index


@dg.sensor(
    job=factory_job,
    minimum_interval_seconds=10,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="People's decisions on variants become locks, and a new version of the dataset.",
)
def review_sensor(context: dg.SensorEvaluationContext, store: StoreResource) -> dg.SensorResult:
    """Take up new and changed files under `decisions/`."""
    sets = store.sets()
    seen = text_digest(
        "\n".join(
            sorted(f"{i.key} {i.size} {i.modified}" for i in sets.store.list(layout.DECISIONS))
        )
    )
    if seen == (context.cursor or text_digest("")):
        return dg.SensorResult(skip_reason="no new decision", cursor=seen)
    decisions = read_decisions(sets.store)
    faults = list(decisions.errors.values())
    characters = sorted({d.subject for d in decisions.all(Variant.kind)})
    try:
        variants = index(sets, characters) if characters else {}
        faults += [fault for _, fault in settle(sets.store, decisions.all(Variant.kind), variants)]
    except ApprovalError as error:
        faults.append(str(error))
    for fault in faults:
        context.log.error(fault)
    if not characters:
        return dg.SensorResult(skip_reason="; ".join(faults), cursor=seen)
    request = dg.RunRequest(run_key=f"decisions-{seen}", asset_selection=[dg.AssetKey(DATASET)])
    return dg.SensorResult(run_requests=[request], cursor=seen)
