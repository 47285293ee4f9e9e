"""Render views x frames of each character of a job, with the exact truth of each image."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from blender_scripts.contract import (
    IMAGE_FOLDERS,
    LANDMARKS,
    TRUTH_ARRAYS,
    TRUTH_DOCUMENT,
    TRUTH_VERSION,
    CharacterTask,
    Job,
    image_name,
    sample_frames,
    view_azimuths,
)
from blender_scripts.session import Stopwatch, TaskReport, run
from blender_scripts.stage import camera, fbx, film, light, truth
from blender_scripts.stage.character import load_character
from blender_scripts.stage.errors import InputError
from blender_scripts.stage.motion import cast
from blender_scripts.stage.opacity import Opacity


def render(job: Job, task: CharacterTask, watch: Stopwatch, report: TaskReport) -> None:
    """One character's set: a folder for each kind of image, ``truth.npz`` and ``truth.json``."""
    settings = job.settings
    output = Path(task.output)
    for folder in IMAGE_FOLDERS:
        (output / folder).mkdir(parents=True)
    with watch.stage("import"):
        fbx.clear_scene()
        character = load_character(task.skin, job.rig_map, task.skin_name, task.take)
        if task.motion:
            cast(character, task.motion, task.motion_name, task.motion_take)
    with watch.stage("truth"):
        anchors = truth.anchor_landmarks(character)
        opacity = Opacity(character.meshes)
    frames = sample_frames(character.frame_range, character.has_motion(), settings.frames_per_clip)
    views = view_azimuths(settings.num_angles)
    with watch.stage("scene"):
        film.set_up(settings)
        shines = light.light(settings, character.rest_facing)
        fronts, boxes = {}, {}
        for frame in frames:
            character.at_frame(frame)
            fronts[frame] = character.facing()
            points = character.vertices()
            boxes[frame] = np.stack([points.min(axis=0), points.max(axis=0)])
        clip_box = np.stack(
            [
                np.min([b[0] for b in boxes.values()], axis=0),
                np.max([b[1] for b in boxes.values()], axis=0),
            ]
        )

    columns: dict[str, list] = {
        name: []
        for name in (
            "pixels", "depth", "camera", "world", "visibility", "in_frame", "occluder_gap_m", "facing",
            "first_hit_part", "visible", "visible_part", "intrinsics", "rotation", "translation", "bbox", "area",
        )
    }  # fmt: skip
    records = []
    front = next((f for f in fronts.values() if f is not None), character.rest_facing)
    total = len(frames) * len(views)
    for frame in frames:
        with watch.stage("scene"):
            character.at_frame(frame)
            vertices = character.vertices()
        if settings.follow == "frame" and fronts[frame] is not None:
            front = fronts[frame]
        box = boxes[frame] if settings.follow == "frame" else clip_box
        with watch.stage("truth"):
            points = truth.locate(character, anchors, vertices)
        for number, (view, azimuth) in enumerate(views):
            close_up = camera.draw_close_up(settings, task.key, frame, number)
            pinhole = camera.place(settings, box, front, azimuth, close_up)
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
                mask = picture.mask
                bbox, area = truth.mask_box(mask)
                in_camera = pinhole.to_camera(points)
                sight = truth.look(character, anchors, points, vertices, pinhole, mask, opacity)
                row = {
                    "pixels": pinhole.project(points),
                    "depth": in_camera[:, 2],
                    "camera": in_camera,
                    "world": points,
                    "visibility": sight.visibility,
                    **vars(sight),
                    "intrinsics": pinhole.intrinsics,
                    "rotation": pinhole.rotation,
                    "translation": pinhole.translation,
                    "bbox": bbox,
                    "area": area,
                }
                for name, value in row.items():
                    columns[name].append(value)
            with watch.stage("write"):
                name = image_name(frame, view)
                film.save_all(output, name, picture, backdrop, pinhole.rotation)
            cropped = bool(
                (lowest < 0).any() or highest[0] > settings.width or highest[1] > settings.height
            )
            records.append(
                {
                    "file": name,
                    "frame": frame,
                    "view": view,
                    "azimuth_degrees": azimuth,
                    "cropped": cropped,
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
        arrays["origin"] = np.array([a.origin for a in anchors])
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


if __name__ == "__main__":
    run(render)
