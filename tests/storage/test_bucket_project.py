"""A whole project in a bucket: the same verbs, the same assets, the same figures."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

import dagster as dg
import pytest

from posefactory_dagster.intake.watching import UploadCursor, look
from posefactory_dagster.storage import layout
from posefactory_dagster.storage.opening import open_store
from posefactory_dagster.storage.sets import CommittedSets, SetRef
from posefactory_dagster.storage.store import LocalStore, Store
from tests.conftest import SAMPLES, Factory
from tests.servers import S3Server


@pytest.fixture
def in_bucket(factory: Factory, rclone_s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The factory, with its store in a bucket; and that store."""
    changes = {
        **rclone_s3.environment,
        "POSEFACTORY_STORE": f"r2://{rclone_s3.bucket}/{factory.root.parent.name}",
        "POSEFACTORY_CACHE": str(factory.root / "cache"),
    }
    factory.environment.update(changes)
    for name, value in changes.items():
        monkeypatch.setenv(name, value)
    return open_store(changes["POSEFACTORY_STORE"])


def truths(sets: CommittedSets, key: str) -> dict[str, str]:
    """Checksum of each image, mask and truth array of a key's renders."""
    committed = sets.current("multi_angle_renders", key)
    assert committed is not None
    return {n: f["sha256"] for n, f in committed.files.items() if n.endswith((".png", ".npz"))}


def test_the_main_job_in_a_bucket_equals_the_local_one_and_moves_both_ways(
    factory: Factory, in_bucket: Store
) -> None:
    factory.cli("characters", "add", str(SAMPLES / "ada_walk.fbx"), "--name", "hero")
    text = factory.cli("run", "hero", "--json")
    assert not json.loads(text)["failed"] and not json.loads(text)["trouble"], text
    remote = CommittedSets(in_bucket)
    assert remote.current("pose_dataset", "all") is not None
    assert json.loads(factory.cli("store", "verify", "--json"))["damaged"] == []
    text = factory.cli("run", "hero")  # finds everything
    assert "1 of 1 characters done" in text

    local_root = factory.root / "local"
    address = factory.environment["POSEFACTORY_STORE"]
    copied = json.loads(factory.cli("store", "copy", address, str(local_root), "--json"))
    assert copied["sets"] == 6 and copied["uploads"] == 1 and not copied["clashes"]
    again = json.loads(factory.cli("store", "copy", address, str(local_root), "--json"))
    assert again["sets"] == 0 and again["found"] == 7
    local = CommittedSets(LocalStore(local_root))
    assert all(not damages for _, damages in local.verify())
    assert truths(local, "hero") == truths(remote, "hero")

    # Made on this machine, it would be the same, pixel by pixel.
    factory.environment["POSEFACTORY_STORE"] = str(factory.root / "made here")
    factory.cli("characters", "add", str(SAMPLES / "ada_walk.fbx"), "--name", "hero")
    factory.cli("run", "hero")
    assert truths(CommittedSets(LocalStore(factory.root / "made here")), "hero") == truths(
        remote, "hero"
    )
    factory.environment["POSEFACTORY_STORE"] = address

    # A copy that was cut off goes on: one set has lost its manifest, one file of it is damaged.
    committed = local.current("pose_labels", "hero")
    assert committed is not None
    back = f"{address}/back"
    factory.cli("store", "copy", str(local_root), back)
    cut = open_store(back)
    ref = committed.ref
    cut.delete([layout.manifest(ref.asset, ref.partition, ref.identity), committed.key("labels.parquet")])  # fmt: skip
    resumed = json.loads(factory.cli("store", "copy", str(local_root), back, "--json"))
    assert resumed["sets"] == 1
    assert all(not damages for _, damages in CommittedSets(cut).verify())

    # Where the target went on by itself, its readers keep what they have, unless told otherwise.
    there = CommittedSets(cut)
    mine = there.current("pose_labels", "hero")
    assert mine is not None
    scratch = cut.scratch()
    (scratch / "labels.parquet").write_bytes(b"of another run")
    newer = there.commit(SetRef("pose_labels", "hero", "ffff"), scratch, inputs={}, settings={}, facts={})  # fmt: skip
    there.publish(newer.ref)
    kept = json.loads(factory.cli("store", "copy", str(local_root), back, "--json"))["kept"]
    assert kept == [layout.current("pose_labels", "hero")]
    assert there.current("pose_labels", "hero").ref == newer.ref
    assert not json.loads(
        factory.cli("store", "copy", str(local_root), back, "--replace", "--json")
    )["kept"]
    assert there.current("pose_labels", "hero").ref == mine.ref

    factory.environment["POSEFACTORY_STORE"] = str(local_root)
    assert json.loads(factory.cli("run", "--stale", "--json"))["keys"] == []


def test_no_secret_in_what_was_written(factory: Factory, in_bucket: Store) -> None:
    factory.cli("characters", "add", str(SAMPLES / "chen_jack.fbx"), "--name", "hero")
    text = factory.cli("run", "hero")
    text += factory.cli("run", "hero", expect=2, R2_SECRET_ACCESS_KEY="planted-secret-7")
    home = factory.root / "home"
    written = [p for p in home.rglob("*") if p.is_file()]
    assert written
    with dg.DagsterInstance.from_config(str(home)) as instance:
        events = [e.to_json() for r in instance.get_runs() for e in instance.all_logs(r.run_id)]
    everything = [text.encode(), "".join(events).encode(), *(p.read_bytes() for p in written)]
    everything += [in_bucket.get_bytes(i.key) or b"" for i in in_bucket.list("sets/") if i.key.endswith(".json")]  # fmt: skip
    for data in everything:
        for secret in (b"test-secret-0", b"planted-secret-7", b"TESTKEYID0", b"X-Amz-Signature"):
            assert secret not in data


def nothing_made(key: str) -> None:
    """No key has a set."""


def test_a_collaborator_uploads_and_the_sensor_sees_it(factory: Factory, in_bucket: Store) -> None:
    document = json.loads(factory.cli("upload-url", "My Hero.fbx", "--json"))
    assert document["key"] == "My_Hero"
    data = (SAMPLES / "ada_walk.fbx").read_bytes()
    urllib.request.urlopen(urllib.request.Request(document["url"], data=data, method="PUT"))
    cursor = UploadCursor()
    assert look(in_bucket, cursor, nothing_made, 200).with_geometry == []  # seen once
    assert look(in_bucket, cursor, nothing_made, 200).with_geometry == ["My_Hero"]
    assert look(in_bucket, cursor, nothing_made, 200).with_geometry == []
    other = (SAMPLES / "chen_jack.fbx").read_bytes()
    urllib.request.urlopen(urllib.request.Request(document["url"], data=other, method="PUT"))
    look(in_bucket, cursor, nothing_made, 200)
    assert look(in_bucket, cursor, nothing_made, 200).with_geometry == ["My_Hero"]
    assert "'My_Hero.fbx' already" in factory.cli("upload-url", "My Hero.fbx", expect=2)


def test_an_upload_over_the_limit_is_refused_without_being_fetched(
    factory: Factory, in_bucket: Store
) -> None:
    in_bucket.put_bytes(layout.upload("huge.fbx"), bytes(3_000_000))
    cursor = UploadCursor()
    look(in_bucket, cursor, nothing_made, 2)
    assert look(in_bucket, cursor, nothing_made, 2).with_geometry == ["huge"]
    with dg.DagsterInstance.from_config(str(_home(factory))) as instance:
        instance.add_dynamic_partitions("character", ["huge"])
    text = factory.cli("run", "huge", expect=1, POSEFACTORY_MAX_UPLOAD_MB="2")
    assert "over the limit of 2 MB" in " ".join(text.split())
    assert not list((factory.root / "cache").rglob("*huge*"))


def _home(factory: Factory) -> Path:
    factory.cli("home")
    return factory.root / "home"


def test_a_local_folder_has_no_upload_addresses(factory: Factory) -> None:
    assert "is a folder" in factory.cli("upload-url", "hero.fbx", expect=2)


def test_copy_keeps_a_different_upload_of_the_same_name(factory: Factory) -> None:
    other = factory.root / "other" / "uploads"
    other.mkdir(parents=True)
    (other / "hero.fbx").write_bytes(b"theirs")
    (factory.uploads / "hero.fbx").write_bytes(b"ours")
    text = factory.cli("store", "copy", str(factory.store), str(other.parent), expect=1)
    assert "holds another file of that name" in " ".join(text.split())
    assert (other / "hero.fbx").read_bytes() == b"theirs"
