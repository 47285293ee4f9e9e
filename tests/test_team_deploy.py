"""A team's instance: PostgreSQL for runs, a bucket for sets and compute logs, all started by one script."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from posefactory_dagster.settings import PROJECT_ROOT
from posefactory_dagster.storage.opening import open_store
from tests.conftest import SAMPLES, Factory
from tests.servers import BIN, S3Server, free_port

SERVER = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True)), None)


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[str]:
    """The address of a PostgreSQL server of this test's own."""
    if SERVER is None or shutil.which("runuser") is None:
        # `make test` installs it when root; elsewhere it may not be installed for one test.
        pytest.skip("no PostgreSQL: apt-get install postgresql")
    folder = Path("/tmp") / f"posefactory-pg-{tmp_path.parent.name}-{tmp_path.name}-{free_port()}"
    folder.mkdir()
    shutil.chown(folder, "postgres")  # the server refuses to run as root
    port = free_port()

    def as_postgres(*command: str) -> None:
        subprocess.run(
            ["runuser", "-u", "postgres", "--", *command],
            check=True,
            capture_output=True,
            cwd=folder,
        )

    try:
        as_postgres(str(SERVER), "-D", f"{folder}/data", "-A", "trust", "-U", "dagster")
        options = f"-p {port} -c listen_addresses=127.0.0.1 -k {folder}"
        as_postgres(str(SERVER.parent / "pg_ctl"), "-D", f"{folder}/data", "-o", options, "-l", f"{folder}/log", "-w", "start")  # fmt: skip
        as_postgres(str(SERVER.parent / "createdb"), "-h", "127.0.0.1", "-p", str(port), "-U", "dagster", "dagster")  # fmt: skip
        yield f"postgresql://dagster@127.0.0.1:{port}/dagster"
    finally:
        subprocess.run(
            ["runuser", "-u", "postgres", "--", str(SERVER.parent / "pg_ctl"), "-D", f"{folder}/data", "-m", "immediate", "stop"],
            check=False, capture_output=True, cwd="/",
        )  # fmt: skip
        shutil.rmtree(folder, ignore_errors=True)


def ask(address: str, query: str) -> dict:
    request = urllib.request.Request(
        f"{address}/graphql",
        data=json.dumps({"query": query}).encode(),
        headers={"Content-Type": "application/json"},
    )
    return json.load(urllib.request.urlopen(request, timeout=30))["data"]


def test_a_dropped_file_becomes_renders_on_a_teams_instance(
    factory: Factory, postgres: str, rclone_s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    environment = {
        **factory.environment,
        **rclone_s3.environment,
        "POSEFACTORY_STORE": f"r2://{rclone_s3.bucket}/{factory.root.parent.name}",
        "POSEFACTORY_CACHE": str(factory.root / "cache"),
        "POSEFACTORY_PG_URL": postgres,
        "R2_BUCKET": rclone_s3.bucket,
        "PORT": str(port),
        "CODE_PORT": str(free_port()),
        "BIN": str(BIN),
    }
    for name in ("R2_ENDPOINT_URL", "R2_ACCESS_KEY_ID", "R2_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, environment[name])
    log = (factory.root / "team.log").open("w")
    script = PROJECT_ROOT / "deploy" / "team" / "start.sh"
    lacking = subprocess.run(
        ["sh", str(script)], env={**environment, "POSEFACTORY_PG_URL": ""}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert lacking.returncode == 2 and "POSEFACTORY_PG_URL is not set" in lacking.stdout
    process = subprocess.Popen(["sh", str(script)], env=environment, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    try:
        factory.environment.update(environment)
        deadline = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"{address}/server_info", timeout=2)
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < deadline, (factory.root / "team.log").read_text()[-3000:]  # fmt: skip
                time.sleep(0.5)
        store = open_store(environment["POSEFACTORY_STORE"])
        sample = SAMPLES / "ada_walk.fbx"
        store.put_bytes("uploads/hero.fbx", sample.read_bytes())
        found = None
        deadline = time.monotonic() + 200
        while found is None:
            assert process.poll() is None and time.monotonic() < deadline, (factory.root / "team.log").read_text()[-3000:]  # fmt: skip
            time.sleep(1)
            found = store.get_bytes("current/pose_dataset/all.json")
        deadline = time.monotonic() + 60
        while True:
            runs = ask(address, "{runsOrError{... on Runs{results{status tags{key value}}}}}")
            statuses = [r["status"] for r in runs["runsOrError"]["results"]]
            if statuses and set(statuses) == {"SUCCESS"}:
                break
            assert time.monotonic() < deadline, statuses
            time.sleep(1)
        rows = json.loads(factory.cli("characters", "list", "--json"))
        assert [r["key"] for r in rows] == ["hero"]
        bucket = open_store(f"r2://{rclone_s3.bucket}/compute-logs")
        assert any(i.size for i in bucket.list("")), "compute logs are in the bucket"
        assert not list((factory.root / "home").rglob("*.db")), "nothing is kept in SQLite"
    finally:
        process.terminate()
        process.wait(180)
    with pytest.raises(OSError):
        urllib.request.urlopen(f"{address}/server_info", timeout=2)
