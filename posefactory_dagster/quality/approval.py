"""Who may enter a dataset: locks, people's decisions, and the one rule that joins them.

A lock is written once, when the gate or a person approves, and holds the variant's whole record with the
sha256 of its image. Nothing changes it. A person's rejection wins over it and leaves it where it is.
"""

from __future__ import annotations

import datetime
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from posefactory_dagster.quality.records import Image, State, Variant
from posefactory_dagster.storage import layout
from posefactory_dagster.storage.store import Store

PARALLEL = 16
BY_GATE = "gate"
#: Of images whose pose cannot have moved, as the person's very pixels were taken over; the gate's verdict stands beside them.
BY_CONSTRUCTION = "construction"
_Name = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_-]{1,200}$")]


class ApprovalError(ValueError):
    """A decision that cannot be followed; the text says why and what to do."""


class Lock(BaseModel):
    """An approved variant. ``image`` is what was approved; ``variant`` how it came about."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    image: Image
    approved_by: str
    approved_at: datetime.datetime
    reason: str = ""
    variant: Variant


class Decision(BaseModel):
    """What a person decided of one variant."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    character: _Name
    variant: _Name
    decision: Literal["approve", "reject"]
    sha256: str | None = None
    reviewer: str = Field(default="", max_length=200)
    reason: str = Field(default="", max_length=2000)
    at: AwareDatetime


class DecisionFile(BaseModel):
    """A file under `decisions/`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    decisions: list[Decision]


@dataclass(frozen=True)
class Decisions:
    """All decisions there are, of each variant by time; and what is wrong with which file."""

    by_variant: Mapping[tuple[str, str], Sequence[Decision]] = field(default_factory=dict)
    errors: Mapping[str, str] = field(default_factory=dict)

    def of(self, variant: Variant) -> Decision | None:
        """What holds for a variant: the latest that can be followed, so that a stale approval undoes no rejection."""
        holds = None
        for decision in self.by_variant.get((variant.character, variant.variant), ()):
            try:
                check_decision(decision, variant)
            except ApprovalError:
                continue
            holds = decision
        return holds

    def all(self) -> Iterator[Decision]:
        """Every decision."""
        for decisions in self.by_variant.values():
            yield from decisions


def now() -> datetime.datetime:
    """The time, to the second, in UTC."""
    return datetime.datetime.now(datetime.UTC).replace(microsecond=0)


def lock_all(store: Store, locks: Sequence[Lock]) -> list[Lock]:
    """Write locks; returns those that hold: one that was there already stays as it is.

    Raises:
        ApprovalError: what is there is no lock.
    """

    def create(lock: Lock) -> Lock:
        character, variant = lock.variant.character, lock.variant.variant
        data = lock.model_dump_json(indent=1).encode()
        if store.create_bytes(layout.lock(character, variant), data):
            return lock
        return read_lock(store, character, variant) or lock

    with ThreadPoolExecutor(PARALLEL) as pool:
        return list(pool.map(create, locks))


def read_lock(store: Store, character: str, variant: str) -> Lock | None:
    """A variant's lock.

    Raises:
        ApprovalError: what is there is no lock.
    """
    key = layout.lock(character, variant)
    data = store.get_bytes(key)
    if data is None:
        return None
    try:
        return Lock.model_validate_json(data)
    except ValidationError as error:
        raise ApprovalError(
            f"{store.address(key)}: not a lock ({error.error_count()} faults); "
            "remove it, and its variant is judged again"
        ) from error


def locks_of(store: Store, character: str) -> dict[str, Lock]:
    """A character's locks, by variant."""
    found = [layout.parse_lock(item.key) for item in store.list(layout.locks(character))]
    names = sorted(place[1] for place in found if place)
    with ThreadPoolExecutor(PARALLEL) as pool:
        locks = pool.map(lambda name: read_lock(store, character, name), names)
        return {name: lock for name, lock in zip(names, locks, strict=True) if lock}


def unreadable_locks(store: Store) -> Iterator[str]:
    """Keys of objects under ``locks/`` that are none."""
    for item in sorted(store.list(layout.LOCKS), key=lambda i: i.key):
        place = layout.parse_lock(item.key)
        try:
            if place is not None:
                read_lock(store, *place)
                continue
        except ApprovalError:
            pass
        yield item.key


def damaged_locks(store: Store) -> Iterator[str]:
    """What is wrong with the images of locks, a line for each."""
    for item in sorted(store.list(layout.LOCKS), key=lambda i: i.key):
        place = layout.parse_lock(item.key)
        try:
            lock = read_lock(store, *place) if place else None
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
    by_variant: dict[tuple[str, str], list[Decision]] = {}
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
                by_variant.setdefault((decision.character, decision.variant), []).append(decision)
    for mine in by_variant.values():
        mine.sort(key=lambda d: d.at)
    return Decisions(by_variant, errors)


def write_decisions(store: Store, decisions: Sequence[Decision]) -> str:
    """Keep decisions in a file of their own; its key."""
    written = datetime.datetime.now(datetime.UTC)
    key = layout.decision(f"{written:%Y%m%dT%H%M%S%f}-{secrets.token_hex(4)}")
    store.create_bytes(
        key, DecisionFile(decisions=list(decisions)).model_dump_json(indent=1).encode()
    )
    return key


def check_decision(decision: Decision, variant: Variant) -> None:
    """Whether a decision can be followed.

    Raises:
        ApprovalError: there is no image to approve, it is of another image, or a reason is wanted.
    """
    if decision.decision == "reject":
        return
    name = f"{variant.character} {variant.variant}"
    if variant.image is None:
        raise ApprovalError(f"{name}: there is no image to approve")
    if decision.sha256 not in (None, variant.image.sha256):
        raise ApprovalError(f"{name}: the approval is of another image; look at it again")
    critical = (variant.verdict or {}).get("severity") == "critical"
    if critical and not decision.reason.strip():
        raise ApprovalError(f"{name}: a critical failure is approved only with a written reason")


def settle(
    store: Store, decisions: Iterable[Decision], variants: Mapping[tuple[str, str], Variant]
) -> Iterator[tuple[Decision, str]]:
    """Let approvals become locks; yields each decision that cannot be followed, with the reason.

    Args:
        variants: those that the decisions may speak of, as they stand, by (character, variant).
    """
    locks = []
    for decision in decisions:
        if decision.decision == "reject":  # also of one that is not there now: it may come back
            continue
        variant = variants.get((decision.character, decision.variant))
        name = f"{decision.character} {decision.variant}"
        if variant is None:
            yield decision, f"{name}: no such variant in its present set"
            continue
        try:
            check_decision(decision, variant)
        except ApprovalError as error:
            yield decision, str(error)
            continue
        assert variant.image is not None, "check_decision wants one"
        approved = variant.model_copy(update={"state": "locked_approved"})
        # Whatever a person calls themselves, their lock is not the gate's.
        who = (
            decision.reviewer
            if decision.reviewer not in ("", BY_GATE, BY_CONSTRUCTION)
            else "a person"
        )
        locks.append(
            Lock(
                image=variant.image,
                approved_by=who,
                approved_at=decision.at,
                reason=decision.reason,
                variant=approved,
            )
        )
    lock_all(store, locks)


def as_locked(variant: Variant, lock: Lock | None) -> Variant:
    """A variant as it stands: what was locked, whatever a set of other settings says of it."""
    return lock.variant if lock is not None else variant


def state_of(variant: Variant, lock: Lock | None, decision: Decision | None) -> State:
    """How a variant stands now: a person's rejection wins, then the lock, then what the batch said."""
    if decision is not None and decision.decision == "reject":
        return "qa_rejected"
    if lock is not None:
        return "locked_approved"
    return variant.state if variant.state != "locked_approved" else "qa_approved"


def may_enter(variant: Variant, lock: Lock | None, decision: Decision | None) -> bool:
    """Whether a variant's image may enter a dataset: it was judged, it is locked as it is, and nobody rejected it.

    A lock of the gate's counts only beside a verdict that passes; a person may have approved in spite of one.
    """
    if lock is None or variant.image is None or variant.verdict is None:
        return False
    return (
        lock.image.sha256 == variant.image.sha256
        and (bool(variant.verdict.get("passes")) or lock.approved_by != BY_GATE)
        and state_of(variant, lock, decision) == "locked_approved"
    )
