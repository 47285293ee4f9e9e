"""Money that was spent: an append-only ledger, an object for each payment."""

from __future__ import annotations

import datetime
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

from pydantic import BaseModel, ConfigDict, NonNegativeFloat

from posefactory_dagster.costs.estimates import OverBudget
from posefactory_dagster.storage import layout
from posefactory_dagster.storage.store import Store

PARALLEL = 16
Outcome = Literal["done", "filtered", "unknown"]


class Entry(BaseModel):
    """One payment in US dollars. ``outcome`` is `unknown` where an answer never came: it may have been charged."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    at: datetime.datetime
    provider: str
    model: str
    style: str = ""
    character: str = ""
    what: str
    cost_usd: NonNegativeFloat
    estimate_usd: NonNegativeFloat
    outcome: Outcome = "done"
    run_id: str = ""


def enter(store: Store, name: str, entry: Entry) -> bool:
    """Write an entry; one of that name and day that is there already stays, so that nothing is counted twice.

    Returns:
        Whether it was written now.
    """
    day = entry.at.astimezone(datetime.UTC).date().isoformat()
    data = entry.model_dump_json(indent=1).encode()
    return store.create_bytes(layout.ledger_entry(day, name), data)


def entries(store: Store, day: datetime.date | None = None) -> Iterator[Entry]:
    """The entries of a day (UTC), or all, by time."""
    prefix = layout.LEDGER if day is None else layout.ledger_day(day.isoformat())
    keys = [item.key for item in store.list(prefix) if item.key.endswith(".json")]
    with ThreadPoolExecutor(PARALLEL) as pool:
        found = [Entry.model_validate_json(d) for d in pool.map(store.get_bytes, keys) if d]
    yield from sorted(found, key=lambda e: e.at)


def spent_today(store: Store) -> float:
    """US dollars of this day (UTC), what may have been charged included."""
    return sum(e.cost_usd for e in entries(store, _today()))


def _today() -> datetime.date:
    return datetime.datetime.now(datetime.UTC).date()


class Purse:
    """What one job may still spend. Shared by threads: a sum is set aside before each call, and paid or given back.

    Args:
        max_job, max_day: US dollars.
    """

    def __init__(self, store: Store, max_job: float, max_day: float) -> None:
        self._store = store
        self._max_job, self._max_day = max_job, max_day
        self._before: float | None = None  # read when it is first needed
        self._job = 0.0
        self._lock = threading.Lock()

    @property
    def spent(self) -> float:
        """US dollars of this job so far, what is set aside included."""
        return self._job

    def check(self, estimate: float) -> None:
        """Refuse a job before it begins.

        Raises:
            OverBudget: with the figures.
        """
        with self._lock:
            self._check(estimate)

    def set_aside(self, price: float) -> None:
        """Reserve the price of a call.

        Raises:
            OverBudget: with the figures.
        """
        with self._lock:
            self._check(price)
            self._job += price

    def give_back(self, price: float) -> None:
        """The call was not charged."""
        with self._lock:
            self._job -= price

    def paid(self, name: str, entry: Entry, set_aside: float) -> None:
        """Enter what a call really cost."""
        enter(self._store, name, entry)
        with self._lock:
            self._job += entry.cost_usd - set_aside

    def found(self, name: str, entry: Entry) -> None:
        """Enter what an earlier run paid, or may have, and could not enter any more."""
        with self._lock:
            new = enter(self._store, name, entry)
            if new and self._before is not None and entry.at.date() == _today():
                self._before += entry.cost_usd

    def _check(self, more: float) -> None:
        if self._before is None:
            self._before = spent_today(self._store)
        if self._job + more > self._max_job:
            raise OverBudget(
                f"${self._job:.2f} are spent on this job and ${more:.2f} more are estimated, over max_cost_per_job = "
                f"${self._max_job:.2f}; no call was made for it. Take fewer characters, or raise it in posefactory.toml, [variants]"
            )
        if self._before + self._job + more > self._max_day:
            raise OverBudget(
                f"${self._before + self._job:.2f} are spent today (UTC) and ${more:.2f} more are estimated, over max_cost_per_day = "
                f"${self._max_day:.2f}; no call was made for it. Go on tomorrow, or raise it in posefactory.toml, [variants]"
            )
