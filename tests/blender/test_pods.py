"""Renders on rented machines: real workers on a real S3 server, RunPod simulated, every fault once."""

from __future__ import annotations

import datetime
import email.utils
import errno
import hashlib
import itertools
import json
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator

import httpx
import pytest

from posefactory_dagster.compute.record import read_jobs
from posefactory_dagster.compute.runpod import api as runpod_api
from posefactory_dagster.compute.runpod import orders, pipes, provisioning, watching
from posefactory_dagster.compute.runpod.account import bucket_of
from posefactory_dagster.definitions import house
from posefactory_dagster.pipeline.jobs import run_keys
from posefactory_dagster.renders import assets as render_assets
from posefactory_dagster.storage import layout
from posefactory_dagster.storage.opening import open_store
from posefactory_dagster.storage.sets import CommittedSets
from tests.conftest import SAMPLES
from tests.rented import PODS, RENDER, Rented
from tests.runpod_simulator import (
    ACCOUNT_KEY,
    Behaviour,
    Fault,
)


def test_characters_are_rendered_on_one_pod_and_equal_local_ones(
    rented: Rented, monkeypatch: pytest.MonkeyPatch
) -> None:
    rented.add("hero", "twin")
    report = rented.run("hero", "twin")
    assert not report.failed and not report.trouble, (report, rented.log()[-3000:])
    (pod,) = rented.simulator.pods.values()
    assert pod.request["gpu"]["id"] == "NVIDIA A40"  # the cheapest in stock
    run = rented.instance.get_run_by_id(report.runs[0])
    assert pod.request["name"].startswith(provisioning.NAME_PREFIX)
    assert run.run_id[:8] in pod.request["name"] and run.tags["posefactory/pod"] == pod.id
    log = rented.log()
    assert "ASSET_OBSERVATION" in log and "estimate_usd" in log
    assert "pod: job render_" in log  # the container's own log, as it is followed
    # The first is committed while the second renders.
    assert log.index("Materialized value multi_angle_renders") < log.index("twin: done, 2 of 2")
    rented.check()

    (job,) = read_jobs(rented.sets.store)
    assert job.status.status == "completed" and set(job.status.results) == {
        "hero",
        "twin",
    }
    assert job.status.rented[0].cost_usd > 0 and job.job.params.characters == [
        "hero",
        "twin",
    ]

    # The same work on this machine, in a store of its own: same truth, same pixels, same manifest.
    remote = rented.rendered("hero")
    monkeypatch.setenv("POSEFACTORY_RENDER_ON", "local")
    monkeypatch.setenv("POSEFACTORY_STORE", str(rented.root / "local"))
    local_sets = CommittedSets(open_store(str(rented.root / "local")))
    local_sets.store.put_bytes(layout.upload("hero.fbx"), (SAMPLES / "ada_walk.fbx").read_bytes())
    flow = house().flows["character"]
    run_keys(house(), rented.instance, local_sets, flow, ["hero"], "multi_angle_renders")
    local = local_sets.current("multi_angle_renders", "hero")
    assert local.ref == remote.ref and local.settings == remote.settings
    same = [n for n in local.files if n != "truth.json"]
    assert {n: local.files[n] for n in same} == {n: remote.files[n] for n in same}
    timeless = {k: v for k, v in local.facts.items() if k not in ("seconds", "peak_mb")}
    assert timeless == {k: v for k, v in remote.facts.items() if k in timeless}
    assert json.loads(local.path("truth.json").read_text()) == json.loads(
        remote.path("truth.json").read_text()
    )


def slow(rented: Rented) -> None:
    """Every answer takes its time, and some never come."""
    rented.simulator.delay_s = 0.4
    rented.simulator.faults.extend([Fault("createPod", "hang"), Fault("listGpuTypes", "hang")])
    runpod_api.TIMEOUT = httpx.Timeout(2)


def fault(*faults: Fault) -> Callable[[Rented], None]:
    return lambda rented: rented.simulator.faults.extend(faults)


def pods(*behaviours: Behaviour) -> Callable[[Rented], None]:
    return lambda rented: rented.simulator.behaviours.extend(behaviours)


def mute(rented: Rented) -> None:
    """It runs, and nobody ever hears of it."""
    rented.settings.write_text(rented.settings.read_text().replace("first_message_timeout_s = 15", "first_message_timeout_s = 12"))  # fmt: skip
    rented.simulator.behaviours.append(Behaviour(mute=True))


def long_work(rented: Rented) -> None:
    """Enough images that a machine which is to fail in the middle cannot be done before."""
    rented.settings.write_text(rented.settings.read_text().replace("num_angles = 2\nframes_per_clip = 1", "num_angles = 8\nframes_per_clip = 3"))  # fmt: skip


def frozen(rented: Rented) -> None:
    """It stops in the middle, and is heard of no more."""
    long_work(rented)
    rented.settings.write_text(rented.settings.read_text().replace("silence_timeout_s = 25", "silence_timeout_s = 18"))  # fmt: skip
    rented.simulator.behaviours.append(Behaviour(freeze_after_images=2))


def dying(**how: int) -> Callable[[Rented], None]:
    """The machine dies in the middle."""

    def arrange(rented: Rented) -> None:
        long_work(rented)
        rented.simulator.behaviours.append(Behaviour(die_after_images=3, **how))

    return arrange


@pytest.mark.parametrize(
    ("arrange", "created"),
    [
        (fault(Fault("createPod", 400)), 1),
        (fault(Fault("createPod", 403)), 1),
        (fault(Fault("createPod", 429), Fault("listGpuTypes", 429)), 1),
        (fault(Fault("createPod", 500)), 1),
        (fault(Fault("createPod", "html"), Fault("listGpuTypes", "html")), 1),
        (fault(Fault("createPod", "lost")), 1),
        (fault(Fault("createPod", "late")), 2),
        (fault(Fault("createPod", "cut"), Fault("getPod", 500, 3), Fault("listPods", "cut")), 1),
        (fault(Fault("deletePod", 500, 2)), 1),
        (slow, 1),
        (pods(Behaviour(stuck=True)), 2),
        (pods(Behaviour(error=True)), 2),
        (pods(Behaviour(silent=True)), 2),
        (mute, 2),
        (frozen, 2),
        (dying(), 2),
        (dying(restarts=1), 1),
    ],
    ids=[
        "no capacity", "403 for a pool", "429", "500", "HTML for JSON", "lost answer", "lost answer, late pod", "cut connections",
        "delete fails twice", "slow network and time-outs", "stuck in PROVISIONING", "ERROR", "exit without a word", "no word ever", "falls silent",
        "machine dies",
        "container restarted",
    ],
)  # fmt: skip
def test_the_job_is_done_in_spite_of(
    rented: Rented, arrange: Callable[[Rented], None], created: int
) -> None:
    rented.add("hero", "twin")
    arrange(rented)
    report = rented.run("hero", "twin")
    assert not report.failed and not report.trouble, (report, rented.log()[-3000:])
    assert rented.rendered("hero") and rented.rendered("twin")
    assert len(rented.simulator.pods) == created
    for pod in rented.simulator.pods.values():
        assert pod.behaviour.die_after_images is None and pod.behaviour.freeze_after_images is None
    (job,) = read_jobs(rented.sets.store)
    reports = job.status.rented
    used = {r.pod for r in reports}
    surplus = [p for p in rented.simulator.pods.values() if p.id not in used]
    assert sum(r.surplus_pods_ended for r in reports) == len(surplus)
    assert all(p.ended is not None and p.ended - p.created < 60 for p in surplus)
    rented.check()


@pytest.mark.parametrize(
    ("arrange", "words", "created"),
    [
        (fault(Fault("listGpuTypes", 401)), "refused the key.*RUNPOD_API_KEY", 0),
        (fault(Fault("createPod", 402)), "out of funds.*add credit", 0),
        (fault(Fault("createPod", 422)), "does not fit its contract.*bogus", 0),
        (fault(Fault("createPod", 400, 9)), "none of 2 GPU types could be had.*no instances", 0),
        (fault(Fault("createPod", 403, 9)), "may not do this.*scope", 0),
        (lambda r: r.simulator.stock.clear(), "none is in stock now", 0),
        (lambda r: r.configure(pods="max_cost_per_job = 0.00001\n"), r"over max_cost_per_job = \$0.00", 0),
        (lambda r: r.configure(pods="max_price_per_hour = 0.1\n"), "cheapest costs .0.35 an hour, over max_price", 0),
        (lambda r: r.configure(pods="gpu_types = ['NVIDIA Potato']\n"), "RunPod knows no NVIDIA Potato", 0),
        (pods(Behaviour(silent=True), Behaviour(silent=True)), "sent no closing message.*run it again", 2),
    ],
    ids=["401", "402", "422", "400 always", "403 always", "nothing in stock", "over budget", "price ceiling", "unknown GPU", "two deaths"],
)  # fmt: skip
def test_nothing_is_left_running_and_the_reason_is_said(
    rented: Rented, arrange: Callable[[Rented], None], words: str, created: int
) -> None:
    import re

    rented.add("hero")
    arrange(rented)
    report = rented.run("hero")
    text = " ".join([*report.failed.values(), *report.trouble])
    assert re.search(words, text), text
    assert len(rented.simulator.pods) == created and rented.rendered("hero") is None
    rented.check()
    (job,) = read_jobs(rented.sets.store)
    assert job.status.status == "failed"


def test_a_bad_character_takes_no_other_down_on_a_pod_either(
    rented: Rented,
) -> None:
    rented.add("hero", "twin")
    hero = rented.sets.current("character", "hero")
    # Rot in the bucket between inspection and rendering: its checksum no longer fits.
    rented.sets.store.put_bytes(hero.key("skin.fbx"), b"rotten")
    report = rented.run("hero", "twin")
    assert set(report.failed) == {"hero"}, (report, rented.log()[-5000:])
    assert "could not be fetched whole" in report.failed["hero"]
    assert rented.rendered("twin") and rented.simulator.alive == []


def test_a_retry_takes_what_a_worker_had_finished(rented: Rented) -> None:
    """The orchestrator died after the worker's upload and before the commit."""
    rented.add("hero", "twin")
    assert not rented.run("hero").failed
    committed = rented.uncommit("hero")
    before = len(rented.simulator.pods)
    report = rented.run("hero")
    assert not report.failed and len(rented.simulator.pods) == before
    assert rented.rendered("hero").attempt == committed.attempt
    rented.check()


@pytest.mark.parametrize(
    ("prefix", "content", "honest"),
    [
        ("truth.json", b"", False),
        ("truth.json", b"[]", True),
        ("truth.json", b'{"images": ["f.png"]}', True),
        ("images/", b"no picture", True),
    ],
    ids=["another checksum", "another shape", "strange entries", "an image that is none"],
)
def test_what_a_worker_left_damaged_is_refused_once_and_made_again(
    rented: Rented, prefix: str, content: bytes, honest: bool
) -> None:
    """``honest``: the worker's own list says the same of the file."""
    rented.add("hero", "twin")
    assert not rented.run("hero").failed
    committed = rented.uncommit("hero")
    name = next(n for n in committed.files if n.startswith(prefix))
    entry = committed.files[name]
    data = content.ljust(entry["size"])
    rented.sets.store.put_bytes(committed.key(name), data)
    if honest:
        listed = committed.key("result.json")
        result = json.loads(rented.sets.store.get_bytes(listed) or b"")
        result["files"][name]["sha256"] = hashlib.sha256(data).hexdigest()
        rented.sets.store.put_bytes(listed, json.dumps(result).encode())
    shutil.rmtree(rented.root / "cache")
    report = rented.run("hero", "twin")
    assert set(report.failed) == {"hero"} and "cannot be used" in report.failed["hero"]
    assert rented.rendered("twin") and rented.rendered("hero") is None
    assert not rented.run("hero").failed
    rented.check()


def test_trouble_on_this_machine_keeps_what_was_paid_for(
    rented: Rented, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    rented.add("hero", "twin")
    with monkeypatch.context() as patch:
        patch.setattr(render_assets, "contact_strip", full)
        report = rented.run("hero", "twin")
    assert set(report.failed) == {"hero", "twin"}
    assert "rendered, but not taken over" in report.failed["hero"]
    assert not rented.run("hero", "twin").failed
    assert len(rented.simulator.pods) == 1
    rented.check()


def test_a_job_that_takes_too_long_is_ended(rented: Rented) -> None:
    rented.add("hero")
    rented.settings.write_text(
        RENDER.replace("= 64", "= 2048").replace("samples = 1", "samples = 4000")
        + PODS.replace("job_timeout_s = 60", "job_timeout_s = 6\nmax_pods_per_job = 1")
    )
    report = rented.run("hero")
    assert "did not finish the job within 6 s" in report.failed["hero"]
    rented.check()


def test_what_pods_need_is_said(rented: Rented, monkeypatch: pytest.MonkeyPatch) -> None:
    rented.add("hero")
    with monkeypatch.context() as patch:
        patch.delenv("POSEFACTORY_POD_IMAGE")
        assert "POSEFACTORY_POD_IMAGE is not set" in rented.run("hero").trouble[0]
    with monkeypatch.context() as patch:
        patch.delenv("RUNPOD_API_KEY")
        assert "RUNPOD_API_KEY is not set" in rented.run("hero").trouble[0]
    folder = str(rented.root / "folder")
    monkeypatch.setenv("POSEFACTORY_STORE", folder)
    rented.sets = CommittedSets(open_store(folder))
    rented.add("hero")
    assert "needs a bucket" in rented.run("hero").trouble[0]
    assert not rented.simulator.pods


def test_in_the_community_cloud_its_own_stock_counts(rented: Rented) -> None:
    rented.add("hero")
    rented.configure(pods="cloud = 'COMMUNITY'\n")
    assert not rented.run("hero").failed
    (pod,) = rented.simulator.pods.values()
    assert pod.request["gpu"]["id"] == "NVIDIA RTX A6000" and pod.request["cloud"] == "COMMUNITY"
    rented.check()


def test_a_worker_that_nobody_watches_ends_itself(
    rented: Rented, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time limit inside the pod, with the key that RunPod injects for this pod alone."""
    rented.add("hero")
    rented.settings.write_text(
        RENDER.replace("= 64", "= 2048").replace("samples = 1", "samples = 4000")
        + PODS.replace("job_timeout_s = 60", "job_timeout_s = 6\nmax_pods_per_job = 1")
    )

    def asleep(*arguments: object) -> Iterator[dict[str, object]]:
        (pod,) = rented.simulator.pods.values()
        deadline = time.monotonic() + 40
        while pod.status != "TERMINATED" and time.monotonic() < deadline:
            time.sleep(0.1)
        yield from ()
        raise watching.PodEnded("the watcher was asleep")

    monkeypatch.setattr(pipes, "watch", asleep)
    rented.run("hero")
    (pod,) = rented.simulator.pods.values()
    assert pod.deleted_by[0] == "pod" and "the job's 6 s are over" in pod.log.read_text()
    rented.check()


def test_a_container_log_goes_on_where_it_broke(rented: Rented) -> None:
    rented.simulator.behaviours.append(Behaviour(stuck=True))
    pod = rented.simulator.create({"name": "x", "image": "x", "gpu": {"id": "NVIDIA A40"}})
    pod.log.write_text("one\ntwo\nthree\n")
    api = runpod_api.RunPodApi(ACCOUNT_KEY, rented.simulator.address)
    first = list(itertools.islice(api.logs(pod.id, None, 5), 2))
    assert [x.line for x in first] == ["one", "two"]
    assert next(iter(api.logs(pod.id, first[-1].id, 5))).line == "three"
    api.close()
    rented.check_api()


def test_no_secret_leaves(rented: Rented, capfd: pytest.CaptureFixture[str]) -> None:
    rented.add("hero")
    rented.simulator.faults.append(Fault("createPod", 500))
    assert not rented.run("hero").failed
    said = capfd.readouterr()
    (pod,) = rented.simulator.pods.values()
    assert set(pod.request["env"]) == {"POSEFACTORY_JOB_URL"}
    bucket = b"".join(
        rented.sets.store.get_bytes(i.key) or b""
        for i in rented.sets.store.list("")
        if i.key.endswith(".json")
    )
    assert any("render_character.py" in command for command in pod.commands)
    everything = said.out + said.err + rented.log() + pod.log.read_text() + bucket.decode()
    everything += "\n".join(pod.commands)
    for secret in (ACCOUNT_KEY, pod.key, "test-secret-0", "TESTKEYID0", "X-Amz-Signature"):
        assert secret not in everything, secret


@pytest.mark.parametrize(
    "result",
    [
        {}, [], None, {"files": []}, {"files": {"a": {}}, "seconds": {}, "peak_mb": None},
        {"files": {"a": {"sha256": "0" * 64, "size": float("inf")}}, "seconds": {}, "peak_mb": None},
        {"files": {"a": {"sha256": "0" * 64, "size": 0}}, "seconds": {}, "peak_mb": None},
        {"files": {"b": {"sha256": "0" * 64, "size": 1}}, "seconds": {}, "peak_mb": None},
        {"files": {"a": {"sha256": "0" * 64, "size": 1}}, "seconds": {"render": "long"}, "peak_mb": None},
    ],
)  # fmt: skip
def test_a_result_that_is_none_is_said_to_be(result: object) -> None:
    with pytest.raises(orders.BadResult, match="a worker's result"):
        orders.checked(result, ["a"], "w1")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("header", "least", "most"),
    [("7", 7, 7), ("900", 60, 60), ("soon", None, None), (None, None, None), ("-1", None, None)],
)
def test_retry_after_is_obeyed_within_reason(
    header: str | None, least: float | None, most: float | None
) -> None:
    assert runpod_api._seconds(header) == least == most  # noqa: SLF001


def test_retry_after_may_be_a_date() -> None:
    then = email.utils.format_datetime(datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=20))  # fmt: skip
    assert 15 < (runpod_api._seconds(then) or 0) <= 20  # noqa: SLF001


def test_ids_that_lead_elsewhere_are_refused() -> None:
    for bad in ("../account", "a/b", "a?b", "", "x" * 65, "a b"):
        with pytest.raises(runpod_api.RunPodError, match="no id of a pod"):
            runpod_api.checked_id(bad)


def test_a_pod_can_reach_the_objects_of_its_job_and_nothing_else(
    rented: Rented, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a server that checks signatures, with everything that a pod is given."""
    monkeypatch.setattr(orders.Order, "clear", lambda self, store: None)
    rented.add("hero", "other")
    assert not rented.run("hero").failed
    store = bucket_of(rented.sets.store)
    (pod,) = rented.simulator.pods.values()
    assert set(pod.request["env"]) == {"POSEFACTORY_JOB_URL"}
    order = json.loads(urllib.request.urlopen(pod.request["env"]["POSEFACTORY_JOB_URL"]).read())
    gets = [i["url"] for i in order["inputs"].values()] + [
        r["get"] for r in order["results"].values()
    ]
    puts = [u for urls in order["outputs"].values() for u in urls.values()]
    puts += [u for stream in order["streams"] for u in stream["put"]]

    def answer(url: str, method: str) -> int:
        request = urllib.request.Request(url, method=method, data=b"x" if method == "PUT" else None)
        try:
            return int(urllib.request.urlopen(request, timeout=10).status)
        except urllib.error.HTTPError as error:
            return error.code

    assert answer(gets[0], "GET") == 200 and answer(puts[0], "PUT") == 200
    committed = rented.sets.current("character", "other")
    secrets_of_others = [
        committed.key("skin.fbx"),
        layout.upload("other.fbx"),
        layout.current("character", "hero"),
    ]
    for url in (gets[0], puts[0]):
        path = urllib.parse.urlsplit(url).path
        for key in secrets_of_others:
            aimed = url.replace(path, f"/{store.bucket}/{store.prefix}{key}")
            assert answer(aimed, "GET") == 403 and answer(aimed, "PUT") == 403
        assert answer(url, "DELETE") == 403
        bucket = url.replace(path, f"/{store.bucket}")
        assert answer(bucket, "GET") == 403, "the bucket cannot be listed"
    assert answer(gets[0], "PUT") == 403 and answer(puts[1], "GET") == 403
    assert rented.sets.store.get_bytes(secrets_of_others[1]) != b"x"
    allowed = ("/jobs/", "/sets/multi_angle_renders/hero/")
    assert all(any(a in urllib.parse.urlsplit(u).path for a in allowed) for u in puts)
