"""The assets `gpu_prices` and `spending`: what machines cost, and what was paid."""

import json
from typing import Any

import dagster as dg
import pandas as pd

from posefactory_dagster.budget import ledger
from posefactory_dagster.budget.prices import price_table
from posefactory_dagster.compute.runpod.account import open_api
from posefactory_dagster.compute.runpod.api import GpuType, RunPodError
from posefactory_dagster.costs.charts import draw_prices, draw_spending
from posefactory_dagster.pictures import thumbnail_markdown
from posefactory_dagster.pipeline.partitions import published
from posefactory_dagster.settings import environment
from posefactory_dagster.storage import layout
from posefactory_dagster.storage.io_manager import StoreResource
from posefactory_dagster.storage.sets import CommittedSets, SetRef, identity_of

ASSET = "gpu_prices"


@dg.asset(
    group_name="money",
    kinds={"runpod"},
    description="RunPod's GPU types with list prices and present stock; without RUNPOD_API_KEY the prices that ship.",
)
def gpu_prices(
    context: dg.AssetExecutionContext, store: StoreResource
) -> dg.MaterializeResult[dict[str, SetRef]]:
    """Read the catalogue; the same prices and stock are the same set.

    Without a key, what was read last stays; at first the prices that ship, so that a run of all assets works for everybody.
    """
    sets = store.sets()
    if environment().runpod_api_key is None:
        return published(sets, _without_key(sets), _shipped())
    try:
        gpus = sorted(_catalogue(), key=lambda g: (g.price.secure, g.id))
    except RunPodError as error:
        raise dg.Failure(description=str(error), allow_retries=False) from error
    rows = [g.model_dump() for g in gpus]
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
    return published(sets, ref, metadata)


def _without_key(sets: CommittedSets) -> SetRef:
    """What was read with a key before; else the prices that ship, in the same form."""
    current = sets.readable(ASSET, layout.UNPARTITIONED)
    if current is not None:
        return current.ref
    prices = price_table().rented["pod"].per_hour
    rows = [{"id": n, "price": {"secure": p, "community": p}} for n, p in prices.items()]
    ref = SetRef(ASSET, layout.UNPARTITIONED, identity_of(ASSET, {"shipped": rows}, {}))
    with sets.scratch() as scratch:
        (scratch / "gpu_prices.json").write_text(json.dumps(rows, indent=1), "utf-8")
        facts = {"gpu_types": len(rows)}
        return sets.commit(ref, scratch, inputs={"sets": []}, settings={}, facts=facts).ref


def _catalogue() -> list[GpuType]:
    with open_api() as api:
        return api.gpu_types()


def _shipped() -> dict[str, Any]:
    """The prices that ship, and that they are no more than that."""
    shipped = price_table().rented["pod"]
    rows = [dg.TableRecord({"gpu": n, "usd_per_hour": p}) for n, p in shipped.per_hour.items()]
    return {
        "prices": dg.MetadataValue.table(rows),
        "source": f"{shipped.source}, {shipped.date}; RUNPOD_API_KEY is not set, so RunPod was not asked",
    }


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


SPENDING = "spending"


@dg.asset(
    group_name="money",
    kinds={"parquet"},
    description="The ledger by day, provider and style: what was estimated and what was paid.",
)
def spending(
    context: dg.AssetExecutionContext, store: StoreResource
) -> dg.MaterializeResult[dict[str, SetRef]]:
    """Read the ledger; the same entries are the same set."""
    sets = store.sets()
    entries, faults = ledger.read_ledger(sets.store)
    for key, fault in faults.items():
        context.log.warning(f"{sets.store.address(key)}: left out, {fault}")
    rows = [e.model_dump(mode="json") for e in entries]
    ref = SetRef(SPENDING, layout.UNPARTITIONED, identity_of(SPENDING, {"entries": rows}, {}))
    table = pd.DataFrame(rows, columns=list(ledger.Entry.model_fields))
    table.insert(0, "day", table["at"].str.slice(0, 10) if rows else pd.Series(dtype=str))
    groups = table.groupby(["day", "provider", "style"], as_index=False)[
        ["estimate_usd", "cost_usd"]
    ].sum()
    committed = sets.find(ref)
    if committed is None:
        with sets.scratch() as scratch:
            table.to_parquet(scratch / "ledger.parquet", index=False)
            draw_spending(groups, scratch / "spending.png")
            committed = sets.commit(
                ref, scratch, inputs={"sets": []}, settings={}, facts={"entries": len(rows)}
            )
    records = [
        dg.TableRecord({str(k): round(v, 4) if isinstance(v, float) else v for k, v in row.items()})
        for row in groups.to_dict("records")
    ]
    metadata: dict[str, Any] = {
        "chart": dg.MetadataValue.md(thumbnail_markdown(committed.path("spending.png"), 320)),
        "entries": len(rows),
        "cost_usd": float(table["cost_usd"].sum()),
        "estimate_usd": float(table["estimate_usd"].sum()),
        "unknown_outcomes": int((table["outcome"] == "unknown").sum()),
    }
    if records:
        metadata["by_day"] = dg.MetadataValue.table(records)
    return published(sets, ref, metadata)
