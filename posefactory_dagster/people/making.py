"""Run the builder of people as a process of its own, and hear of each person as it is done."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blender_scripts import supervise
from posefactory_dagster.people.documents import Person
from posefactory_dagster.people.planning import worn_pieces
from posefactory_dagster.settings import PROJECT_ROOT
from posefactory_dagster.storage import layout
from posefactory_dagster.storage.store import Store

POLL_S = 0.2
#: What the builder imports that the default set-up does not bring.
NEEDED = ("anny", "torch", "trimesh", "pygltflib")


class BuildFailed(RuntimeError):
    """People cannot be built at all; the text says what to do."""


@dataclass(frozen=True)
class Made:
    """How a person ended: the facts of the model, or what was wrong."""

    key: str
    facts: dict[str, Any]
    error: str | None = None


def check_installed() -> None:
    """Raise where the packages that build people are missing.

    Raises:
        BuildFailed: they are.
    """
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise BuildFailed(
            f"people are built by packages that are not installed ({', '.join(missing)}): .venv/bin/pip install "
            "-c constraints.txt -e '.[people]'; the samples need none of them"
        )


def make_people(
    store: Store, people: Mapping[str, Person], scratch: Path, log: Callable[[str], object]
) -> Iterator[Made]:
    """Build people in one process; each is told when it is done, with its files in ``scratch/<key>``.

    Raises:
        BuildFailed: the packages are missing, or the process died; who was not told yet is not built.
    """
    check_installed()
    wardrobe = scratch / "wardrobe"
    for piece in sorted({name for person in people.values() for name in worn_pieces(person)}):
        files = {i.key: None for i in store.list(layout.wardrobe_piece(piece))}
        for key, path in store.local_paths(files).items():
            target = wardrobe / piece / key.rpartition("/")[2]
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    events, job, said = scratch / "events.jsonl", scratch / "job.json", scratch / "builder.log"
    events.touch()
    entries = [
        {"key": key, "person": person.model_dump(mode="json", exclude_none=True), "folder": str(scratch / key)}
        for key, person in people.items()
    ]  # fmt: skip
    document = {"people": entries, "wardrobe": str(wardrobe) if wardrobe.exists() else None, "events": str(events)}  # fmt: skip
    job.write_text(json.dumps(document), "utf-8")
    command = [sys.executable, "-u", "-m", "posefactory_dagster.people.building", str(job)]
    environment = {**supervise.for_blender(os.environ), "PYTHONPATH": str(PROJECT_ROOT)}
    log(f"building {len(people)} people; the body model takes a minute at its first use")
    process = supervise.start(command, said, environment)
    left = set(people)
    try:
        with events.open("r", encoding="utf-8") as lines:
            while True:
                running = process.poll() is None
                for line in iter(lines.readline, ""):
                    event = json.loads(line)
                    left.discard(event["key"])
                    log(f"{len(people) - len(left)} of {len(people)} people: {event['key']}")
                    yield Made(event["key"], event.get("facts", {}), event.get("error"))
                if not running:
                    break
                time.sleep(POLL_S)
    finally:
        supervise.stop(process)
    if left:
        last = said.read_text("utf-8", "replace").strip().splitlines()[-1:] or ["no word"]
        raise BuildFailed(f"the builder of people ended before {', '.join(sorted(left)[:5])} ({last[0][:300]}); run them again")  # fmt: skip
