"""The sets of the training benchmark, made by the factory's own commands: one project each below a folder.

    .venv-people/bin/python benchmarks/training/sets.py FOLDER

A set that is there is not made again, and one that was cut off goes on. 2,100 pictures of 256 x 256 took about an hour on 2 cores.
Nobody, no motion and no place of the set ``unseen`` is in any other.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from posefactory_dagster.people.sampling import population

MOTIONS = ("run", "wave", "squat", "jumping_jack", "reach_high", "sit", "sit_down", "crouch", "carry_box", "lift_box", "lie_down")  # fmt: skip
UNSEEN_MOTIONS = ("dance", "kick", "pick_up")
LOOKS = ("living_room", "kitchen", "office", "studio", "park", "storeroom", "hdri_city", "hdri_courtyard", "hdri_sunset")  # fmt: skip
UNSEEN_LOOKS = ("street", "gym", "hdri_forest")
PEOPLE, UNSEEN_PEOPLE = range(20), range(20, 24)
SEED = 7


@dataclass(frozen=True)
class Set:
    """``casts``: who does what; ``clothes``: whether people wear what was drawn for them, else nothing but shoes."""

    casts: tuple[tuple[int, str], ...]
    looks: tuple[str, ...]
    styles: tuple[str, ...] = ()
    clothes: bool = True


def _shared_out() -> Iterator[tuple[int, str]]:
    for person in PEOPLE:
        yield person, "walk"
        for other in (2 * person, 2 * person + 1):
            yield person, MOTIONS[other % len(MOTIONS)]


_ONE_EACH = tuple((person, MOTIONS[2 * person % len(MOTIONS)]) for person in PEOPLE)
#: The keys of these casts, by which the set ``many`` has them too.
ONE_EACH_KEYS = frozenset(f"p{person:02}__{motion}" for person, motion in _ONE_EACH)
SETS = {
    "unseen": Set(tuple((p, m) for p in UNSEEN_PEOPLE for m in UNSEEN_MOTIONS), UNSEEN_LOOKS),
    "many": Set(tuple(_shared_out()), LOOKS),
    "two_people": Set(tuple((p, m) for p in PEOPLE[:2] for m in MOTIONS), LOOKS),
    "plain": Set(_ONE_EACH, ("plain",), styles=("places",)),
    "bare": Set(_ONE_EACH, LOOKS, clothes=False),
}


def make(name: str, wanted: Set, folder: Path) -> None:
    """One project, from its people to an export of its dataset in COCO's form."""
    project = folder / name
    mark = project / "coco" / "export.json"
    if mark.exists() and json.loads(mark.read_text("utf-8")).get("complete"):
        print(f"{name}: there already")
        return
    project.mkdir(parents=True, exist_ok=True)
    (project / "posefactory.toml").write_text(
        f"""[render]
width = 256
height = 256
num_angles = 4
frames_per_clip = 4
looks = "{",".join(wanted.looks)}"
looks_per_character = 1
[labels]
save_debug_images = false
[variants]
styles = {list(wanted.styles)}
""",
        "utf-8",
    )
    env = {
        **os.environ,
        "DAGSTER_HOME": str(project / "home"),
        "POSEFACTORY_STORE": str(project / "data"),
        "POSEFACTORY_SETTINGS": str(project / "posefactory.toml"),
    }

    def posefactory(*arguments: str) -> None:
        print(f"{name}: posefactory {' '.join(arguments[:6])}{' …' if len(arguments) > 6 else ''}", flush=True)  # fmt: skip
        subprocess.run([sys.executable, "-m", "posefactory_dagster.cli", *arguments], env=env, check=True)  # fmt: skip

    everybody = population(1 + max(p for p, _ in wanted.casts), SEED)
    for number in sorted({p for p, _ in wanted.casts}):
        person = everybody[number]
        if not wanted.clothes:
            person = person.model_copy(update={"clothes": []})
        path = project / f"p{number:02}.yaml"
        path.write_text(yaml.safe_dump(person.model_dump(mode="json", exclude_none=True)), "utf-8")
        posefactory("people", "add", str(path), "--name", path.stem)
    # A cast needs the model of its skin.
    posefactory("run", *(f"p{p:02}" for p in sorted({p for p, _ in wanted.casts})), "--until", "character")  # fmt: skip
    posefactory("motions", "add", "--samples")
    for number, motion in wanted.casts:
        posefactory("cast", f"p{number:02}", "--motion", motion)
    posefactory("run", *(f"p{p:02}__{m}" for p, m in wanted.casts))
    for kind in ("parquet", "coco"):
        posefactory("datasets", "export", "--format", kind, "--to", str(project / kind))


if __name__ == "__main__":
    for name, wanted in SETS.items():
        make(name, wanted, Path(sys.argv[1]).resolve())
