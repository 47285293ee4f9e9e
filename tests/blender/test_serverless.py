"""Renders on a serverless endpoint: the package's own local server does the work, a queue adds the faults."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import dagster as dg
import pytest

from posefactory_dagster.compute.record import JobRecord, read_jobs
from posefactory_dagster.compute.runpod import api, serverless
from posefactory_dagster.compute.runpod.endpoint import worker_price
from posefactory_dagster.compute.runs import end_orphans
from posefactory_dagster.storage import layout
from tests.rented import Rented
from tests.runpod_simulator import (
    ENDPOINT,
    GPUS,
    EndpointSimulator,
    Fault,
    simulated_endpoint,
    simulated_runpod,
)
from tests.servers import S3Server


class Served(Rented):
    """As ``Rented``, on an endpoint."""

    endpoint: EndpointSimulator


@pytest.fixture
def served(
    tmp_path: Path, rclone_s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Served]:
    monkeypatch.setattr(serverless, "LOOK_S", 0.5)
    with (
        simulated_runpod(tmp_path / "pods") as simulator,
        simulated_endpoint(tmp_path / "workers") as endpoint,
        dg.instance_for_test() as instance,
    ):
        made = Served(tmp_path, rclone_s3, simulator, instance, monkeypatch)
        made.endpoint = endpoint
        monkeypatch.setenv("POSEFACTORY_RENDER_ON", "serverless")
        monkeypatch.setenv("POSEFACTORY_ENDPOINT_ID", "ep1")
        monkeypatch.setenv("RUNPOD_ENDPOINT_BASE_URL", endpoint.address)
        yield made


def test_characters_fan_out_over_jobs_that_stay_under_the_limit(served: Served) -> None:
    served.add("hero", "twin")
    # 2 images of 0.1 s each: with 1.25 s to a job, of which 1 s is start-up, one character fits.
    served.configure(pods="serverless_job_s = 60\n")
    served.settings.write_text(served.settings.read_text().replace("seconds_per_image = 0.1", "seconds_per_image = 25"))  # fmt: skip
    report = served.run("hero", "twin")
    assert report.done == ["hero", "twin"] and not report.trouble, served.log()[-2000:]
    assert len(served.endpoint.requests) == 2
    for request in served.endpoint.requests:
        assert request["policy"] == {"executionTimeout": 60_000, "ttl": 10_860_000}
        order = parse_qs(urlsplit(request["input"]["order_url"]).query)
        # What waits in the queue must still find its order when a worker comes to it.
        assert 1000 * int(order["X-Amz-Expires"][0]) > request["policy"]["ttl"]
        assert set(request["input"]) == {"order_url"} and len(json.dumps(request)) < 10_000
    served.check()
    (job,) = read_jobs(served.sets.store)
    (rented,) = job.status.rented
    # 4 images of 25 s and two starts of 1 s, on the dearest GPU that is not excluded: an A40.
    assert rented.usd_per_hour == 0.7 and rented.estimate_usd == round(102 / 3600 * 0.7, 4)
    assert rented.endpoint_jobs == 2 and rented.seconds > 1 and rented.cost_usd > 0
    tags = served.instance.get_run_by_id(report.runs[0]).tags
    assert tags["posefactory/endpoint"] == "ep1" and float(tags["posefactory/cost_usd"]) > 0


@pytest.mark.parametrize(
    ("faults", "submitted"),
    [(["vanish"], 2), (["die"], 2), (["time out"], 2), (["refuse"], 1), (["lie"], 2)],
    ids=[
        "a job vanished",
        "a worker died",
        "over the limit",
        "a submission refused",
        "an answer that lies",
    ],
)
def test_the_job_is_done_in_spite_of(served: Served, faults: list[str], submitted: int) -> None:
    served.add("hero", "twin")
    served.endpoint.faults.extend(faults)
    report = served.run("hero", "twin")
    assert report.done == ["hero", "twin"], (report, served.log()[-2000:])
    assert len(served.endpoint.requests) == submitted
    served.check()


def test_what_no_job_could_finish_is_refused_beforehand(served: Served) -> None:
    served.add("hero")
    served.configure(pods="serverless_job_s = 1.1\n")
    assert (
        "2 images are estimated at 1 s, over serverless_job_s = 1"
        in served.run("hero").failed["hero"]
    )
    assert served.endpoint.requests == []


@pytest.mark.parametrize(
    ("pods", "words"),
    [
        ("max_cost_per_job = 0.0001\n", r"estimated at 1 s and \$0.00 .*over max_cost_per_job"),
        ("serverless_price_per_hour = 50000\n", r"\$50000.00 an hour"),
    ],
)
def test_what_costs_too_much_is_not_started(served: Served, pods: str, words: str) -> None:
    served.add("hero")
    served.configure(pods=pods)
    (trouble,) = served.run("hero").trouble
    assert re.search(words, trouble) and "nothing was started" in trouble
    assert served.endpoint.requests == []


def test_a_key_for_jobs_alone_needs_a_price_in_the_settings(served: Served) -> None:
    served.add("hero")
    served.simulator.faults.append(Fault("getEndpoint", 403))
    (trouble,) = served.run("hero").trouble
    assert "serverless_price_per_hour" in trouble and served.endpoint.requests == []
    served.configure(pods="serverless_price_per_hour = 0.5\n")
    served.simulator.faults.append(Fault("getEndpoint", 403))
    assert not served.run("hero").failed
    served.check()


def test_a_price_that_the_catalogue_does_not_say_is_asked_for() -> None:
    gpu = api.GpuType.model_validate({**GPUS[0], "price": {"secure": 1.0, "community": 1.0}})
    for endpoint in (ENDPOINT, {**ENDPOINT, "gpu": None}):
        with pytest.raises(api.RunPodError, match="serverless_price_per_hour"):
            worker_price(api.ServerlessEndpoint.model_validate(endpoint), [gpu])


def test_what_comes_to_nothing_twice_is_said(served: Served) -> None:
    served.add("hero")
    served.endpoint.faults.extend(["time out", "lie"])
    report = served.run("hero")
    assert "2 times; run it again" in report.failed["hero"]
    served.check()


def test_a_character_that_fails_on_the_worker_says_why(served: Served) -> None:
    served.add("hero", "twin")
    hero = served.sets.current("character", "hero")
    served.sets.store.put_bytes(hero.key("skin.fbx"), b"rotten")
    report = served.run("hero", "twin")
    assert set(report.failed) == {"hero"} and "could not be fetched whole" in report.failed["hero"]
    assert len(served.endpoint.requests) == 1


def test_an_endpoint_that_is_busy_for_a_while_costs_no_running_job(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serverless, "OFFER_S", 0.3)
    served.add("hero", "twin")
    served.configure(pods="serverless_job_s = 60\n")
    served.settings.write_text(served.settings.read_text().replace("seconds_per_image = 0.1", "seconds_per_image = 25"))  # fmt: skip
    served.endpoint.faults.extend(["", *["refuse"] * 6])  # the second job, six times
    assert served.run("hero", "twin").done == ["hero", "twin"], served.log()[-2000:]
    assert len(served.endpoint.requests) == 2
    assert not any(j.cancelled for j in served.endpoint.jobs.values())
    served.check()


def test_few_jobs_wait_at_a_time(served: Served) -> None:
    served.add("hero", "twin")
    served.configure(pods="serverless_job_s = 60\nserverless_jobs_at_once = 1\n")
    served.settings.write_text(served.settings.read_text().replace("seconds_per_image = 0.1", "seconds_per_image = 25"))  # fmt: skip
    assert served.run("hero", "twin").done == ["hero", "twin"]
    assert len(served.endpoint.requests) == 2 and served.endpoint.most_at_once == 1
    served.check()


def test_a_second_try_must_fit_the_budget_too(served: Served) -> None:
    served.add("hero")
    # One job of 1.2 s at $0.70 an hour is $0.00023: one is allowed, two are not.
    served.configure(pods="max_cost_per_job = 0.0003\n")
    served.endpoint.faults.append("time out")
    said = served.run("hero").failed["hero"]
    assert "TIMED_OUT; not asked for again" in said and "nothing more was started" in said
    assert len(served.endpoint.requests) == 1
    served.check()


def interrupt(*arguments: object) -> None:
    raise dg.DagsterExecutionInterruptedError  # what Dagster makes of Ctrl-C inside a step


def test_what_a_killed_run_left_is_cancelled(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.add("hero")
    with monkeypatch.context() as patch:  # nobody tidies up after a kill
        patch.setattr(serverless.ServerlessRenderer, "_state", interrupt)
        patch.setattr(serverless.ServerlessRenderer, "_cancel", lambda *arguments: None)
        patch.setattr(JobRecord, "close", lambda self: None)
        served.endpoint.queue_s = 60.0
        with pytest.raises(KeyboardInterrupt):
            served.run("hero")
    store = served.sets.store
    (job,) = served.endpoint.jobs.values()
    # The pods of the account are another scope: a key without it still looks after its endpoint.
    served.simulator.faults.append(Fault("listPods", 403))
    monkeypatch.setenv("POSEFACTORY_ENDPOINT_ID", "another-one-by-now")
    assert not job.cancelled and any("order-" in i.key for i in store.list(layout.JOBS))
    with pytest.raises(api.AccessDenied):
        list(end_orphans(served.instance, store))
    assert job.cancelled
    monkeypatch.setenv("POSEFACTORY_ENDPOINT_ID", "ep1")
    (record,) = read_jobs(store)
    assert record.status.status == "failed" and "ended before it did" in record.status.trouble  # fmt: skip
    served.endpoint.queue_s = 0.1
    assert served.run("hero").done == ["hero"]
    served.check()


def test_what_others_left_in_the_bucket_is_not_withdrawn(served: Served) -> None:
    store = served.sets.store
    key = layout.job_file("render_20260101_000000_00000000", "order-w1.json")
    store.put_bytes(key, b"{}")
    status = {
        "status": "processing",
        "run_id": "of-another-installation",
        "endpoint_jobs": {"j1": "ep1"},
    }
    store.put_bytes(layout.job_file("render_20260101_000000_00000000", "status.json"), json.dumps(status).encode())  # fmt: skip
    assert list(end_orphans(served.instance, store)) == []
    assert store.get_bytes(key) == b"{}"


def test_an_interrupt_cancels_what_is_queued(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.add("hero")
    monkeypatch.setattr(serverless.ServerlessRenderer, "_state", interrupt)
    with pytest.raises(KeyboardInterrupt):
        served.run("hero")
    (job,) = served.endpoint.jobs.values()
    assert job.cancelled
    (record,) = read_jobs(served.sets.store)
    assert len(record.status.rented) == 1
    orders = [i.key for i in served.sets.store.list(layout.JOBS) if "order" in i.key]
    assert orders == []


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("POSEFACTORY_ENDPOINT_ID", "nosuch", "no such endpoint"),
        ("POSEFACTORY_ENDPOINT_ID", "../x", "no id"),
        ("RUNPOD_API_KEY", "wrong", "refused the key"),
    ],
)
def test_faults_of_configuration(
    served: Served, monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    served.add("hero")
    monkeypatch.setenv(name, value)
    assert words in served.run("hero").trouble[0]
