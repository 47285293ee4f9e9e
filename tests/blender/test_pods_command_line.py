"""Pods from the command line: the whole job, the verbs, and kills of the process that rented them."""

from __future__ import annotations

import datetime
import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from posefactory_dagster.budget.ledger import read_ledger
from posefactory_dagster.compute.runpod.api import RunPodApi
from posefactory_dagster.compute.runpod.janitor import sweep
from posefactory_dagster.definitions import defs
from posefactory_dagster.storage.opening import open_store
from posefactory_dagster.storage.sets import CommittedSets
from tests.conftest import SAMPLES
from tests.rented import PODS, RENDER, RentedFactory
from tests.runpod_simulator import (
    ACCOUNT_KEY,
    GPUS,
    STOCK,
    Behaviour,
    Fault,
    RunPodSimulator,
    SimulatedPod,
    simulated_runpod,
)
from tests.servers import S3Server
from tests.test_whole_job import check_dataset


@pytest.fixture
def rented(
    tmp_path: Path, rclone_s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> Iterator[RentedFactory]:
    root = tmp_path / "factory"
    root.mkdir()
    with simulated_runpod(tmp_path / "pods") as simulator:
        made = RentedFactory(root, rclone_s3, simulator)
        for name, value in made.environment.items():
            if name.startswith(("R2_", "RUNPOD_", "POSEFACTORY_")):
                monkeypatch.setenv(name, value)
        yield made


def test_the_whole_job_from_the_command_line(rented: RentedFactory) -> None:
    for sample in ("ada_walk", "chen_jack"):
        rented.add_sample(sample)
    done = json.loads(rented.cli("run", "--all", "--json"))
    assert done["done"] == ["ada_walk", "chen_jack"] and not done["trouble"]
    assert len(rented.simulator.pods) == 1 and not rented.simulator.violations
    dataset = rented.sets.current("pose_dataset", "all")
    paths = dataset.paths(dataset.files)
    check_dataset(paths["README.md"].parent, 4)

    # The same on this machine is the same dataset, file by file.
    here = {"POSEFACTORY_STORE": str(rented.root / "here"), "POSEFACTORY_RENDER_ON": "local"}
    for sample in ("ada_walk", "chen_jack"):
        rented.cli("characters", "add", str(SAMPLES / f"{sample}.fbx"), **here)
    rented.cli("run", "--all", **here)
    local = CommittedSets(open_store(here["POSEFACTORY_STORE"])).current("pose_dataset", "all")
    assert local.ref == dataset.ref and set(local.files) == set(dataset.files)
    assert {n for n in local.files if local.files[n] != dataset.files[n]} == set()

    (job,) = json.loads(rented.cli("jobs", "list", "--json"))
    assert job["status"] == "completed" and job["where"] == "pod" and job["cost_usd"] > 0
    (paid,) = read_ledger(rented.sets.store)[0]
    assert paid.provider == "runpod" and paid.cost_usd == job["cost_usd"]
    text = rented.cli("jobs", "show", job["job_id"])
    assert "ada_walk: done" in text and "estimated" in text and "console.runpod.io" in text
    rented.cli("jobs", "download", job["job_id"], str(rented.root / "got"))
    assert len(list((rented.root / "got" / "chen_jack" / "images").iterdir())) == 2
    for bad in ("../x", "no_such_job"):
        assert "jobs list" in rented.cli("jobs", "show", bad, expect=2)


def test_pods_are_listed_priced_and_stopped_but_only_our_own(rented: RentedFactory) -> None:
    assert "no pods of this installation" in rented.cli("pods", "list")
    first = json.loads(rented.cli("pods", "prices", "--json"))
    assert [p["id"] for p in first if p["order"] == 1] == ["NVIDIA A40"]
    stranger = rented.simulator.create(
        {
            "name": "my-training",
            "image": "x",
            "gpu": {"id": "NVIDIA A40", "count": 1},
            "args": "sleep",
        }
    )
    with dg.DagsterInstance.from_config(str(rented.root / "home")) as instance:
        from posefactory_dagster.compute.runpod.pipes import installation_id

        mine = installation_id(instance)
    rented.simulator.behaviours.append(Behaviour(stuck=True))
    own = rented.simulator.create(
        {"name": f"pf-{mine}-12345678-abcd", "image": "x", "gpu": {"id": "NVIDIA A40", "count": 1}}
    )
    other = rented.simulator.create(
        {
            "name": "pf-ffffff-12345678-abcd",
            "image": "x",
            "gpu": {"id": "NVIDIA A40", "count": 1},
            "args": "sleep",
        }
    )
    rows = json.loads(rented.cli("pods", "list", "--json"))
    assert [r["id"] for r in rows] == [own.id]
    own.status = "EXITED"
    assert own.id in rented.cli("pods", "start", own.id) and own.status != "EXITED"
    for bad in (stranger.id, other.id, "../x"):
        assert (
            "no pod of this installation" in rented.cli("pods", "stop", bad, expect=2)
            or bad == "../x"
        )
    rented.cli("pods", "stop", "--all")
    assert own.deleted and not stranger.deleted and not other.deleted
    text = rented.cli("pods", "list", expect=2, RUNPOD_API_KEY="wrong")
    assert "RunPod refused the key" in text and "wrong" not in text.replace("refused", "")


def test_the_doctor_looks_at_runpod_and_spends_when_told(rented: RentedFactory) -> None:
    text = rented.cli("doctor", "--json", expect=1, POSEFACTORY_ENDPOINT_ID="ep1")
    rows = {f["what"]: f for f in json.loads(text)}
    assert rows["RunPod, endpoint"]["says"] == "ep1, at most $0.70 an hour of a worker"
    assert rows["RunPod, pods"]["ok"] and "NVIDIA A40" in rows["RunPod, pods"]["says"]
    assert "conditional writes" in rows["store"]["says"]  # rclone's server has none
    document = json.loads(rented.cli("doctor", "--spend", "--yes", "--json"))
    assert document["done"] and document["cost_usd"] > 0 and rented.simulator.alive == []


def test_prices_are_an_asset(rented: RentedFactory, tmp_path: Path) -> None:
    with dg.instance_for_test() as instance:
        result = defs.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=instance, asset_selection=[dg.AssetKey("gpu_prices")]
        )
        (event,) = result.asset_materializations_for_node("gpu_prices")
        assert event.metadata["in_stock"].value == len(STOCK)
        assert len(event.metadata["prices"].value.records) == len(GPUS)
    committed = rented.sets.current("gpu_prices", "all")
    assert committed.path("gpu_prices.png").stat().st_size > 5000


def start(rented: RentedFactory) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        rented.command("run", "--all", "--until", "multi_angle_renders"),
        env=rented.environment, cwd=rented.root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def settle(rented: RentedFactory) -> None:
    """After a kill: the janitor ends what was left, and a clean run completes everything."""
    rented.tick_janitor()
    assert rented.simulator.alive == []
    done = json.loads(rented.cli("run", "--all", "--until", "multi_angle_renders", "--json"))
    assert not done["failed"] and not done["trouble"], done
    assert [d for _, found in rented.sets.verify() for d in found] == []
    assert rented.simulator.alive == [] and not rented.simulator.violations


@pytest.mark.parametrize("moment", ["placed", "rendering"])
def test_ctrl_c_ends_the_pod_too(rented: RentedFactory, moment: str) -> None:
    rented.add_sample("ada_walk")
    rented.add_sample("chen_jack")
    if moment == "placed":
        rented.simulator.behaviours.append(Behaviour(stuck=True))
    process = start(rented)
    deadline = time.monotonic() + 90
    while not rented.simulator.pods or (
        moment == "rendering" and not list((rented.root.parent / "pods").rglob("images/*.png"))
    ):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert rented.simulator.alive == [] and not rented.simulator.violations
    (pod,) = rented.simulator.pods.values()
    assert "account" in pod.deleted_by  # not only its own time limit


@pytest.mark.parametrize("moment", ["placed", "rendering"])
def test_an_orchestrator_that_was_killed_costs_nothing_more(
    rented: RentedFactory, moment: str
) -> None:
    rented.add_sample("ada_walk")
    rented.add_sample("chen_jack")
    stranger = rented.simulator.create(
        {
            "name": "my-training",
            "image": "x",
            "gpu": {"id": "NVIDIA A40", "count": 1},
            "args": "sleep",
        }
    )
    if moment == "placed":
        rented.simulator.behaviours.append(Behaviour(stuck=True))
    process = start(rented)
    try:
        deadline = time.monotonic() + 90
        while len(rented.simulator.pods) < 2 or (
            moment == "rendering" and not list((rented.root.parent / "pods").rglob("images/*.png"))
        ):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.02)
    finally:
        process.kill()
        process.wait()
    (job,) = json.loads(rented.cli("jobs", "list", "--json"))
    said = rented.cli("jobs", "show", job["job_id"])
    assert job["status"] == "completed" or (job["status"] == "failed" and "ended before it did" in said)  # fmt: skip
    stranger_alive = not stranger.deleted
    alive = [p for p in rented.simulator.alive if p is not stranger]
    text = rented.tick_janitor()
    told = [e.what for e in read_ledger(rented.sets.store)[0] if "ended by the janitor" in e.what]
    # A pod may finish and end itself in this very moment; the order was left in any case.
    ended = [p for p in alive if "account" in p.deleted_by]
    assert told == [f"{p.request['name']}, ended by the janitor" for p in ended]
    assert all(p.deleted for p in alive) and (ended == alive or moment == "rendering")
    assert "withdrawn, as its run" in text and (
        "ended, as its run" in text or moment == "rendering"
    )
    assert stranger_alive and not stranger.deleted
    rented.simulator.delete(stranger)
    settle(rented)


def test_the_janitor_spares_what_is_not_its_own(tmp_path: Path) -> None:
    with simulated_runpod(tmp_path / "pods") as simulator:
        names = [
            "pf-aaaaaa-11111111-x",
            "pf-aaaaaa-22222222-x",
            "pf-bbbbbb-22222222-x",
            "training",
            "pf-aaaaaa-",
        ]
        made = {}
        for name in names:
            simulator.behaviours.append(Behaviour(stuck=True))
            gpu = {"id": "NVIDIA A40", "count": 1}
            made[name] = simulator.create({"name": name, "image": "x", "gpu": gpu})
        describe = simulator.describe

        def strange(pod: SimulatedPod) -> dict[str, Any]:
            """What RunPod may come to say of a pod, of ours too."""
            odd = {
                "training": {"status": "HIBERNATING", "cost": None, "createdAt": "soon", "gpu": 3},
                "pf-aaaaaa-22222222-x": {"status": "MIGRATING", "cost": None, "createdAt": None},
                "pf-bbbbbb-22222222-x": {"id": None, "name": None},
            }
            return {**describe(pod), **odd.get(pod.request["name"], {})}

        simulator.describe = strange  # type: ignore[method-assign]
        simulator.behaviours.append(Behaviour(stuck=True))
        young = simulator.create({"name": "pf-aaaaaa-33333333-y", "image": "x", "gpu": gpu})
        api = RunPodApi(ACCOUNT_KEY, simulator.address)
        over = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=1)
        runs = {"11111111-2222-3333": over, "33333333-2222-3333": None}
        ended = sweep(api, "aaaaaa", lambda: runs)
        assert {p.name for p, _, _ in ended} == {names[0], names[1]}
        assert not young.deleted and not any(made[n].deleted for n in names[2:])


FAULTS = [
    Fault("createPod", 400), Fault("createPod", 403), Fault("createPod", 429), Fault("createPod", 500),
    Fault("createPod", "html"), Fault("createPod", "lost"), Fault("createPod", "cut"), Fault("getPod", 500, 4),
    Fault("listPods", 503, 2), Fault("deletePod", 500, 2), Fault("listGpuTypes", 429), Fault("getPod", "html", 2),
]  # fmt: skip


def random_trouble(rng: random.Random, simulator: RunPodSimulator) -> str:
    """Arrange one fault for the next run, and say which."""
    kind = rng.choice(["api", "pod", "slow", "none"])
    if kind == "api":
        chosen = rng.choice(FAULTS)
        simulator.faults.append(Fault(chosen.on, chosen.do, chosen.times))
        return f"{chosen.on} {chosen.do}"
    if kind == "pod":
        behaviour = rng.choice(
            [
                Behaviour(stuck=True), Behaviour(error=True), Behaviour(silent=True),
                Behaviour(die_after=rng.uniform(0.2, 6.0)), Behaviour(die_after_images=rng.randint(1, 4)),
                Behaviour(die_after=rng.uniform(0.5, 5.0), restarts=1), Behaviour(provision_s=rng.uniform(0, 2)),
            ]
        )  # fmt: skip
        simulator.behaviours.append(behaviour)
        return str(behaviour)
    simulator.delay_s = 0.3 if kind == "slow" else 0.0
    return kind


def begin_soak(rented: RentedFactory) -> tuple[int, random.Random]:
    """Two inspected characters, and the seed of all chance that follows."""
    seed = int(os.environ.get("SOAK_SEED", "0"))
    rented.add_sample("ada_walk")
    rented.add_sample("chen_jack")
    rented.cli("run", "--all", "--until", "character")
    return seed, random.Random(seed)


def all_ended(rented: RentedFactory) -> None:
    """No pod of the whole soak costs money any more."""
    ended = [p.deleted for p in rented.simulator.pods.values()]
    print(f"{len(ended)} pods in all, {sum(ended)} terminated, {len(rented.simulator.alive)} alive")
    assert all(ended)


@pytest.mark.soak
def test_fifty_runs_with_random_faults(rented: RentedFactory) -> None:
    seed, rng = begin_soak(rented)
    completed = 0
    for number in range(50):
        (rented.root / "posefactory.toml").write_text(RENDER + f"seed = {number}\n" + PODS)
        what = random_trouble(rng, rented.simulator)
        process = start(rented)
        code = process.wait(240)
        completed += code == 0
        assert rented.simulator.alive == [], what
        rented.simulator.faults.clear()
        rented.simulator.behaviours.clear()
        rented.simulator.delay_s = 0.0
        print(
            f"run {number + 1} of 50: {what}: {'completed' if code == 0 else f'exit {code}'}",
            flush=True,
        )
        if code != 0:
            settle(rented)
    print(f"{completed} of 50 completed at once, the others at the next run (seed {seed})")
    faults = [d for _, found in rented.sets.verify() for d in found]
    renders = [r for r in rented.sets.all() if r.asset == "multi_angle_renders"]
    print(f"{len(renders)} render sets verified, {len(faults)} faults")
    assert not faults and len(renders) == 100
    known = len(rented.simulator.pods)
    done = json.loads(rented.cli("run", "--all", "--until", "multi_angle_renders", "--json"))
    assert not done["failed"] and len(rented.simulator.pods) == known, "paid for twice"
    all_ended(rented)


@pytest.mark.soak
def test_twenty_kills_of_the_orchestrator(rented: RentedFactory) -> None:
    _, rng = begin_soak(rented)
    for number in range(20):
        (rented.root / "posefactory.toml").write_text(RENDER + f"seed = {100 + number}\n" + PODS)
        known = len(rented.simulator.pods)
        process = start(rented)
        if number % 2:  # half of them while a pod lives, which is where it costs
            while len(rented.simulator.pods) == known and process.poll() is None:
                time.sleep(0.02)
        delay = rng.uniform(0.0, 3.0) if number % 2 else rng.uniform(1.0, 14.0)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        print(
            f"kill {number + 1} of 20 after {delay:.1f} s, alive {len(rented.simulator.alive)}",
            flush=True,
        )
        settle(rented)
    all_ended(rented)
