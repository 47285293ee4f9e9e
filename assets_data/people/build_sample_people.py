"""Build the sample characters: the people described beside this file, each with one of the motions that ship.

pip install -e .[people] && python assets_data/people/build_sample_people.py

What it makes is shipped in ``assets_data/characters``, as building people needs torch.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import yaml

from blender_scripts.stage import importing
from blender_scripts.stage.character import load_character
from blender_scripts.stage.motion import cast, load_clip, play
from posefactory_dagster.compute.job import namings, rig_map
from posefactory_dagster.people import building, gltf
from posefactory_dagster.people.body import BodyModel
from posefactory_dagster.people.documents import MODEL, Person
from posefactory_dagster.settings import ASSETS_DATA

#: Who does what, and how many frames of it are kept in a second.
MOTIONS = {"ada": "walk", "bruno": "squat", "chen": "jumping_jack", "dora": "wave", "emil": "kick", "fatou": "dance"}  # fmt: skip
SHORT = {"jumping_jack": "jack"}


def main() -> None:
    """Build every person, and say how large the files are."""
    model = BodyModel()
    target = ASSETS_DATA / "characters"
    for name, motion in MOTIONS.items():
        described = yaml.safe_load((ASSETS_DATA / "people" / f"{name}.yaml").read_text("utf-8"))
        built = building.build(model, Person.model_validate(described))
        with tempfile.TemporaryDirectory() as folder:
            building.write(built, Path(folder))
            clip = cast_on(Path(folder) / MODEL, ASSETS_DATA / "motions" / f"{motion}.bvh", built)
            building.write(built, Path(folder), clip)
            path = target / f"{name}_{SHORT.get(motion, motion)}.glb"
            path.write_bytes((Path(folder) / MODEL).read_bytes())
        print(f"{path.name}: {path.stat().st_size / 1e6:.2f} MB, {len(clip.hips)} frames")


def cast_on(skin: Path, motion: Path, built: building.Built) -> gltf.Clip:
    """A motion as a clip for a person, by the factory's own casting."""
    rig = {**rig_map(), "namings": namings()}
    importing.clear_scene()
    character = load_character(str(skin), rig, skin.stem)
    clip = load_clip(str(motion), rig, motion.stem)
    fps = clip.imported.fps
    play(character, cast(character, clip))
    clip.remove()
    start, end = character.frame_range
    bones = [character.armature.pose.bones[b] for b in built.body.bones]
    rests = [np.array(b.bone.matrix_local)[:3, :3] for b in bones]
    rotations = np.empty((end - start + 1, len(bones), 3, 3))
    hips = np.empty((end - start + 1, 3))
    for row, frame in enumerate(range(start, end + 1)):
        character.at_frame(frame)
        for index, (bone, rest) in enumerate(zip(bones, rests, strict=True)):
            posed = np.array(bone.matrix)
            rotations[row, index] = posed[:3, :3] @ rest.T
            if index == 0:
                hips[row] = posed[:3, 3]
    return gltf.Clip(motion.stem, fps, rotations, hips)


if __name__ == "__main__":
    main()
