"""Stores and instances of the time when motions and casts were keys among the characters."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import dagster as dg

from posefactory_dagster.definitions import defs
from posefactory_dagster.motions.migration import migrate
from posefactory_dagster.motions.sensors import PATIENCE, cast_sensor
from posefactory_dagster.storage.io_manager import StoreResource
from posefactory_dagster.storage.sets import SetRef
from tests.conftest import SAMPLES, Factory


def test_motions_and_casts_move_by_themselves_and_nothing_is_made_anew(
    factory: Factory, mixamo: Path
) -> None:
    """The old form is written as the version before wrote it: one partition set, no recipes, motions as `character` sets."""
    for source, key in (("ybot_tpose", "ybot"), ("ybot@kick", "kick")):
        factory.cli("characters", "add", str(mixamo / f"{source}.fbx"), "--name", key)
    factory.cli("cast", "ybot", "--motion", "kick")
    factory.cli("run", "--all", "--until", "character")
    sets = factory.sets
    cast = sets.current("character", "ybot__kick")
    motion = sets.current("motion", "kick")
    assert cast is not None and motion is not None
    with sets.scratch() as scratch:
        for name in motion.files:
            shutil.copyfile(motion.path(name), scratch / name)
        old = sets.commit(
            SetRef("character", "kick", "old"), scratch,
            inputs={"skin": motion.inputs["motion"]}, settings=motion.settings, facts=motion.facts,
        )  # fmt: skip
    sets.publish(old.ref)
    sets.store.delete([i.key for p in ("casts/", "current/cast/", "current/motion/", "sets/cast/", "sets/motion/") for i in sets.store.list(p)])  # fmt: skip
    with dg.DagsterInstance.from_config(str(factory.root / "home")) as instance:
        for name, key in (("motion", "kick"), ("cast", "ybot__kick"), ("posefactory_structure", "motions")):  # fmt: skip
            instance.delete_dynamic_partition(name, key)
        instance.add_dynamic_partitions("character", ["kick"])

    text = factory.cli("characters", "list")
    assert "kick moved there" in text and "casts have recipes now: ybot__kick" in text
    assert "moved" not in factory.cli("characters", "list")
    rows = {r["key"]: r for r in json.loads(factory.cli("characters", "list", "--json"))}
    assert rows["kick"]["kind"] == "not inspected" and rows["ybot__kick"]["kind"] == "skin"
    document = json.loads(factory.cli("run", "--all", "--until", "character", "--json"))
    assert document["done"] == ["ybot", "ybot__kick"] and not document["failed"]
    after = factory.sets.current("character", "ybot__kick")
    assert after is not None and dataclasses.astuple(after.ref) == dataclasses.astuple(cast.ref)
    assert after.created_at == cast.created_at  # found committed
    assert factory.sets.current("cast", "ybot__kick") is not None


def test_a_new_instance_has_nothing_to_move(factory: Factory) -> None:
    with dg.instance_for_test() as instance:
        assert list(migrate(instance, lambda: factory.sets)) == []
        assert instance.has_dynamic_partition("posefactory_structure", "motions")


def test_a_motion_that_looked_like_a_character_goes_to_the_motions(
    factory: Factory, mixamo: Path
) -> None:
    """Geometry without a skin, as a prop that an animator left in the file."""
    data = (mixamo / "ybot@kick.fbx").read_bytes()
    assert b"Geometry" not in data
    (factory.uploads / "kick.fbx").write_bytes(data)
    factory.cli("home")
    with dg.DagsterInstance.from_config(str(factory.root / "home")) as instance:
        instance.add_dynamic_partitions("posefactory_structure", ["motions"])
        instance.add_dynamic_partitions("character", ["kick"])
    text = factory.cli("run", "kick", expect=1)
    assert "is a motion now" in " ".join(text.split())
    document = json.loads(factory.cli("run", "--all", "--until", "motion", "--json"))
    assert document["apart"] == {"kick": "motion"}


def test_a_project_of_the_version_before_works_with_the_daemon_alone(
    factory: Factory, mixamo: Path
) -> None:
    """Nobody runs anything by hand: the sensor moves, inspects and casts."""
    for source, key in (("ybot_tpose", "ybot"), ("ybot@kick", "kick")):
        shutil.copyfile(mixamo / f"{source}.fbx", factory.uploads / f"{key}.fbx")
    with dg.instance_for_test() as instance:
        instance.add_dynamic_partitions("character", ["ybot", "kick", "ybot__kick"])
        cursor, requests = None, []
        for _ in range(PATIENCE):
            with dg.build_sensor_context(
                instance=instance, cursor=cursor, definitions=defs,
                resources={"store": StoreResource(address=str(factory.store))},
            ) as context:  # fmt: skip
                result = cast_sensor(context)
            assert isinstance(result, dg.SensorResult)
            cursor = result.cursor
            requests += result.run_requests or []
        assert [r.job_name for r in requests] == ["motion_job"]
        assert list(instance.get_dynamic_partitions("character")) == ["ybot", "ybot__kick"]
        assert list(instance.get_dynamic_partitions("cast")) == ["ybot__kick"]


def test_what_is_no_recipe_stops_nobody_and_is_told(factory: Factory) -> None:
    factory.add_sample("ada_walk")
    (factory.store / "casts").mkdir()
    (factory.store / "casts" / "a__b.json").write_text("{}")
    with dg.DagsterInstance.from_config(str(factory.root / "home")) as instance:
        instance.add_dynamic_partitions("cast", ["a__b"])
        instance.add_dynamic_partitions("character", ["a__b", "x y"])
    rows = {r["key"] for r in json.loads(factory.cli("characters", "list", "--json"))}
    assert rows == {"ada_walk", "a__b", "x y"}
    assert "its recipe cannot be read" in factory.cli(
        "run", "a__b", "--until", "character", expect=1
    )
    assert "casts/a__b.json" in factory.cli("store", "verify", expect=1)
    factory.cli("characters", "remove", "a__b", "x y")
    assert not (factory.store / "casts" / "a__b.json").exists()


def test_recipes_are_copied_with_the_store(factory: Factory, mixamo: Path) -> None:
    for source, key in (("ybot_tpose", "ybot"), ("ybot@kick", "kick")):
        shutil.copyfile(mixamo / f"{source}.fbx", factory.uploads / f"{key}.fbx")
    factory.cli("cast", "ybot", "--motion", "kick")
    factory.cli("run", "ybot__kick", "--until", "cast")  # its motion was never registered by hand
    assert factory.sets.current("cast", "ybot__kick") is not None
    other = factory.root / "other"
    factory.cli("store", "copy", str(factory.store), str(other))
    assert (other / "casts" / "ybot__kick.json").exists()


def test_a_motion_that_gives_way_to_a_character_is_no_motion_any_more(
    factory: Factory, mixamo: Path
) -> None:
    factory.cli("characters", "add", str(mixamo / "ybot@kick.fbx"), "--name", "kick")
    factory.cli("run", "kick", "--until", "motion")
    sample = str(SAMPLES / "ada_walk.fbx")
    factory.cli("characters", "add", sample, "--name", "kick", "--replace")
    (row,) = json.loads(factory.cli("characters", "list", "--json"))
    assert row["key"] == "kick" and row["kind"] == "not inspected"
    assert json.loads(factory.cli("motions", "list", "--json")) == []
    assert factory.sets.current("motion", "kick") is None
