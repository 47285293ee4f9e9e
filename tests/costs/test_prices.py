"""The original's cost functions, the ledger and the budget."""

from __future__ import annotations

import datetime
import json
import math
from pathlib import Path

import pytest

from posefactory_dagster.budget import ledger, prices
from posefactory_dagster.budget.estimates import OverBudget
from posefactory_dagster.budget.ledger import Budget, Entry, enter, read_ledger
from posefactory_dagster.storage.opening import open_store
from posefactory_dagster.storage.sets import CommittedSets
from tests.conftest import Factory


def test_the_contract_of_an_estimate() -> None:
    found = prices.estimate_cost("stability", "1024x1024", steps=50, model="sdxl", count=10)
    assert set(found) == {"total", "per_image", "count", "provider", "provider_name", "breakdown"}
    assert found["total"] == pytest.approx(10 * found["per_image"])
    assert set(found["breakdown"]) == {
        "type", "base_cost", "resolution", "resolution_multiplier", "model", "model_multiplier", "steps", "steps_cost",
    }  # fmt: skip
    assert 0.002 <= found["per_image"] <= 0.008
    assert prices.estimate_cost("stability")["per_image"] == 0.002
    local = prices.estimate_cost("local", model="render")
    assert local["breakdown"]["type"] == "local"
    assert local["per_image"] == pytest.approx(0.42 / 3600 * 5)
    assert prices.estimate_cost("local", model="render", per_hour=0.84)["total"] == pytest.approx(2 * local["total"])  # fmt: skip


def test_every_endpoint_that_is_called_has_its_own_price_with_source_and_date() -> None:
    for provider in ("stability", "dreamstudio"):
        info = prices.get_provider_info(provider)
        called = {k: m for k, m in info["models"].items() if m["endpoint"]}
        assert set(called) == {"structure", "sketch", "sdxl_1_0"}
        for model in called.values():
            assert model["per_image"] > 0 and model["source"] and model["date"]
    assert prices.estimate_cost("stability", model="structure")["per_image"] == 0.05


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ({"provider": "nobody"}, "relight, stability"),
        ({"model": "gpt"}, "sketch, structure"),
        ({"resolution": "7x7"}, "512x512, 768x768, 1024x1024"),
        ({"count": 0}, "count is 0: give a whole number from 1"),
        ({"count": -3}, "count is -3"),
        ({"count": 10**9}, "from 1 to 1000000"),
        ({"count": float("nan")}, "count is nan"),
        ({"count": True}, "count is True"),
        ({"count": 1.5}, "count is 1.5"),
        ({"steps": 0}, "steps is 0"),
        ({"per_hour": float("inf")}, "per_hour is inf"),
    ],
)
def test_what_has_no_price_is_an_error_that_names_what_is_allowed(words: dict, names: str) -> None:
    with pytest.raises(prices.PriceError, match=names):
        prices.estimate_cost(**{"provider": "stability", **words})


def test_validate_cost_has_a_limit_and_a_warning() -> None:
    assert prices.validate_cost(10)[0] and "within" in prices.validate_cost(10)[1]
    assert prices.validate_cost(50)[0] and "warning" in prices.validate_cost(50)[1]
    assert not prices.validate_cost(100.01)[0]
    assert not prices.validate_cost(5, max_cost=4)[0]
    for nonsense in (-1, math.nan, math.inf):
        assert not prices.validate_cost(nonsense)[0]


def entry(cost: float, **values: object) -> Entry:
    base = {
        "at": datetime.datetime.now(datetime.UTC), "provider": "stability", "model": "structure",
        "what": "x", "cost_usd": cost, "estimate_usd": cost,
    }  # fmt: skip
    return Entry(**{**base, **values})  # type: ignore[arg-type]


def test_the_ledger_only_grows_and_counts_nothing_twice(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    enter(store, "a-1", entry(0.05))
    enter(store, "a-1", entry(99.0))  # written once
    enter(store, "b-1", entry(0.03))
    yesterday = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    enter(store, "c-1", entry(1.0, at=yesterday))
    today = datetime.datetime.now(datetime.UTC).date()
    assert sum(e.cost_usd for e in read_ledger(store, today)[0]) == pytest.approx(0.08)
    assert [e.cost_usd for e in read_ledger(store)[0]] == [1.0, 0.05, 0.03]


def test_a_purse_refuses_before_the_money_is_gone(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    budget = Budget(store, max_job=0.1, max_day=10, holder="run-1")
    budget.check(0.1)
    with pytest.raises(OverBudget, match=r"max_cost_per_job = \$0\.10"):
        budget.check(0.11)
    budget.set_aside(0.06)
    with pytest.raises(OverBudget):
        budget.set_aside(0.06)
    budget.give_back(0.06)
    budget.set_aside(0.06)
    budget.paid("x", entry(0.04), 0.06)
    assert budget.spent == pytest.approx(0.04)
    with pytest.raises(OverBudget, match=r"max_cost_per_day = \$0\.05"):
        Budget(store, max_job=1, max_day=0.05, holder="run-2").set_aside(0.02)


def test_runs_side_by_side_keep_the_limit_of_a_day_together(tmp_path: Path) -> None:
    store, over = open_store(str(tmp_path)), set()
    first, second = (
        Budget(store, max_job=1, max_day=1, holder=h, ended=lambda run: run in over)
        for h in ("run-1", "run-2")
    )
    first.check(0.7)
    with pytest.raises(OverBudget, match=r"\$0\.70 are spent today \(UTC\) or reserved"):
        second.check(0.4)  # it spent nothing, and was told nothing of the first: the store was
    second.check(0.3)
    first.set_aside(0.6)
    first.paid(
        "a", entry(0.6, run_id="run-1"), 0.6
    )  # what is paid is not counted beside what was reserved
    second.set_aside(0.3)
    with pytest.raises(OverBudget):
        second.set_aside(0.1)
    over.add("run-1")  # it was killed, so that nobody gave back what it had reserved and not spent
    second.set_aside(0.1)
    second.close()
    over.clear()
    first.close()
    Budget(store, max_job=1, max_day=1, holder="run-3").check(0.4)


def test_what_machines_cost_counts_beside_what_is_reserved(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    first, second = (Budget(store, max_job=10, max_day=10, holder=h) for h in ("run-1", "run-2"))
    first.check(5)
    enter(store, "pod", entry(4, provider="runpod", run_id="run-1"))
    with pytest.raises(OverBudget, match=r"run-1"):
        second.check(2)
    second.check(0.9)
    with pytest.raises(OverBudget):
        first.check(5.5)  # its own machines count too


def test_what_nobody_holds_any_more_is_free_again(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    dead = Budget(store, max_job=1, max_day=1, holder="remake-dead")
    dead.check(0.9)
    mine = Budget(store, max_job=1, max_day=1, holder="run-2")
    with pytest.raises(OverBudget, match="remake-dead"):
        mine.check(0.5)
    (item,) = (i for i in store.list("reserved/") if "dead" in i.key)
    said = json.loads(store.get_bytes(item.key) or b"")
    long_ago = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=3)
    store.put_bytes(item.key, json.dumps({**said, "at": long_ago.isoformat()}).encode())
    mine.check(0.5)
    CommittedSets(store).collect_garbage(-1)
    assert not list(store.list("reserved/"))


def test_calls_over_the_estimate_do_not_read_the_ledger_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    budget = Budget(open_store(str(tmp_path)), max_job=1000, max_day=1000, holder="run-1")
    budget.check(10)
    reads = []
    monkeypatch.setattr(ledger, "read_ledger", lambda *a: reads.append(a) or ([], {}))
    for _ in range(400):
        budget.set_aside(0.05)
    assert budget.spent == pytest.approx(20) and 1 <= len(reads) <= 10


@pytest.mark.parametrize(
    "words",
    ['{"cost_usd": NaN}', "[]", "", "\x00", '{"at": "2026-11-21T00:00:00Z", "cost_usd": -5}'],
)
def test_an_entry_that_cannot_be_read_counts_for_nothing_and_is_set_aside(
    factory: Factory, words: str
) -> None:
    store = factory.sets.store
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    enter(store, "a-1", entry(0.25))
    store.put_bytes(f"ledger/{today}/bad.json", words.encode())
    assert json.loads(factory.cli("costs", "spent", "--json"))[0]["cost_usd"] == 0.25
    assert "bad.json: left out, not an entry" in factory.cli("costs", "spent")
    Budget(store, max_job=1, max_day=1, holder="run-1").check(0.5)
    found = json.loads(factory.cli("store", "verify", "--json", expect=1))
    assert [row["key"] for row in found["unreadable"]] == [f"ledger/{today}/bad.json"]
    factory.cli("store", "verify", "--repair")
    assert store.get_bytes(f"set-aside/ledger/{today}/bad.json") == words.encode()
    assert "left out" not in factory.cli("costs", "spent")
    assert json.loads(factory.cli("store", "verify", "--json"))["unreadable"] == []


def test_the_command_line_says_prices_and_refuses_too_much(factory: Factory) -> None:
    found = json.loads(factory.cli("costs", "estimate", "--style", "stability_structure", "--count", "100", "--json"))  # fmt: skip
    assert found["total"] == pytest.approx(5.0) and found["allowed"]
    text = factory.cli("costs", "estimate", "stability", "--model", "structure", "--count", "1001", expect=1)  # fmt: skip
    assert "max_images_per_batch = 1000" in text
    assert "choose one of" in factory.cli("costs", "estimate", "nobody", expect=2)
    assert "choose from" in factory.cli("costs", "estimate", "--style", "nope", expect=2)
    assert "stability" in json.loads(factory.cli("costs", "list", "--json"))
    assert json.loads(factory.cli("costs", "spent", "--json")) == []
    assert "give it as 2026-11-21" in factory.cli("costs", "spent", "--day", "tomorrow", expect=2)


def test_renders_on_rented_machines_are_estimated_without_a_key(factory: Factory) -> None:
    found = json.loads(factory.cli("costs", "estimate", "pod", "--images", "3600", "--json"))
    rows = {row["gpu"]: row for row in found["machines"]}
    # 3600 images of a second each, and 180 s to start the machine: 1.05 hours.
    assert rows["RTX 4090"]["usd"] == pytest.approx(1.05 * 0.34, abs=1e-3)
    assert rows["RTX 4090"]["allowed"] and not rows["H200"]["allowed"]
    assert "over max_price_per_hour = $0.80" in rows["H200"]["message"]
    assert found["source"] and found["date"] == "2026-03-01"
    text = factory.cli(
        "costs", "estimate", "serverless", "--images", "10", "--gpu", "NVIDIA GeForce RTX 4090"
    )
    assert "RTX 4090" in text and "A100" not in text and "docs.runpod.io/serverless/pricing" in text
    assert "choose one of" in factory.cli("costs", "estimate", "pod", "--gpu", "TPU", expect=2)
    assert "give a number from 1" in factory.cli(
        "costs", "estimate", "pod", "--images", "0", expect=2
    )
    too_much = factory.cli("costs", "estimate", "pod", "--images", "1000000", expect=1)
    assert "over max_cost_per_job = $5.00" in too_much
