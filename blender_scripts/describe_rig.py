"""Write down the skeletons of files: names, parents and rest positions, for people who map a rig by hand."""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from blender_scripts.contract import SKELETONS, Job, Task
from blender_scripts.session import Stopwatch, TaskReport, run
from blender_scripts.stage import importing


def describe(job: Job, task: Task, watch: Stopwatch, report: TaskReport) -> None:
    """Write ``skeletons.json``: for each armature of the file its bones, each with parent, head and tail (world, z up)."""
    import bpy

    source = task.inputs["motion"]
    importing.clear_scene()
    importing.read(source.file, source.name)
    found = []
    for armature in (o for o in bpy.data.objects if o.type == "ARMATURE"):
        world = armature.matrix_world
        found.append(
            [
                {
                    "name": b.name,
                    "parent": b.parent.name if b.parent is not None else None,
                    "head": list(world @ b.head_local),
                    "tail": list(world @ b.tail_local),
                }
                for b in armature.data.bones
            ]
        )
    if not found:
        raise importing.InputError(f"{source.name}: no armature in it")
    output = Path(task.outputs)
    output.mkdir(parents=True, exist_ok=True)
    (output / SKELETONS).write_text(json.dumps(found), "utf-8")


if __name__ == "__main__":
    run(describe)
