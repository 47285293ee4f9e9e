"""The payment ledger: append-only, one object for each payment."""

from __future__ import annotations

import datetime
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from posefactory_dagster.budget.estimates import OverBudget
from posefactory_dagster.storage import layout
from posefactory_dagster.storage.store import Store

PARALLEL = 16
Outcome = Literal["done", "filtered", "unknown"]
Dollars = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Entry(BaseModel):
    """One payment in US dollars. ``outcome`` is `unknown` if no answer arrived; such a call may have been charged."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    at: AwareDatetime
    provider: str
    model: str
    style: str = ""
    character: str = ""
    what: str
    cost_usd: Dollars
    estimate_usd: Dollars
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


def read_ledger(
    store: Store, day: datetime.date | None = None
) -> tuple[list[Entry], dict[str, str]]:
    """The entries of a day (UTC), or all, by time; and what is wrong with those that are none, by key.

    One that cannot be read counts for nothing and stops nothing: ``store verify --repair`` takes it out of the way.
    """
    prefix = layout.LEDGER if day is None else layout.ledger_day(day.isoformat())
    keys = [item.key for item in store.list(prefix)]
    found, faults = [], {}
    with ThreadPoolExecutor(PARALLEL) as pool:
        for key, data in zip(keys, pool.map(store.get_bytes, keys), strict=True):
            if data is None:  # gone since it was listed
                continue
            try:
                found.append(Entry.model_validate_json(data))
            except ValidationError as error:
                first = error.errors()[0]
                place = ".".join(map(str, first["loc"])) or "file"
                faults[key] = f"not an entry of the ledger: {place}: {first['msg']}"
    return sorted(found, key=lambda e: e.at), dict(sorted(faults.items()))


def _today() -> datetime.date:
    return datetime.datetime.now(datetime.UTC).date()


class Reservation(BaseModel):
    """What a run in progress may still spend on calls on its day, in US dollars, what it spent on them already included.

    ``at``: when it was last said; one that was not said again for ``FORGOTTEN`` is nobody's any more.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    holder: str
    usd: Dollars
    at: AwareDatetime


#: Longer than any call takes. The holder of a reservation may have been killed, or belong to an installation that is gone.
FORGOTTEN = datetime.timedelta(hours=2)
#: A reservation is said again so often while money is spent.
SAID_AGAIN = datetime.timedelta(minutes=10)
#: Reserved in one step beyond what is needed, so that each call over the estimate does not read the ledger anew.
STEP = 1.1
#: Whose entries are of rented machines, which their own limits hold; other entries are of calls, which a budget pays.
MACHINES = "runpod"


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _reservations(store: Store, day: str) -> list[Reservation]:
    found = []
    for item in list(store.list(layout.reservations(day))):
        try:
            one = Reservation.model_validate_json(store.get_bytes(item.key) or b"")
        except ValidationError:  # nobody's; it holds nothing back
            continue
        if _now() - one.at < FORGOTTEN:
            found.append(one)
    return found


class Budget:
    """What one run may still spend. Shared by threads: a sum is set aside before each call, and paid or given back.

    Runs side by side share the limit of a day: each says in the store what it will spend at most before it spends it, and
    counts what the others said.

    Args:
        max_job, max_day: US dollars.
        holder: the run's id.
        ended: whether another run, by its id, is over; what it had reserved is free again.
    """

    def __init__(
        self,
        store: Store,
        max_job: float,
        max_day: float,
        holder: str,
        ended: Callable[[str], bool] = lambda holder: False,
    ) -> None:
        self._store = store
        self._max_job, self._max_day = max_job, max_day
        self._holder, self._ended = holder, ended
        self._day = _today()
        self._reserved = self._job = self._paid = 0.0
        self._said = _now()
        self._lock = threading.Lock()

    @property
    def spent(self) -> float:
        """US dollars of this job so far, what is set aside included."""
        return self._job

    def check(self, estimate: float) -> None:
        """Reserve what a job is estimated at, before it begins.

        Raises:
            OverBudget: with the figures.
        """
        with self._lock:
            self._reserve(estimate)

    def set_aside(self, price: float) -> None:
        """Take the price of a call from what is reserved, or reserve more.

        Raises:
            OverBudget: with the figures.
        """
        with self._lock:
            self._reserve(price)
            self._job += price

    def give_back(self, price: float) -> None:
        """Release a reserved sum: the call was not charged."""
        with self._lock:
            self._job -= price

    def paid(self, name: str, entry: Entry, set_aside: float) -> None:
        """Write the payment of a call to the ledger and release its reserved sum."""
        enter(self._store, name, entry)
        with self._lock:
            self._job += entry.cost_usd - set_aside
            self._paid += entry.cost_usd
            if self._reserved and _now() - self._said > SAID_AGAIN:
                self._say(self._reserved)

    def found(self, name: str, entry: Entry) -> None:
        """Enter what an earlier run paid, or may have, and could not enter any more."""
        enter(self._store, name, entry)

    def close(self) -> None:
        """Release what was reserved and not spent."""
        self._store.delete([layout.reservation(self._day.isoformat(), self._holder)])

    def _reserve(self, more: float) -> None:
        wanted = self._job + more
        if wanted > self._max_job:
            raise OverBudget(
                f"${self._job:.2f} are spent on this job and ${more:.2f} more are estimated, over max_cost_per_job = "
                f"${self._max_job:.2f}; no call was made for it. Take fewer characters, or raise it in posefactory.toml, [variants]"
            )
        if (
            self._day != _today()
        ):  # midnight has passed: the new day has its own limit, and its own reservations
            self.close()
            self._day, self._reserved = _today(), 0.0
        if wanted <= self._reserved:
            return
        # Said first and counted then: of two runs at the same moment at least one sees the other.
        before, ample = self._reserved, min(max(wanted, STEP * self._reserved), self._max_job)
        self._say(ample)
        others, holders = self._of_others()
        if others + wanted > self._max_day:
            if before:
                self._say(before)
            else:
                self.close()
            raise OverBudget(
                f"${others + self._job:.2f} are spent today (UTC) or reserved by runs in progress{holders}, and ${more:.2f} more are "
                f"estimated, over max_cost_per_day = ${self._max_day:.2f}; no call was made for it. Go on tomorrow, or raise it in "
                "posefactory.toml, [variants]"
            )
        self._reserved = ample
        if others + ample > self._max_day:
            self._reserved = wanted
            self._say(wanted)

    def _say(self, usd: float) -> None:
        self._said = _now()
        one = Reservation(holder=self._holder, usd=usd, at=self._said)
        key = layout.reservation(self._day.isoformat(), self._holder)
        self._store.put_bytes(key, one.model_dump_json().encode())

    def _of_others(self) -> tuple[float, str]:
        """What others spent today, or may still, with the names of those that reserved; and what machines cost, this run's too.

        Of a run in progress the larger counts of what it reserved for calls and what it paid for them.
        """
        machines, by_run = 0.0, dict[str, float]()
        for entry in read_ledger(self._store, self._day)[0]:
            if entry.provider == MACHINES:
                machines += entry.cost_usd
            else:
                by_run[entry.run_id] = by_run.get(entry.run_id, 0.0) + entry.cost_usd
        # Of this run's calls those count that another budget paid, as of a run that was tried again.
        mine = max(by_run.pop(self._holder, 0.0) - self._paid, 0.0)
        holders = []
        for one in _reservations(self._store, self._day.isoformat()):
            if one.holder != self._holder and not self._ended(one.holder):
                by_run[one.holder] = max(by_run.get(one.holder, 0.0), one.usd)
                holders.append(one.holder)
        return machines + mine + sum(
            by_run.values()
        ), f" ({', '.join(sorted(holders))})" if holders else ""
