"""Check and measure each uploaded character, motion or cast of a job, and take its portrait."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from blender_scripts.contract import (
    CAST_CURVES,
    FACTS,
    LANDMARKS,
    POSES,
    SKELETON,
    THUMBNAIL,
    Job,
    RenderSettings,
    Task,
)
from blender_scripts.session import Stopwatch, TaskReport, run
from blender_scripts.stage import camera, film, importing, light, transfer, truth
from blender_scripts.stage.character import Character
from blender_scripts.stage.importing import Imported
from blender_scripts.stage.motion import Clip, cast, load_clip, play, read_motion
from blender_scripts.stage.motion_facts import describe
from blender_scripts.stage.rig import Rig, read_rig

PORTRAIT = RenderSettings(width=192, height=192, samples=4, engine="cycles")
PORTRAIT_AZIMUTH_DEGREES = 20.0
STRIP_FRAMES = 8
#: The source of pieces that the factory made itself.
OWN_WORK = "own work"


def inspect(job: Job, task: Task, watch: Stopwatch, report: TaskReport) -> None:
    """Write ``facts.json``; for a skin ``thumbnail.png``, for a motion ``skeleton.npz``, for a cast its curves besides."""
    output = Path(task.outputs)
    output.mkdir(parents=True, exist_ok=True)
    if "skin" not in task.inputs:
        facts = _motion(job, task, watch, output)
    else:
        facts = _skin(job, task, watch, output)
    (output / FACTS).write_text(json.dumps(facts, indent=1), "utf-8")


def _motion(job: Job, task: Task, watch: Stopwatch, output: Path) -> dict[str, Any]:
    """The facts of a motion, whose file may have a skin that is left out."""
    motion = task.inputs["motion"]
    with watch.stage("import"):
        importing.clear_scene()
        clip = load_clip(motion.file, job.rig_map, motion.name, motion.take)
    with watch.stage("truth"):
        skeleton, poses = read_motion(clip)
        described = describe(skeleton, poses, STRIP_FRAMES)
        with (output / SKELETON).open("wb") as file:
            np.savez(
                file, segments=described.segments, sides=described.sides, feet=described.feet, stands=described.stands, fps=poses.fps,
                start=clip.start,
            )  # fmt: skip
    armature = clip.imported.armature
    return {
        "kind": "motion",
        **_of_file(clip.imported, clip.rig),
        "scale_found": float(np.mean(np.abs(armature.matrix_world.to_scale()))),
        "has_motion": clip.moves,
        "frame_range": [clip.start, clip.end],
        **described.facts,
    }


def _skin(job: Job, task: Task, watch: Stopwatch, output: Path) -> dict[str, Any]:
    """The facts of a skin, or of a skin with a motion that is cast on it."""
    skin, motion = task.inputs["skin"], task.inputs.get("motion")
    with watch.stage("import"):
        importing.clear_scene()
        imported = importing.load(skin.file, job.rig_map, skin.name, skin.take)
        rig = read_rig(skin.name, imported.armature, job.rig_map, imported.humanoid)
    facts: dict[str, Any] = {
        "kind": "skin" if imported.meshes else "motion",
        **_of_file(imported, rig),
        "optional_bones_missing": [b for b in job.rig_map["optional"] if not rig.has(b)],
        "warnings": imported.warnings,
    }
    if not imported.meshes:  # the caller makes it a motion
        if imported.take is None:
            raise importing.InputError(
                f"{skin.name}: neither a skin nor a motion nor a pose in it; export a character with skin"
            )
        span = [imported.take.start, imported.take.end]
        return facts | {"frame_range": span, "has_motion": imported.take.moves, "scale_found": 1.0}
    character = Character(skin.name, imported, rig)
    with watch.stage("truth"):
        anchors = truth.anchor_landmarks(character)
        points = truth.locate(character, anchors, character.all_points())
    if motion is not None:
        with watch.stage("cast"):
            clip = load_clip(motion.file, job.rig_map, motion.name, motion.take)
            facts |= _cast(character, clip, output, touch=task.touch)
    start, end = character.frame_range
    if character.has_motion():
        with watch.stage("truth"), (output / POSES).open("wb") as file:
            directions = transfer.limb_directions(character)
            np.savez_compressed(file, directions=directions.astype(np.float32), start=start)
    with watch.stage("render"):
        _portrait(character, output, round((start + end) / 2))
    return facts | {
        "scale_found": character.scale_found,
        "scale_applied": character.scale_applied,
        "height_m": round(character.height, 4),
        "facing": [round(float(v), 4) for v in character.rest_facing],
        "has_motion": character.has_motion(),
        "landmarks_by_proportion": [
            n for n, a in zip(LANDMARKS, anchors, strict=True) if a.origin == "proportion"
        ],
        "rest_landmarks": {
            n: [round(float(v), 4) for v in p] for n, p in zip(LANDMARKS, points, strict=True)
        },
        "frame_range": [start, end],
        "fps": imported.fps,
    }


def _of_file(imported: Imported, rig: Rig) -> dict[str, Any]:
    """What any file tells of itself."""
    return {
        "meshes": len(imported.meshes),
        "props": [p.name for p in imported.props],
        "vertices": sum(len(m.data.vertices) for m in imported.meshes),
        "bones": len(imported.armature.data.bones),
        "rig_prefix": rig.prefix,
        "rig_map": rig.naming,
        "rig_bones": {} if rig.naming == rig.map["name"] else rig.names,
        "licences": _licences(imported),
        "textures_found": imported.textures_found,
        "textures_missing": imported.textures_missing,
        "fps": imported.fps,
        "take": None if imported.take is None else imported.take.name,
        "takes": [
            {"name": t.name, "frames": [t.start, t.end], "moves": t.moves} for t in imported.takes
        ],
        "warnings": imported.warnings,
    }


def _licences(imported: Imported) -> dict[str, str]:
    """Of a person made by the factory, the pieces that others made: licence and author by the name of the mesh."""
    found = {}
    for mesh in imported.meshes:
        source = mesh.get("posefactory_source")
        if isinstance(source, str) and source != OWN_WORK:
            found[mesh.name] = f"{mesh.get('posefactory_licence', 'no licence said')}, {source}"[:300]  # fmt: skip
    return found


def _cast(character: Character, clip: Clip, output: Path, *, touch: bool) -> dict[str, Any]:
    """Cast a clip, keep its curves beside the skin, and say how far the result is from the motion."""
    curves = cast(character, clip, touch=touch)
    curves.save(output / CAST_CURVES)
    play(character, curves)
    measured = transfer.measure(character, clip)
    clip.remove()
    return {"transfer": dataclasses.asdict(measured)}


def _portrait(character: Character, output: Path, frame: int) -> None:
    character.at_frame(frame)
    points = character.vertices()
    box = np.stack([points.min(axis=0), points.max(axis=0)])
    front = character.facing()
    front = character.rest_facing if front is None else front
    pinhole = camera.place(PORTRAIT, box, front, PORTRAIT_AZIMUTH_DEGREES)
    film.set_up(PORTRAIT)
    light.light(PORTRAIT, front)
    camera.film(pinhole)
    picture = film.shoot(output, None)
    film.save_png(output / THUMBNAIL, picture.over(film.plain_backdrop()))


if __name__ == "__main__":
    run(inspect)
