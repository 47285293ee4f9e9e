"""The upload sensor, as a person dropping files sees it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from posefactory_dagster.characters.sensors import upload_sensor
from posefactory_dagster.definitions import defs
from posefactory_dagster.intake.watching import UploadCursor, look
from posefactory_dagster.motions.documents import Recipe
from posefactory_dagster.motions.sensors import cast_sensor
from posefactory_dagster.pipeline.jobs import RANGE_END, RANGE_START, contiguous
from posefactory_dagster.pipeline.sensors import carry_on_sensor
from posefactory_dagster.storage import layout
from posefactory_dagster.storage.io_manager import StoreResource
from posefactory_dagster.storage.store import LocalStore
from tests.conftest import SAMPLES

SAMPLE = SAMPLES / "ada_walk.fbx"
SAMPLE_BYTES = SAMPLE.read_bytes()


class Sensor:
    """Ticks the real sensor against a real instance, and applies what it asks for."""

    def __init__(self, root: Path, instance: dg.DagsterInstance) -> None:
        self.uploads = root / "uploads"
        self.uploads.mkdir()
        self.root, self.instance = root, instance
        self.cursors: dict[str, str | None] = {}

    def tick(self, sensor: dg.SensorDefinition = upload_sensor) -> dg.SensorResult:
        with dg.build_sensor_context(
            instance=self.instance,
            cursor=self.cursors.get(sensor.name),
            definitions=defs,
            resources={"store": StoreResource(address=str(self.root))},
        ) as context:
            result = sensor(context)
        assert isinstance(result, dg.SensorResult)
        self.cursors[sensor.name] = result.cursor
        for request in result.dynamic_partitions_requests or []:
            name, keys = str(request.partitions_def_name), list(request.partition_keys)
            if isinstance(request, dg.AddDynamicPartitionsRequest):
                self.instance.add_dynamic_partitions(name, keys)
            else:
                for key in keys:
                    self.instance.delete_dynamic_partition(name, key)
        return result

    def run(self, request: dg.RunRequest, *assets: str) -> bool:
        """Run what a tick asked for, in this process."""
        result = defs.resolve_job_def(str(request.job_name)).execute_in_process(
            instance=self.instance, tags=request.tags, raise_on_error=False,
            asset_selection=[dg.AssetKey(a) for a in assets] or None,
        )  # fmt: skip
        return result.success

    def drop(self, name: str, source: Path = SAMPLE) -> Path:
        return Path(shutil.copyfile(source, self.uploads / name))

    @property
    def keys(self) -> list[str]:
        return list(self.instance.get_dynamic_partitions("character"))


@pytest.fixture
def sensor(tmp_path: Path) -> Iterator[Sensor]:
    with dg.instance_for_test() as instance:
        yield Sensor(tmp_path, instance)


def test_a_dropped_file_is_run_once(sensor: Sensor) -> None:
    sensor.drop("My Hero.fbx")
    assert not sensor.tick().run_requests  # it may still be being copied
    (request,) = sensor.tick().run_requests
    assert request.tags[RANGE_START] == request.tags[RANGE_END] == "My_Hero"
    assert sensor.keys == ["My_Hero"]
    for _ in range(3):
        assert not sensor.tick().run_requests


def test_thirty_files_at_once_are_one_run(sensor: Sensor) -> None:
    for i in range(30):
        sensor.drop(f"hero{i:02d}.fbx")
    sensor.tick()
    (request,) = sensor.tick().run_requests
    assert (request.tags[RANGE_START], request.tags[RANGE_END]) == ("hero00", "hero29")
    assert len(sensor.keys) == 30


def test_a_file_that_still_grows_waits(sensor: Sensor) -> None:
    path = sensor.uploads / "hero.fbx"
    data = SAMPLE.read_bytes()
    for share in (0.3, 0.6, 1.0):
        path.write_bytes(data[: int(len(data) * share)])
        assert not sensor.tick().run_requests
    assert len(sensor.tick().run_requests) == 1


def test_changed_content_runs_again_and_a_touch_does_not(sensor: Sensor) -> None:
    path = sensor.drop("hero.fbx")
    sensor.tick(), sensor.tick()
    os.utime(path, (1, 1))
    sensor.tick()
    assert not sensor.tick().run_requests
    shutil.copyfile(SAMPLES / "chen_jack.fbx", path)
    sensor.tick()
    assert len(sensor.tick().run_requests) == 1 and sensor.keys == ["hero"]


def test_a_file_that_was_taken_away_and_dropped_once_more_is_news(sensor: Sensor) -> None:
    keys = []
    for _ in range(2):
        path = sensor.drop("hero.fbx")
        os.utime(path, (1, 1))  # the very same file, as far as anybody can see
        sensor.tick()
        (request,) = sensor.tick().run_requests
        keys.append(request.run_key)
        path.unlink()
        sensor.instance.delete_dynamic_partition("character", "hero")
        assert not sensor.tick().run_requests
    assert len(set(keys)) == 2  # Dagster takes a run key that it knows for done


def test_two_files_for_one_key_are_an_error_and_touch_nothing(sensor: Sensor) -> None:
    sensor.drop("my hero.fbx")
    sensor.drop("my_hero.fbx")
    sensor.drop("other.fbx")
    sensor.tick()
    (request,) = sensor.tick().run_requests
    assert request.tags[RANGE_START] == request.tags[RANGE_END] == "other"
    assert sensor.keys == ["other"]
    text = sensor.tick().skip_reason.skip_message
    assert "my hero.fbx" in text and "my_hero.fbx" in text and "rename" in text


def test_names_that_give_no_key_are_told(sensor: Sensor) -> None:
    for name in ("...fbx", "\x07\x08.fbx", ".. .fbx"):
        sensor.drop(name)
    (sensor.uploads / "sub").mkdir()
    sensor.drop("sub/inner.fbx")
    sensor.drop("../escape.fbx")  # beside the folder: not an upload at all
    sensor.tick()
    result = sensor.tick()
    text = result.skip_reason.skip_message
    assert not result.run_requests and sensor.keys == []
    assert (
        "'...fbx'" in text and "\\x07" in text and "sub/inner.fbx" in text and "escape" not in text
    )


def test_what_the_command_line_took_in_is_no_news(
    sensor: Sensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSEFACTORY_STORE", str(sensor.root))
    sensor.drop("hero.fbx")
    sensor.instance.add_dynamic_partitions("character", ["hero"])
    result = defs.resolve_job_def("characters_to_dataset").execute_in_process(
        instance=sensor.instance, partition_key="hero", asset_selection=[dg.AssetKey("character")]
    )
    assert result.success
    assert not any(sensor.tick().run_requests for _ in range(3))


def test_a_bad_file_is_asked_for_once(sensor: Sensor) -> None:
    (sensor.uploads / "bad.fbx").write_text("not an FBX")
    sensor.tick()
    assert len(sensor.tick().run_requests) == 1
    assert not any(sensor.tick().run_requests for _ in range(5))


def test_a_motion_is_only_inspected_and_takes_its_casts_along(
    sensor: Sensor, mixamo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSEFACTORY_STORE", str(sensor.root))
    sensor.drop("hero.fbx", mixamo / "ybot_tpose.fbx")
    sensor.drop("kick.fbx", mixamo / "ybot@kick.fbx")
    sensor.tick()
    requests = {r.tags[RANGE_START]: r for r in sensor.tick().run_requests}
    assert requests["kick"].job_name == "motion_job"
    assert requests["hero"].job_name == "characters_to_dataset"
    assert sensor.keys == ["hero"]
    assert sensor.instance.get_dynamic_partitions("motion") == ["kick"]
    assert not sensor.tick(cast_sensor).run_requests

    recipe = Recipe(skin="hero", motion="kick")
    store = LocalStore(sensor.root)
    store.put_bytes(layout.recipe(recipe.key), recipe.model_dump_json().encode())
    for name in ("cast", "character"):
        sensor.instance.add_dynamic_partitions(name, [recipe.key])
    assert not sensor.tick(cast_sensor).run_requests  # its motion is not inspected yet
    assert sensor.run(requests["kick"])
    for _ in range(2):  # at first, and when the motion was replaced
        (request,) = sensor.tick(cast_sensor).run_requests
        assert request.job_name == "cast_job" and request.tags[RANGE_END] == "hero__kick"
        assert not sensor.tick(cast_sensor).run_requests
        assert sensor.run(request)
        (request,) = sensor.tick(cast_sensor).run_requests
        assert request.job_name == "characters_to_dataset"
        assert request.tags[RANGE_START] == request.tags[RANGE_END] == "hero__kick"
        assert sensor.run(request, "character")
        assert not sensor.tick(cast_sensor).run_requests
        shutil.copyfile(mixamo / "sitting.fbx", sensor.uploads / "kick.fbx")
        sensor.tick()
        assert all(sensor.run(request) for request in sensor.tick().run_requests)


def test_a_motion_that_is_replaced_by_a_character_is_one(sensor: Sensor, mixamo: Path) -> None:
    sensor.drop("kick.fbx", mixamo / "ybot@kick.fbx")
    sensor.tick(), sensor.tick()
    assert sensor.instance.get_dynamic_partitions("motion") == ["kick"]
    shutil.copyfile(SAMPLE, sensor.uploads / "kick.fbx")
    sensor.tick()
    (request,) = sensor.tick().run_requests
    assert request.job_name == "characters_to_dataset" and sensor.keys == ["kick"]
    assert sensor.instance.get_dynamic_partitions("motion") == []


def test_ten_thousand_files_are_looked_at_in_parts(sensor: Sensor) -> None:
    for i in range(10_000):
        (sensor.uploads / f"f{i:05d}.fbx").write_bytes(b"x")
    assert not sensor.tick().run_requests
    (request,) = sensor.tick().run_requests
    assert len(sensor.keys) == 500 and request.tags[RANGE_END] == "f00499"
    assert len(json.loads(sensor.cursors["upload_sensor"])["pending"]) == 9_500


def test_contiguous_groups() -> None:
    registered = list("abcdefg")
    assert contiguous("abd", registered) == [["a", "b"], ["d"]]
    assert contiguous("gab", registered) == [["a", "b"], ["g"]]
    assert contiguous([], registered) == []


def test_good_characters_of_a_failed_run_are_carried_on(
    sensor: Sensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the daemon does it, for runs that the web UI or the upload sensor started."""
    monkeypatch.setenv("POSEFACTORY_STORE", str(sensor.root))
    sensor.drop("a.fbx")
    (sensor.uploads / "b.fbx").write_bytes(SAMPLE.read_bytes()[:300_000])  # truncated
    sensor.drop("c.fbx", SAMPLES / "chen_jack.fbx")
    sensor.tick()
    (request,) = sensor.tick().run_requests
    result = defs.resolve_job_def("characters_to_dataset").execute_in_process(
        instance=sensor.instance, tags=request.tags, raise_on_error=False
    )
    assert not result.success
    context = dg.build_run_status_sensor_context(
        sensor_name="carry_on_sensor",
        dagster_event=result.get_run_failure_event(),
        dagster_instance=sensor.instance,
        dagster_run=sensor.instance.get_run_by_id(result.run_id),
        repository_def=defs.get_repository_def(),
    ).for_run_failure()
    requests = list(carry_on_sensor(context))
    assert [(r.tags[RANGE_START], r.tags[RANGE_END]) for r in requests] == [("a", "a"), ("c", "c")]
    assert [k.to_user_string() for k in requests[0].asset_selection] == [
        "multi_angle_renders",
        "pose_labels",
        "label_accuracy",
        "enhanced_variants",
        "pose_dataset",
    ]


def test_strange_entries_stop_nothing_and_are_reported_once(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    uploads = tmp_path / "uploads"
    uploads.mkdir()
    (uploads / "good.fbx").write_bytes(SAMPLE_BYTES)
    os.mkfifo(uploads / "pipe.fbx")
    (uploads / "zero.fbx").symlink_to("/dev/zero")
    (uploads / "dangling.fbx").symlink_to("/nowhere.fbx")
    (uploads / "secret.fbx").symlink_to("/etc/hostname")
    Path(os.fsdecode(os.fsencode(uploads) + b"/caf\xe9.fbx")).write_bytes(SAMPLE_BYTES)
    memory = UploadCursor()
    first = look(store, memory, lambda key: None, 200)
    assert len(first.errors) == 5 and any("caf\\xe9" in e and "UTF-8" in e for e in first.errors)
    assert sum("not a regular file" in e for e in first.errors) == 4
    json.loads(memory.to_cursor())
    second = look(store, UploadCursor.from_cursor(memory.to_cursor()), lambda key: None, 200)
    assert second.news == [] and second.errors == first.errors
    assert second.with_geometry == ["good"]
