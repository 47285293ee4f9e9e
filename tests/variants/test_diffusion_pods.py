"""Image models on rented machines: real workers with tiny models, on a real S3 server; RunPod simulated.

Run by `make test-diffusers`, but for what needs no models.
"""

from __future__ import annotations

import base64
import contextlib
import importlib.util
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from PIL import Image

from posefactory_dagster.budget import ledger
from posefactory_dagster.compute.record import read_jobs
from posefactory_dagster.compute.resources import RentedPods
from posefactory_dagster.compute.runpod import service
from posefactory_dagster.compute.runpod.lease import PodLease
from posefactory_dagster.compute.runpod.service import PodService
from posefactory_dagster.diffusion.engine import Answer, CannotGenerate, NotGenerated, Request
from posefactory_dagster.variants import assets as variants_assets
from posefactory_dagster.variants import documents as styles
from posefactory_dagster.variants.documents import read_variants
from tests.rented import Rented, RentedFactory
from tests.runpod_simulator import (
    ACCOUNT_KEY,
    Behaviour,
    SimulatedPod,
    simulated_runpod,
)
from tests.servers import S3Server

# The default set-up is without torch; `make test-diffusers` has an environment with it.
needs_diffusers = pytest.mark.skipif(
    importlib.util.find_spec("diffusers") is None,
    reason="diffusers is not installed; make test-diffusers installs it",
)
#: Two renders of a person, large enough for the gate.
RENDERS = "[render]\nnum_angles = 2\nframes_per_clip = 1\nwidth = 256\nheight = 256\nsamples = 4\nengine = 'cycles'\n"
#: Image models take their time to load, most of all where other tests run beside.
PODS = (
    "[pods]\nstartup_s = 1\nseconds_per_image = 0.1\npoll_interval_s = 0.3\nprovision_timeout_s = 10\n"
    "first_message_timeout_s = 90\nsilence_timeout_s = 90\njob_timeout_s = 300\n"
)
VARIANTS = "[variants]\nstyles = {styles}\nmax_attempts = {attempts}\nskip_unjudgeable = false\n"


@pytest.fixture
def enhancing(rented: Rented, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rented:
    """A project whose variants are made on pods, in the style `tiny`, whose models are nowhere."""
    monkeypatch.setenv("POSEFACTORY_ENHANCE_ON", "pod")
    folder = tmp_path / "styles"
    folder.mkdir()
    monkeypatch.setattr(styles, "FOLDER", folder)
    nowhere = {"base": str(tmp_path / "nowhere"), "controlnets": {}}
    content = {"provider": "diffusers", "model": "sd_1_5", "prompt": "x", "steps": 2, "strength": 1.0, "options": nowhere}  # fmt: skip
    (folder / "tiny.yaml").write_text(yaml.safe_dump(content))
    configure(rented)
    return rented


def configure(
    rented: Rented, names: tuple[str, ...] = ("tiny",), attempts: int = 1, pods: str = ""
) -> None:
    text = VARIANTS.format(styles=list(names), attempts=attempts)
    rented.settings.write_text(RENDERS + text + PODS + pods)


def add_style(name: str, models: Path, family: str = "sd_1_5") -> None:
    place = models / family
    nets = {control: str(place / control) for control in ("openpose", "depth")}
    options = {"base": str(place / "base"), "controlnets": nets, "work_size": 128}
    content = {"provider": "diffusers", "model": family, "prompt": "x", "steps": 2, "strength": 1.0, "options": options}  # fmt: skip
    (styles.FOLDER / f"{name}.yaml").write_text(yaml.safe_dump(content))


def render_here(rented: Rented, monkeypatch: pytest.MonkeyPatch, *keys: str) -> None:
    rented.add(*keys)
    with monkeypatch.context() as patch:
        patch.setenv("POSEFACTORY_RENDER_ON", "local")
        assert not rented.run(*keys).failed


def variants_of(rented: Rented, key: str) -> list:
    committed = rented.sets.current("enhanced_variants", key)
    assert committed is not None
    return read_variants(committed)


def test_a_pod_whose_image_cannot_is_told_of_and_ended(
    enhancing: Rented, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Needs no models: the worker says that there are none, or no diffusers."""
    render_here(enhancing, monkeypatch, "hero")
    report = enhancing.run("hero", until="enhanced_variants")
    words = "no such folder" if importlib.util.find_spec("diffusers") else "not installed"
    assert words in report.failed["hero"], report
    (pod,) = enhancing.simulator.pods.values()
    assert pod.request["gpu"]["id"] == "NVIDIA A40" and pod.request["disk"] == 60
    assert set(pod.request["env"]) == {"POSEFACTORY_JOB_URL"}
    enhancing.check()
    entries = ledger.read_ledger(enhancing.sets.store)[0]
    assert [e.provider for e in entries] == ["runpod"]


def test_what_is_missing_is_said_before_anything_is_rented(
    enhancing: Rented, monkeypatch: pytest.MonkeyPatch
) -> None:
    render_here(enhancing, monkeypatch, "hero")
    settings = enhancing.settings.read_text()
    for arrange, words in (
        (lambda p: p.delenv("POSEFACTORY_POD_IMAGE"), "POSEFACTORY_POD_IMAGE is not set"),
        (lambda p: p.delenv("RUNPOD_API_KEY"), "RUNPOD_API_KEY is not set"),
        (lambda p: configure(enhancing, pods="enhancer_memory_gb = 200\n"), "none with 200 GB is in stock"),
        (lambda p: configure(enhancing, pods="max_cost_per_job = 0.00001\n"), "over max_cost_per_job"),
    ):  # fmt: skip
        with monkeypatch.context() as patch:
            arrange(patch)
            report = enhancing.run("hero", until="enhanced_variants")
        assert words in " ".join([*report.trouble, *report.failed.values()]), report
        assert not enhancing.simulator.pods
        enhancing.settings.write_text(settings)


@needs_diffusers
def test_one_pod_renders_and_enhances(enhancing: Rented, models: Path) -> None:
    add_style("first", models)
    add_style("second", models, "sdxl")
    configure(enhancing, ("first", "second"), attempts=2)
    enhancing.add("hero", "twin")
    report = enhancing.run("hero", "twin", until="enhanced_variants")
    assert not report.failed and not report.trouble, (report, enhancing.log()[-4000:])
    (pod,) = enhancing.simulator.pods.values()
    run = enhancing.instance.get_run_by_id(report.runs[-1])
    assert run.tags["posefactory/pod"] == pod.id
    assert enhancing.rendered("hero") and enhancing.rendered("twin")
    made = [v for key in ("hero", "twin") for v in variants_of(enhancing, key)]
    assert len(made) == 8
    for variant in made:
        assert len(variant.attempts) in (1, 2) and variant.state == "blocked"  # noise is nobody
        for attempt in variant.attempts:
            assert attempt.image and attempt.cost_usd > 0 and attempt.answer["device"] == "cpu"
    said = enhancing.log() + pod.log.read_text() + json.dumps(run.tags)
    for secret in (ACCOUNT_KEY, pod.key, "test-secret-0", "TESTKEYID0", "X-Amz-Signature"):
        assert secret not in said, secret
    # What the pod cost is in the ledger once: image by image, and the rest of its time.
    spent = sum(r.cost_usd for j in read_jobs(enhancing.sets.store) for r in j.status.rented)
    entered = sum(e.cost_usd for e in ledger.read_ledger(enhancing.sets.store)[0])
    assert entered == pytest.approx(spent, abs=2e-4) and spent > 0
    enhancing.check()


@needs_diffusers
def test_a_pod_that_rendered_is_heard_while_it_enhances(enhancing: Rented, models: Path) -> None:
    """Images take longer than a silent pod would be given."""
    add_style("first", models)
    content = yaml.safe_load((styles.FOLDER / "first.yaml").read_text())
    content["options"]["work_size"] = 512
    content["steps"] = 30
    (styles.FOLDER / "first.yaml").write_text(yaml.safe_dump(content))
    configure(enhancing, ("first",), pods="")
    text = enhancing.settings.read_text()
    text = text.replace("first_message_timeout_s = 90", "first_message_timeout_s = 12")
    text = text.replace("silence_timeout_s = 90", "silence_timeout_s = 30")
    enhancing.settings.write_text(text)
    enhancing.add("hero")
    begun = time.monotonic()
    report = enhancing.run("hero", until="enhanced_variants")
    assert not report.failed and not report.trouble, (report, enhancing.log()[-4000:])
    assert len(enhancing.simulator.pods) == 1
    assert time.monotonic() - begun > 15, "it was too fast to prove anything; give it more steps"


@pytest.mark.parametrize(
    "said",
    [
        {}, {"seconds": -1}, {"seconds": "long"}, {"image": "no base 64!"}, {"image": ""},
        {"image": "aGVsbG8="}, {"image": base64.b64encode(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0").decode()}, {"seconds": float("inf")}, {"work_size": [float("inf"), 1]}, {"work_size": None}, {"device": None, "seconds": None},
    ],
)  # fmt: skip
def test_an_answer_that_is_none_is_said_to_be(said: dict) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 6)).save(buffer, "PNG")
    good = Answer(buffer.getvalue(), "cpu", (8, 8), 1.0).to_dict()
    assert service._read(good, (8, 6)).seconds == 1.0  # noqa: SLF001
    with pytest.raises(NotGenerated, match="malformed"):
        service._read({**good, **said} if said else {}, (8, 6))  # noqa: SLF001
    with pytest.raises(NotGenerated, match="another size"):
        service._read(good, (6, 8))  # noqa: SLF001
    with pytest.raises(CannotGenerate, match="no such folder"):
        service._read({"error": "no such folder", "final": True}, (8, 6))  # noqa: SLF001


@needs_diffusers
def test_variants_are_the_same_here_and_there(
    enhancing: Rented, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_style("first", models)
    configure(enhancing, ("first",))
    render_here(enhancing, monkeypatch, "hero")
    assert not enhancing.run("hero", until="enhanced_variants").failed
    there = variants_of(enhancing, "hero")
    monkeypatch.delenv("POSEFACTORY_ENHANCE_ON")
    for item in enhancing.sets.store.list("variants/"):
        enhancing.sets.store.delete([item.key])
    enhancing.sets.store.delete(
        [i.key for i in enhancing.sets.store.list("sets/enhanced_variants/")]
    )
    assert not enhancing.run("hero", until="enhanced_variants").failed
    here = variants_of(enhancing, "hero")
    assert [v.variant for v in here] == [v.variant for v in there]
    assert [v.attempts[0].image for v in here] == [v.attempts[0].image for v in there]


@needs_diffusers
@pytest.mark.parametrize(
    ("behaviours", "pods"),
    [
        ([Behaviour(die_after_answers=1)], 2),
        ([Behaviour(die_after_answers=1, restarts=1)], 1),
        ([Behaviour(error=True)], 2),
        ([Behaviour(silent=True)], 2),
    ],
    ids=["machine dies", "container restarted", "ERROR", "exit without a word"],
)
def test_the_variants_come_in_spite_of(
    enhancing: Rented,
    models: Path,
    monkeypatch: pytest.MonkeyPatch,
    behaviours: list[Behaviour],
    pods: int,
) -> None:
    add_style("first", models)
    configure(enhancing, ("first",), attempts=4)
    render_here(enhancing, monkeypatch, "hero")
    enhancing.simulator.behaviours.extend(behaviours)
    report = enhancing.run("hero", until="enhanced_variants")
    assert not report.failed and not report.trouble, (report, enhancing.log()[-4000:])
    assert len(enhancing.simulator.pods) == pods
    assert all(b.die_after_answers is None for b in behaviours)
    assert all(v.attempts and v.attempts[0].image for v in variants_of(enhancing, "hero"))
    enhancing.check()


@needs_diffusers
def test_a_pod_that_rendered_and_is_gone_is_replaced(
    enhancing: Rented, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_style("first", models)
    configure(enhancing, ("first",))
    enhancing.add("hero")
    make = PodService.make

    def after_it_died(pods: PodService, request: Request) -> Answer:
        for pod in enhancing.simulator.alive[:1] if len(enhancing.simulator.pods) == 1 else []:
            enhancing.simulator.delete(pod)
        return make(pods, request)

    monkeypatch.setattr(PodService, "make", after_it_died)
    report = enhancing.run("hero", until="enhanced_variants")
    assert not report.failed and not report.trouble, (report, enhancing.log()[-4000:])
    assert len(enhancing.simulator.pods) == 2
    enhancing.check()


def test_a_pod_is_held_only_for_a_step_that_comes(
    enhancing: Rented, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[object] = []
    hold = PodLease.hold
    monkeypatch.setattr(PodLease, "hold", lambda lease, pod: (held.append(pod), hold(lease, pod)))
    enhancing.add("hero", "twin")
    report = enhancing.run("twin")
    assert not report.failed and not held
    # When a character fails, the step does not come in this run: it comes in another, for the good ones.
    hero = enhancing.sets.current("character", "hero")
    enhancing.sets.store.put_bytes(hero.key("skin.fbx"), b"rotten")
    report = enhancing.run("hero", "twin", until="enhanced_variants")
    assert "hero" in report.failed and enhancing.simulator.alive == []
    enhancing.check_api()


def test_a_held_pod_that_nobody_takes_is_ended(
    enhancing: Rented, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pod_of(key: str) -> SimulatedPod:
        known = set(enhancing.simulator.pods)
        enhancing.add(key)
        enhancing.run(key, until="enhanced_variants")
        assert enhancing.rendered(key)
        (new,) = set(enhancing.simulator.pods) - known
        return enhancing.simulator.pods[new]

    # By a step that finds nothing to do: what was rendered is too small to judge by.
    text = enhancing.settings.read_text().replace("= 256", "= 16")
    enhancing.settings.write_text(
        text.replace("skip_unjudgeable = false", "skip_unjudgeable = true")
    )
    assert pod_of("hero").deleted_by[0] == "account"
    enhancing.check()
    assert [e for e in ledger.read_ledger(enhancing.sets.store)[0] if "waiting" in e.what]

    # At the end of a run whose step failed before it came to the pod.
    monkeypatch.setattr(variants_assets, "open_enhancer", None)
    with monkeypatch.context() as patch:
        patch.setattr(RentedPods, "service", lambda *arguments: 1 / 0)
        assert pod_of("twin").deleted_by[0] == "account"
    enhancing.check()

    # And where nobody is there to do that, it does so itself.
    monkeypatch.setattr(PodLease, "dispose", lambda *arguments: None)
    enhancing.settings.write_text(text + "enhancer_idle_s = 1\n")
    alone = pod_of("third")
    deadline = time.monotonic() + 30
    while alone in enhancing.simulator.alive and time.monotonic() < deadline:
        time.sleep(0.2)
    assert alone.deleted_by == ["pod"] and "no request for 1 s" in alone.log.read_text()


#: The command line, with styles from another folder.
COMMAND = """
import sys
from pathlib import Path
from posefactory_dagster.variants import documents as styles
from posefactory_dagster.cli.app import main
styles.FOLDER = Path(sys.argv.pop(1))
main()
"""


@contextlib.contextmanager
def enhancing_factory(
    tmp_path: Path, server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> Iterator[RentedFactory]:
    """A project driven by the command line, with the style `first` and a person of eight views."""
    monkeypatch.setattr(styles, "FOLDER", tmp_path / "styles")
    styles.FOLDER.mkdir()
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    root = tmp_path / "factory"
    root.mkdir()
    with simulated_runpod(tmp_path / "pods") as simulator:
        factory = RentedFactory(root, server, simulator)
        factory.environment["POSEFACTORY_ENHANCE_ON"] = "pod"
        variants = VARIANTS.format(styles=["first"], attempts=1)
        (root / "posefactory.toml").write_text(RENDERS.replace("= 2", "= 8", 1) + variants + PODS)
        factory.add_sample("ada_walk", "ada")
        yield factory


def start(factory: RentedFactory) -> subprocess.Popen[bytes]:
    """`posefactory run` up to the variants, with all it starts in a group of its own."""
    words = [str(styles.FOLDER), "run", "ada", "--until", "enhanced_variants"]
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, *words], env=factory.environment, cwd=factory.root, start_new_session=True,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip


def test_an_interrupt_waits_for_no_pod(
    tmp_path: Path, rclone_s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with enhancing_factory(tmp_path, rclone_s3, monkeypatch) as factory:
        add_style("first", tmp_path / "nowhere")
        factory.environment["POSEFACTORY_RENDER_ON"] = "local"
        settings = factory.root / "posefactory.toml"
        settings.write_text(settings.read_text().replace("provision_timeout_s = 10", "provision_timeout_s = 300"))  # fmt: skip
        factory.simulator.behaviours.append(Behaviour(stuck=True))
        process = start(factory)
        while not factory.simulator.pods:
            assert process.poll() is None, "the run ended by itself"
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        assert process.wait(40) == 130
        assert factory.simulator.alive == []


@needs_diffusers
def test_a_kill_in_the_middle_loses_nothing_that_was_made(
    tmp_path: Path, rclone_s3: S3Server, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with enhancing_factory(tmp_path, rclone_s3, monkeypatch) as factory:
        add_style("first", models)
        simulator = factory.simulator
        process = start(factory)
        while not any(
            p.log.exists() and p.log.read_text().count("made in") >= 5 for p in simulator.alive
        ):
            assert process.poll() is None, "the run ended by itself"
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        store = factory.sets.store
        made = {i.key for i in store.list("variants/") if i.key.endswith(".png")}
        assert made and len(simulator.alive) == 1
        assert start(factory).wait(120) == 0
        assert len(simulator.pods) == 2 and simulator.alive == [] and simulator.violations == []
        after = {i.key for i in store.list("variants/") if i.key.endswith(".png")}
        assert made < after
        found = factory.sets.current("enhanced_variants", "ada")
        kept = [a.image.key for v in read_variants(found) for a in v.attempts]
        assert set(kept) == after and len(kept) == 8
        # No second of a pod is paid for twice, whoever entered it.
        price = 0.35 / 3600
        lived = sum(p.ended - p.created for p in simulator.pods.values() if p.ended)
        assert sum(e.cost_usd for e in ledger.read_ledger(store)[0]) <= price * (lived + 10)
        left = [i.key for i in store.list("jobs/")]
        assert all(k.endswith(("job.json", "status.json")) for k in left), left
