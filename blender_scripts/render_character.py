"""Render views x frames of each character or group of a job, with the exact truth of each image."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import bpy
import mathutils
import numpy as np

from blender_scripts.contract import (
    CAMERA_ARRAYS,
    CLIP,
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
    image_folders,
    pictures,
    sample_frames,
)
from blender_scripts.errors import InputError
from blender_scripts.session import Stopwatch, TaskReport, run
from blender_scripts.stage import camera, film, flow, group, light, looks, seating, segments, truth
from blender_scripts.stage.character import Character
from blender_scripts.stage.opacity import Opacity
from blender_scripts.stage.scenery import Scenery

#: Shots that are drawn for a picture until one shows enough of the person, and how much that is, of the landmarks in the frame.
SHOTS_TRIED, LEAST_IN_SIGHT = 6, 0.45
#: How many variants a look has where it does not say: places and light are shared by people of the same variant.
DEFAULT_VARIANTS = 3
#: How far behind the farthest of people and seats rays still go, metres: blur may move them.
BEHIND_M = 0.5
#: Tells the chance of seats from those of pictures.
SEATS = 10**6


class Stances:
    """How the people of a task stand in each frame: where they face, and the box they fill; world frame, metres, z up.

    A group faces where it was arranged to, in all frames.
    """

    def __init__(
        self, people: list[Character], frames: list[int], settings: RenderSettings, seated: bool
    ) -> None:
        """Go through the frames.

        Args:
            seated: whether those who sit need something to sit on.
        """
        still = len(people) > 1 or settings.frames == CLIP
        self._follow = "clip" if still else settings.follow
        self._fronts: dict[int, np.ndarray | None] = {}
        self._boxes: dict[int, np.ndarray] = {}
        self.frames = frames
        needed: list[tuple[int, seating.Seat]] = []
        for frame in frames:
            group.at_frame(people, frame)
            self._fronts[frame] = people[0].facing() if len(people) == 1 else group.GROUP_FRONT
            each = [c.vertices() for c in people]
            if seated:
                half = seating.BENCH_HALF_M if len(people) == 1 else seating.IN_GROUPS_HALF_M
                needed += [(frame, s) for c, v in zip(people, each, strict=True) if (s := seating.seat_under(c, v, half))]  # fmt: skip
            points = np.concatenate(each)
            self._boxes[frame] = np.stack([points.min(axis=0), points.max(axis=0)])
        serving = seating.together([seat for _, seat in needed])
        self.seats = list(dict.fromkeys(serving))
        self._sat_on: dict[int, list[seating.Seat]] = {}
        for (frame, _), seat in zip(needed, serving, strict=True):
            self._sat_on.setdefault(frame, []).append(seat)
        self._box_follows = settings.follow == "frame" and settings.frames != CLIP
        known = (front for front in self._fronts.values() if front is not None)
        self._front = next(known, people[0].rest_facing)

    def front(self, frame: int) -> np.ndarray:
        """(3,) unit vector; frames are asked for in order, and one in which nobody faces anywhere has that before it."""
        front = self._fronts[frame]
        if self._follow == "frame" and front is not None:
            self._front = front
        return self._front

    def box(self, frame: int) -> np.ndarray:
        """(2, 3) lowest and highest corner, of the frame or of the whole clip."""
        if self._box_follows:
            return self._boxes[frame]
        boxes = np.stack(list(self._boxes.values()))
        return np.stack([boxes[:, 0].min(axis=0), boxes[:, 1].max(axis=0)])

    def sat_on(self, frame: int) -> list[seating.Seat]:
        """The seats on which somebody sits in a frame."""
        return self._sat_on.get(frame, [])

    @property
    def follows(self) -> bool:
        """Whether the box, and with it the place, goes along with the people from frame to frame."""
        return self._box_follows

    @property
    def half_width(self) -> float:
        """How far from the middle of the box anybody comes, metres on the floor."""
        if not self._box_follows:
            low, high = self.box(self.frames[0])
            return float(np.linalg.norm(high[:2] - low[:2])) / 2
        return max(float(np.linalg.norm(b[1, :2] - b[0, :2])) / 2 for b in self._boxes.values())


def render(job: Job, task: Task, watch: Stopwatch, report: TaskReport) -> None:
    """One set: a folder for each kind of image, ``truth.npz`` and ``truth.json``."""
    settings = job.settings
    output = Path(task.outputs)
    for folder in image_folders(settings, task.persons):
        (output / folder).mkdir(parents=True)
    wanted: list[Picture] = []
    records = Records()
    for look in settings.looks_of(task.key):
        # A look begins with an empty stage: lamps and places of another one are gone.
        with watch.stage("import"):
            people = group.bring_in(job, task)
        moves = any(c.has_motion() for c in people)
        frames = list(task.frames) or sample_frames(group.frame_range(people), moves, settings)
        wanted = wanted or pictures(frames, settings, task.key, job.looks)
        with watch.stage("truth"):
            # In the rest pose, so before anybody takes another.
            onstage = [OnStage(c) for c in people]
        if task.places:
            group.keep_step(people, [p.ahead for p in task.places])
            group.take_places(people, task.places)
        with watch.stage("scene"):
            stances = Stances(people, frames, settings, bool(job.looks.get(look, {}).get("seats")))
            shooting = Shooting(job, task, onstage, look, output, watch, records, stances)
        mine = [p for p in wanted if p.look == look]
        shooting.prepare(mine)
        for picture in mine:
            shooting.shoot(picture)
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
    """What is said of a set's images so far: a record of each for the document, and columns of the truth's arrays."""

    images: list[dict[str, object]] = dataclasses.field(default_factory=list)
    columns: dict[str, list] = dataclasses.field(
        default_factory=lambda: {n: [] for n in (*PERSON_ARRAYS, *CAMERA_ARRAYS)}
    )
    lights: dict[str, dict[str, object]] = dataclasses.field(default_factory=dict)


class OnStage:
    """One of the people of a task, with what is measured of it in the frame that it stands in."""

    def __init__(self, character: Character) -> None:
        self.character = character
        self.anchors = truth.anchor_landmarks(character)
        self.markers = truth.anchor_markers(character)
        self.feet = truth.Feet(character)

    def look_again(self) -> None:
        """Measure where its surface, landmarks and markers are now."""
        character = self.character
        self.all_points = character.all_points()
        self.vertices = self.all_points[: len(character.rest_vertices)]
        self.points = truth.locate(character, self.anchors, self.all_points)
        self.marker_points = truth.locate(character, list(self.markers.values()), self.all_points)


class Shooting:
    """The images of one task in one look, and their truth, image by image."""

    def __init__(
        self,
        job: Job,
        task: Task,
        people: list[OnStage],
        look: str,
        output: Path,
        watch: Stopwatch,
        records: Records,
        stances: Stances,
    ) -> None:
        self._job, self._task, self._people, self._look = job, task, people, look
        self._output, self._watch, self._records, self._stances = output, watch, records, stances
        self._meshes = [m for p in people for m in p.character.meshes]
        self._owners = {m.name: i for i, p in enumerate(people) for m in p.character.meshes}
        self._bones = segments.bone_numbers([p.character for p in people])
        self._marker_names = list(dict.fromkeys(n for p in people for n in p.markers))
        settings = job.settings
        self._segments: segments.Parts | None = None
        with watch.stage("truth"):
            if "parts" in settings.extra_folders:
                self._segments = segments.Parts([p.character for p in people])
            self._opacity = Opacity(self._meshes)
        self._document = job.looks.get(look, {})
        self._scenery: Scenery | None = None
        self._seats: list[bpy.types.Object] = []
        # Who covers what must be told apart where several can be, or where a place hides people.
        apart = look != PLAIN_LOOK or len(people) > 1 or "instances" in settings.extra_folders
        film.set_up(settings, in_place=look != PLAIN_LOOK, objects=apart, materials=self._segments is not None)  # fmt: skip
        self._covering = self._owners if apart else {}
        if look == PLAIN_LOOK:
            front = people[0].character.rest_facing if len(people) == 1 else group.GROUP_FRONT
            records.lights[look] = light.light(settings, front)
        else:
            with watch.stage("place"):
                variants = int(self._document.get("variants", DEFAULT_VARIANTS))
                variant = int(looks.chance_of(settings, task.key, look).integers(variants))
                self._scenery = Scenery(self._document, look, settings, variant, stances.half_width, len(people) > 1 or not stances.follows)  # fmt: skip
                self._seats = self._scenery.furnish(stances.seats, looks.chance_of(settings, task.key, look, SEATS))  # fmt: skip
            records.lights[look] = {**self._scenery.shines, "drawn": self._scenery.drawn}
        self._frame: int | None = None
        self._frames = list(stances.frames)
        self._next: tuple[int, np.ndarray] | None = None
        self._shots: dict[str, tuple[camera.Pinhole, looks.Shot]] = {}
        self._backdrops: dict[str, str] = {}

    def prepare(self, wanted: list[Picture]) -> None:
        """Choose the cameras of a look's pictures, and film its place from each: all at once, as a change of scene costs time."""
        if self._scenery is None:
            return
        shadows = {}
        for picture in wanted:
            self._stand(picture.frame)
            if picture.frame not in shadows:
                with self._watch.stage("shadow"):
                    shadows[picture.frame] = self._scenery.cast_shadow([*self._meshes, *self._shown()])  # fmt: skip
            with self._watch.stage("truth"):
                first = next((p for p in wanted if p.view == picture.view), picture)
                if self._job.settings.frames == CLIP and first.file in self._shots:
                    self._shots[picture.file] = self._shots[first.file]
                    continue
                chosen = self._choose_shot(picture.view.azimuth_degrees, picture.frame, self._number(picture))  # fmt: skip
                self._shots[picture.file] = chosen
        for picture in wanted:
            pinhole, shot = self._shots[picture.file]
            with self._watch.stage("plate"):
                self._stand(picture.frame)
                self._point(pinhole, shot)
                moment = self._frames[0] if self._job.settings.frames == CLIP else picture.frame
                chance = looks.chance_of(self._job.settings, self._task.key, self._look, moment, self._number(picture), SHOTS_TRIED + 1)  # fmt: skip
                self._backdrops[picture.file] = self._scenery.backdrop(chance)
                plate, depth = self._scenery.film(self._output, self._backdrops[picture.file])
                plate = self._scenery.shadowed(plate, depth, pinhole, shadows[picture.frame])
                np.save(self._output / f"{picture.file}.npy", plate.astype(np.float16))

    def _number(self, picture: Picture) -> int:
        """The number of a picture's view among those of its look."""
        views = self._job.views
        return views.index(picture.view) if picture.view in views else int(picture.view.name[-2:])

    def _stand(self, frame: int) -> None:
        """Bring the people into a frame."""
        if frame == self._frame:
            return
        self._frame = frame
        with self._watch.stage("scene"):
            group.at_frame([p.character for p in self._people], frame)
        with self._watch.stage("truth"):
            for person in self._people:
                person.look_again()
        self._vertices = np.concatenate([p.vertices for p in self._people])
        self._front, self._box = self._stances.front(frame), self._stances.box(frame)
        if self._scenery is not None:
            self._scenery.stand_under(self._box.mean(axis=0))
            self._place_seats(frame)
            bpy.context.view_layer.update()

    def _place_seats(self, frame: int) -> None:
        """Leave away the seats that are far from everybody, or in which somebody stands; in a clip nothing comes and goes."""
        for seat, obj in zip(self._stances.seats, self._seats, strict=True):
            there = self._job.settings.frames == CLIP or seat in self._stances.sat_on(frame) or seat.free_for(self._vertices)  # fmt: skip
            obj.hide_render = obj.hide_viewport = not there

    def _shown(self) -> list[bpy.types.Object]:
        """The seats that are in the present frame."""
        return [s for s in self._seats if not s.hide_render]

    def shoot(self, picture: Picture) -> None:
        """Take a picture: its images, and its row of the truth."""
        self._stand(picture.frame)
        settings, view = self._job.settings, picture.view
        number = self._number(picture)
        if self._scenery is None:
            moment = self._frames[0] if settings.frames == CLIP else picture.frame
            close_up = camera.draw_close_up(settings, self._task.key, moment, number)
            pinhole = camera.place(settings, self._box, self._front, view.azimuth_degrees, close_up)
            taken, image = self._take_plain(pinhole)
            said: dict[str, object] = {"azimuth_degrees": view.azimuth_degrees, "close_up": close_up is not None}  # fmt: skip
        else:
            pinhole, shot = self._shots[picture.file]
            taken, image = self._take_in_place(pinhole, shot, picture, number)
            said = {
                "azimuth_degrees": round(shot.azimuth_degrees % 360, 3), "close_up": shot.framing != "full",
                "drawn": {k: v for k, v in dataclasses.asdict(shot).items() if k not in ("placed", "azimuth_degrees")}
                | ({"image": Path(self._backdrops[picture.file]).name} if self._backdrops[picture.file] else {}),
            }  # fmt: skip
            if self._document.get("cameras", {}).get("sizes"):
                said["size"] = [pinhole.width, pinhole.height]
        bbox, area = truth.mask_box(taken.mask)
        with self._watch.stage("truth"):
            rows = [self._row(i, pinhole, taken.mask_of(i)) for i in range(len(self._people))]
            for column in PERSON_ARRAYS:
                self._records.columns[column].append([row[column] for row in rows])
            for column in CAMERA_ARRAYS:
                self._records.columns[column].append(getattr(pinhole, column))
        with self._watch.stage("write"):
            film.save_all(self._output, picture.file, image, taken, pinhole.rotation)
            if (self._output / "instances").is_dir():
                film.save_labels(self._output / "instances" / picture.file, taken.instances)
            if (self._output / "flow").is_dir():
                film.save_flow(self._output / "flow" / picture.file, self._flow(picture.frame, taken.mask, pinhole))  # fmt: skip
            if self._segments is not None:
                film.save_labels(self._output / "parts" / picture.file, taken.parts(self._segments.materials))  # fmt: skip
        outline = pinhole.project(self._vertices)
        lowest, highest = outline.min(axis=0), outline.max(axis=0)
        self._records.images.append(
            {
                "file": picture.file,
                "frame": picture.frame,
                "view": view.name,
                "look": picture.look,
                "cropped": bool(
                    (lowest < 0).any() or (highest > (pinhole.width, pinhole.height)).any()
                ),
                "bbox": bbox.tolist(),
                "area": area,
                **said,
            }
        )

    def _flow(self, frame: int, mask: np.ndarray, pinhole: camera.Pinhole) -> np.ndarray:
        """The flow of a picture's people to the next frame; of the last frame nothing is known."""
        if frame == self._frames[-1]:
            return np.zeros((*mask.shape, 3), np.float32)
        if self._next is None or self._next[0] != frame:
            here = self._vertices
            self._stand(frame + 1)
            self._next = frame, self._vertices
            self._stand(frame)
            assert len(here) == len(self._vertices)
        triangles, first = [], 0
        for person in self._people:
            triangles.append(person.character.surface.triangles + first)
            first += len(person.vertices)
        return flow.flow(self._vertices, self._next[1], np.concatenate(triangles), mask, pinhole)

    def _row(self, number: int, pinhole: camera.Pinhole, mask: np.ndarray) -> dict[str, Any]:
        """The truth of one person in an image, by the names of its arrays."""
        person = self._people[number]
        bbox, area = truth.mask_box(mask)
        sight = self._look_at(number, person.anchors, person.points, pinhole, mask)
        marked = self._look_at(number, list(person.markers.values()), person.marker_points, pinhole, mask)  # fmt: skip
        in_camera = pinhole.to_camera(person.points)
        # Of markers that others of the group have, and this person has not, nothing is known.
        places = [self._marker_names.index(n) for n in person.markers]
        marker_pixels = np.zeros((len(self._marker_names), 2))
        marker_world = np.zeros((len(self._marker_names), 3))
        marker_visibility = np.zeros(len(self._marker_names), np.uint8)
        marker_pixels[places] = pinhole.project(person.marker_points).reshape(-1, 2)
        marker_world[places] = person.marker_points.reshape(-1, 3)
        marker_visibility[places] = marked.visibility
        height, contact = person.feet.over_floor(person.vertices)
        return {
            "pixels": pinhole.project(person.points),
            "depth": in_camera[:, 2],
            "camera": in_camera,
            "world": person.points,
            "visibility": sight.visibility,
            **vars(sight),
            "first_hit_part": self._bones[number][sight.first_hit_part],
            "bbox": bbox,
            "amodal_bbox": truth.amodal_box(pinhole, person.vertices),
            "area": area,
            "foot_height_m": height,
            "foot_contact": contact,
            "marker_pixels": marker_pixels,
            "marker_world": marker_world,
            "marker_visibility": marker_visibility,
        }

    def _look_at(
        self, number: int, anchors: list[truth.Anchor], points: np.ndarray, pinhole: camera.Pinhole, mask: np.ndarray
    ) -> truth.Sight:  # fmt: skip
        person = self._people[number]
        others = {name: owner for name, owner in self._owners.items() if owner != number}
        return truth.look(person.character, anchors, points, person.all_points, pinhole, mask, self._opacity, others)  # fmt: skip

    def _take_plain(self, pinhole: camera.Pinhole) -> tuple[film.Picture, np.ndarray]:
        """The people before the settings' background."""
        with self._watch.stage("scene"):
            camera.film(pinhole)
            outline = pinhole.project(self._vertices)
        with self._watch.stage("render"):
            taken = film.shoot(self._output, (*outline.min(axis=0), *outline.max(axis=0)), self._covering)  # fmt: skip
            if self._job.settings.background == "plain":
                backdrop = film.plain_backdrop()
            else:
                backdrop = film.shoot_backdrop(self._output, self._meshes)
        return taken, taken.over(backdrop)

    def _choose_shot(
        self, azimuth: float, frame: int, number: int
    ) -> tuple[camera.Pinhole, looks.Shot]:
        """The first of some drawn shots in which enough of the person is in sight; else the one with most."""
        assert self._scenery is not None
        best: tuple[float, camera.Pinhole, looks.Shot] | None = None
        for attempt in range(SHOTS_TRIED):
            chance = looks.chance_of(self._job.settings, self._task.key, self._look, frame, number, attempt)  # fmt: skip
            shot = looks.draw_shot(self._document, self._job.settings, azimuth, number, chance)
            pinhole = looks.place(shot, self._box, self._front, self._scenery.reach)  # fmt: skip
            share = self._in_sight(pinhole)
            if best is None or share > best[0]:
                best = (share, pinhole, shot)
            if share >= LEAST_IN_SIGHT:
                break
        assert best is not None
        return best[1], best[2]

    def _in_sight(self, pinhole: camera.Pinhole) -> float:
        """Share of the landmarks in the frame that nothing but the person hides; 0 where nobody is in the frame."""
        points = np.concatenate([p.points for p in self._people])
        pixels, depths = pinhole.project(points), pinhole.to_camera(points)[:, 2]
        inside = (depths > 0) & (pixels >= 0).all(axis=1) & (pixels < (pinhole.width, pinhole.height)).all(axis=1)  # fmt: skip
        if not inside.any():
            return 0.0
        scene, depsgraph = bpy.context.scene, bpy.context.evaluated_depsgraph_get()
        free = 0
        for point in points[inside]:
            towards = point - pinhole.position
            distance = float(np.linalg.norm(towards))
            hit = self._opacity.first_hit(scene, depsgraph, pinhole.position, towards / distance)
            free += hit is None or hit.object in self._owners or hit.distance > distance - 0.05  # fmt: skip
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
            corners = [o.matrix_world @ mathutils.Vector(c) for o in self._shown() for c in o.bound_box]  # fmt: skip
            outline = np.concatenate([self._vertices, np.array(corners).reshape(-1, 3)])
            depths = pinhole.to_camera(outline)[:, 2]
            # What is behind the camera has no place in the picture: then all of it is rendered.
            ahead = depths.min() > 0
            # Of a place, what is behind the people hides none of them, and needs no rays.
            camera.see_no_farther(depths.max() + BEHIND_M)
            outline = pinhole.project(outline)
        with self._watch.stage("render"):
            area = (*outline.min(axis=0), *outline.max(axis=0)) if ahead else None
            taken = film.shoot(self._output, area, self._covering)
        chance = looks.chance_of(self._job.settings, self._task.key, self._look, picture.frame, number, SHOTS_TRIED)  # fmt: skip
        with self._watch.stage("write"):
            stored = self._output / f"{picture.file}.npy"
            image = taken.in_place(np.load(stored), shot.exposure, shot.white_balance)
            stored.unlink()
            image = film.grained(
                image, shot.resolution, shot.noise, shot.jpeg, chance, self._output
            )
        return taken, image

    def write_truth(self, frames: list[int]) -> None:
        """Write what was seen in all images, as arrays and as a document."""
        arrays = {name: np.array(values) for name, values in self._records.columns.items()}
        origins = [[a.origin for a in p.anchors] for p in self._people]
        arrays["origin"] = np.array(origins)
        with (self._output / TRUTH_ARRAYS).open("wb") as file:
            np.savez(file, **arrays)
        people = [p.character for p in self._people]
        keys = [p.key for p in self._task.places] or [self._task.key]
        imported = people[0].imported
        lights = self._records.lights
        document = {
            "truth_version": TRUTH_VERSION,
            "key": self._task.key,
            "settings": dataclasses.asdict(self._job.settings),
            "landmarks": list(LANDMARKS),
            "markers": self._marker_names,
            "origin": [origin for mine in origins for origin in mine],
            "parts": segments.bone_names(people),
            "persons": [
                {"key": key, "height_m": c.height, "take": c.imported.take.name if c.imported.take else None}
                for key, c in zip(keys, people, strict=True)
            ],
            "fps": imported.fps,
            "frames": frames,
            "frame_range": list(group.frame_range(people)),
            "light": {k: v for k, v in next(iter(lights.values())).items() if k != "drawn"},
            "looks": {name: shines for name, shines in lights.items() if name != PLAIN_LOOK},
            "warnings": _warnings(keys, people),
            "images": self._records.images,
        }  # fmt: skip
        (self._output / TRUTH_DOCUMENT).write_text(json.dumps(document, indent=1), "utf-8")


def _warnings(keys: list[str], people: list[Character]) -> list[str]:
    if len(people) == 1:
        return people[0].imported.warnings
    return [f"{k}: {w}" for k, c in zip(keys, people, strict=True) for w in c.imported.warnings]


if __name__ == "__main__":
    run(render)
