"""How far the depth images of a render set lie from the mesh: by Blender's own tree of the posed triangles.

Usage: prove_depth.py SET MODEL. Prints, over all pixels well inside of the masks, the 50th, 99th and 100th percentile of the distance between the point that depth and
camera give and the nearest point of the mesh, in metres.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import bpy  # noqa: F401 (the next ones need it)
import numpy as np
from mathutils import Vector
from mathutils.bvhtree import BVHTree

from blender_scripts.stage import importing
from blender_scripts.stage.character import load_character


def main() -> None:
    folder, model = Path(sys.argv[1]), sys.argv[2]
    rig_map = json.loads((ROOT / "assets_data/rigs/mixamo.json").read_text())
    importing.clear_scene()
    character = load_character(model, rig_map, "hero")
    document = json.loads((folder / "truth.json").read_text())
    stored = np.load(folder / "truth.npz")
    oiio = importing.image_library()

    def read(path: Path) -> np.ndarray:
        file = oiio.ImageInput.open(str(path))
        values = file.read_image(file.spec().format)[..., 0]
        file.close()
        return values

    away = []
    for number, image in enumerate(document["images"]):
        character.at_frame(image["frame"])
        tree = BVHTree.FromPolygons(character.vertices().tolist(), character.surface.triangles.tolist())  # fmt: skip
        depth, mask = read(folder / "depth" / image["file"]) / 1000.0, read(folder / "masks" / image["file"]) > 127  # fmt: skip
        inside = mask.copy()
        for shift in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, -1), (1, -1), (-1, 1)):
            inside &= np.roll(mask, shift, (0, 1))
        rows, columns = np.nonzero(inside)
        pixels = np.column_stack([columns + 0.5, rows + 0.5, np.ones(len(rows))])
        k, r, t = (stored[n][number] for n in ("intrinsics", "rotation", "translation"))
        seen = pixels @ np.linalg.inv(k).T * depth[rows, columns][:, None]
        world = (seen - t) @ r
        away += [tree.find_nearest(Vector(p))[3] for p in world]
    print("ANSWER " + json.dumps([float(v) for v in np.percentile(away, (50, 99, 100))]), flush=True)  # fmt: skip
    os._exit(0)


main()
