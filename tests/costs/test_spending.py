"""The asset `spending`, and what machines cost according to the catalogue."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import dagster as dg
import pytest
from PIL import Image

from posefactory_dagster.budget.ledger import Entry, enter
from posefactory_dagster.costs.assets import spending
from posefactory_dagster.storage.io_manager import CommittedSetIOManager, StoreResource
from posefactory_dagster.storage.sets import CommittedSets, SetRef
from tests.conftest import Factory


def materialized(address: str) -> dict:
    store = StoreResource(address=address)
    result = dg.materialize(
        [spending], resources={"store": store, "io_manager": CommittedSetIOManager(store=store)}
    )
    (event,) = result.asset_materializations_for_node("spending")
    return {k: v.value for k, v in event.metadata.items()}


def test_an_empty_ledger_is_a_picture_too(tmp_path: Path) -> None:
    shown = materialized(str(tmp_path))
    assert shown["entries"] == 0 and shown["cost_usd"] == 0 and "by_day" not in shown


def test_spending_by_day_provider_and_style_beside_the_estimates(factory: Factory) -> None:
    store = factory.sets.store
    noon = datetime.datetime(2026, 11, 20, 12, tzinfo=datetime.UTC)
    for number, (day, provider, style, cost) in enumerate(
        [(0, "stability", "a", 0.05), (0, "stability", "a", 0.05), (1, "stability", "b", 0.05), (1, "runpod", "", 0.021)]
    ):  # fmt: skip
        at = noon + datetime.timedelta(days=day)
        enter(store, f"x-{number}", Entry(at=at, provider=provider, model="m", style=style, what="w", cost_usd=cost, estimate_usd=0.06))  # fmt: skip
    shown = materialized(str(factory.store))
    assert shown["entries"] == 4 and shown["cost_usd"] == pytest.approx(0.171)
    assert shown["estimate_usd"] == pytest.approx(0.24)
    rows = [r.data for r in shown["by_day"].records]
    assert {(r["day"], r["provider"], r["style"]): r["cost_usd"] for r in rows} == {
        ("2026-11-20", "stability", "a"): 0.1,
        ("2026-11-21", "runpod", ""): 0.021,
        ("2026-11-21", "stability", "b"): 0.05,
    }
    chart = factory.sets.current("spending", "all").path("spending.png")
    with Image.open(chart) as image:
        assert image.width > 300
    told = json.loads(factory.cli("costs", "spent", "--day", "2026-11-20", "--json"))
    assert told == [{"day": "2026-11-20", "provider": "stability", "style": "a", "payments": 2, "estimate_usd": 0.12, "cost_usd": 0.1}]  # fmt: skip


def test_machines_are_priced_by_the_catalogue_where_it_is_at_hand(factory: Factory) -> None:
    words = ("costs", "estimate", "local", "--model", "render", "--count", "10", "--json")
    plain = json.loads(factory.cli(*words))["total"]
    assert plain == pytest.approx(10 * 5 * 0.42 / 3600)
    sets: CommittedSets = factory.sets
    rows = [
        {"id": "NVIDIA A40", "price": {"secure": 0.35, "community": None}},
        {"id": "X", "price": {"secure": 9.0}},
    ]
    with sets.scratch() as scratch:
        (scratch / "gpu_prices.json").write_text(json.dumps(rows))
        ref = SetRef("gpu_prices", "all", "test")
        sets.commit(ref, scratch, inputs={"sets": []}, settings={}, facts={})
    sets.publish(ref)
    assert json.loads(factory.cli(*words))["total"] == pytest.approx(10 * 5 * 0.35 / 3600)
    assert "NVIDIA A40" in factory.cli(*words[:-1])
