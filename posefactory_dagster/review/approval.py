"""Approval: locks, people's decisions, and the rule by which artifacts enter a dataset.

A lock is written once, when a gate or a person approves, and holds the artifact's whole record with the
sha256 of its image. Nothing changes it. A person's rejection wins over it and leaves it where it is.
"""

from __future__ import annotations

import datetime
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from pydantic import ValidationError

from posefactory_dagster.review.documents import Decision, DecisionFile, Lock, R, Reviewed, State
from posefactory_dagster.storage import layout
from posefactory_dagster.storage.store import Store

PARALLEL = 16
BY_GATE = "gate"
#: Of images whose pose cannot have moved, as the person's very pixels were taken over; the gate's verdict stands beside them.
BY_CONSTRUCTION = "construction"


class ApprovalError(ValueError):
    """A decision that cannot be applied; the text names the reason and the next step."""


@dataclass(frozen=True)
class Decisions:
    """All decisions there are, of each artifact by time; and what is wrong with which file.

    ``by_place``: by kind, subject and id.
    """

    by_place: Mapping[tuple[str, str, str], Sequence[Decision]] = field(default_factory=dict)
    errors: Mapping[str, str] = field(default_factory=dict)

    def of(self, item: Reviewed) -> Decision | None:
        """What holds for an artifact: the latest that can be followed, so that a stale approval undoes no rejection."""
        holds = None
        for decision in self.by_place.get(item.place, ()):
            try:
                check_decision(decision, item)
            except ApprovalError:
                continue
            holds = decision
        return holds

    def all(self, kind: str) -> Iterator[Decision]:
        """Every decision on artifacts of a kind."""
        for place, decisions in self.by_place.items():
            if place[0] == kind:
                yield from decisions


def now() -> datetime.datetime:
    """The current time in UTC, in whole seconds."""
    return datetime.datetime.now(datetime.UTC).replace(microsecond=0)


def lock_all(store: Store, locks: Sequence[Lock[R]]) -> list[Lock[R]]:
    """Write locks and return the ones that hold; an existing lock is kept.

    Raises:
        ApprovalError: what is there is no lock.
    """

    def create(lock: Lock[R]) -> Lock[R]:
        data = lock.model_dump_json(indent=1).encode()
        if store.create_bytes(layout.lock(*lock.record.place), data):
            return lock
        return read_lock(store, type(lock.record), lock.record.subject, lock.record.id) or lock

    with ThreadPoolExecutor(PARALLEL) as pool:
        return list(pool.map(create, locks))


def read_lock(store: Store, kind: type[R], subject: str, item: str) -> Lock[R] | None:
    """The lock of an artifact.

    Args:
        kind: the class of its records.

    Raises:
        ApprovalError: what is there is no lock.
    """
    key = layout.lock(kind.kind, subject, item)
    data = store.get_bytes(key)
    if data is None:
        return None
    try:
        return Lock[kind].model_validate_json(data)  # type: ignore[valid-type]
    except ValidationError as error:
        raise ApprovalError(
            f"{store.address(key)}: not a lock ({error.error_count()} faults); "
            f"remove it, and its {kind.kind} is judged again"
        ) from error


def locks_of(store: Store, kind: type[R], subject: str) -> dict[str, Lock[R]]:
    """The locks of a subject's artifacts of one kind, by id."""
    places = [layout.parse_lock(i.key) for i in store.list(layout.locks(kind.kind, subject))]
    names = sorted(p[2] for p in places if p is not None and p[:2] == (kind.kind, subject))
    with ThreadPoolExecutor(PARALLEL) as pool:
        locks = pool.map(lambda name: read_lock(store, kind, subject, name), names)
        return {name: lock for name, lock in zip(names, locks, strict=True) if lock}


def unreadable_locks(store: Store, kinds: Mapping[str, type[Reviewed]]) -> Iterator[str]:
    """Keys of objects under ``locks/`` that are none.

    Args:
        kinds: the classes of records, by kind.
    """
    for item in sorted(store.list(layout.LOCKS), key=lambda i: i.key):
        place = layout.parse_lock(item.key)
        try:
            if place is not None:  # of kinds that are not known here, nothing is said
                if place[0] in kinds:
                    read_lock(store, kinds[place[0]], *place[1:])
                continue
        except ApprovalError:
            pass
        yield item.key


def damaged_locks(store: Store, kinds: Mapping[str, type[Reviewed]]) -> Iterator[str]:
    """What is wrong with the images of locks, a line for each; see ``unreadable_locks``."""
    for item in sorted(store.list(layout.LOCKS), key=lambda i: i.key):
        place = layout.parse_lock(item.key)
        try:
            known = place is not None and place[0] in kinds
            lock = read_lock(store, kinds[place[0]], *place[1:]) if place and known else None
        except ApprovalError:  # see ``unreadable_locks``
            continue
        if lock is None:
            continue
        found = store.digest(lock.image.key)
        if found is None:
            yield f"{store.address(lock.image.key)}: a locked image is missing"
        elif found.sha256 != lock.image.sha256:
            yield f"{store.address(lock.image.key)}: not the image that was locked"


def parse_decisions(data: bytes) -> list[Decision]:
    """The decisions of a file.

    Raises:
        ApprovalError: it is none; the text names the place and the fault.
    """
    try:
        return DecisionFile.model_validate_json(data).decisions
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(p) for p in first["loc"]) or "file"
        raise ApprovalError(f"not a file of decisions: {place}: {first['msg']}") from error


def read_decisions(store: Store) -> Decisions:
    """All decision files; a file that is none is told of and stops nothing."""
    came = {item.key: item.modified for item in store.list(layout.DECISIONS)}
    keys = sorted(came)
    by_place: dict[tuple[str, str, str], list[Decision]] = {}
    errors = {}
    with ThreadPoolExecutor(PARALLEL) as pool:
        for key, data in zip(keys, pool.map(store.get_bytes, keys), strict=True):
            try:
                decisions = parse_decisions(data or b"")
            except ApprovalError as error:
                errors[key] = f"{store.address(key)}: {error}; remove or mend it"
                continue
            # One that is dated after it came would beat whatever is decided until then.
            latest = datetime.datetime.fromtimestamp(came[key] + 1, datetime.UTC)
            for decision in decisions:
                if decision.at > latest:
                    decision = decision.model_copy(update={"at": latest})
                by_place.setdefault(decision.place, []).append(decision)
    for mine in by_place.values():
        mine.sort(key=lambda d: d.at)
    return Decisions(by_place, errors)


def write_decisions(store: Store, decisions: Sequence[Decision]) -> str:
    """Write decisions to a new file and return its object key."""
    written = datetime.datetime.now(datetime.UTC)
    key = layout.decision(f"{written:%Y%m%dT%H%M%S%f}-{secrets.token_hex(4)}")
    store.create_bytes(
        key, DecisionFile(decisions=list(decisions)).model_dump_json(indent=1).encode()
    )
    return key


def check_decision(decision: Decision, item: Reviewed) -> None:
    """Whether a decision can be followed.

    Raises:
        ApprovalError: there is no image to approve, it is of another image, or a reason is wanted.
    """
    if decision.decision == "reject":
        return
    name = f"{item.subject} {item.id}"
    if item.image is None:
        raise ApprovalError(f"{name}: there is no image to approve")
    if decision.sha256 not in (None, item.image.sha256):
        raise ApprovalError(f"{name}: the approval is of another image; look at it again")
    critical = item.verdict is not None and item.verdict.severity == "critical"
    if critical and not decision.reason.strip():
        raise ApprovalError(f"{name}: a critical failure is approved only with a written reason")


def settle(
    store: Store, decisions: Iterable[Decision], items: Mapping[tuple[str, str, str], R]
) -> Iterator[tuple[Decision, str]]:
    """Let approvals become locks; yields each decision that cannot be followed, with the reason.

    Args:
        items: the artifacts that the decisions may speak of, as they stand, by kind, subject and id.
    """
    locks: list[Lock[R]] = []
    for decision in decisions:
        if decision.decision == "reject":  # also of one that is not there now: it may come back
            continue
        item = items.get(decision.place)
        name = f"{decision.subject} {decision.id}"
        if item is None:
            yield decision, f"{name}: no such {decision.kind} in its present set"
            continue
        try:
            check_decision(decision, item)
        except ApprovalError as error:
            yield decision, str(error)
            continue
        assert item.image is not None, "check_decision wants one"
        # Whatever a person calls themselves, their lock is not a gate's.
        named = decision.reviewer not in ("", BY_GATE, BY_CONSTRUCTION)
        locks.append(
            Lock(
                image=item.image,
                approved_by=decision.reviewer if named else "a person",
                approved_at=decision.at,
                reason=decision.reason,
                record=item.model_copy(update={"state": "locked_approved"}),
            )
        )
    lock_all(store, locks)


def as_locked(item: R, lock: Lock[R] | None) -> R:
    """An artifact as it stands: what was locked, whatever a set of other settings says of it."""
    return lock.record if lock is not None else item


def state_of(item: Reviewed, lock: Lock[R] | None, decision: Decision | None) -> State:
    """How an artifact stands now: a person's rejection wins, then the lock, then what its record says."""
    if decision is not None and decision.decision == "reject":
        return "qa_rejected"
    if lock is not None:
        return "locked_approved"
    return item.state if item.state != "locked_approved" else "qa_approved"


def may_enter(item: Reviewed, lock: Lock[R] | None, decision: Decision | None) -> bool:
    """Whether an artifact's image may enter a dataset: it was judged, it is locked as it is, and nobody rejected it.

    A lock of a gate's counts only beside a verdict that passes; a person may have approved in spite of one.
    """
    if lock is None or item.image is None or item.verdict is None:
        return False
    return (
        lock.image.sha256 == item.image.sha256
        and (item.verdict.passes or lock.approved_by != BY_GATE)
        and state_of(item, lock, decision) == "locked_approved"
    )
