"""People drawn, built and written: seconds and memory from first to last, and their measures against published ones.

    .venv-people/bin/python benchmarks/people.py [COUNT]

Limb lengths are between joint centres, in parts of the stature; the published ones are of R. Drillis and R. Contini, Body Segment
Parameters, Office of Vocational Rehabilitation Report 1166-03, 1966, as D. A. Winter gives them (Biomechanics and Motor Control of
Human Movement, 4th edition, 2009, figure 4.1). Only adults are measured.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from posefactory_dagster.people import building, sampling
from posefactory_dagster.people.body import Body, BodyModel

#: Of the stature: upper arm, forearm, thigh, shank.
PUBLISHED = {"upper arm": 0.186, "forearm": 0.146, "thigh": 0.245, "shank": 0.246}
BONES = {"upper arm": ("Arm", "ForeArm"), "forearm": ("ForeArm", "Hand"), "thigh": ("UpLeg", "Leg"), "shank": ("Leg", "Foot")}  # fmt: skip


def main(count: int) -> None:
    """Build a population and print what was measured."""
    started = time.perf_counter()
    model = BodyModel()
    print(f"body model read in {time.perf_counter() - started:.1f} s")
    seconds, memory, shares = [], [], []
    statures: dict[str, list[float]] = {"female": [], "male": []}
    with tempfile.TemporaryDirectory() as folder:
        for number, person in enumerate(sampling.population(count, 7)):
            begun = time.perf_counter()
            built = building.build(model, person)
            building.write(built, Path(folder) / str(number))
            seconds.append(time.perf_counter() - begun)
            memory.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
            stature = float(np.ptp(built.body.vertices[:13380, 2]))
            statures[str(built.person.gender)].append(stature)
            shares.append({name: _length(built.body, *bones) / stature for name, bones in BONES.items()})  # fmt: skip
    tenth = max(1, count // 10)
    print(f"{count} people: first {seconds[0]:.1f} s, then {np.median(seconds[1:]):.2f} s each (most {max(seconds[1:]):.2f} s)")  # fmt: skip
    print(f"peak memory after {tenth + 1}: {memory[tenth]:.0f} MB, after all: {memory[-1]:.0f} MB")
    for gender, values in statures.items():
        print(f"{gender}: stature {np.mean(values):.3f} m, deviation {np.std(values):.3f} m ({len(values)} people)")  # fmt: skip
    for name, published in PUBLISHED.items():
        values = [s[name] for s in shares]
        print(f"{name:10} {np.mean(values):.3f} of the stature, deviation {np.std(values):.4f}; published {published:.3f}")  # fmt: skip


def _length(body: Body, one: str, two: str) -> float:
    return float(np.mean([np.linalg.norm(body.head(s + one) - body.head(s + two)) for s in ("Left", "Right")]))  # fmt: skip


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 40)
