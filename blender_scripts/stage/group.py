"""Several people on one stage: how they are brought there, keep step, and where each stands so that nobody stands in another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import bpy
import numpy as np

from blender_scripts.contract import CAST_CURVES, Job, Place, Task, role_of
from blender_scripts.errors import InputError
from blender_scripts.stage import importing
from blender_scripts.stage.character import Character, load_character
from blender_scripts.stage.motion import Curves, cast, load_clip, play

#: People are held apart in so many of a group's frames, spread over its motions.
CHECKED_FRAMES = 32
#: Side of the cells of space that a person fills, metres: between two people there is one free cell at least.
CELL_M = 0.04
#: How near and how far apart people are tried to stand, and by which step, metres.
NEAREST_M, FARTHEST_M, STEP_M = 0.4, 4.0, 0.08
#: Kept with a character in a group: see ``_hold``, and where its root was.
TRAVEL, HOME = "posefactory_travel", "posefactory_home"
#: Where a group faces: as the one person of other sets does in most files.
GROUP_FRONT = np.array((0.0, -1.0, 0.0))


def bring_in(job: Job, task: Task) -> list[Character]:
    """The people of a task on an empty stage, as they were imported, each with its motion.

    Raises:
        InputError: a file of one cannot be used.
    """
    importing.clear_scene()
    if not task.places:
        return [_load(job, task, "skin", "motion", task.key)]
    return [
        _load(job, task, role_of("skin", i), role_of("motion", i), place.key)
        for i, place in enumerate(task.places)
    ]


def keep_step(people: Sequence[Character], aheads: Sequence[int]) -> None:
    """Let each motion begin some frames before frame 1, and begin anew when it is over, as long as the group's frames go."""
    _, last = frame_range(people)
    for character, ahead in zip(people, aheads, strict=True):
        _keep_step(character, ahead, last)


def take_places(people: Sequence[Character], places: Sequence[Place]) -> None:
    """Let a group's people stand in their places; what is measured in their rest poses must be measured before."""
    for character, place in zip(people, places, strict=True):
        _stand(character, place)
    bpy.context.view_layer.update()


def _load(job: Job, task: Task, skin_role: str, motion_role: str, name: str) -> Character:
    skin, motion = task.inputs[skin_role], task.inputs.get(motion_role)
    character = load_character(skin.file, job.rig_map, skin.name or name, skin.take)
    if motion is not None:
        if Path(motion.file).suffix == Path(CAST_CURVES).suffix:
            play(character, Curves.read(Path(motion.file)))
        else:  # a set of version 1 holds the motion's own file
            clip = load_clip(motion.file, job.rig_map, motion.name, motion.take)
            play(character, cast(character, clip))
            clip.remove()
    return character


def frame_range(people: Sequence[Character]) -> tuple[int, int]:
    """First and last frame of one person's motion; of a group, from 1 to the length of its longest motion."""
    if len(people) == 1:
        return people[0].frame_range
    longest = 1
    for character in people:
        take = character.imported.take
        if take is not None and take.moves:
            longest = max(longest, take.frames)
    return 1, longest


def at_frame(people: Sequence[Character], frame: int) -> None:
    """Let all take their poses of a frame; the people of a group stay in their places, whatever way their motions go."""
    for character in people:
        character.armature.data.pose_position = "POSE"
        if TRAVEL in character.root:
            _hold(character, frame)
    bpy.context.scene.frame_set(frame)


def _hold(character: Character, frame: int) -> None:
    """Take back how far a motion has travelled evenly by a frame: x and y of its way, its period, and the frames that it is ahead."""
    x, y, period, ahead = character.root[TRAVEL]
    gone = (frame - 1 + ahead) % period / period
    home = character.root[HOME]
    character.root.location = (home[0] - gone * x, home[1] - gone * y, home[2])


def _keep_step(character: Character, ahead: int, last: int) -> None:
    """Let a motion begin ``ahead`` frames before frame 1, and begin anew when it is over, up to the frame ``last``."""
    take = character.imported.take
    if take is None or not take.moves:
        return
    period = max(take.end - take.start, 1)
    ends = []
    for frame in (take.start, take.end):
        character.at_frame(frame)
        ends.append(character.joint(character.rig.map["hips"]))
    way = ends[1] - ends[0]
    character.root[TRAVEL] = [float(way[0]), float(way[1]), float(period), float(ahead)]
    character.root[HOME] = list(character.root.location)
    owners = [character.armature, *character.meshes, *(m.data.shape_keys for m in character.meshes)]
    for owner in owners:
        data = owner.animation_data if owner is not None else None
        if data is None or data.action is None:
            continue
        action, slot = data.action, data.action_slot
        data.action = None
        strip = data.nla_tracks.new().strips.new("take", 0, action)
        strip.action_slot = slot
        strip.action_frame_start, strip.action_frame_end = take.start, take.end
        strip.repeat = math.ceil((last + ahead) / period) + 1
        strip.frame_start = 1 - ahead
        strip.frame_end = 1 - ahead + period * strip.repeat


def _stand(character: Character, place: Place) -> None:
    """Move and turn a character that stands as it was imported."""
    spot = bpy.data.objects.new("place", None)
    bpy.context.scene.collection.objects.link(spot)
    character.root.parent = spot
    spot.location = (place.x, place.y, 0.0)
    spot.rotation_euler = (0.0, 0.0, math.radians(place.turn_degrees))
    character.rest_facing = _turn(place.turn_degrees) @ character.rest_facing


def arrange(
    people: Sequence[Character], keys: Sequence[str], how: str, spacing_m: float | None, seed: int
) -> list[Place]:
    """Places in which nobody touches another in any of the frames that are looked at, for people as they were imported; they keep step
    from now on.

    Args:
        how: one of ``contract.ARRANGEMENTS``. spacing_m: between neighbours; None for as near as they can.

    Raises:
        InputError: there are no such places.
    """
    chance = np.random.default_rng([seed, len(people)])
    aheads = [_draw_ahead(c, chance) for c in people]
    keep_step(people, aheads)
    _, last = frame_range(people)
    spots, headings = _layout(how, len(people), chance)
    frames = np.unique(np.linspace(1, last, CHECKED_FRAMES).round().astype(int))
    turns, centres, cells = _filled(people, frames, headings, chance)
    tried = [spacing_m] if spacing_m is not None else np.arange(NEAREST_M, FARTHEST_M, STEP_M)
    for spacing in tried:
        # Whole cells, so that the cells that people fill need not be counted anew.
        steps = np.round(spots * float(spacing) / CELL_M).astype(int)
        if not _touching(cells, steps):
            at = steps * CELL_M
            return [
                Place(key, float(origin[0]), float(origin[1]), turns[i], aheads[i])
                for i, key in enumerate(keys)
                for origin in (at[i] - (_turn(turns[i]) @ (*centres[i], 0.0))[:2],)
            ]  # fmt: skip
    if spacing_m is not None:
        raise InputError(
            f"{spacing_m:g} m apart they would stand in each other; give more spacing, or leave it out"
        )
    raise InputError(
        f"no place in which they do not run into each other within {FARTHEST_M:g} m; take motions that travel less, or another arrangement"
    )


def _draw_ahead(character: Character, chance: np.random.Generator) -> int:
    """People who do the same do not do it in step."""
    take = character.imported.take
    drawn = chance.random()
    return 0 if take is None or not take.moves else int(drawn * (take.frames - 1))


def _layout(how: str, count: int, chance: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Spots (P, 2) a spacing of about 1 apart, and headings (P,) in degrees from ``GROUP_FRONT``, counter-clockwise."""
    number = np.arange(count)
    jitter = chance.uniform(-1, 1, (count, 3))
    if how == "side_by_side":
        spots = np.stack([number - (count - 1) / 2, 0.12 * jitter[:, 1]], axis=1)
        return spots, 14 * jitter[:, 2]
    if how == "behind":
        return np.stack([0.35 * jitter[:, 0], number - (count - 1) / 2], axis=1), 14 * jitter[:, 2]
    if how == "facing":
        around = 2 * np.pi * number / count + 0.15 * jitter[:, 0]
        radius = 0.5 / math.sin(math.pi / count)
        spots = radius * np.stack([np.cos(around), np.sin(around)], axis=1)
        # Who stands at -y faces +y, half a turn from the group's front.
        return spots, np.degrees(around) - 90 + 10 * jitter[:, 2]
    spots = np.zeros((0, 2))
    while len(spots) < count:
        spot = chance.uniform(-1, 1, 2) * 0.62 * math.sqrt(count)
        if not len(spots) or np.linalg.norm(spots - spot, axis=1).min() > 0.85:
            spots = np.concatenate([spots, [spot]])
    return spots - spots.mean(axis=0), 180 * jitter[:, 2]


def _filled(
    people: Sequence[Character],
    frames: np.ndarray,
    headings: np.ndarray,
    chance: np.random.Generator,
) -> tuple[list[float], list[np.ndarray], list[list[np.ndarray]]]:
    """How each person is turned in degrees, the middle (2,) of where it goes as imported, and by frame the cells (C, 3) that it fills
    around that middle when turned."""
    points: list[list[np.ndarray]] = [[] for _ in people]
    fronts: list[np.ndarray] = []
    weights = [_scattered(c, chance) for c in people]
    for frame in frames.tolist():
        at_frame(people, frame)
        for i, character in enumerate(people):
            corners = character.vertices()[character.surface.triangles[weights[i][0]]]
            points[i].append(np.einsum("nk,nkd->nd", weights[i][1], corners))
            if len(fronts) <= i:
                front = character.facing()
                fronts.append(character.rest_facing if front is None else front)
    turns, centres, cells = [], [], []
    for i, mine in enumerate(points):
        middle = np.mean([(p[:, :2].min(axis=0) + p[:, :2].max(axis=0)) / 2 for p in mine], axis=0)
        away = math.degrees(math.atan2(fronts[i][1], fronts[i][0]) + math.pi / 2)
        turn = float(headings[i] - away)
        rotation = _turn(turn)
        moved = [(p - (*middle, 0.0)) @ rotation.T for p in mine]
        cells.append([np.unique(np.floor(p / CELL_M).astype(int), axis=0) for p in moved])
        turns.append(turn)
        centres.append(middle)
    return turns, centres, cells


def _scattered(character: Character, chance: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Points all over the surface, two for each cell's area: the triangle (N,) and the weights of its corners (N, 3)."""
    corners = character.rest_vertices[character.surface.triangles]
    areas = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2  # fmt: skip
    counts = np.ceil(2 * areas / CELL_M**2).astype(int)
    chosen = np.repeat(np.arange(len(areas)), counts)
    return chosen, chance.dirichlet((1.0, 1.0, 1.0), len(chosen))


def _touching(cells: list[list[np.ndarray]], steps: np.ndarray) -> bool:
    """Whether two people fill the same or neighbouring cells in a frame, each moved by whole cells (P, 2)."""
    for i in range(len(cells)):
        for j in range(i):
            shift = np.append(steps[i] - steps[j], 0)
            for mine, other in zip(cells[i], cells[j], strict=True):
                if _near(mine + shift, other):
                    return True
    return False


def _near(one: np.ndarray, other: np.ndarray) -> bool:
    low, high = other.min(axis=0) - 1, other.max(axis=0) + 1
    close = one[((one >= low) & (one <= high)).all(axis=1)]
    if not len(close):
        return False
    size = high - low + 3
    filled = np.zeros(size, bool)
    at = other - low + 1
    for dx in (-1, 0, 1):
        for dy in (-1, 0, 1):
            for dz in (-1, 0, 1):
                filled[tuple((at + (dx, dy, dz)).T)] = True
    return bool(filled[tuple((close - low + 1).T)].any())


def _turn(degrees: float) -> np.ndarray:
    """(3, 3) a turn about the upright, counter-clockwise from above."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
