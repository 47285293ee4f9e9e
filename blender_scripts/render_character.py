"""Render views x frames of each character of a job, with the exact truth of each image."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import bpy
import numpy as np

from blender_scripts.contract import (
    CAMERA_ARRAYS,
    CAST_CURVES,
    IMAGE_FOLDERS,
    LANDMARKS,
    PERSON_ARRAYS,
    PLAIN_LOOK,
    TRUTH_ARRAYS,
    TRUTH_DOCUMENT,
    TRUTH_VERSION,
    Job,
    Picture,
    RenderSettings,
    Task,
    pictures,
    sample_frames,
)
from blender_scripts.errors import InputError
from blender_scripts.session import Stopwatch, TaskReport, run
from blender_scripts.stage import camera, film, importing, light, looks, truth
from blender_scripts.stage.character import Character, load_character
from blender_scripts.stage.motion import Curves, cast, load_clip, play
from blender_scripts.stage.opacity import Opacity
from blender_scripts.stage.scenery import Scenery

#: Shots that are drawn for a picture until one shows enough of the person, and how much that is, of the landmarks in the frame.
SHOTS_TRIED, LEAST_IN_SIGHT = 6, 0.45
#: How many variants a look has where it does not say: places and light are shared by people of the same variant.
DEFAULT_VARIANTS = 3


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
    wanted: list[Picture] = []
    records = Records()
    for look in settings.looks_of(task.key):
        # A look begins with an empty stage: lamps and places of another one are gone.
        with watch.stage("import"):
            character = _load(job, task)
        frames = list(task.frames) or sample_frames(
            character.frame_range, character.has_motion(), settings.frames_per_clip
        )
        wanted = wanted or pictures(frames, settings, task.key, job.looks)
        with watch.stage("scene"):
            stances = Stances(character, frames, settings)
            shooting = Shooting(job, task, character, look, output, watch, records)
        mine = [p for p in wanted if p.look == look]
        shooting.prepare(mine, stances)
        for picture in mine:
            shooting.shoot(picture, stances)
            report.image(picture.file, len(records.images), len(wanted))
    if not any(r["area"] for r in records.images):
        raise InputError(
            f"{task.key}: nobody is in any of its {len(wanted)} pictures: the motion leaves the frame (the preset fit follows it), "
            "or its materials are transparent everywhere"
        )
    with watch.stage("write"):
        shooting.write_truth(frames)


@dataclasses.dataclass
class Records:
    """What is said of a character's images so far: a record of each for the document, and columns of the truth's arrays."""

    images: list[dict[str, object]] = dataclasses.field(default_factory=list)
    columns: dict[str, list] = dataclasses.field(
        default_factory=lambda: {n: [] for n in (*PERSON_ARRAYS, *CAMERA_ARRAYS)}
    )
    lights: dict[str, dict[str, object]] = dataclasses.field(default_factory=dict)


class Shooting:
    """The images of one character in one look, and their truth, image by image."""

    def __init__(
        self,
        job: Job,
        task: Task,
        character: Character,
        look: str,
        output: Path,
        watch: Stopwatch,
        records: Records,
    ) -> None:
        self._job, self._task, self._character, self._look = job, task, character, look
        self._output, self._watch, self._records = output, watch, records
        with watch.stage("truth"):
            self._anchors = truth.anchor_landmarks(character)
            self._markers = truth.anchor_markers(character)
            self._opacity = Opacity(character.meshes)
        settings = job.settings
        self._document = job.looks.get(look, {})
        self._scenery: Scenery | None = None
        film.set_up(settings, in_place=look != PLAIN_LOOK)
        if look == PLAIN_LOOK:
            records.lights[look] = light.light(settings, character.rest_facing)
        else:
            with watch.stage("place"):
                variants = int(self._document.get("variants", DEFAULT_VARIANTS))
                variant = int(looks.chance_of(settings, task.key, look).integers(variants))
                self._scenery = Scenery(self._document, look, settings, variant)
            records.lights[look] = {**self._scenery.shines, "drawn": self._scenery.drawn}
        self._frame: int | None = None
        self._shots: dict[str, tuple[camera.Pinhole, looks.Shot]] = {}

    def prepare(self, wanted: list[Picture], stances: Stances) -> None:
        """Choose the cameras of a look's pictures, and film its place from each: all at once, as a change of scene costs time."""
        if self._scenery is None:
            return
        shadows = {}
        for picture in wanted:
            self._stand(picture.frame, stances)
            if picture.frame not in shadows:
                with self._watch.stage("shadow"):
                    shadows[picture.frame] = self._scenery.cast_shadow(self._character.meshes)
            with self._watch.stage("truth"):
                chosen = self._choose_shot(picture.view.azimuth_degrees, picture.frame, self._number(picture))  # fmt: skip
                self._shots[picture.file] = chosen
        for picture in wanted:
            pinhole, shot = self._shots[picture.file]
            with self._watch.stage("plate"):
                self._stand(picture.frame, stances)
                self._point(pinhole, shot)
                plate, depth = self._scenery.film(self._output)
                plate = self._scenery.shadowed(plate, depth, pinhole, shadows[picture.frame])
                np.save(self._output / f"{picture.file}.npy", plate.astype(np.float16))

    def _number(self, picture: Picture) -> int:
        """The number of a picture's view among those of its look."""
        views = self._job.views
        return views.index(picture.view) if picture.view in views else int(picture.view.name[-2:])

    def _stand(self, frame: int, stances: Stances) -> None:
        """Bring the character into a frame."""
        if frame == self._frame:
            return
        self._frame = frame
        with self._watch.stage("scene"):
            self._character.at_frame(frame)
            self._vertices = self._character.vertices()
            self._all_points = self._character.all_points()
        self._front, self._box = stances.front(frame), stances.box(frame)
        with self._watch.stage("truth"):
            self._points = truth.locate(self._character, self._anchors, self._all_points)
            markers = list(self._markers.values())
            self._marker_points = truth.locate(self._character, markers, self._all_points)
        if self._scenery is not None:
            self._scenery.stand_under(self._box.mean(axis=0))
            bpy.context.view_layer.update()

    def shoot(self, picture: Picture, stances: Stances) -> None:
        """Take a picture: its images, and its row of the truth."""
        self._stand(picture.frame, stances)
        settings, view = self._job.settings, picture.view
        number = self._number(picture)
        if self._scenery is None:
            close_up = camera.draw_close_up(settings, self._task.key, picture.frame, number)
            pinhole = camera.place(settings, self._box, self._front, view.azimuth_degrees, close_up)
            taken, image = self._take_plain(pinhole)
            said: dict[str, object] = {"azimuth_degrees": view.azimuth_degrees, "close_up": close_up is not None}  # fmt: skip
        else:
            pinhole, shot = self._shots[picture.file]
            taken, image = self._take_in_place(pinhole, shot, picture, number)
            said = {
                "azimuth_degrees": round(shot.azimuth_degrees % 360, 3), "close_up": shot.framing != "full",
                "drawn": {k: v for k, v in dataclasses.asdict(shot).items() if k not in ("placed", "azimuth_degrees")},
            }  # fmt: skip
        bbox, area = truth.mask_box(taken.mask)
        with self._watch.stage("truth"):
            sight = self._look_at(self._anchors, self._points, pinhole, taken.mask)
            markers = self._look_at(
                list(self._markers.values()), self._marker_points, pinhole, taken.mask
            )
            row = _row(self._points, pinhole, sight, bbox, area)
            row |= {
                "marker_pixels": pinhole.project(self._marker_points).reshape(-1, 2),
                "marker_world": self._marker_points.reshape(-1, 3),
                "marker_visibility": markers.visibility,
            }
            for column, value in row.items():
                kept = [value] if column in PERSON_ARRAYS else value
                self._records.columns[column].append(kept)
        with self._watch.stage("write"):
            film.save_all(self._output, picture.file, image, taken, pinhole.rotation)
        outline = pinhole.project(self._vertices)
        lowest, highest = outline.min(axis=0), outline.max(axis=0)
        self._records.images.append(
            {
                "file": picture.file,
                "frame": picture.frame,
                "view": view.name,
                "look": picture.look,
                "cropped": bool(
                    (lowest < 0).any() or (highest > (settings.width, settings.height)).any()
                ),
                "bbox": bbox.tolist(),
                "area": area,
                **said,
            }
        )

    def _look_at(
        self, anchors: list[truth.Anchor], points: np.ndarray, pinhole: camera.Pinhole, mask: np.ndarray
    ) -> truth.Sight:  # fmt: skip
        return truth.look(self._character, anchors, points, self._all_points, pinhole, mask, self._opacity)  # fmt: skip

    def _take_plain(self, pinhole: camera.Pinhole) -> tuple[film.Picture, np.ndarray]:
        """The person before the settings' background."""
        with self._watch.stage("scene"):
            camera.film(pinhole)
            outline = pinhole.project(self._vertices)
        with self._watch.stage("render"):
            taken = film.shoot(self._output, (*outline.min(axis=0), *outline.max(axis=0)))
            if self._job.settings.background == "plain":
                backdrop = film.plain_backdrop()
            else:
                backdrop = film.shoot_backdrop(self._output, self._character.meshes)
        return taken, taken.over(backdrop)

    def _choose_shot(
        self, azimuth: float, frame: int, number: int
    ) -> tuple[camera.Pinhole, looks.Shot]:
        """The first of some drawn shots in which enough of the person is in sight; else the one with most."""
        assert self._scenery is not None
        best: tuple[float, camera.Pinhole, looks.Shot] | None = None
        for attempt in range(SHOTS_TRIED):
            chance = looks.chance_of(self._job.settings, self._task.key, self._look, frame, number, attempt)  # fmt: skip
            shot = looks.draw_shot(self._document, azimuth, number, chance)
            pinhole = looks.place(shot, self._job.settings, self._box, self._front, self._scenery.reach)  # fmt: skip
            share = self._in_sight(pinhole)
            if best is None or share > best[0]:
                best = (share, pinhole, shot)
            if share >= LEAST_IN_SIGHT:
                break
        assert best is not None
        return best[1], best[2]

    def _in_sight(self, pinhole: camera.Pinhole) -> float:
        """Share of the landmarks in the frame that nothing but the person hides; 0 where nobody is in the frame."""
        pixels, depths = pinhole.project(self._points), pinhole.to_camera(self._points)[:, 2]
        inside = (depths > 0) & (pixels >= 0).all(axis=1) & (pixels < (pinhole.width, pinhole.height)).all(axis=1)  # fmt: skip
        if not inside.any():
            return 0.0
        scene, depsgraph = bpy.context.scene, bpy.context.evaluated_depsgraph_get()
        free = 0
        for point in self._points[inside]:
            towards = point - pinhole.position
            distance = float(np.linalg.norm(towards))
            hit = self._opacity.first_hit(scene, depsgraph, pinhole.position, towards / distance)
            free += hit is None or hit.object in self._character.surface.polygon_bone or hit.distance > distance - 0.05  # fmt: skip
        return free / int(inside.sum())

    def _point(self, pinhole: camera.Pinhole, shot: looks.Shot) -> None:
        """Bring camera, focus and shutter where a shot wants them."""
        assert self._scenery is not None
        scene = bpy.context.scene
        camera.film(pinhole, self._scenery.plate)
        focus = scene.camera.data.dof
        focus.use_dof = shot.aperture > 0
        if shot.aperture > 0:
            focus.aperture_fstop = shot.aperture
            focus.focus_distance = float(np.linalg.norm(self._box.mean(axis=0) - pinhole.position))
        scene.render.use_motion_blur = shot.blur > 0
        scene.render.motion_blur_shutter = max(shot.blur, 0.01)

    def _take_in_place(
        self, pinhole: camera.Pinhole, shot: looks.Shot, picture: Picture, number: int
    ) -> tuple[film.Picture, np.ndarray]:
        """The person in the look's surroundings, which were filmed before."""
        with self._watch.stage("scene"):
            self._point(pinhole, shot)
            outline = pinhole.project(self._vertices)
        with self._watch.stage("render"):
            area = (*outline.min(axis=0), *outline.max(axis=0))
            taken = film.shoot(self._output, area, [m.name for m in self._character.meshes])
        chance = looks.chance_of(self._job.settings, self._task.key, self._look, picture.frame, number, SHOTS_TRIED)  # fmt: skip
        with self._watch.stage("write"):
            stored = self._output / f"{picture.file}.npy"
            image = taken.in_place(np.load(stored), shot.exposure, shot.white_balance)
            stored.unlink()
            image = film.grained(image, shot.noise, shot.jpeg, chance, self._output)
        return taken, image

    def write_truth(self, frames: list[int]) -> None:
        """Write what was seen in all images, as arrays and as a document."""
        arrays = {name: np.array(values) for name, values in self._records.columns.items()}
        arrays["origin"] = np.array([[a.origin for a in self._anchors]])
        with (self._output / TRUTH_ARRAYS).open("wb") as file:
            np.savez(file, **arrays)
        imported = self._character.imported
        lights = self._records.lights
        document = {
            "truth_version": TRUTH_VERSION,
            "key": self._task.key,
            "settings": dataclasses.asdict(self._job.settings),
            "landmarks": list(LANDMARKS),
            "markers": list(self._markers),
            "origin": [a.origin for a in self._anchors],
            "parts": self._character.surface.bone_names,
            "take": None if imported.take is None else imported.take.name,
            "fps": imported.fps,
            "frames": frames,
            "frame_range": list(self._character.frame_range),
            "height_m": self._character.height,
            "light": {k: v for k, v in next(iter(lights.values())).items() if k != "drawn"},
            "looks": {name: shines for name, shines in lights.items() if name != PLAIN_LOOK},
            "warnings": imported.warnings,
            "images": self._records.images,
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
