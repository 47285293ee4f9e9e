"""Cast a motion on a skin, spoil the result by known errors, and print what `transfer` measures of each.

python prove_transfer.py SKIN MOTION    (run in Blender's Python)
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import bpy
import mathutils
import numpy as np

from blender_scripts.stage import importing, transfer
from blender_scripts.stage.character import Character, load_character
from blender_scripts.stage.motion import Curves, cast, load_clip, play


def turned(character: Character, curves: Curves, bone: str, degrees: float) -> Curves:
    """The curves with one bone turned about an axis across it, in each frame, in its own frame."""
    index = curves.bones.index(character.rig.names[bone])
    extra = mathutils.Quaternion((1, 0, 0), np.radians(degrees))  # a bone points along y
    rotations = curves.rotations.copy()
    for frame in range(len(rotations)):
        rotations[frame, index] = mathutils.Quaternion(rotations[frame, index]) @ extra
    return dataclasses.replace(curves, rotations=rotations)


def moved(character: Character, curves: Curves, steps: np.ndarray) -> Curves:
    """The curves with the hips moved by ``steps`` (F, 3), metres in the world."""
    hips = character.armature.data.bones[curves.hips]
    to_bone = np.linalg.inv(
        np.array(character.armature.matrix_world)[:3, :3] @ np.array(hips.matrix_local)[:3, :3]
    )
    return dataclasses.replace(curves, locations=curves.locations + steps @ to_bone.T)


def main() -> None:
    rig_map = json.loads((ROOT / "assets_data/rigs/mixamo.json").read_text())
    importing.clear_scene()
    character = load_character(sys.argv[1], rig_map, "skin")
    clip = load_clip(sys.argv[2], rig_map, "motion")
    good = cast(character, clip)
    count = len(good.rotations)
    slide = np.zeros((count, 3))
    slide[:, 0] = 0.06 * np.arange(count) / (count - 1)
    sunk = np.tile([0.0, 0.0, -0.04], (count, 1))
    answers = {}
    for name, curves in {
        "good": good,
        "arm 12": turned(character, good, "LeftArm", 12.0),
        "slide 6 cm": moved(character, good, slide),
        "sunk 4 cm": moved(character, good, sunk),
    }.items():
        play(character, curves)
        answers[name] = dataclasses.asdict(transfer.measure(character, clip))
    print("ANSWER " + json.dumps(answers))
    bpy.ops.wm.read_factory_settings(use_empty=True)


if __name__ == "__main__":
    main()
