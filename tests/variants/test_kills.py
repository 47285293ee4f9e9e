"""kill -9 in the middle of a paid batch: nothing is paid twice, nothing is lost, nothing unlocked gets into the dataset."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time

import pytest

from posefactory_dagster.budget.ledger import read_ledger
from posefactory_dagster.review.approval import locks_of
from posefactory_dagster.variants.batch import INTERRUPTED
from posefactory_dagster.variants.documents import Variant, read_variants
from tests.conftest import Factory
from tests.stability_simulator import StabilitySimulator, stability

SETTINGS = (
    "[render]\nnum_angles = 8\nframes_per_clip = 1\nwidth = 256\nheight = 256\nsamples = 4\nengine = 'cycles'\n"
    "[variants]\nstyles = ['stability_structure']\nskip_unjudgeable = false\nmax_attempts = 2\n"
)


def killed_after(factory: Factory, server: StabilitySimulator, images: int) -> None:
    """Start a run, and kill it with all its children once so many images are paid for."""
    process = subprocess.Popen(
        factory.command("run", "ada", "--until", "enhanced_variants"),
        env={**factory.environment, **server.environment}, cwd=factory.root, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while len(server.charges) < images:
        assert process.poll() is None, "the run ended by itself"
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.parametrize("images", [1, 4])
def test_a_killed_batch_goes_on_without_paying_twice(factory: Factory, images: int) -> None:
    (factory.root / "posefactory.toml").write_text(SETTINGS)
    factory.add_sample("ada_walk", "ada")
    factory.cli("run", "ada", "--until", "label_accuracy")
    with stability() as server:
        server.stagger_s = 0.4
        killed_after(factory, server, images)
        time.sleep(0.5)  # calls that were under way are charged all the same
        while server.at_once:
            time.sleep(0.05)
        before = len(server.charges)
        server.stagger_s = 0
        done = json.loads(factory.cli("run", "ada", "--json", **server.environment))
        assert done["done"] == ["ada"], done
        again = len(server.charges)
        factory.cli("run", "ada", **server.environment)
        assert len(server.charges) == again  # and a third run asks for nothing
    fingerprints = [c.fingerprint for c in server.charges]
    assert len(set(fingerprints)) == len(fingerprints) >= before
    variants = read_variants(factory.sets.current("enhanced_variants", "ada"))
    assert len(variants) == 8
    lost = [v for v in variants if any(a.error == INTERRUPTED for a in v.attempts)]
    kept = [a for v in variants for a in v.attempts if a.image]
    for attempt in kept:
        assert factory.sets.store.get_bytes(attempt.image.key)
    # Every charge is an image that is kept, or an attempt that says that its answer was lost.
    assert len(kept) <= len(fingerprints) <= len(kept) + len(lost)
    paid = list(read_ledger(factory.sets.store)[0])
    assert len(paid) == len(kept) + len(lost)
    assert sum(e.outcome == "unknown" for e in paid) == len(lost)
    dataset = factory.sets.current("pose_dataset", "all")
    inside = {v["variant"] for v in json.loads(dataset.path("variants.json").read_text()).values()}
    assert inside == set(locks_of(factory.sets.store, Variant, "ada"))
    assert not any(v.variant in inside for v in lost)

    # Who says so gets the lost ones too, and only those.
    assert lost and (kept or images == 1)
    with (factory.root / "posefactory.toml").open("a") as file:
        file.write("retry_interrupted = true\n")
    with stability() as server:
        factory.cli("run", "ada", **server.environment)
    variants = read_variants(factory.sets.current("enhanced_variants", "ada"))
    assert all(v.image for v in variants)
    asked = [c.fingerprint for c in server.charges]
    assert len(set(asked)) == len(asked)
    assert len(set(asked) & set(fingerprints)) == len(lost)  # the others are new attempts at these


@pytest.mark.soak
def test_random_kills_of_a_paid_batch(factory: Factory) -> None:
    seed, kills = int(os.environ.get("SOAK_SEED", "0")), int(os.environ.get("SOAK_KILLS", "20"))
    rng = random.Random(seed)
    factory.add_sample("ada_walk", "ada")
    killed, paid_before = 0, 0
    with stability() as server:
        server.behaviour, server.stagger_s = "nudge", 0.15
        # Each with renders of its own, so that there is something to pay for.
        for number in range(kills):
            settings = SETTINGS.replace("max_attempts = 2", "max_attempts = 5")
            settings = settings.replace("[variants]", f"seed = {number}\n[variants]")
            (factory.root / "posefactory.toml").write_text(settings)
            before, until = len(server.charges), rng.randint(1, 25)
            process = subprocess.Popen(
                factory.command("run", "ada", "--until", "enhanced_variants"),
                env={**factory.environment, **server.environment}, cwd=factory.root, start_new_session=True,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            while len(server.charges) - before < until and process.poll() is None:
                time.sleep(0.005)
            if process.poll() is None:
                killed += 1
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            while server.at_once:
                time.sleep(0.05)
            first = len(server.charges) - before
            done = json.loads(
                factory.cli(
                    "run", "ada", "--until", "enhanced_variants", "--json", **server.environment
                )
            )
            assert done["done"] == ["ada"], done
            variants = read_variants(factory.sets.current("enhanced_variants", "ada"))
            kept = [a for v in variants for a in v.attempts if a.image]
            lost = [a for v in variants for a in v.attempts if a.error == INTERRUPTED]
            paid = len(list(read_ledger(factory.sets.store)[0])) - paid_before
            paid_before += paid
            charged = len(server.charges) - before
            print(
                f"{number + 1} of {kills}: killed after {first} of {charged} images, {len(kept)} kept, {len(lost)} lost"
            )
            assert len(variants) == 8 and paid == len(kept) + len(lost)
            assert len(kept) <= charged <= paid
            assert all(factory.sets.store.get_bytes(a.image.key) for a in kept)
    fingerprints = [c.fingerprint for c in server.charges]
    print(f"seed {seed}: {killed} kills, {len(fingerprints)} images paid for")
    assert len(set(fingerprints)) == len(fingerprints) and killed >= kills / 2


def test_too_much_is_refused_before_the_first_call(factory: Factory) -> None:
    factory.add_sample("ada_walk", "ada")
    with stability() as server:
        for setting, words in (
            ("max_cost_per_job = 0.2", "max_cost_per_job = $0.20"),
            ("max_cost_per_day = 0.3", "max_cost_per_day = $0.30"),
            ("max_images_per_batch = 7", "8 images are asked for, over max_images_per_batch = 7"),
        ):
            (factory.root / "posefactory.toml").write_text(SETTINGS + setting + "\n")
            text = factory.cli("run", "ada", expect=1, **server.environment)
            assert words in " ".join(text.split()), text
        assert server.calls == 0
        (factory.root / "posefactory.toml").write_text(SETTINGS)
        text = factory.cli("run", "ada", expect=1)
        assert "STABILITY_API_KEY is not set" in text
