"""Time a tiny render by one renderer: a textured person-sized body under a sun, warmed up once, as `engine = "auto"` wants to know."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import bpy
import numpy as np

from blender_scripts.contract import TIMING, Job, Task
from blender_scripts.session import Stopwatch, TaskReport, run
from blender_scripts.stage import camera, engines, film, importing, light

#: How many renders are timed after the first.
RENDERS = 3


def measure(job: Job, task: Task, watch: Stopwatch, report: TaskReport) -> None:
    """Write ``timing.json``: seconds of a render by the engine that the key names, and by which kind of GPU."""
    output = Path(task.outputs)
    output.mkdir(parents=True, exist_ok=True)
    settings = dataclasses.replace(job.settings, engine=task.key, samples=None).resolved("cycles")
    importing.clear_scene()
    bpy.ops.mesh.primitive_uv_sphere_add(segments=160, ring_count=80, radius=0.9)
    front = np.array((0.0, -1.0, 0.0))
    film.set_up(settings)
    light.light(settings, front)
    box = np.array([[-0.9, -0.9, -0.9], [0.9, 0.9, 0.9]])
    seconds = []
    for turn in range(1 + RENDERS):
        camera.film(camera.place(settings, box, front, 30.0 * turn))
        start = time.perf_counter()
        film.shoot(output, None)
        seconds.append(time.perf_counter() - start)
    kind = engines.gpu_kind() if task.key == "cycles_gpu" else ""
    (output / TIMING).write_text(json.dumps({"seconds": min(seconds[1:]), "gpu": kind}), "utf-8")


if __name__ == "__main__":
    run(measure)
