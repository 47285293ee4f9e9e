"""Render views x frames of each character of a job, with the exact truth of each image."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from blender_scripts.contract import (
    CAMERA_ARRAYS,
    IMAGE_FOLDERS,
    LANDMARKS,
    PERSON_ARRAYS,
    TRUTH_ARRAYS,
    TRUTH_DOCUMENT,
    TRUTH_VERSION,
    Job,
    RenderSettings,
    Task,
    image_name,
    sample_frames,
)
from blender_scripts.session import Stopwatch, TaskReport, run
from blender_scripts.stage import camera, fbx, film, light, truth
from blender_scripts.stage.character import Character, load_character
from blender_scripts.stage.errors import InputError
from blender_scripts.stage.motion import cast
from blender_scripts.stage.opacity import Opacity


class Stances:
    """How a character stands in each frame: where it faces, and the box it fills; world frame, metres, z up."""

    def __init__(self, character: Character, frames: list[int], settings: RenderSettings) -> None:
        self._follow = settings.follow
        self._fronts: dict[int, np.ndarray | None] = {}
        self._boxes: dict[int, np.ndarray] = {}
        for frame in frames:
            character.at_frame(frame)
            self._fronts[frame] = character.facing()
            points = character.vertices()
            self._boxes[frame] = np.stack([points.min(axis=0), points.max(axis=0)])
        known = (front for front in self._fronts.values() if front is not None)
        self._front = next(known, character.rest_facing)

    def front(self, frame: int) -> np.ndarray:
        """(3,) unit vector; frames are asked for in order, and one in which nobody faces anywhere has that before it."""
        front = self._fronts[frame]
        if self._follow == "frame" and front is not None:
            self._front = front
        return self._front

    def box(self, frame: int) -> np.ndarray:
        """(2, 3) lowest and highest corner, of the frame or of the whole clip."""
        if self._follow == "frame":
            return self._boxes[frame]
        boxes = np.stack(list(self._boxes.values()))
        return np.stack([boxes[:, 0].min(axis=0), boxes[:, 1].max(axis=0)])


def render(job: Job, task: Task, watch: Stopwatch, report: TaskReport) -> None:
    """One character's set: a folder for each kind of image, ``truth.npz`` and ``truth.json``."""
    settings = job.settings
    output = Path(task.outputs)
    for folder in IMAGE_FOLDERS:
        (output / folder).mkdir(parents=True)
    with watch.stage("import"):
        character = _load(job, task)
    with watch.stage("truth"):
        anchors = truth.anchor_landmarks(character)
        opacity = Opacity(character.meshes)
    frames = sample_frames(character.frame_range, character.has_motion(), settings.frames_per_clip)
    with watch.stage("scene"):
        film.set_up(settings)
        shines = light.light(settings, character.rest_facing)
        stances = Stances(character, frames, settings)

    columns: dict[str, list] = {name: [] for name in (*PERSON_ARRAYS, *CAMERA_ARRAYS)}
    records = []
    total = len(frames) * len(job.views)
    for frame in frames:
        with watch.stage("scene"):
            character.at_frame(frame)
            vertices = character.vertices()
        front, box = stances.front(frame), stances.box(frame)
        with watch.stage("truth"):
            points = truth.locate(character, anchors, vertices)
        for number, view in enumerate(job.views):
            close_up = camera.draw_close_up(settings, task.key, frame, number)
            pinhole = camera.place(settings, box, front, view.azimuth_degrees, close_up)
            with watch.stage("scene"):
                camera.film(pinhole)
                outline = pinhole.project(vertices)
                lowest, highest = outline.min(axis=0), outline.max(axis=0)
            with watch.stage("render"):
                picture = film.shoot(output, (*lowest, *highest))
                if settings.background == "plain":
                    backdrop = film.plain_backdrop()
                else:
                    backdrop = film.shoot_backdrop(output, character.meshes)
            with watch.stage("truth"):
                bbox, area = truth.mask_box(picture.mask)
                sight = truth.look(
                    character, anchors, points, vertices, pinhole, picture.mask, opacity
                )
                row = _row(points, pinhole, sight, bbox, area)
                for name, value in row.items():
                    columns[name].append([value] if name in PERSON_ARRAYS else value)
            with watch.stage("write"):
                name = image_name(frame, view.name)
                film.save_all(output, name, picture, backdrop, pinhole.rotation)
            outside = (
                (lowest < 0).any() or highest[0] > settings.width or highest[1] > settings.height
            )
            records.append(
                {
                    "file": name,
                    "frame": frame,
                    "view": view.name,
                    "azimuth_degrees": view.azimuth_degrees,
                    "cropped": bool(outside),
                    "close_up": close_up is not None,
                    "bbox": bbox.tolist(),
                    "area": area,
                }
            )
            report.image(name, len(records), total)
    if not any(r["area"] for r in records):
        raise InputError(
            f"{task.key}: nobody is in any of its {total} pictures: the motion leaves the frame (the preset fit follows it), "
            "or its materials are transparent everywhere"
        )
    with watch.stage("write"):
        arrays = {name: np.array(values) for name, values in columns.items()}
        arrays["origin"] = np.array([[a.origin for a in anchors]])
        with (output / TRUTH_ARRAYS).open("wb") as file:
            np.savez(file, **arrays)
        document = {
            "truth_version": TRUTH_VERSION,
            "key": task.key,
            "settings": dataclasses.asdict(settings),
            "landmarks": list(LANDMARKS),
            "origin": [a.origin for a in anchors],
            "parts": character.surface.bone_names,
            "take": None if character.imported.take is None else character.imported.take.name,
            "fps": character.imported.fps,
            "frames": frames,
            "frame_range": list(character.frame_range),
            "height_m": character.height,
            "light": shines,
            "warnings": character.imported.warnings,
            "images": records,
        }
        (output / TRUTH_DOCUMENT).write_text(json.dumps(document, indent=1), "utf-8")


def _load(job: Job, task: Task) -> Character:
    """The character of a task, alone on the stage, with the motion that is cast on it."""
    fbx.clear_scene()
    skin, motion = task.inputs["skin"], task.inputs.get("motion")
    character = load_character(skin.file, job.rig_map, skin.name, skin.take)
    if motion is not None:
        cast(character, motion.file, motion.name, motion.take)
    return character


def _row(
    points: np.ndarray, pinhole: camera.Pinhole, sight: truth.Sight, bbox: np.ndarray, area: int
) -> dict[str, object]:
    """The truth of one person in one image, by the names of its arrays, and of the image's camera.

    Args:
        points: (33, 3) landmarks, world frame, metres.
    """
    in_camera = pinhole.to_camera(points)
    return {
        "pixels": pinhole.project(points),
        "depth": in_camera[:, 2],
        "camera": in_camera,
        "world": points,
        "visibility": sight.visibility,
        **vars(sight),
        "bbox": bbox,
        "area": area,
        "intrinsics": pinhole.intrinsics,
        "rotation": pinhole.rotation,
        "translation": pinhole.translation,
    }


if __name__ == "__main__":
    run(render)
