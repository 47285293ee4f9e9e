"""What a picture of four people costs, against one of one person, in the same look and run.

Usage: python benchmarks/groups.py [LOOK…]. Prints a row for each look: seconds of a picture with one and with four, and their ratio; and how
long the arrangement of the four took, once.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import tempfile
import time
from pathlib import Path

from blender_scripts.contract import ARRANGEMENT, Place, RenderSettings, Task, TaskInput, role_of
from posefactory_dagster.compute.job import new_job
from posefactory_dagster.compute.process import run_job
from posefactory_dagster.renders import looks
from posefactory_dagster.settings import sample_characters

SETTINGS = RenderSettings(frames_per_clip=2, width=512, height=512).resolved()


def task(
    folder: Path, people: list[Path], places: tuple[Place, ...] = (), arrangement: str = ""
) -> Task:
    """A task of some people; of one, without a place."""
    if len(people) == 1:
        return Task("work", {"skin": TaskInput(str(people[0]), people[0].stem)}, str(folder))
    inputs = {role_of("skin", i): TaskInput(str(p), p.stem) for i, p in enumerate(people)}
    places = places or tuple(Place(p.stem) for p in people)
    return Task("work", inputs, str(folder), places=places, arrangement=arrangement)


def render(work: Task, look: str, folder: Path) -> float:
    """Seconds of a picture; a place's light, which is computed once, is left out."""
    settings = dataclasses.replace(SETTINGS, looks=look)
    best = float("inf")
    for number in range(2):
        once = folder / str(number)
        once.mkdir(parents=True)
        job = new_job(
            "render",
            [dataclasses.replace(work, outputs=str(once / "out"))],
            settings,
            looks.documents(settings),
        )
        outcome = run_job(job, once)["work"]
        assert outcome.error is None, outcome.error
        # The stage of the scene holds that of the place.
        spent = sum(outcome.seconds.values()) - 2 * outcome.seconds.get("place", 0.0)
        best = min(best, spent / (SETTINGS.num_angles * SETTINGS.frames_per_clip))
    return best


def main() -> None:
    """Arrange four people, and print a row for each look."""
    samples = sample_characters()[:4]
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        start = time.perf_counter()
        outcome = run_job(
            new_job("arrange", [task(place / "found", samples, arrangement="crowd")]), place
        )["work"]
        assert outcome.error is None, outcome.error
        print(f"four people arranged in {time.perf_counter() - start:.1f} s")
        found = json.loads((place / "found" / ARRANGEMENT).read_text("utf-8"))
        four = tuple(Place(**p) for p in found["places"])
        for look in sys.argv[1:] or ("plain", "living_room", "park"):
            one = render(task(place, samples[:1]), look, place / look / "one")
            many = render(task(place, samples, four), look, place / look / "four")
            print(f"{look:12} one {one:.3f} s, four {many:.3f} s a picture: {many / one:.2f} x")


if __name__ == "__main__":
    main()
