"""One damaged thing in a store: it is told by name, the others go on, and what was begun stays what it is."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import dagster as dg
import pytest

from posefactory_dagster.pipeline.partitions import PartitionLedger, partition_set
from posefactory_dagster.storage.opening import open_store
from posefactory_dagster.storage.sets import CommittedSet, CommittedSets, SetRef
from posefactory_dagster.storage.store import DamagedObject
from posefactory_dagster.variants.enhancers.base import CannotEnhance
from posefactory_dagster.variants.render_views import RenderViews
from tests.conftest import Factory

#: The tests share one factory, so they run in one process, one after the other.
pytestmark = pytest.mark.xdist_group("damage")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Factory:
    """Two characters with all their sets and a dataset."""
    root = tmp_path_factory.mktemp("damage")
    factory = Factory(root)
    for name in ("ada_walk", "bruno_squat"):
        factory.add_sample(name)
    factory.cli("run", "--all")
    return factory


def spoil(committed: CommittedSet, name: str) -> Path:
    """Change a byte of a file in the middle of a set: same size, another checksum."""
    path = Path(committed.address(name))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    return path


def current(factory: Factory, asset: str, key: str = "ada_walk") -> CommittedSet:
    committed = factory.sets.current(asset, key)
    assert committed is not None
    return committed


def run(factory: Factory, *, expect: int) -> dict:
    return json.loads(factory.cli("run", "--all", "--json", expect=expect))


def repair(factory: Factory) -> None:
    """What the error texts advise."""
    factory.cli("store", "verify", "--repair")
    factory.cli("run", "--stale")
    assert not json.loads(factory.cli("store", "verify", "--json"))["damaged"]


def test_a_byte_that_turned_fails_its_own_character_and_is_repaired(made: Factory) -> None:
    renders = current(made, "multi_angle_renders")
    spoil(renders, "truth.npz")
    with pytest.raises(DamagedObject, match="not what its checksum says"):
        renders.path("truth.npz")
    made.sets.drop(current(made, "pose_labels").ref)  # so that the renders are read again
    made.sets.drop(current(made, "pose_labels", "bruno_squat").ref)
    report = run(made, expect=1)
    assert list(report["failed"]) == ["ada_walk"] and report["done"] == ["bruno_squat"]
    assert "store verify --repair" in report["failed"]["ada_walk"]
    rows = {r["key"]: r for r in json.loads(made.cli("characters", "list", "--json"))}
    assert "not what its checksum says" in rows["ada_walk"]["failed"]
    assert rows["bruno_squat"]["failed"] is None
    assert "failed: ada_walk" in made.cli("characters", "list")
    repair(made)
    assert json.loads(made.cli("characters", "list", "--json"))[0]["failed"] is None


@pytest.mark.parametrize(
    "words", ["{}", "[]", "", '{"identity": 5}', '{"identity": "../../x"}', "\x00"]
)
@pytest.mark.parametrize("asset", ["character", "pose_labels", "label_accuracy"])
def test_a_pointer_that_is_none_counts_as_none(made: Factory, asset: str, words: str) -> None:
    before = current(made, asset)
    (made.store / "current" / asset / "ada_walk.json").write_text(words)
    assert made.sets.readable(asset, "ada_walk") is None
    made.sets.publish(before.ref)
    assert made.sets.readable(asset, "ada_walk") == before


def test_pointers_and_manifests_that_cannot_be_read_stop_no_run(made: Factory) -> None:
    (made.store / "current" / "character" / "ada_walk.json").write_text("{}")
    labels = current(made, "pose_labels")
    manifest = Path(labels.address()).parent / "manifest.json"
    manifest.write_text("[]")
    report = run(made, expect=1)
    assert list(report["failed"]) == ["ada_walk"] and report["done"] == ["bruno_squat"]
    repair(made)


def test_malformed_facts_stop_nobody_else_and_are_found(made: Factory) -> None:
    source = current(made, "character")
    manifest = Path(source.address()).parent / "manifest.json"
    document = json.loads(manifest.read_text())
    document["facts"]["frame_range"] = "all of them"
    manifest.write_text(json.dumps(document))
    rows = {r["key"]: r for r in json.loads(made.cli("characters", "list", "--json"))}
    assert rows["ada_walk"]["kind"] == "not inspected" and rows["bruno_squat"]["kind"] == "skin"
    report = run(made, expect=1)
    assert list(report["failed"]) == ["ada_walk"] and report["done"] == ["bruno_squat"]
    assert "its facts are malformed (frame_range" in report["failed"]["ada_walk"]
    repair(made)


def test_who_is_left_out_of_a_dataset_is_told_at_the_end_of_a_run(made: Factory) -> None:
    """A table that is what its checksum says, and is no table: the dataset is made of the others, and the terminal says so."""
    made.add_sample("chen_jack")
    made.cli("run", "chen_jack", "--until", "label_accuracy")
    labels = made.sets.current("pose_labels", "chen_jack")
    assert labels is not None
    table, manifest = Path(labels.address("labels.parquet")), Path(labels.address()).parent / "manifest.json"  # fmt: skip
    table.write_bytes(b"no table")
    document = json.loads(manifest.read_text())
    document["files"]["labels.parquet"] = {"sha256": hashlib.sha256(b"no table").hexdigest(), "size": 8}  # fmt: skip
    manifest.write_text(json.dumps(document))
    said = made.cli("run", "--all")
    assert "left out" in said and "chen_jack: left out, a file of it is malformed" in said
    assert json.loads(made.cli("datasets", "show", "--json"))["characters"] == 2
    made.cli("characters", "remove", "chen_jack")


def test_names_that_are_none_of_ours_are_told_and_moved_out_of_the_way(made: Factory) -> None:
    strange = [
        "current/character/a b.json",
        "current/x",
        "sets/odd",
        "decisions/junk.json",
        "jobs/junk/job.json",
    ]
    for key in strange:
        made.sets.store.put_bytes(key, b"junk")
    rows = json.loads(made.cli("store", "verify", "--json", expect=1))
    assert sorted(r["key"] for r in rows["unreadable"]) == sorted(strange)
    assert json.loads(made.cli("jobs", "list", "--json"))  # the other jobs are there
    assert "cannot be read" in made.cli("jobs", "show", "junk", expect=2)
    run(made, expect=0)
    assert "moved to" in made.cli("store", "verify", "--repair")
    for key in strange:
        assert made.sets.store.get_bytes(key) is None
        assert made.sets.store.get_bytes("set-aside/" + key) == b"junk"
    assert not json.loads(made.cli("store", "verify", "--json"))["unreadable"]


def test_a_damaged_lock_or_image_of_a_variant_keeps_the_dataset_that_is_there(
    made: Factory,
) -> None:
    version = json.loads(made.cli("datasets", "show", "--json"))["version"]
    lock = next((made.store / "locks" / "ada_walk").iterdir())
    kept = lock.read_bytes()
    lock.write_bytes(b"{}")
    report = run(made, expect=1)
    (trouble,) = report["trouble"]
    assert "the dataset stays as it was: ada_walk" in trouble and "not a lock" in trouble
    # Others are looked at and decided on all the same, and the lock can be taken out of the way.
    assert {v["character"] for v in json.loads(made.cli("review", "list", "--json"))} == {
        "bruno_squat"
    }
    key = f"locks/ada_walk/{lock.name}"
    found = json.loads(made.cli("store", "verify", "--json", expect=1))
    assert key in [row["key"] for row in found["unreadable"]]
    lock.write_bytes(kept)
    run(made, expect=0)
    assert json.loads(made.cli("datasets", "show", "--json"))["version"] == version


def test_a_copy_takes_no_pointer_to_what_it_could_not_take_over(
    made: Factory, tmp_path: Path
) -> None:
    target = str(tmp_path / "copy")
    made.cli("store", "copy", str(made.store), target)
    theirs = CommittedSets(open_store(target))
    before = theirs.current("character", "ada_walk")
    assert before is not None
    commit = made.sets.commit
    with made.sets.scratch() as scratch:
        (scratch / "facts.json").write_text("{}")
        newer = commit(
            SetRef("character", "ada_walk", "newer"), scratch, inputs={}, settings={}, facts=dict(before.facts)
        )  # fmt: skip
    old = current(made, "character")
    made.sets.publish(newer.ref)
    spoil(newer, "facts.json")
    text = made.cli("store", "copy", str(made.store), target, expect=1)
    assert "character ada_walk newer" in text
    assert theirs.current("character", "ada_walk") == before
    made.sets.drop(newer.ref)
    made.sets.publish(old.ref)


def test_renders_of_an_earlier_version_say_so(made: Factory) -> None:
    renders = current(made, "multi_angle_renders")
    files = {n: e for n, e in renders.files.items() if not n.startswith(("albedo/", "normals/"))}
    with pytest.raises(CannotEnhance, match="rendered by an earlier version"):
        RenderViews.of(dataclasses.replace(renders, files=files))


def test_a_removed_key_that_comes_back_has_not_failed(factory: Factory) -> None:
    (factory.uploads / "hero.fbx").write_bytes(b"no FBX at all")
    factory.cli("home")
    with dg.DagsterInstance.from_config(str(factory.root / "home")) as instance:
        instance.add_dynamic_partitions("character", ["hero", "odd.key__a__b"])
    factory.cli("run", "hero", expect=1)
    rows = {r["key"]: r for r in json.loads(factory.cli("characters", "list", "--json"))}
    assert "not an FBX" in rows["hero"]["failed"] and rows["odd.key__a__b"]["gone"] == [
        "odd.key__a__b"
    ]
    factory.cli("characters", "remove", "hero", "odd.key__a__b")
    factory.add_sample("ada_walk", "hero")
    (row,) = json.loads(factory.cli("characters", "list", "--json"))
    assert row["failed"] is None


def test_what_is_removed_while_it_is_made_stays_removed(made: Factory) -> None:
    ref = current(made, "character", "bruno_squat").ref
    with dg.instance_for_test() as instance:
        instance.add_dynamic_partitions("character", ["ada_walk", "bruno_squat"])

        @dg.asset(name="character", partitions_def=partition_set("character"))
        def step(context):  # type: ignore[no-untyped-def]
            ledger = PartitionLedger(context, made.sets)
            instance.delete_dynamic_partition("character", "bruno_squat")
            made.sets.store.delete(["current/character/bruno_squat.json"])
            ledger.good("bruno_squat", ref, {})
            assert ledger.close().value == {}

        # Dagster itself ends the step, as its partition is gone; what counts is that no pointer came back.
        dg.materialize([step], partition_key="bruno_squat", instance=instance, raise_on_error=False)
    assert made.sets.current("character", "bruno_squat") is None
    made.sets.publish(ref)


def test_control_characters_reach_no_terminal(factory: Factory) -> None:
    name = "evil\x1b]0;owned\x07\x1b[31m.fbx"
    (factory.root / name).write_bytes(b"no FBX")
    text = factory.cli("characters", "add", name, "--name", "evil", expect=2)
    assert (
        "\x1b" not in text
        and "\x07" not in text
        and "evil\N{REPLACEMENT CHARACTER}]0;owned" in text
    )


def test_names_that_are_too_long_and_full_disks_get_a_text(factory: Factory) -> None:
    text = factory.cli("characters", "add", "x" * 5000 + ".fbx", expect=2)
    assert "too long" in text and "Traceback" not in text
    text = factory.cli("characters", "list", expect=2, DAGSTER_HOME="/proc/nowhere")
    assert "DAGSTER_HOME" in text and "Traceback" not in text
