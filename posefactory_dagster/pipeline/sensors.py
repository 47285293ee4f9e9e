"""The sensor that carries the good keys of a run past the bad ones."""

from collections.abc import Iterator

import dagster as dg

from posefactory_dagster.pipeline.jobs import (
    CARRIED_BY_STARTER,
    contiguous,
    factory_job,
    follow_up,
    range_tags,
)


@dg.run_failure_sensor(
    monitored_jobs=None,
    request_job=factory_job,
    minimum_interval_seconds=10,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="When some keys of a run failed, the good ones go on in a run of their own.",
)
def carry_on_sensor(
    context: dg.RunFailureSensorContext,
) -> Iterator[dg.RunRequest | dg.SkipReason]:
    """Ask for what is left of a failed run."""
    run = context.dagster_run
    if run.tags.get(CARRIED_BY_STARTER):
        yield dg.SkipReason("its starter carries the good keys on")
        return
    assert context.repository_def is not None, "the daemon and tests give it"
    left = follow_up(context.repository_def.asset_graph, context.instance, run)
    if left is None:
        yield dg.SkipReason("no key of that run can go on")
        return
    if not left.keys:
        assets = [dg.AssetKey(a) for a in left.assets]
        yield dg.RunRequest(run_key=f"after-{run.run_id}", asset_selection=assets)
    registered = context.instance.get_dynamic_partitions(left.partition_set)
    for group in contiguous(left.keys, registered):
        yield dg.RunRequest(
            run_key=f"after-{run.run_id}-{group[0]}",
            asset_selection=[dg.AssetKey(a) for a in left.assets],
            tags=range_tags(group),
        )
