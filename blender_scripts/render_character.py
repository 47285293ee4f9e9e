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
    CAST_CURVES,
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
from blender_scripts.errors import InputError
from blender_scripts.session import Stopwatch, TaskReport, run
from blender_scripts.stage import camera, film, importing, light, truth
from blender_scripts.stage.character import Character, load_character
from blender_scripts.stage.motion import Curves, cast, load_clip, play
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
        shooting = Shooting(job, task, character, output, watch)
    frames = list(task.frames) or sample_frames(
        character.frame_range, character.has_motion(), settings.frames_per_clip
    )
    with watch.stage("scene"):
        film.set_up(settings)
        shines = light.light(settings, character.rest_facing)
        stances = Stances(character, frames, settings)
    total = len(frames) * len(job.views)
    for frame in frames:
        shooting.stand(frame, stances)
        for number in range(len(job.views)):
            name = shooting.shoot(number)
            report.image(name, len(shooting.records), total)
    if not any(r["area"] for r in shooting.records):
        raise InputError(
            f"{task.key}: nobody is in any of its {total} pictures: the motion leaves the frame (the preset fit follows it), "
            "or its materials are transparent everywhere"
        )
    with watch.stage("write"):
        shooting.write_truth(frames, shines)


class Shooting:
    """The images of one character and their truth, image by image.

    Attributes:
        records: what is said of each image so far, for the truth document.
    """

    def __init__(
        self, job: Job, task: Task, character: Character, output: Path, watch: Stopwatch
    ) -> None:
        self._job, self._task, self._character = job, task, character
        self._output, self._watch = output, watch
        self._anchors = truth.anchor_landmarks(character)
        self._opacity = Opacity(character.meshes)
        self._columns: dict[str, list] = {n: [] for n in (*PERSON_ARRAYS, *CAMERA_ARRAYS)}
        self.records: list[dict[str, object]] = []

    def stand(self, frame: int, stances: Stances) -> None:
        """Bring the character into a frame, in which ``shoot`` then takes it."""
        self._frame = frame
        with self._watch.stage("scene"):
            self._character.at_frame(frame)
            self._vertices = self._character.vertices()
        self._front, self._box = stances.front(frame), stances.box(frame)
        with self._watch.stage("truth"):
            self._points = truth.locate(self._character, self._anchors, self._vertices)

    def shoot(self, number: int) -> str:
        """Take the view ``number`` of the job: its images, and its row of the truth. Returns the images' name."""
        settings, view, frame = self._job.settings, self._job.views[number], self._frame
        close_up = camera.draw_close_up(settings, self._task.key, frame, number)
        pinhole = camera.place(settings, self._box, self._front, view.azimuth_degrees, close_up)
        with self._watch.stage("scene"):
            camera.film(pinhole)
            outline = pinhole.project(self._vertices)
            lowest, highest = outline.min(axis=0), outline.max(axis=0)
        with self._watch.stage("render"):
            picture = film.shoot(self._output, (*lowest, *highest))
            if settings.background == "plain":
                backdrop = film.plain_backdrop()
            else:
                backdrop = film.shoot_backdrop(self._output, self._character.meshes)
        with self._watch.stage("truth"):
            bbox, area = truth.mask_box(picture.mask)
            sight = truth.look(
                self._character,
                self._anchors,
                self._points,
                self._vertices,
                pinhole,
                picture.mask,
                self._opacity,
            )
            for column, value in _row(self._points, pinhole, sight, bbox, area).items():
                self._columns[column].append([value] if column in PERSON_ARRAYS else value)
        name = image_name(frame, view.name)
        with self._watch.stage("write"):
            film.save_all(self._output, name, picture, backdrop, pinhole.rotation)
        size = (settings.width, settings.height)
        self.records.append(
            {
                "file": name,
                "frame": frame,
                "view": view.name,
                "azimuth_degrees": view.azimuth_degrees,
                "cropped": bool((lowest < 0).any() or (highest > size).any()),
                "close_up": close_up is not None,
                "bbox": bbox.tolist(),
                "area": area,
            }
        )
        return name

    def write_truth(self, frames: list[int], shines: dict[str, object]) -> None:
        """Write what was seen in all images, as arrays and as a document."""
        arrays = {name: np.array(values) for name, values in self._columns.items()}
        arrays["origin"] = np.array([[a.origin for a in self._anchors]])
        with (self._output / TRUTH_ARRAYS).open("wb") as file:
            np.savez(file, **arrays)
        imported = self._character.imported
        document = {
            "truth_version": TRUTH_VERSION,
            "key": self._task.key,
            "settings": dataclasses.asdict(self._job.settings),
            "landmarks": list(LANDMARKS),
            "origin": [a.origin for a in self._anchors],
            "parts": self._character.surface.bone_names,
            "take": None if imported.take is None else imported.take.name,
            "fps": imported.fps,
            "frames": frames,
            "frame_range": list(self._character.frame_range),
            "height_m": self._character.height,
            "light": shines,
            "warnings": imported.warnings,
            "images": self.records,
        }
        (self._output / TRUTH_DOCUMENT).write_text(json.dumps(document, indent=1), "utf-8")


def _load(job: Job, task: Task) -> Character:
    """The character of a task, alone on the stage, with the curves that were cast for it."""
    importing.clear_scene()
    skin, motion = task.inputs["skin"], task.inputs.get("motion")
    character = load_character(skin.file, job.rig_map, skin.name, skin.take)
    if motion is not None:
        if Path(motion.file).suffix == Path(CAST_CURVES).suffix:
            play(character, Curves.read(Path(motion.file)))
        else:  # a set of version 1 holds the motion's own file
            clip = load_clip(motion.file, job.rig_map, motion.name, motion.take)
            play(character, cast(character, clip))
            clip.remove()
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
