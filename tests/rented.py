"""A project in a bucket whose work goes to simulated pods: what tests of rented machines begin with."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from posefactory_dagster.compute.runpod import api as runpod_api
from posefactory_dagster.compute.runpod import provisioning, watching
from posefactory_dagster.compute.sensors import pod_janitor
from posefactory_dagster.definitions import defs, house
from posefactory_dagster.pipeline import jobs
from posefactory_dagster.storage import layout
from posefactory_dagster.storage.io_manager import StoreResource
from posefactory_dagster.storage.opening import open_store
from posefactory_dagster.storage.sets import CommittedSet, CommittedSets
from tests.conftest import SAMPLES, Factory
from tests.runpod_simulator import ACCOUNT_KEY, RunPodSimulator, simulated_runpod
from tests.servers import S3Server

RENDER = "[render]\nnum_angles = 2\nframes_per_clip = 1\nwidth = 64\nheight = 64\nsamples = 1\nengine = 'cycles'\n"
PODS = (
    "[pods]\nstartup_s = 1\nseconds_per_image = 0.1\npoll_interval_s = 0.3\nprovision_timeout_s = 3\n"
    "first_message_timeout_s = 15\nsilence_timeout_s = 25\njob_timeout_s = 60\n"
)


class Rented:
    """A project in a bucket whose renders go to simulated pods, driven in this process."""

    def __init__(
        self,
        root: Path,
        server: S3Server,
        simulator: RunPodSimulator,
        instance: dg.DagsterInstance,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        self.root, self.simulator, self.instance = root, simulator, instance
        self.settings = root / "posefactory.toml"
        self.address = f"r2://{server.bucket}/{secrets.token_hex(4)}"
        self.environment = {
            **server.environment,
            "POSEFACTORY_STORE": self.address,
            "POSEFACTORY_CACHE": str(root / "cache"),
            "POSEFACTORY_SETTINGS": str(self.settings),
            "POSEFACTORY_RENDER_ON": "pod",
            "POSEFACTORY_POD_IMAGE": "example/posefactory-pod:1",
            "RUNPOD_API_KEY": ACCOUNT_KEY,
            "RUNPOD_API_BASE_URL": simulator.address,
        }
        for name, value in self.environment.items():
            monkeypatch.setenv(name, value)
        self.configure()
        self.sets = CommittedSets(open_store(self.address))

    def configure(self, render: str = "", pods: str = "") -> None:
        self.settings.write_text(RENDER + render + PODS + pods)

    def add(self, *keys: str) -> None:
        """Register keys for samples, inspected on this machine."""
        for key in keys:
            sample = "chen_jack" if key == "twin" else "ada_walk"
            data = (SAMPLES / f"{sample}.fbx").read_bytes()
            self.sets.store.put_bytes(layout.upload(f"{key}.fbx"), data)
        self.instance.add_dynamic_partitions("character", list(keys))
        assert not self.run(*keys, until="character").failed

    def run(self, *keys: str, until: str = "multi_angle_renders") -> jobs.Report:
        flow = house().flows["character"]
        return jobs.run_keys(house(), self.instance, self.sets, flow, keys, until)

    def rendered(self, key: str) -> CommittedSet | None:
        return self.sets.current("multi_angle_renders", key)

    def uncommit(self, key: str) -> CommittedSet:
        """Leave a key's renders as if nobody had come to commit what the worker finished."""
        committed = self.rendered(key)
        assert committed is not None
        ref = committed.ref
        manifest = layout.manifest(ref.asset, ref.partition, ref.identity)
        self.sets.store.delete([manifest, layout.current(ref.asset, key)])
        return committed

    def check_api(self) -> None:
        """RunPod's contract was kept."""
        assert self.simulator.violations == []

    def check(self) -> None:
        """Whatever happened: no pod lives, RunPod's contract was kept, no set is damaged."""
        assert self.simulator.alive == []
        self.check_api()
        assert [d for _, found in self.sets.verify() for d in found] == []
        left = [i.key for i in self.sets.store.list(layout.JOBS)]
        assert all(k.endswith(("job.json", "status.json")) for k in left), left

    def log(self) -> str:
        """All that Dagster keeps of all runs, as text."""
        runs = self.instance.get_runs()
        return "\n".join(e.to_json() for r in runs for e in self.instance.all_logs(r.run_id))


class RentedFactory(Factory):
    """A factory with its store in a bucket and its renders on simulated pods."""

    def __init__(self, root: Path, server: S3Server, simulator: RunPodSimulator) -> None:
        super().__init__(root)
        self.simulator = simulator
        (root / "posefactory.toml").write_text(RENDER + PODS)
        self.address = f"r2://{server.bucket}/{root.parent.name}-{time.time_ns()}"
        self.environment.update(
            server.environment,
            POSEFACTORY_STORE=self.address,
            POSEFACTORY_CACHE=str(root / "cache"),
            POSEFACTORY_RENDER_ON="pod",
            POSEFACTORY_POD_IMAGE="example/posefactory-pod:1",
            RUNPOD_API_KEY=ACCOUNT_KEY,
            RUNPOD_API_BASE_URL=simulator.address,
        )

    @property
    def sets(self) -> CommittedSets:
        return CommittedSets(open_store(self.address))

    def tick_janitor(self) -> str:
        """One tick of the real sensor, on the factory's instance."""
        with (
            dg.DagsterInstance.from_config(str(self.root / "home")) as instance,
            dg.build_sensor_context(
                instance=instance,
                definitions=defs,
                resources={"store": StoreResource(address=self.address)},
            ) as context,
        ):
            return str(pod_janitor(context).skip_message)


@pytest.fixture
def rented(
    tmp_path: Path, rclone_s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Rented]:
    monkeypatch.setattr(watching, "SURPLUS_POLL_S", 0.5)
    monkeypatch.setattr(watching, "DRAIN_S", 2.0)
    monkeypatch.setattr(provisioning, "LOOK_S", 0.2)
    monkeypatch.setattr(runpod_api, "TIMEOUT", runpod_api.TIMEOUT)  # put back, whatever a test does
    with (
        simulated_runpod(tmp_path / "pods") as simulator,
        dg.instance_for_test() as instance,
    ):
        yield Rented(tmp_path, rclone_s3, simulator, instance, monkeypatch)
