"""A set exists when its manifest does, and not a moment before."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest

from posefactory_dagster.storage import layout
from posefactory_dagster.storage.copying import copy_store
from posefactory_dagster.storage.opening import open_store
from posefactory_dagster.storage.sets import CommittedSets, DamagedPointer, SetRef, identity_of
from posefactory_dagster.storage.store import LocalStore, StoreError, explain_disk

REF = SetRef("renders", "hero", "abc")


@pytest.fixture
def sets(tmp_path: Path) -> CommittedSets:
    return CommittedSets(LocalStore(tmp_path))


def commit(sets: CommittedSets, ref: SetRef = REF, text: str = "x", inputs: dict | None = None):
    with sets.scratch() as scratch:
        (scratch / "images").mkdir()
        (scratch / "images" / "a.png").write_text(text)
        return sets.commit(ref, scratch, inputs=inputs or {}, settings={}, facts={"n": 1})


def age(sets: CommittedSets, seconds: float) -> None:
    then = time.time() - seconds
    for path in Path(sets.store.address()).rglob("*"):
        os.utime(path, (then, then))


def test_committed_set_reads_back(sets: CommittedSets) -> None:
    committed = commit(sets)
    assert committed.path("images/a.png").read_text() == "x"
    assert sets.find(REF) == committed and committed.facts == {"n": 1}
    with pytest.raises(KeyError):
        committed.path("images/b.png")


def test_files_without_manifest_are_no_set(sets: CommittedSets) -> None:
    commit(sets)
    sets.store.delete([layout.manifest("renders", "hero", "abc")])
    assert sets.find(REF) is None and list(sets.all()) == []
    assert commit(sets, text="y").path("images/a.png").read_text() == "y"


def test_first_commit_wins(sets: CommittedSets) -> None:
    commit(sets, text="first")
    assert commit(sets, text="second").path("images/a.png").read_text() == "first"


def test_readers_are_pointed_to_one_set(sets: CommittedSets) -> None:
    assert sets.current("renders", "hero") is None
    commit(sets)
    assert sets.current("renders", "hero") is None
    sets.publish(REF)
    assert sets.current("renders", "hero").ref == REF


@pytest.mark.parametrize("fault", ["missing", "another size", "another checksum"])
def test_verify_finds_damage(sets: CommittedSets, fault: str) -> None:
    path = commit(sets).path("images/a.png")
    if fault == "missing":
        path.unlink()
    else:
        path.write_text("xx" if fault == "another size" else "z")
    ((_, damages),) = sets.verify()
    assert [(d.file, d.fault) for d in damages] == [("images/a.png", fault)]


def test_gc_takes_old_unused_sets_and_spares_the_rest(sets: CommittedSets) -> None:
    used = SetRef("renders", "hero", "used")
    source = SetRef("character", "hero", "source")
    commit(sets, source)
    commit(sets, used, inputs={"sets": [["character", "hero", "source"]]})
    sets.publish(used)
    commit(sets)
    sets.store.put_bytes(layout.set_file("renders", "hero", "half", "0a", "a.png"), b"no manifest")
    left_over = sets.store.scratch()
    (left_over / "a").write_text("a")
    assert sets.collect_garbage(3600) == ([], 0)  # all of it is young
    age(sets, 7200)
    fresh = SetRef("renders", "new", "fresh")
    commit(sets, fresh)
    would, _ = sets.collect_garbage(3600, dry_run=True)
    removed, freed = sets.collect_garbage(3600)
    assert removed == would and freed > 0
    assert removed == ["sets/renders/hero/abc/", "sets/renders/hero/half/0a"]
    assert sets.find(used) and sets.find(source) and sets.find(fresh) and not sets.find(REF)
    assert not left_over.exists()


def test_identity_follows_content_not_order() -> None:
    assert identity_of("a", {"x": 1, "y": 2}, {}) == identity_of("a", {"y": 2, "x": 1}, {})
    assert identity_of("a", {"x": 1}, {"seed": 0}) != identity_of("a", {"x": 1}, {"seed": 1})


@pytest.mark.parametrize("part", ["..", "a/b", "", ".hidden", "a\x00b", "a b"])
def test_layout_refuses_parts_that_lead_elsewhere(part: str) -> None:
    with pytest.raises(ValueError):
        layout.set_prefix("renders", part, "abc")


def test_store_refuses_keys_that_lead_out(tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        LocalStore(tmp_path).get_bytes("../secret")


@pytest.mark.parametrize(
    ("number", "words"), [(errno.ENOSPC, "disk is full"), (errno.EROFS, "cannot be written")]
)
def test_disk_faults_say_what_to_do(tmp_path: Path, number: int, words: str) -> None:
    text = str(explain_disk(OSError(number, os.strerror(number)), str(tmp_path)))
    assert words in text and "POSEFACTORY_STORE" in text and str(tmp_path) in text


def test_a_store_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(StoreError, match="file"),
        CommittedSets(LocalStore(tmp_path / "file")).scratch(),
    ):
        pass


def test_unknown_store_kind_is_refused() -> None:
    with pytest.raises(StoreError, match="r2://bucket/prefix"):
        open_store("gs://bucket")


@pytest.mark.parametrize(
    "data",
    [b"{", b"[]", b"\xff", b'{"identity": 5}', b'{"identity": ""}', b'{"identity": "../x"}', b'{"identity": "a b"}', '{"identity": "é"}'.encode()],
)  # fmt: skip
def test_a_pointer_that_is_none_is_found_and_stops_nothing_else(
    sets: CommittedSets, data: bytes
) -> None:
    committed, key = commit(sets), layout.current(REF.asset, REF.partition)
    sets.store.put_bytes(key, data)
    with pytest.raises(DamagedPointer, match="points to no set.*verify --repair"):
        sets.current(REF.asset, REF.partition)
    found = list(sets.verify())
    assert (committed.ref, []) in found
    assert [(d.file, d.fault) for _, ds in found for d in ds] == [(key, "a pointer that points to no set")]  # fmt: skip
    sets.collect_garbage(3600)
    sets.drop(next(ref for ref, damages in found if damages))
    assert sets.current(REF.asset, REF.partition) is None and sets.find(committed.ref) == committed


@pytest.mark.parametrize("data", [b'{"attempt": "x", "fi', b"[]", b"{}", b"\xff"])
def test_a_manifest_that_is_none_is_found_and_can_be_dropped(
    sets: CommittedSets, data: bytes
) -> None:
    sets.publish(commit(sets).ref)
    sound = commit(sets, SetRef("renders", "twin", "abc"))
    sets.store.put_bytes(layout.manifest(REF.asset, REF.partition, REF.identity), data)
    with pytest.raises(StoreError, match="cannot be read.*verify --repair"):
        sets.current("renders", "hero")
    found = dict(sets.verify())
    assert [(d.file, d.fault) for d in found[REF]] == [("manifest.json", "cannot be read")]
    assert found[sound.ref] == []
    sets.drop(REF)
    assert sets.current("renders", "hero") is None and dict(sets.verify()) == {sound.ref: []}


def test_garbage_collection_leaves_variants_locks_decisions_and_the_ledger_alone(
    tmp_path: Path,
) -> None:
    store = open_store(str(tmp_path / "store"))
    keys = [
        "variants/a/v/1-x.png",
        "locks/a/v.json",
        "decisions/d.json",
        "ledger/2026-01-01/e.json",
    ]
    for key in keys:
        store.put_bytes(key, b"x")
    CommittedSets(store).collect_garbage(0)
    assert all(store.get_bytes(key) == b"x" for key in keys)


def test_a_copy_takes_variants_with_their_locks_and_changes_none(tmp_path: Path) -> None:
    here, there = open_store(str(tmp_path / "a")), open_store(str(tmp_path / "b"))
    keys = [
        "variants/a/v/1-x.png",
        "locks/a/v.json",
        "decisions/d.json",
        "ledger/2026-01-01/e.json",
    ]
    for key in keys:
        here.put_bytes(key, b"mine")
    there.put_bytes(keys[1], b"theirs, and locked")
    *_, (_, copied) = copy_store(here, there)
    assert copied.variants == 3
    assert there.get_bytes(keys[0]) == b"mine" and there.get_bytes(keys[1]) == b"theirs, and locked"
    *_, (_, again) = copy_store(here, there)
    assert again.variants == 0 and again.bytes == 0


def test_scratch_of_ended_processes_goes_and_that_of_others_stays(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    mine = store.scratch()
    machine = mine.name.split("-")[0]
    dead = mine.with_name(f"{machine}-{2**22 + 1}-x")
    elsewhere = mine.with_name(f"00000000-{2**22 + 1}-x")
    for folder in (dead, elsewhere):
        folder.mkdir()
        (folder / "half.png").write_bytes(b"half")
    assert store.sweep_dead() == 1
    assert mine.is_dir() and elsewhere.is_dir() and not dead.exists()
