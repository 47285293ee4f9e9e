"""Check and measure each uploaded character or motion of a job, and take its portrait."""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from blender_scripts.contract import (
    FACTS,
    LANDMARKS,
    SKELETON,
    THUMBNAIL,
    Job,
    RenderSettings,
    Task,
)
from blender_scripts.session import Stopwatch, TaskReport, run
from blender_scripts.stage import camera, fbx, film, light, truth
from blender_scripts.stage.character import Character
from blender_scripts.stage.motion import cast
from blender_scripts.stage.rig import Rig, read_rig

PORTRAIT = RenderSettings(width=192, height=192, samples=4, engine="cycles")
PORTRAIT_AZIMUTH_DEGREES = 20.0
STRIP_FRAMES = 8


def inspect(job: Job, task: Task, watch: Stopwatch, report: TaskReport) -> None:
    """Write ``facts.json``; for a skin ``thumbnail.png``, for a motion ``skeleton.npz``."""
    output = Path(task.outputs)
    output.mkdir(parents=True, exist_ok=True)
    skin, motion = task.inputs["skin"], task.inputs.get("motion")
    name = skin.name
    with watch.stage("import"):
        fbx.clear_scene()
        imported = fbx.load(skin.file, job.rig_map, name, skin.take)
        rig = read_rig(name, imported.armature, job.rig_map)
    facts = {
        "kind": "skin" if imported.meshes else "motion",
        "meshes": len(imported.meshes),
        "props": [p.name for p in imported.props],
        "vertices": sum(len(m.data.vertices) for m in imported.meshes),
        "bones": len(imported.armature.data.bones),
        "rig_prefix": rig.prefix,
        "rig_map": job.rig_map["name"],
        "optional_bones_missing": [b for b in job.rig_map["optional"] if not rig.has(b)],
        "textures_found": imported.textures_found,
        "textures_missing": imported.textures_missing,
    }
    if imported.meshes:
        character = Character(name, imported, rig)
        with watch.stage("truth"):
            anchors = truth.anchor_landmarks(character)
            points = truth.locate(character, anchors, character.rest_vertices)
        if motion is not None:
            cast(character, motion.file, motion.name, motion.take)
        start, end = character.frame_range
        front = character.rest_facing
        facts |= {
            "scale_found": character.scale_found,
            "scale_applied": character.scale_applied,
            "height_m": round(character.height, 4),
            "facing": [round(float(v), 4) for v in front],
            "has_motion": character.has_motion(),
            "landmarks_by_proportion": [
                n for n, a in zip(LANDMARKS, anchors, strict=True) if a.origin == "proportion"
            ],
            "rest_landmarks": {
                n: [round(float(v), 4) for v in p] for n, p in zip(LANDMARKS, points, strict=True)
            },
        }
        with watch.stage("render"):
            _portrait(character, output, round((start + end) / 2))
    else:
        if imported.take is None:
            raise fbx.InputError(
                f"{name}: neither a skin nor a motion nor a pose in it; export a character with skin"
            )
        start, end = imported.take.start, imported.take.end
        facts |= {
            "scale_found": float(np.mean(np.abs(imported.armature.matrix_world.to_scale()))),
            "has_motion": imported.take.moves,
        }
        with watch.stage("truth"):
            _skeleton(imported, rig, output, start, end)
    facts |= {
        "frame_range": [start, end],
        "fps": imported.fps,
        "take": None if imported.take is None else imported.take.name,
        "takes": [
            {"name": t.name, "frames": [t.start, t.end], "moves": t.moves} for t in imported.takes
        ],
        "warnings": imported.warnings,
    }
    (output / FACTS).write_text(json.dumps(facts, indent=1), "utf-8")


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


def _skeleton(imported: fbx.Imported, rig: Rig, output: Path, start: int, end: int) -> None:
    """Bone segments over the motion: (frames, bones, 2 ends, 3), the file's units, z up."""
    import bpy

    armature = imported.armature
    bones = [
        armature.pose.bones[b] for b in rig.names.values() if "Hand" not in b or b.endswith("Hand")
    ]
    bones = [b for b in bones if b.parent is not None]
    segments = []
    for frame in np.linspace(start, end, STRIP_FRAMES).round().astype(int):
        bpy.context.scene.frame_set(int(frame))
        matrix = armature.matrix_world
        segments.append([[matrix @ b.parent.head, matrix @ b.head] for b in bones])
    with (output / SKELETON).open("wb") as file:
        np.savez(file, segments=np.array(segments, dtype=np.float64))


if __name__ == "__main__":
    run(inspect)
