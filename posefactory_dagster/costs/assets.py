"""The asset `gpu_prices`: RunPod's catalogue as a table and a chart."""

import json
from collections.abc import Iterator
from typing import Any

import dagster as dg

from posefactory_dagster.blender.runpod.account import open_api
from posefactory_dagster.blender.runpod.api import GpuType, RunPodError
from posefactory_dagster.costs.charts import draw_prices
from posefactory_dagster.pictures import thumbnail_markdown
from posefactory_dagster.settings import environment
from posefactory_dagster.storage import layout
from posefactory_dagster.storage.io_manager import StoreResource
from posefactory_dagster.storage.sets import SetRef, identity_of

ASSET = "gpu_prices"


@dg.asset(
    group_name="costs",
    kinds={"runpod"},
    description="RunPod's GPU types with list prices and present stock; nothing without RUNPOD_API_KEY.",
    output_required=False,
)
def gpu_prices(
    context: dg.AssetExecutionContext, store: StoreResource
) -> Iterator[dg.MaterializeResult[dict[str, SetRef]]]:
    """Read the catalogue; the same prices and stock are the same set.

    Without a key it makes nothing, so that a run of all assets works for those who rent nothing.
    """
    if environment().runpod_api_key is None:
        context.log.warning("RUNPOD_API_KEY is not set, so there are no prices to read")
        return
    try:
        gpus = sorted(open_api().gpu_types(), key=lambda g: (g.price.secure, g.id))
    except RunPodError as error:
        raise dg.Failure(description=str(error), allow_retries=False) from error
    rows = [g.model_dump() for g in gpus]
    sets = store.sets()
    ref = SetRef(ASSET, layout.UNPARTITIONED, identity_of(ASSET, {"catalogue": rows}, {}))
    committed = sets.find(ref)
    if committed is None:
        with sets.scratch() as scratch:
            (scratch / "gpu_prices.json").write_text(json.dumps(rows, indent=1), "utf-8")
            draw_prices(gpus, scratch / "gpu_prices.png")
            committed = sets.commit(
                ref, scratch, inputs={"sets": []}, settings={}, facts={"gpu_types": len(rows)}
            )
    metadata: dict[str, Any] = {
        "chart": dg.MetadataValue.md(thumbnail_markdown(committed.path("gpu_prices.png"), 320)),
        "prices": _table(gpus),
        "in_stock": sum(g.availability != "NONE" for g in gpus),
    }
    yield dg.MaterializeResult(value={layout.UNPARTITIONED: ref}, metadata=metadata)


def _table(gpus: list[GpuType]) -> dg.TableMetadataValue:
    return dg.MetadataValue.table(
        [
            dg.TableRecord(
                {
                    "gpu": g.id,
                    "memory_gb": g.memory,
                    "secure_usd_h": g.price.secure,
                    "community_usd_h": g.price.community,
                    "stock": g.availability,
                }
            )
            for g in gpus
        ]
    )
