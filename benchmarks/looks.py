"""What a look costs and how clean it is: seconds of a labelled image against the plain look, and PSNR against 256 samples.

    .venv/bin/python benchmarks/looks.py

One sample person, 2 frames x 8 views at 512 x 512, Cycles; the best of two runs each, in one Blender process a run. PSNR is over the
person's pixels, between the pictures of the default samples and those of 256, with the same places behind.
"""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from blender_scripts.contract import RenderSettings, character_task
from posefactory_dagster.compute.job import new_job
from posefactory_dagster.compute.process import run_job
from posefactory_dagster.renders import looks
from posefactory_dagster.renders.documents import read_mask
from posefactory_dagster.settings import sample_characters

SETTINGS = RenderSettings(num_angles=8, frames_per_clip=2, engine="cycles", samples=8)
#: Samples of reference pictures, denoised as all are.
REFERENCE = 256
LOOKS = ("living_room", "street", "hdri_forest", "studio")


def render(look: str, folder: Path, **changes: object) -> dict[str, float]:
    """Render the sample in a look; seconds by stage."""
    settings = dataclasses.replace(SETTINGS, looks=look, **changes)  # type: ignore[arg-type]
    sample = sample_characters()[0]
    task = character_task("hero", str(sample), str(folder / "out"))
    outcome = run_job(new_job("render", [task], settings, looks.documents(settings)), folder)[
        "hero"
    ]
    assert outcome.error is None, outcome.error
    return dict(outcome.seconds)


def psnr(folder: Path, reference: Path) -> float:
    """Peak signal to noise ratio over the person's pixels of all pictures, dB."""
    errors = []
    for path in sorted((folder / "out" / "images").iterdir()):
        mask = read_mask(folder / "out" / "masks" / path.name)
        one, two = (np.asarray(Image.open(p / "out" / "images" / path.name), float) for p in (folder, reference))  # fmt: skip
        errors.append(((one - two)[mask] ** 2).mean())
    return float(10 * np.log10(255**2 / np.mean(errors)))


def main() -> None:
    """Print a row for each look."""
    images = SETTINGS.num_angles * SETTINGS.frames_per_clip
    plain = None
    for look in ("plain", *LOOKS):
        with tempfile.TemporaryDirectory() as scratch:
            runs = []
            for number in range(2):
                folder = Path(scratch) / str(number)
                folder.mkdir()
                seconds = render(look, folder)
                seconds["scene"] -= seconds.get("place", 0.0)
                runs.append(seconds)
            best = min(runs, key=lambda s: sum(s.values()))
            place = best.pop("place", 0.0)
            each = sum(best.values()) / images
            if plain is None:
                plain = each
                print(f"{look:12} {each:.3f} s an image")
                continue
            reference = Path(scratch) / "reference"
            reference.mkdir()
            render(look, reference, samples=REFERENCE)
            parts = ", ".join(f"{k} {v / images:.3f}" for k, v in sorted(best.items()) if v / images >= 0.004)  # fmt: skip
            print(
                f"{look:12} {each:.3f} s an image, {each / plain:.2f} x plain ({parts}); its place {place:.1f} s once; "
                f"{psnr(folder, reference):.1f} dB"
            )


if __name__ == "__main__":
    main()
