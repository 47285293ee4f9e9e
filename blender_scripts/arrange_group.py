"""Find a place for each person of a group, and take the group's portrait."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import bpy
import numpy as np

from blender_scripts.contract import ARRANGEMENT, THUMBNAIL, Job, RenderSettings, Task
from blender_scripts.errors import InputError
from blender_scripts.session import Stopwatch, TaskReport, run
from blender_scripts.stage import camera, film, group, light

PORTRAIT = RenderSettings(width=240, height=192, samples=4, engine="cycles")
PORTRAIT_AZIMUTH_DEGREES = 20.0


def arrange(job: Job, task: Task, watch: Stopwatch, report: TaskReport) -> None:
    """Write ``arrangement.json`` and ``thumbnail.png``."""
    output = Path(task.outputs)
    output.mkdir(parents=True, exist_ok=True)
    keys = [p.key for p in task.places]
    with watch.stage("import"):
        people = group.bring_in(job, task)
    with watch.stage("arrange"):
        try:
            places = group.arrange(people, keys, task.arrangement, task.spacing_m, task.seed)
        except InputError as error:
            raise InputError(f"{task.key}: {error}") from error
    first, last = group.frame_range(people)
    group.take_places(people, places)
    with watch.stage("render"):
        group.at_frame(people, (first + last) // 2)
        bpy.context.view_layer.update()
        points = np.concatenate([c.vertices() for c in people])
        pinhole = camera.place(PORTRAIT, np.stack([points.min(axis=0), points.max(axis=0)]), group.GROUP_FRONT, PORTRAIT_AZIMUTH_DEGREES)  # fmt: skip
        film.set_up(PORTRAIT)
        light.light(PORTRAIT, group.GROUP_FRONT)
        camera.film(pinhole)
        film.save_png(output / THUMBNAIL, film.shoot(output, None).over(film.plain_backdrop()))
    document = {
        "places": [dataclasses.asdict(p) for p in places],
        "frame_range": [first, last],
        "moves": any(c.has_motion() for c in people),
        "fps": people[0].imported.fps,
        "heights_m": [round(c.height, 4) for c in people],
        "vertices": sum(len(c.rest_vertices) for c in people),
        "meshes": sum(len(c.meshes) for c in people),
        "bones": sum(len(c.armature.data.bones) for c in people),
        "warnings": [f"{k}: {w}" for k, c in zip(keys, people, strict=True) for w in c.imported.warnings],
    }  # fmt: skip
    (output / ARRANGEMENT).write_text(json.dumps(document, indent=1), "utf-8")


if __name__ == "__main__":
    run(arrange)
