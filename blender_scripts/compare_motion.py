"""Show a motion and what a skin makes of it, frame by frame: a render of the skin, and where the source's joints are."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from blender_scripts.contract import COMPARISON, Job, Task, View
from blender_scripts.formats.naming import HUMANOID
from blender_scripts.session import Stopwatch, TaskReport, run
from blender_scripts.stage import camera, film, importing, light
from blender_scripts.stage.character import Character, load_character
from blender_scripts.stage.motion import Clip, aligned_motion, cast, load_clip, play

#: The camera keeps so far from the person's middle that a stretched body fits, metres from side to side.
SPAN_M = 1.6


def compare(job: Job, task: Task, watch: Stopwatch, report: TaskReport) -> None:
    """Write an image of the skin for each of ``task.frames``, counted from the clip's first, and ``comparison.npz``.

    The NPZ holds ``joints`` (F, J, 2), pixels of the source's joints as the same camera would see them at the skin's size,
    ``names`` (J,), ``floor`` (F, 4, 2) pixels of a square on the floor, and ``stands`` (F, 2).
    """
    output = Path(task.outputs)
    output.mkdir(parents=True, exist_ok=True)
    skin, motion = task.inputs["skin"], task.inputs["motion"]
    with watch.stage("import"):
        importing.clear_scene()
        character = load_character(skin.file, job.rig_map, skin.name, skin.take)
        clip = load_clip(motion.file, job.rig_map, motion.name, motion.take)
    with watch.stage("cast"):
        names = [b for b in HUMANOID if b in clip.rig.names and "Hand" not in b[:-4]]
        heads, stands = aligned_motion(character, clip, names)
        play(character, cast(character, clip))
        clip.remove()
    film.set_up(job.settings)
    light.light(job.settings, character.rest_facing)
    frames = [f for f in task.frames if f < len(heads)]
    rows: dict[str, list[np.ndarray]] = {"joints": [], "floor": []}
    for done, frame in enumerate(frames, 1):
        with watch.stage("render"):
            pinhole = _look(character, clip, frame, job, job.views[0])
            picture = film.shoot(output, None)
            film.save_png(output / f"{done:04d}.png", picture.over(film.plain_backdrop()))
        rows["joints"].append(pinhole.project(heads[frame]))
        rows["floor"].append(pinhole.project(_floor(character)))
        report.image(f"{done:04d}.png", done, len(frames))
    with (output / COMPARISON).open("wb") as file:
        np.savez(
            file, names=np.array(names), stands=stands[frames], frames=np.array(frames) + clip.start,
            **{k: np.array(v) for k, v in rows.items()},
        )  # fmt: skip


def _middle(character: Character) -> np.ndarray:
    points = character.vertices()
    return np.asarray((points.min(axis=0) + points.max(axis=0)) / 2)


def _look(character: Character, clip: Clip, frame: int, job: Job, view: View) -> camera.Pinhole:
    character.at_frame(clip.start + frame)
    middle = _middle(character)
    half = np.array([SPAN_M / 2, SPAN_M / 2, 0.0])
    box = np.stack([middle - half, middle + half])
    box[:, 2] = -0.02, 1.95
    pinhole = camera.place(job.settings, box, character.rest_facing, view.azimuth_degrees)
    camera.film(pinhole)
    return pinhole


def _floor(character: Character) -> np.ndarray:
    middle = _middle(character)
    corners = np.array([[-0.6, -0.6, 0], [0.6, -0.6, 0], [0.6, 0.6, 0], [-0.6, 0.6, 0]])
    return corners + middle * np.array([1, 1, 0])


if __name__ == "__main__":
    run(compare)
