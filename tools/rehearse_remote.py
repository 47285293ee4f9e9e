"""Rehearse rented machines without renting any: an S3 server and a RunPod of our own on 127.0.0.1.

    python -m tools.rehearse_remote [--characters N]

The project lies in the bucket of rclone's S3 server; renders go to simulated pods, which are real worker processes with real
Blender that see nothing but the addresses they are given. Every command is one that a user would type, and each request is
checked against RunPod's published schemas, as in the tests.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from posefactory_dagster.settings import ASSETS_DATA, PROJECT_ROOT
from tests.runpod_simulator import ACCOUNT_KEY, simulated_runpod
from tests.servers import rclone_server

SETTINGS = """
[render]
num_angles = 4
frames_per_clip = 1
width = 256
height = 256
samples = 4
engine = "cycles"
[variants]
styles = []
[pods]
startup_s = 5
seconds_per_image = 0.5
poll_interval_s = 1
"""


def main() -> int:
    """Run the rehearsal; the exit code is that of the first command that failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--characters", type=int, default=2, help="how many of the samples")
    samples = sorted((ASSETS_DATA / "characters").glob("*.fbx"))[: parser.parse_args().characters]
    with (
        tempfile.TemporaryDirectory(prefix="posefactory-") as folder,
        rclone_server(Path(folder) / "bucket") as bucket,
        simulated_runpod(Path(folder) / "pods") as runpod,
    ):
        settings = Path(folder) / "posefactory.toml"
        settings.write_text(SETTINGS)
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("POSEFACTORY_", "R2_"))},
            **bucket.environment,
            "POSEFACTORY_SETTINGS": str(settings),
            "POSEFACTORY_CACHE": f"{folder}/cache",
            "DAGSTER_HOME": f"{folder}/home",
            "POSEFACTORY_RENDER_ON": "pod",
            "POSEFACTORY_POD_IMAGE": "example/posefactory-pod:1",
            "RUNPOD_API_KEY": ACCOUNT_KEY,
            "RUNPOD_API_BASE_URL": runpod.address,
        }
        print(f"bucket: rclone on {bucket.address}; RunPod: simulated on {runpod.address}")
        for words in (
            ["characters", "add", *map(str, samples)],
            ["costs", "estimate", "pod", "--images", str(4 * len(samples))],
            ["run", "--all"],
            ["jobs", "list"],
            ["costs", "spent"],
            ["pods", "list"],
            ["store", "verify"],
        ):
            print(f"\n$ posefactory {' '.join(words)}", flush=True)
            command = [sys.executable, "-m", "posefactory_dagster.cli", *words]
            code = subprocess.run(
                command, env=environment, cwd=PROJECT_ROOT, check=False
            ).returncode
            if code:
                return code
        if runpod.alive or runpod.violations:
            print("\nfaults:", *(p.id for p in runpod.alive), *runpod.violations, sep="\n")
            return 1
        rented, asked = len(runpod.pods), len(runpod.calls)
        print(
            f"\n{rented} pods were rented and ended; {asked} requests, each keeps RunPod's published schema"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
