"""Build every place several times, and say of each whether its vertices are the same each time; and measure a box with round edges.

Usage: prove_places.py. Between builds memory is filled otherwise: what depends on addresses shows. Prints for each place how many different meshes came, and of a
box of 0.6 x 0.4 x 0.3 m rounded by 0.05 m the signed volume (m3) and the number of open edges.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import bpy
import numpy as np

from blender_scripts.stage import importing, sets

TIMES = 2


def main() -> None:
    kept = []
    answer: dict[str, object] = {}
    for name in sets.PLACES:
        found = set()
        for time in range(TIMES):
            importing.clear_scene()
            kept.append([object() for _ in range(1000 * time)])
            obj = sets.finish(sets.build(name, 11))
            points = np.empty(len(obj.data.vertices) * 3, np.float32)
            obj.data.vertices.foreach_get("co", points)
            found.add(hashlib.sha256(points.tobytes()).hexdigest())
            bpy.data.objects.remove(obj)
        answer[name] = len(found)
    place = sets.Place("box", np.random.default_rng(0), 1.0, False)
    place.box((0.6, 0.4, 0.3), (0.0, 0.0, 0.0), 0, turn=30, bevel=0.05)
    answer["volume"] = place.mesh.calc_volume(signed=True)
    answer["open"] = sum(not e.is_manifold for e in place.mesh.edges)
    place.mesh.free()
    print("ANSWER " + json.dumps(answer), flush=True)
    os._exit(0)


main()
