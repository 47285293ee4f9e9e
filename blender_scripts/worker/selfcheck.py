"""Prove that a machine can render: one small image of a sample, and how long it took.

python -m blender_scripts.worker.selfcheck CHARACTER.fbx RIG_MAP.json [cycles|eevee]
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

from blender_scripts import supervise
from blender_scripts.contract import Job, RenderSettings, character_task, ring
from blender_scripts.worker.environment import WorkerEnvironment
from blender_scripts.worker.render import SCRIPTS


def main() -> None:
    """Render, print, and exit with 1 if there is no image."""
    character, rig_map = Path(sys.argv[1]), Path(sys.argv[2])
    engine = sys.argv[3] if len(sys.argv) > 3 else "cycles"
    settings = RenderSettings(
        num_angles=1, frames_per_clip=1, width=64, height=64, samples=1, engine=engine
    )
    environment = WorkerEnvironment.read()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        job = Job(
            job_id="selfcheck",
            job_type="render",
            created_at="",
            tasks=(character_task("sample", str(character.resolve()), str(out)),),
            views=ring(1),
            rig_map=json.loads(rig_map.read_text("utf-8")),
            settings=settings,
        )
        launch = supervise.launch(
            lambda kind, path: environment.render_command(SCRIPTS / supervise.SCRIPTS[kind], path),
            supervise.for_blender(os.environ),
            300.0,
        )
        outcome = supervise.run_job(job, Path(folder), launch)["sample"]
        images = list(out.rglob("images/*.png"))
    if outcome.error or len(images) != 1:
        sys.exit(f"selfcheck failed: {outcome.error}")
    print(f"selfcheck: rendered one image with {engine} in {sum(outcome.seconds.values()):.2f} s")


if __name__ == "__main__":
    main()
