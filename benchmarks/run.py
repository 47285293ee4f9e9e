"""The figures in docs/speed.md: cold start to dataset, the cost of one more image, stages and memory.

    make bench

Ratios are taken within one run, as machines are noisy. Results are printed and written to
`benchmarks/results.json`.
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

from blender_scripts.contract import RenderSettings, character_task
from posefactory_dagster.compute.job import new_job
from posefactory_dagster.compute.process import run_job
from posefactory_dagster.quality import landmarker, model
from posefactory_dagster.settings import sample_characters

SAMPLES = sample_characters()
SETTINGS = RenderSettings(num_angles=8, frames_per_clip=1, engine="cycles", samples=8)
#: Characters in the runs that are compared.
GROWTH = tuple(int(n) for n in os.environ.get("BENCH_GROWTH", "10,100").split(","))
PLAIN = Path(__file__).parent / "plain_render.py"


def main() -> None:
    """Measure, print, write."""
    results: dict[str, Any] = {"cores": os.cpu_count()}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name, measure in (("cold", cold), ("warm", warm), ("growth", growth)):
            place = root / name
            place.mkdir()
            print(f"measuring: {name}", file=sys.stderr, flush=True)
            results[name] = measure(place)
    text = json.dumps(results, indent=1)
    (Path(__file__).parent / "results.json").write_text(text)
    print(text)


def cold(place: Path) -> dict[str, Any]:
    """Six characters (the samples under two keys each) x 8 views x 1 frame, command to dataset."""
    (place / "posefactory.toml").write_text("[render]\nframes_per_clip = 1\n")
    environment = {
        **os.environ,
        "DAGSTER_HOME": str(place / "home"),
        "POSEFACTORY_STORE": str(place / "store"),
        "POSEFACTORY_SETTINGS": str(place / "posefactory.toml"),
    }
    verb = [sys.executable, "-m", "posefactory_dagster.cli"]
    for sample in SAMPLES:
        for suffix in ("", "_twin"):
            add = [*verb, "characters", "add", str(sample), "--name", sample.stem + suffix]
            subprocess.run(add, env=environment, check=True, capture_output=True)
    started = time.perf_counter()
    run = [*verb, "run", "--all", "--json"]
    subprocess.run(run, env=environment, check=True, capture_output=True)
    return {"images": 8 * 2 * len(SAMPLES), "seconds": round(time.perf_counter() - started, 2)}


def warm(place: Path) -> dict[str, Any]:
    """One more labelled image, and the plain way beside it: a process per character, full frames."""
    tasks = [character_task(p.stem, str(p), str(place / p.stem)) for p in SAMPLES]
    outcomes = run_job(new_job("render", tasks, SETTINGS), place)
    stages: dict[str, float] = {}
    for outcome in outcomes.values():
        for stage, seconds in outcome.seconds.items():
            stages[stage] = stages.get(stage, 0.0) + seconds
    images = [p for t in tasks for p in sorted((Path(t.outputs) / "images").iterdir())]
    task = model.model_path()
    list(landmarker.detect(task, images[:1], 0.5))  # imports and model loading are not per image
    started = time.perf_counter()
    list(landmarker.detect(task, images, 0.5))
    stages["label"] = time.perf_counter() - started
    ours = sum(stages.values()) / len(images)

    started = time.perf_counter()
    plain_images = []
    for sample in SAMPLES:
        out = place / f"plain_{sample.stem}"
        subprocess.run(
            [sys.executable, str(PLAIN), str(sample), str(out)], check=True, capture_output=True
        )
        plain_images += sorted(out.glob("*.png"))
        list(landmarker.detect(task, plain_images[-8:], 0.5))
    plain = (time.perf_counter() - started) / len(plain_images)
    return {
        "images": len(images),
        "seconds_per_image": round(ours, 4),
        "by_stage": {k: round(v / len(images), 4) for k, v in stages.items()},
        "plain_seconds_per_image": round(plain, 4),
        "plain_over_ours": round(plain / ours, 2),
        "peak_mb": max(o.peak_mb or 0 for o in outcomes.values()),
    }


def growth(place: Path) -> dict[str, Any]:
    """Runs of 10 and of 100 characters: cost per image and memory must not grow."""
    result: dict[str, Any] = {}
    for count in GROWTH:
        tasks = []
        for i in range(count):
            sample = SAMPLES[i % len(SAMPLES)]
            tasks.append(character_task(f"c{i:03d}", str(sample), str(place / f"{count}_{i:03d}")))
        started = time.perf_counter()
        outcomes = run_job(new_job("render", tasks, SETTINGS), place)
        spent = time.perf_counter() - started
        inside = np.array([sum(o.seconds.values()) for o in outcomes.values()])
        result[str(count)] = {
            "seconds_per_image": round(spent / count / 8, 4),
            "first_ten_seconds_per_image": round(float(np.median(inside[:10])) / 8, 4),
            "last_ten_seconds_per_image": round(float(np.median(inside[-10:])) / 8, 4),
            "peak_mb": max(o.peak_mb or 0 for o in outcomes.values()),
        }
        for task in tasks:
            shutil.rmtree(task.outputs)
    return result


if __name__ == "__main__":
    main()
