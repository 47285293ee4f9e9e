"""Do the people of an arranged group touch? By Blender's own overlap of their meshes, in frames that the arrangement did not look at too.

Usage: prove_group.py ARRANGEMENT FRAMES FILE…. Prints how many pairs of people overlap in how many frames, and each person's middle in
the first and the last frame.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import bpy  # noqa: F401  (brings mathutils)
import numpy as np
from mathutils.bvhtree import BVHTree

from blender_scripts.contract import Job, Place, Task, TaskInput, role_of
from blender_scripts.stage import group


def main() -> None:
    arranged = json.loads(Path(sys.argv[1]).read_text())
    places = [Place(**p) for p in arranged["places"]]
    rig_map = json.loads((ROOT / "assets_data/rigs/mixamo.json").read_text())
    inputs = {role_of("skin", i): TaskInput(f, f) for i, f in enumerate(sys.argv[3:])}
    task = Task("group", inputs, "", places=tuple(places))
    people = group.bring_in(Job("", "render", "", (task,), rig_map), task)
    group.keep_step(people, [p.ahead for p in places])
    group.take_places(people, places)
    first, last = arranged["frame_range"]
    frames = np.unique(np.linspace(first, last, int(sys.argv[2])).round().astype(int))
    touching, middles = 0, []
    for frame in frames:
        group.at_frame(people, int(frame))
        surfaces = [c.vertices() for c in people]
        trees = [
            BVHTree.FromPolygons(v.tolist(), c.surface.triangles.tolist())
            for v, c in zip(surfaces, people, strict=True)
        ]
        touching += sum(bool(a.overlap(b)) for a, b in itertools.combinations(trees, 2))
        middles.append([((v.min(axis=0) + v.max(axis=0)) / 2).tolist() for v in surfaces])
    answer = {"touching": touching, "frames": len(frames), "first": middles[0], "last": middles[-1]}
    print("ANSWER " + json.dumps(answer), flush=True)
    os._exit(0)


main()
