"""Locks are written once; people win over the gate; what is no decision is told and stops nothing."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import ClassVar

import pytest

from posefactory_dagster.review.approval import (
    ApprovalError,
    as_locked,
    damaged_locks,
    lock_all,
    locks_of,
    may_enter,
    now,
    read_decisions,
    read_lock,
    settle,
    state_of,
    unreadable_locks,
    write_decisions,
)
from posefactory_dagster.review.documents import Decision, Image, Lock, Reviewed, Verdict
from posefactory_dagster.storage.opening import open_store
from posefactory_dagster.storage.store import Store
from posefactory_dagster.variants.documents import Attempt, Parameters, PoseVerdict, Source, Variant

IMAGE = Image(key="variants/ada/v1/1-aaaa.png", sha256="a" * 64, size=10)


def variant(severity: str = "none", image: Image | None = IMAGE, state: str = "blocked") -> Variant:
    attempt = Attempt(
        number=1, parameters=Parameters(strength=0.5, control=0.5, seed=1), seed=1, image=image,
        verdict=PoseVerdict(severity=severity, passes=severity in ("none", "minor")),  # type: ignore[arg-type]
    )  # fmt: skip
    source = Source(set=("multi_angle_renders", "ada", "x"), file="f.png", sha256="b" * 64, frame=1, view="front")  # fmt: skip
    return Variant(
        variant="v1", character="ada", source=source, style_name="s", style={}, copy_number=0,
        enhancer={"provider": "relight"}, attempts=(attempt,), kept=1 if image else 0, state=state,  # type: ignore[arg-type]
    )  # fmt: skip


def decision(word: str, reason: str = "", later: int = 0, **values: object) -> Decision:
    at = now() + datetime.timedelta(seconds=later)
    return Decision(subject="ada", id="v1", decision=word, reason=reason, at=at, **values)  # type: ignore[arg-type]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path))


def the_lock(approved_by: str = "gate") -> Lock[Variant]:
    return Lock(image=IMAGE, approved_by=approved_by, approved_at=now(), record=variant())


def test_a_lock_is_written_once(store: Store) -> None:
    assert lock_all(store, [the_lock()])[0].approved_by == "gate"
    assert lock_all(store, [the_lock("somebody else")])[0].approved_by == "gate"
    store.put_bytes("locks/ada/v1.json~", b"an editor's")  # is none, and disturbs nobody
    assert locks_of(store, Variant, "ada")["v1"].approved_by == "gate"
    assert (
        locks_of(store, Variant, "bruno") == {} and read_lock(store, Variant, "ada", "v2") is None
    )


def test_what_is_no_lock_is_refused(store: Store) -> None:
    store.put_bytes("locks/ada/v1.json", b'{"approved_by": "me"}')
    with pytest.raises(ApprovalError, match=r"v1\.json: not a lock"):
        locks_of(store, Variant, "ada")


def test_only_a_locked_image_as_it_is_may_enter() -> None:
    locked, other = the_lock(), variant(image=IMAGE.model_copy(update={"sha256": "c" * 64}))
    assert may_enter(variant(state="locked_approved"), locked, None)
    assert not may_enter(variant(state="locked_approved"), None, None)  # a record is no lock
    assert not may_enter(other, locked, None)
    unjudged = variant().model_copy(
        update={"attempts": (variant().attempts[0].model_copy(update={"verdict": None}),)}
    )
    assert not may_enter(unjudged, locked, None)
    assert not may_enter(variant("major"), locked, None)  # the gate cannot have locked this
    assert may_enter(variant("major"), the_lock("kim"), None)
    assert not may_enter(variant(), locked, decision("reject"))
    assert may_enter(variant(), locked, decision("approve"))


def test_states_follow_people_then_locks_then_the_batch() -> None:
    assert state_of(variant(), None, None) == "blocked"
    assert state_of(variant(), the_lock(), None) == "locked_approved"
    assert state_of(variant(), the_lock(), decision("reject")) == "qa_rejected"
    assert state_of(variant(state="locked_approved"), None, None) == "qa_approved"


def test_the_latest_decision_counts_whatever_the_files_are_called(store: Store) -> None:
    write_decisions(store, [decision("reject", later=10)])
    write_decisions(store, [decision("approve")])
    found = read_decisions(store).of(variant())
    assert found is not None and found.decision == "reject"


def test_an_approval_that_cannot_be_followed_undoes_no_rejection(store: Store) -> None:
    write_decisions(store, [decision("reject"), decision("approve", later=5, sha256="d" * 64)])
    assert read_decisions(store).of(variant("major")).decision == "reject"
    write_decisions(store, [decision("approve", later=9)])
    assert read_decisions(store).of(variant("critical")).decision == "reject"  # without a reason
    assert read_decisions(store).of(variant("major")).decision == "approve"


def test_what_was_locked_stands_whatever_a_set_of_other_settings_says() -> None:
    failed = variant(image=None, state="failed")
    standing = as_locked(failed, the_lock())
    assert may_enter(standing, the_lock(), None) and not may_enter(failed, the_lock(), None)
    assert as_locked(failed, None) is failed


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "file"),
        (b"no json", "Invalid JSON"),
        (b"[]", "file"),
        (b'{"decisions": [{"character": "../x", "variant": "v", "decision": "approve", "at": "2026-01-01T00:00:00Z"}]}', "character"),
        (b'{"decisions": [{"character": "x", "variant": "v", "decision": "maybe", "at": "2026-01-01T00:00:00Z"}]}', "'approve' or 'reject'"),
        (b'{"decisions": [{"character": "x", "variant": "v", "decision": "reject"}]}', "at: Field required"),
        (b'{"decisions": [{"character": "x", "variant": "v", "decision": "reject", "at": "2026-01-01T00:00:00"}]}', "timezone"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_decision_is_told_and_stops_nothing(
    store: Store, content: bytes, words: str
) -> None:
    store.put_bytes("decisions/bad.json", content)
    write_decisions(store, [decision("reject")])
    found = read_decisions(store)
    assert found.of(variant()) is not None
    (error,) = found.errors.values()
    assert "bad.json" in error and words in error and "remove or mend it" in error


def test_an_approval_becomes_a_lock(store: Store) -> None:
    faults = list(
        settle(
            store,
            [decision("approve", reviewer="kim")],
            {("variant", "ada", "v1"): variant("major")},
        )
    )
    lock = read_lock(store, Variant, "ada", "v1")
    assert not faults and lock is not None and lock.approved_by == "kim"
    assert lock.record.state == "locked_approved"


@pytest.mark.parametrize(
    ("word", "made", "fault"),
    [
        (decision("approve"), variant("critical"), "only with a written reason"),
        (decision("approve", reason="  "), variant("critical"), "only with a written reason"),
        (decision("approve", reason="the hat hides the face"), variant("critical"), None),
        (decision("approve", sha256="d" * 64), variant("major"), "of another image"),
        (decision("approve"), variant("critical", image=None), "no image to approve"),
        (decision("reject"), variant("critical", image=None), None),
    ],
)
def test_approvals_that_cannot_be_followed_say_why(
    store: Store, word: Decision, made: Variant, fault: str | None
) -> None:
    faults = [text for _, text in settle(store, [word], {("variant", "ada", "v1"): made})]
    assert len(faults) == (fault is not None)
    if fault:
        assert fault in faults[0] and read_lock(store, Variant, "ada", "v1") is None


def test_a_decision_on_nothing_is_told(store: Store) -> None:
    ((_, text),) = settle(store, [decision("approve"), decision("reject")], {})
    assert "no such variant" in text  # a rejection is kept, as it may come back


class Clip(Reviewed):
    """An artifact of another kind, as a later room would have it."""

    kind: ClassVar[str] = "clip"
    name: str
    score: float

    @property
    def subject(self) -> str:
        return "walk"

    @property
    def id(self) -> str:
        return self.name

    @property
    def image(self) -> Image:
        return Image(key="clips/walk.png", sha256="e" * 64, size=3)

    @property
    def verdict(self) -> Verdict:
        passes = self.score > 0.5
        return Verdict(severity="none" if passes else "major", passes=passes)


def test_artifacts_of_another_kind_are_locked_and_decided_beside_variants(store: Store) -> None:
    good, bad = Clip(name="v1", score=0.9), Clip(name="v2", score=0.1)
    write_decisions(
        store,
        [
            Decision(kind="clip", subject="walk", id="v2", decision="approve", at=now()),
            Decision(subject="walk", id="v1", decision="reject", at=now()),
        ],
    )
    found = read_decisions(store)
    assert [d.id for d in found.all("clip")] == ["v2"] and found.of(good) is None
    places = {clip.place: clip for clip in (good, bad)}
    assert not list(settle(store, found.all("clip"), places))
    assert set(locks_of(store, Clip, "walk")) == {"v2"} and not locks_of(store, Variant, "walk")
    lock = read_lock(store, Clip, "walk", "v2")
    assert lock is not None and lock.record.score == 0.1
    assert may_enter(bad, lock, found.of(bad)) and not may_enter(good, None, None)
    kinds: dict[str, type[Reviewed]] = {"clip": Clip, "variant": Variant}
    assert list(unreadable_locks(store, kinds)) == []
    store.put_bytes("locks/clip/walk/v3.json", b"{}")
    assert list(unreadable_locks(store, kinds)) == ["locks/clip/walk/v3.json"]
    assert len(list(damaged_locks(store, kinds))) == 1  # its image is nowhere


def test_locks_and_decisions_of_the_version_before_are_read(store: Store) -> None:
    new = the_lock("kim").model_dump(mode="json")
    old = {("variant" if k == "record" else k): v for k, v in new.items()}
    store.put_bytes("locks/ada/v1.json", json.dumps(old).encode())
    lock = read_lock(store, Variant, "ada", "v1")
    assert lock is not None and lock.approved_by == "kim" and lock.record == variant()
    word = {"character": "ada", "variant": "v1", "decision": "reject", "at": "2026-01-01T00:00:00Z"}
    store.put_bytes("decisions/x.json", json.dumps({"decisions": [word]}).encode())
    held = read_decisions(store).of(variant())
    assert held is not None and held.place == ("variant", "ada", "v1")
