"""The figures of working elsewhere: store, upload sensor, what a pod's client adds, a hundred characters on a pod.

    make bench-remote

Everything runs on this machine: an rclone S3 server, and pods simulated as child processes. Ratios are taken
within one run. Results are printed and written to `benchmarks/results_remote.json`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import dagster as dg
import pytest

from posefactory_dagster.intake.watching import UploadCursor, look
from posefactory_dagster.storage import layout
from posefactory_dagster.storage.opening import open_store
from posefactory_dagster.storage.sets import file_sha256
from tests.blender.test_pods import Rented
from tests.runpod_simulator import simulated_runpod
from tests.servers import BIN, S3Server, rclone_server

FILES, FILE_BYTES = 1000, 300_000
#: Uploads that the sensor looks at.
OBJECTS, OBJECT_BYTES = 10_000, 20_000
#: Characters of the long run.
CHARACTERS = int(os.environ.get("BENCH_CHARACTERS", "100"))


def main() -> None:
    """Measure, print, write."""
    results: dict[str, Any] = {"cores": os.cpu_count()}
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        root = Path(folder)
        with rclone_server(root / "s3") as server:
            for name, value in server.environment.items():
                patch.setenv(name, value)
            patch.setenv("POSEFACTORY_CACHE", str(root / "cache"))
            print("measuring: store", file=sys.stderr, flush=True)
            results["store"] = store(root, server)
            print("measuring: sensor", file=sys.stderr, flush=True)
            results["sensor"] = sensor(server)
            print("measuring: pods", file=sys.stderr, flush=True)
            results["pods"] = pods(root, server, patch)
    text = json.dumps(results, indent=1)
    (Path(__file__).parent / "results_remote.json").write_text(text)
    print(text)


def store(root: Path, server: S3Server) -> dict[str, Any]:
    """A thousand files of 300 KB up and down, through the store and with the rclone command, in turns."""
    source = root / "source"
    source.mkdir()
    for i in range(FILES):
        (source / f"{i:04d}.bin").write_bytes(os.urandom(FILE_BYTES))
    remote = f":s3,provider=Other,endpoint='{server.address}',access_key_id={server.key_id},secret_access_key={server.secret}:{server.bucket}"
    times: dict[str, list[float]] = {k: [] for k in ("up", "down", "rclone_up", "rclone_down")}

    def rclone(*words: str) -> float:
        started = time.perf_counter()
        subprocess.run([str(BIN / "rclone"), "copy", "--transfers", "16", *words], check=True, capture_output=True)  # fmt: skip
        return time.perf_counter() - started

    for number in range(3):
        target = open_store(f"r2://{server.bucket}/mine{number}")
        staging = target.scratch()
        shutil.copytree(source, staging / "files")
        keys = {f"sets/{p.name}": p for p in sorted((staging / "files").iterdir())}
        digests = {key: file_sha256(path) for key, path in keys.items()}
        started = time.perf_counter()
        target.put_files(keys)
        times["up"].append(time.perf_counter() - started)
        times["rclone_up"].append(rclone(str(source), f"{remote}/theirs{number}"))
        started = time.perf_counter()
        paths = target.local_paths(digests)
        times["down"].append(time.perf_counter() - started)
        assert len(paths) == FILES
        times["rclone_down"].append(rclone(f"{remote}/theirs{number}", str(root / f"down{number}")))
    middle = {k: float(np.median(v)) for k, v in times.items()}
    return {
        "files": FILES,
        "seconds": {k: round(v, 2) for k, v in middle.items()},
        "up_over_rclone": round(middle["up"] / middle["rclone_up"], 2),
        "down_over_rclone": round(middle["down"] / middle["rclone_down"], 2),
    }


def sensor(server: S3Server) -> dict[str, Any]:
    """Looks of the upload sensor at a bucket of 10,000 objects: all new, being taken in, and all known."""
    store = open_store(f"r2://{server.bucket}/sensor")
    staging = store.scratch()
    files = {}
    for i in range(OBJECTS):
        path = staging / f"{i}.fbx"
        path.write_bytes(os.urandom(OBJECT_BYTES))
        files[layout.upload(f"hero{i:05d}.fbx")] = path
    store.put_files(files)
    cursor, seconds = UploadCursor(), []
    taken: list[int] = []
    while not taken or len(cursor.taken) < OBJECTS:
        started = time.perf_counter()
        finding = look(store, cursor, lambda key: None, 200)
        seconds.append(time.perf_counter() - started)
        taken.append(len(finding.with_geometry))
    started = time.perf_counter()
    look(store, cursor, lambda key: None, 200)
    known = time.perf_counter() - started
    return {
        "objects": OBJECTS,
        "most_seconds": round(max(seconds), 2),
        "looks_until_all_are_taken_in": len(seconds),
        "taken_in_at_a_look": [min(taken[1:]), max(taken)],
        "all_known_seconds": round(known, 2),
    }


def pods(root: Path, server: S3Server, patch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the client adds around a pod's own work, and a long run on one pod."""
    with simulated_runpod(root / "pods") as simulator, dg.instance_for_test() as instance:
        rented = Rented(root, server, simulator, instance, patch)

        def configure(render: str = "", pods: str = "") -> None:
            """With the project's own limit for a job: an order has an address for each message within it."""
            rented.configure(render, pods)
            text = rented.settings.read_text()
            rented.settings.write_text(text.replace("job_timeout_s = 60", "job_timeout_s = 3600"))

        rented.add("hero")
        overheads = []
        for seed in range(5):
            configure(render=f"seed = {seed}\n")
            known = set(simulator.pods)
            assert not rented.run("hero").failed
            (pod,) = [simulator.pods[i] for i in set(simulator.pods) - known]
            (run,) = instance.get_runs(limit=1)
            stats = instance.get_run_step_stats(run.run_id)
            step = next(s for s in stats if s.step_key == "multi_angle_renders")
            assert step.end_time and step.start_time and pod.worked is not None
            overheads.append((step.end_time - step.start_time) - pod.worked)
        keys = [f"c{i:03d}" for i in range(CHARACTERS)]
        configure(pods="max_cost_per_job = 50\n")
        rented.add(*keys)
        started = time.perf_counter()
        report = rented.run(*keys)
        spent = time.perf_counter() - started
        assert not report.failed and not report.trouble, report
        inside = []
        for key in keys:
            committed = rented.rendered(key)
            assert committed is not None
            inside.append(sum(committed.facts["seconds"].values()))
    return {
        "client_adds_seconds": {
            "median": round(float(np.median(overheads)), 2),
            "most": round(max(overheads), 2),
        },
        "characters": CHARACTERS,
        "seconds_per_character": round(spent / CHARACTERS, 3),
        "first_ten_seconds": round(float(np.median(inside[:10])), 3),
        "last_ten_seconds": round(float(np.median(inside[-10:])), 3),
    }


if __name__ == "__main__":
    main()
