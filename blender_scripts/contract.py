"""The words both sides share: views, landmarks, render settings and the job document.

Standard library only, because Blender's own Python has nothing else to offer.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

#: Depth images hold whole millimetres in 16 bits: up to 65 m. 0: the person is not there, or is not met.
DEPTH_UNITS_PER_METRE = 1000
#: Of 255: a mask is brighter where the person fills most of a pixel.
MASK_LEVEL = 127
#: Raised whenever the meaning of a set's files changes, so that older sets are made again.
TRUTH_VERSION = 8

VIEW_NAMES_8 = (
    "front",
    "front_right",
    "right",
    "back_right",
    "back",
    "back_left",
    "left",
    "front_left",
)

#: MediaPipe PoseLandmarker's 33 landmarks, in its order.
LANDMARKS = (
    "nose",
    "left_eye_inner",
    "left_eye",
    "left_eye_outer",
    "right_eye_inner",
    "right_eye",
    "right_eye_outer",
    "left_ear",
    "right_ear",
    "mouth_left",
    "mouth_right",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
    "left_pinky",
    "right_pinky",
    "left_index",
    "right_index",
    "left_thumb",
    "right_thumb",
    "left_hip",
    "right_hip",
    "left_knee",
    "right_knee",
    "left_ankle",
    "right_ankle",
    "left_heel",
    "right_heel",
    "left_foot_index",
    "right_foot_index",
)

#: COCO's 17 keypoints, in COCO's order; each is one of the 33 landmarks.
COCO_KEYPOINTS = (
    "nose",
    "left_eye",
    "right_eye",
    "left_ear",
    "right_ear",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
    "left_hip",
    "right_hip",
    "left_knee",
    "right_knee",
    "left_ankle",
    "right_ankle",
)

#: How far before a landmark the first surface on its ray may lie while it still counts as visible, metres, for a person of
#: 1.7 m: a joint lies inside its limb, and clothes and flesh lie before it. PeopleSansPeople's keypoint template has 0.15
#: for all but the hips and 0.30 for these (``CustomCocoKeypointTemplate.asset``, selfOcclusionDistance), for one label of
#: visible or not; so much is more than a head is deep, so points of the face, hands and feet have the depth of what they
#: are on.
VISIBLE_WITHIN_M = {
    "nose": 0.03, "eye_inner": 0.02, "eye": 0.03, "eye_outer": 0.02, "ear": 0.05, "mouth": 0.03, "shoulder": 0.15,
    "elbow": 0.09, "wrist": 0.07, "pinky": 0.04, "index": 0.04, "thumb": 0.04, "hip": 0.20, "knee": 0.10, "ankle": 0.09,
    "heel": 0.04, "foot_index": 0.04,
}  # fmt: skip

#: Why a landmark is not visible, by its number in ``occluded_by``: nothing hides it, another part of the person, another
#: person, a thing, the person's own clothes, or it is outside the frame.
OCCLUDERS = ("none", "self", "person", "object", "clothing", "frame")
#: In ``occluded_by_person``: no other person hides the landmark.
NO_PERSON = -1
#: Clothes hide a landmark where they are the first surface and lie further before it than this, metres.
CLOTHING_HIDES_BEYOND_M = 0.04

#: In ``first_hit_part``: a surface that hangs on no bone, and no surface at all.
NO_PART, NOTHING_HIT = -1, -2


def sideless(landmark: str) -> str:
    """A landmark's name without its side: ``eye_inner`` for ``left_eye_inner``."""
    words = [w for w in landmark.split("_") if w not in ("left", "right")]
    return "_".join(words)


#: OKS's constants by landmark: COCO's own for its 17, COCO-WholeBody's (Jin et al., ECCV 2020, ``myeval_wholebody.py``) for
#: the rest: the corners of eyes and mouth, the first knuckles of index and pinky, the thumb's second joint, heel and big
#: toe; where it has one for the left and another for the right, their mean.
_SIGMAS = {
    "nose": 0.026, "eye": 0.025, "ear": 0.035, "shoulder": 0.079, "elbow": 0.072, "wrist": 0.062, "hip": 0.107,
    "knee": 0.087, "ankle": 0.089, "eye_inner": 0.012, "eye_outer": 0.0145, "mouth": 0.009, "pinky": 0.020, "index": 0.026,
    "thumb": 0.035, "heel": 0.080, "foot_index": 0.080,
}  # fmt: skip


def sigma_of(landmark: str) -> float:
    """OKS's constant of a landmark; see ``_SIGMAS``."""
    return _SIGMAS[sideless(landmark)]


PRESETS = ("fit", "fixed")
FOLLOWS = ("frame", "clip")
ENGINES = ("auto", "cycles", "cycles_gpu", "eevee")
#: Those that ``auto`` chooses from by a timed render, and what that writes.
TIMED_ENGINES = ENGINES[1:]
TIMING = "timing.json"
#: The environment maps that ship inside Blender (``studiolights/world``).
HDRIS = ("city", "courtyard", "forest", "interior", "night", "studio", "sunrise", "sunset")
BACKGROUNDS = ("plain", *HDRIS)

#: The truth of a set's images: arrays, and what is best read as text.
TRUTH_ARRAYS, TRUTH_DOCUMENT = "truth.npz", "truth.json"

#: Arrays that have an axis for the persons in an image behind that for the images (N, P, …); ``origin`` has it first (P, 33).
#: The others, which are the camera's, have none (N, …). P is 1 but in sets of groups.
PERSON_ARRAYS = (
    "pixels", "depth", "camera", "world", "visibility", "in_frame", "occluder_gap_m", "facing", "first_hit_part", "visible",
    "visible_part", "bbox", "amodal_bbox", "area", "occluded_by", "occluded_by_person", "foot_height_m", "foot_contact",
    "marker_pixels", "marker_world", "marker_visibility",
)  # fmt: skip
CAMERA_ARRAYS = ("intrinsics", "rotation", "translation")

#: A file of the same name for each image: the picture, the person's mask (0 and 255), and the depth of the
#: person's surface (16 bits, millimetres along the camera's axis, 0 where there is none).
IMAGE_FOLDERS = ("images", "masks", "depth", "albedo", "normals")
#: Further images that are written on request (``RenderSettings.extra_truth``): which part of the body a pixel
#: shows, 1 + its place in ``BODY_PARTS``; which person, 1 + its place among the persons of the set; 8 bits, 0: nobody. And of clips the optical flow
#: to the next frame as KITTI has it: 16 bits, red and green are x and y in pixels times ``FLOW_UNITS_PER_PIXEL`` plus ``FLOW_ZERO``, blue 1 where it is known.
EXTRA_FOLDERS = ("parts", "instances", "flow")
FLOW_UNITS_PER_PIXEL, FLOW_ZERO = 64, 1 << 15
#: The parts of ``parts`` images: a bone's surface with all that hangs on bones between it and the next named one, clothes and hair included.
BODY_PARTS = (
    "head", "torso", "left_upper_arm", "left_lower_arm", "left_hand", "right_upper_arm", "right_lower_arm", "right_hand",
    "left_upper_leg", "left_lower_leg", "left_foot", "right_upper_leg", "right_lower_leg", "right_foot",
)  # fmt: skip
#: The places of a person's feet in ``foot_height_m`` and ``foot_contact``, and how near to the floor a sole stands on it, metres.
FOOT_PLACES = ("left_heel", "left_toes", "right_heel", "right_toes")
CONTACT_WITHIN_M = 0.02
#: How many people a group has.
GROUP_SIZES = (2, 6)
#: How the people of a group stand: in a row, around a middle that all look at, about it at random, or one behind another.
ARRANGEMENTS = ("side_by_side", "facing", "crowd", "behind")

MAX_IMAGE_SIZE = 8192
MAX_ANGLES = 360
MAX_FRAMES_PER_CLIP = 1000
FRAMES = ("even", "diverse", "clip")
#: Of these the camera of a view stands still, and the frames follow each other.
CLIP = "clip"


class SettingsError(ValueError):
    """A render setting has a value that cannot be rendered; the text names it and its range."""


#: The look that is no place at all: the settings' own background, sun and ring of cameras.
PLAIN_LOOK = "plain"
_LOOK_NAME = re.compile(r"[a-z0-9][a-z0-9_]{0,39}")


@dataclass(frozen=True)
class View:
    """One camera of a job: its name in file names, and its azimuth in degrees clockwise from above, front = 0."""

    name: str
    azimuth_degrees: float


def ring(num_angles: int) -> tuple[View, ...]:
    """Views evenly around a person.

    Eight views have the original system's names; any other number is named ``az_000``,
    ``az_022``, … by whole degrees (rounded down).
    """
    if num_angles == len(VIEW_NAMES_8):
        return tuple(View(name, 45.0 * i) for i, name in enumerate(VIEW_NAMES_8))
    step = 360.0 / num_angles
    return tuple(View(f"az_{math.floor(step * i):03d}", step * i) for i in range(num_angles))


@dataclass(frozen=True)
class RenderSettings:
    """How a character is rendered. ``auto`` and ``None`` are resolved when a job is planned.

    ``close_ups`` is the share of pictures, drawn by the seed, whose camera is nearer and aimed beside the middle, so that
    parts of the person are out of the frame. ``looks``: names of looks, separated by commas; ``looks_per_character``: how many
    of these each character is rendered in, drawn by the seed; 0 for all. ``extra_truth``: names out of ``EXTRA_FOLDERS``.
    """

    num_angles: int = 8
    frames_per_clip: int = 4
    width: int = 512
    height: int = 512
    preset: str = "fit"
    follow: str = "frame"
    engine: str = "auto"
    samples: int | None = None
    sun_energy: float = 3.0
    background: str = "plain"
    seed: int = 0
    padding: float = 1.2
    fov_degrees: float = 50.0
    close_ups: float = 0.0
    frames: str = "even"
    looks: str = PLAIN_LOOK
    looks_per_character: int = 0
    extra_truth: str = ""

    def __post_init__(self) -> None:
        def whole(name: str, low: int, high: int) -> None:
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
                raise SettingsError(
                    f"{name} is {value!r}: give a whole number from {low} to {high}"
                )

        def number(name: str, low: float, high: float) -> None:
            value = getattr(self, name)
            if not isinstance(value, int | float) or not low <= value <= high:
                raise SettingsError(f"{name} is {value!r}: give a number from {low} to {high}")

        def one_of(name: str, choices: tuple[str, ...]) -> None:
            if getattr(self, name) not in choices:
                raise SettingsError(
                    f"{name} is {getattr(self, name)!r}: choose one of {', '.join(choices)}"
                )

        whole("num_angles", 1, MAX_ANGLES)
        whole("frames_per_clip", 1, MAX_FRAMES_PER_CLIP)
        whole("width", 16, MAX_IMAGE_SIZE)
        whole("height", 16, MAX_IMAGE_SIZE)
        whole("seed", 0, 2**31 - 1)
        if self.samples is not None:
            whole("samples", 1, 65536)
        number("sun_energy", 0.0, 1000.0)
        number("padding", 1.0, 10.0)
        number("fov_degrees", 5.0, 120.0)
        number("close_ups", 0.0, 1.0)
        one_of("preset", PRESETS)
        one_of("follow", FOLLOWS)
        one_of("engine", ENGINES)
        one_of("background", BACKGROUNDS)
        one_of("frames", FRAMES)
        whole("looks_per_character", 0, 1000)
        if not self.look_names or not all(_LOOK_NAME.fullmatch(n) for n in self.look_names):
            raise SettingsError(
                f"looks is {self.looks!r}: give names of looks, separated by commas"
            )

        unknown = [n for n in self.extra_folders if n not in EXTRA_FOLDERS]
        if unknown:
            raise SettingsError(
                f"extra_truth is {self.extra_truth!r}: give names out of {', '.join(EXTRA_FOLDERS)}, separated by commas"
            )

        if "flow" in self.extra_folders and self.frames != CLIP:
            raise SettingsError(f'extra_truth is {self.extra_truth!r}: flow leads to the next frame, set frames = "{CLIP}"')  # fmt: skip

    @property
    def extra_folders(self) -> tuple[str, ...]:
        """The names in ``extra_truth``, each once."""
        return tuple(dict.fromkeys(n.strip() for n in self.extra_truth.split(",") if n.strip()))

    @property
    def look_names(self) -> tuple[str, ...]:
        """The names in ``looks``, each once."""
        return tuple(dict.fromkeys(n.strip() for n in self.looks.split(",") if n.strip()))

    def looks_of(self, key: str) -> tuple[str, ...]:
        """The looks that a character is rendered in: all, or as many as wanted, drawn by the seed and the key."""
        names = self.look_names
        if not 0 < self.looks_per_character < len(names):
            return names

        def rank(name: str) -> bytes:
            return hashlib.sha256(f"{self.seed} {key} {name}".encode()).digest()

        chosen = sorted(names, key=rank)[: self.looks_per_character]
        return tuple(n for n in names if n in chosen)

    def resolved(self, auto: str = "cycles") -> RenderSettings:
        """The same settings with engine and samples decided.

        Args:
            auto: the engine that ``auto`` means where it is rendered.
        """
        engine = self.engine if self.engine != "auto" else auto
        samples = self.samples
        if samples is None:
            samples = 64 if engine == "eevee" else 8
        return dataclasses.replace(self, engine=engine, samples=samples)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> RenderSettings:
        """Settings from plain values; an unknown name is a ``SettingsError`` that lists the known ones."""
        known = [f.name for f in dataclasses.fields(cls)]
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise SettingsError(
                f"unknown setting {', '.join(unknown)}: the settings are {', '.join(known)}"
            )
        return cls(**values)


#: What each render setting means, with unit and range, for people who set it in a form.
RENDER_HELP = {
    "num_angles": f"Views around the character: 1 to {MAX_ANGLES}; 8 have names (front, front_right and so on).",
    "frames_per_clip": f"Frames of a motion, at most: 1 to {MAX_FRAMES_PER_CLIP}.",
    "frames": "Which frames of a motion: even spreads them over it, diverse takes those whose poses differ most, clip takes its first ones, one after another, under cameras that stand still.",
    "width": f"Width of an image in pixels: 16 to {MAX_IMAGE_SIZE}.",
    "height": f"Height of an image in pixels: 16 to {MAX_IMAGE_SIZE}.",
    "preset": f"Where the camera stands: {', '.join(PRESETS)}.",
    "follow": f"What the camera turns and frames by: {', '.join(FOLLOWS)}.",
    "engine": f"Renderer: {', '.join(ENGINES)}; auto takes what a tiny timed render shows to be fastest; EEVEE on rented GPUs.",
    "samples": "Samples for each pixel: 1 to 65536; empty means 8 with Cycles and 64 with EEVEE.",
    "sun_energy": "Strength of the sun in W/m²: 0 to 1000.",
    "background": f"What is behind the character: {', '.join(BACKGROUNDS)}.",
    "seed": "Seed of all that is random: a whole number from 0.",
    "padding": "How much larger the frame is than the character: 1 to 10 times.",
    "fov_degrees": "Horizontal field of view in degrees: 5 to 120.",
    "looks": "Names of looks, separated by commas: plain, and those that `posefactory looks list` shows.",
    "looks_per_character": "How many of the looks each character is rendered in, drawn by the seed: 0 for all.",
    "extra_truth": f"More images of truth, separated by commas: {', '.join(EXTRA_FOLDERS)}; groups always have instances.",
    "close_ups": "Share of pictures that show a part of the person close up: 0 to 1.",
}


def sample_frames(frame_range: tuple[int, int], has_motion: bool, settings: RenderSettings) -> list[int]:  # fmt: skip
    """``frames_per_clip`` frames spread over a motion, each the middle of an equal share; of a clip its first ones; one for a still."""
    start, end = frame_range
    if not has_motion:
        return [start]
    count = settings.frames_per_clip
    if settings.frames == CLIP:
        return list(range(start, min(end, start + count - 1) + 1))
    middles = (start + (i + 0.5) / count * (end - start) for i in range(count))
    return sorted({round(middle) for middle in middles})


@dataclass(frozen=True)
class Picture:
    """One image of a render set before it is made: the name of its files, and what it is."""

    file: str
    frame: int
    view: View
    look: str


def image_name(frame: int, view: str, look: str = PLAIN_LOOK) -> str:
    """The file name of an image, and of what belongs to it in the other folders."""
    place = "" if look == PLAIN_LOOK else f"_{look}"
    return f"f{frame:05d}_{view}{place}.png"


def views_of(look: Mapping[str, Any], settings: RenderSettings) -> tuple[View, ...]:
    """The cameras of a look: a ring with the settings' number of views, or as many as the look places or draws."""
    cameras = look.get("cameras", {})
    if cameras.get("kind", "ring") == "ring":
        return ring(settings.num_angles)
    count = len(cameras["placed"]) if cameras["kind"] == "placed" else int(cameras["count"])
    return tuple(View(f"cam_{i:02d}", 0.0) for i in range(count))


def pictures(
    frames: Sequence[int],
    settings: RenderSettings,
    key: str,
    looks: Mapping[str, Mapping[str, Any]],
) -> list[Picture]:
    """The images of a render set in order of rendering: look by look, frame by frame, view by view.

    Args:
        key: of the character. looks: the documents of the looks that are no plain one, by name.
    """
    return [
        Picture(image_name(frame, view.name, look), frame, view, look)
        for look in settings.looks_of(key)
        for frame in frames
        for view in views_of(looks.get(look, {}), settings)
    ]


def image_folders(settings: RenderSettings, persons: int = 1) -> tuple[str, ...]:
    """The folders of images of a render set, one file of the same name in each; a group always has ``instances``."""
    wanted = (*settings.extra_folders, *(("instances",) if persons > 1 else ()))
    return (*IMAGE_FOLDERS, *(f for f in EXTRA_FOLDERS if f in wanted))


def render_files(names: Sequence[str], folders: Sequence[str] = IMAGE_FOLDERS) -> list[str]:
    """Every file of a render set as it leaves Blender; each image with what belongs to it.

    Args:
        names: of the images, in order of rendering. folders: see ``image_folders``.
    """
    return [f"{kind}/{n}" for n in names for kind in folders] + [TRUTH_ARRAYS, TRUTH_DOCUMENT]


#: What inspection writes: what was found, a picture, of a motion the bones over time, and of a cast the curves for the skin.
FACTS, THUMBNAIL, SKELETON, CAST_CURVES = "facts.json", "thumbnail.png", "skeleton.npz", "cast.npz"
#: Limb directions over time, of skins that move: by them, frames whose poses differ most are chosen.
POSES = "poses.npz"
#: What a comparison of a motion with its cast, and a description of a rig, write.
COMPARISON, SKELETONS = "comparison.npz", "skeletons.json"
#: Drawn of a motion's skeleton: how high the feet are over time, and when they stand.
CONTACTS = "contacts.png"
#: Endings of files that can be read: skins with or without motions; and motions alone.
MODEL_ENDINGS = (".fbx", ".glb", ".gltf", ".vrm")
MOTION_ENDINGS = (*MODEL_ENDINGS, ".bvh")


@dataclass(frozen=True)
class TaskInput:
    """A file that a task works on.

    ``file`` is its path on the machine that works, or its name where that is still to be fetched; ``name`` what the user
    calls it; ``take`` which of its animations plays, None for the longest that moves.
    """

    file: str
    name: str
    take: str | None = None


@dataclass(frozen=True)
class Place:
    """Where one person of a group stands: ``x`` and ``y`` metres on the floor, ``turn_degrees`` about the upright (counter-clockwise from
    above), and by how many frames its motion is ahead of the group's count. ``key``: of the character."""

    key: str
    x: float = 0.0
    y: float = 0.0
    turn_degrees: float = 0.0
    ahead: int = 0


#: What the arrangement of a group writes.
ARRANGEMENT = "arrangement.json"


def role_of(role: str, person: int) -> str:
    """The role of an input of one of the persons of a group."""
    return f"{role}_{person}"


@dataclass(frozen=True)
class Task:
    """One key's part of a job: its input files by role, and the folder that receives its output files.

    Roles: ``skin``, a model file; ``motion``, in inspections the file of a motion, in renders the curves that were cast on the
    skin. An inspection of a motion has no skin. ``frames``: those to render; empty spreads them evenly.
    ``touch``: whether hands that touch something in a motion do so in its cast. ``places``: of a group, a place for each person, whose
    files have the roles ``skin_0``, ``motion_0``, ``skin_1`` and so on; where the places are to be found, only the keys count, and
    ``arrangement``, ``spacing_m`` (None: as near as they can) and ``seed`` say how.
    """

    key: str
    inputs: Mapping[str, TaskInput]
    outputs: str
    frames: tuple[int, ...] = ()
    touch: bool = True
    places: tuple[Place, ...] = ()
    arrangement: str = ""
    spacing_m: float | None = None
    seed: int = 0

    @property
    def persons(self) -> int:
        """How many people it shows."""
        return max(1, len(self.places))


def character_task(
    key: str,
    skin: str,
    outputs: str,
    motion: str | None = None,
    *,
    skin_name: str = "",
    motion_name: str = "",
    take: str | None = None,
    motion_take: str | None = None,
    frames: tuple[int, ...] = (),
) -> Task:
    """The task of a character: a skin, and perhaps a motion that is cast on it.

    Args:
        skin, motion: as ``TaskInput.file``. skin_name, motion_name: as ``TaskInput.name``; made of the key without.
        take, motion_take: as ``TaskInput.take``.
        frames: as ``Task.frames``.
    """
    inputs = {"skin": TaskInput(skin, skin_name or key, take)}
    if motion is not None:
        inputs["motion"] = TaskInput(motion, motion_name or f"the motion of {key}", motion_take)
    return Task(key, inputs, outputs, frames)


@dataclass(frozen=True)
class Job:
    """The job document: the original system's manifest fields, the tasks, and what holds for all of them.

    ``job_type`` is ``render`` (views x frames), ``character`` (inspect and thumbnail), ``compare`` (a motion beside its cast),
    ``rig`` (the skeleton of a file), ``arrange`` (where the people of a group stand), ``engine`` (how fast a renderer is here), or ``enhance``, which has no tasks and asks for its images one by one.
    ``rig_map`` is the content of ``assets_data/rigs/*.json``, so that a remote renderer needs
    no second file; ``views`` are the cameras of each frame; ``looks`` the documents of the looks that are rendered, by name.
    """

    job_id: str
    job_type: str
    created_at: str
    tasks: tuple[Task, ...]
    rig_map: dict[str, Any]
    settings: RenderSettings = field(default_factory=RenderSettings)
    views: tuple[View, ...] = ()
    looks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    status: str = "pending"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; ``params`` holds the original's words, and what holds for all tasks."""
        return {
            "job_id": self.job_id,
            "job_type": self.job_type,
            "created_at": self.created_at,
            "status": self.status,
            "params": {
                "characters": [t.key for t in self.tasks],
                "output_dir": None,
                "character_params": {},
                "settings": dataclasses.asdict(self.settings),
                "rig_map": self.rig_map,
                "views": [dataclasses.asdict(v) for v in self.views],
                "looks": {name: dict(look) for name, look in self.looks.items()},
            },
            "tasks": [dataclasses.asdict(t) for t in self.tasks],
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Job:
        """The job that ``to_dict`` wrote."""
        params = values["params"]
        return cls(
            job_id=values["job_id"],
            job_type=values["job_type"],
            created_at=values["created_at"],
            status=values["status"],
            tasks=tuple(
                Task(
                    t["key"],
                    {role: TaskInput(**i) for role, i in t["inputs"].items()},
                    t["outputs"],
                    tuple(t.get("frames", ())),
                    t.get("touch", True),
                    tuple(Place(**p) for p in t.get("places", ())),
                    t.get("arrangement", ""),
                    t.get("spacing_m"),
                    t.get("seed", 0),
                )
                for t in values["tasks"]
            ),
            rig_map=params["rig_map"],
            settings=RenderSettings.from_dict(params["settings"]),
            views=tuple(View(**v) for v in params["views"]),
            looks=params.get("looks", {}),
        )


#: Where the one-file module ``dagster_pipes`` lies; Blender's own Python cannot import it by name.
PIPES_MODULE_VARIABLE = "POSEFACTORY_PIPES_MODULE"

#: The file that a Blender process without Pipes writes its events to, a JSON line each. Its output is no place for them:
#: importers print what strangers' files say.
EVENTS_FILE_VARIABLE = "POSEFACTORY_EVENTS_FILE"

#: Custom Pipes messages that a Blender process sends, in the field ``event``.
EVENT_START = "start"
EVENT_IMAGE = "image"
EVENT_DONE = "done"
EVENT_FAILED = "failed"
#: From a worker elsewhere: it lives; it cannot go on, in ``error``.
EVENT_ALIVE = "alive"
EVENT_TROUBLE = "trouble"
