"""What variants cost in time: relight with its gate, the gate beside MediaPipe alone, and how many calls at once.

    make bench-variants

Ratios are taken within one run, as machines are noisy. Printed, and written to `benchmarks/results_variants.json`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from PIL import Image

from blender_scripts.contract import RenderSettings, character_task
from posefactory_dagster.budget.ledger import Budget
from posefactory_dagster.compute.job import new_job
from posefactory_dagster.compute.process import run_job
from posefactory_dagster.quality import model
from posefactory_dagster.quality.gate import Gate, open_landmarkers
from posefactory_dagster.settings import GateSettings, VariantSettings, sample_characters
from posefactory_dagster.storage.opening import open_store
from posefactory_dagster.storage.sets import CommittedSets, SetRef
from posefactory_dagster.variants import variant_sets
from posefactory_dagster.variants.batch import Batch, plan, states
from posefactory_dagster.variants.documents import read_style
from posefactory_dagster.variants.enhancers.relight import Relight
from posefactory_dagster.variants.enhancers.stability import PARALLEL, Stability
from posefactory_dagster.variants.render_views import RenderViews

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.stability_simulator import stability  # noqa: E402

SAMPLES = sample_characters()
SETTINGS = RenderSettings(num_angles=8, frames_per_clip=4, engine="cycles", samples=8)
CALLS = 300
LATENCY_S = 3.0
#: What Stability allows at most: so many calls in so many seconds.
ALLOWED, ALLOWED_S = 150, 10.0


def main() -> None:
    """Measure, print, write."""
    results: dict[str, Any] = {"cores": os.cpu_count()}
    with tempfile.TemporaryDirectory() as folder:
        sets = CommittedSets(open_store(folder))
        print("rendering", file=sys.stderr, flush=True)
        render_views = render(sets, Path(folder))
        with open_landmarkers(model.model_path(), 0.5) as landmarkers:
            gate = Gate(landmarkers, GateSettings())
            gate.look(render_views[0].read(0).subject)  # loading is not an image's cost
            for name, measure in (("relight", relight), ("gate", gate_alone)):
                print(f"measuring: {name}", file=sys.stderr, flush=True)
                results[name] = measure(sets, render_views, gate)
        print("measuring: remote", file=sys.stderr, flush=True)
        results["remote"] = remote(render_views[0])
    text = json.dumps(results, indent=1)
    (Path(__file__).parent / "results_variants.json").write_text(text)
    print(text)


def render(sets: CommittedSets, place: Path) -> list[RenderViews]:
    """The shipped people, rendered and committed."""
    tasks = [character_task(p.stem, str(p), str(place / "out" / p.stem)) for p in SAMPLES]
    outcomes = run_job(new_job("render", tasks, SETTINGS), place)
    result = []
    for task in tasks:
        assert outcomes[task.key].error is None
        ref = SetRef("multi_angle_renders", task.key, "bench")
        values = dataclasses.asdict(SETTINGS)
        result.append(
            RenderViews.of(
                sets.commit(ref, Path(task.outputs), inputs={"sets": []}, settings=values, facts={})
            )
        )
    return result


def relight(sets: CommittedSets, render_views: list[RenderViews], gate: Gate) -> dict[str, Any]:
    """From committed renders to a written set of variants, retries included."""
    style = read_style("places")
    settings = VariantSettings()
    budget = Budget(sets.store, 1, 1, "benchmark")
    count, attempts = 0, 0
    ends: dict[str, int] = {}
    started = time.perf_counter()
    with contextlib.closing(Relight(style)) as enhancer:
        batch = Batch(sets.store, gate, {style.name: enhancer}, settings, budget, "bench")
        for one in render_views:
            key = one.renders.ref.partition
            variants = batch.make(
                key, one, plan(key, one, [style], {style.name: enhancer}), lambda *_: None
            )
            with sets.scratch() as scratch:
                variant_sets.write(scratch, sets.store, one, variants)
            count += len(variants)
            attempts += sum(len(v.attempts) for v in variants)
            for state, number in states(variants).items():
                ends[state] = ends.get(state, 0) + number
    spent = time.perf_counter() - started
    return {
        "variants": count,
        "attempts": attempts,
        "states": ends,
        "seconds_per_variant": round(spent / count, 4),
        "seconds_per_attempt": round(spent / attempts, 4),
    }


def gate_alone(sets: CommittedSets, render_views: list[RenderViews], gate: Gate) -> dict[str, Any]:
    """The gate on render and image, against the two MediaPipe calls that it needs and nothing else."""
    pairs = []
    for one in render_views:
        for index in range(0, len(one.truth.images), 2):
            subject = one.read(index).subject
            buffer = io.BytesIO()
            Image.fromarray(subject.pixels).save(buffer, "JPEG", quality=85)
            pairs.append((subject, buffer.getvalue()))
    landmarkers = gate._landmarkers

    def judge(pair: Any) -> None:
        subject, data = pair
        gate.judge(subject, gate.look(subject), data)

    def two_calls(pair: Any) -> None:
        landmarkers.look(pair[0].pixels)
        landmarkers.look(pair[0].pixels)

    seconds = {}
    with ThreadPoolExecutor(gate.parallel) as pool:
        for _ in range(2):  # the first round warms up
            for name, work in (("mediapipe", two_calls), ("gate", judge)):
                started = time.perf_counter()
                list(pool.map(work, pairs))
                seconds[name] = (time.perf_counter() - started) / len(pairs)
    return {
        "images": len(pairs),
        "seconds_per_image": round(seconds["gate"], 4),
        "two_mediapipe_calls": round(seconds["mediapipe"], 4),
        "ratio": round(seconds["gate"] / seconds["mediapipe"], 3),
    }


def remote(render_views: RenderViews) -> dict[str, Any]:
    """Many calls to the simulator, against the least time that the rate's limit allows."""
    render_view, style = render_views.read(0), read_style("stability_structure")
    with stability() as server:
        os.environ |= server.environment
        server.latency_s = LATENCY_S
        with contextlib.closing(Stability("stability", "structure")) as enhancer, ThreadPoolExecutor(PARALLEL) as pool:  # fmt: skip
            started = time.perf_counter()
            list(
                pool.map(
                    lambda i: enhancer.enhance(render_view, style, style.parameters(f"{i:08x}")),
                    range(CALLS),
                )
            )
            spent = time.perf_counter() - started
        assert not server.violations, server.violations
        least = max(CALLS - ALLOWED, 0) / ALLOWED * ALLOWED_S + LATENCY_S
        return {
            "calls": CALLS,
            "latency_s": LATENCY_S,
            "most_at_once": server.most_at_once,
            "seconds": round(spent, 2),
            "least_by_the_rate_limit": least,
            "ratio": round(spent / least, 2),
            "one_after_the_other": CALLS * LATENCY_S,
        }


if __name__ == "__main__":
    main()
