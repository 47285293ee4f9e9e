"""The controlled set: the same people in the same motions, rendered so that one attribute differs at a time."""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from blender_scripts.contract import (
    ARRANGEMENT,
    EVENT_IMAGE,
    Place,
    RenderSettings,
    Task,
    TaskInput,
    role_of,
)
from blender_scripts.supervise import Event
from posefactory_dagster.audits.documents import ASSET, VERSION
from posefactory_dagster.compute.job import new_job
from posefactory_dagster.compute.process import run_job
from posefactory_dagster.settings import ASSETS_DATA
from posefactory_dagster.storage.sets import (
    CommittedSet,
    CommittedSets,
    SetRef,
    file_sha256,
    identity_of,
)

DOCUMENT = ASSETS_DATA / "audit" / "controlled.yaml"
#: The look of the base, which all views and bodies are compared in.
BASE = "base"
#: Views of the base, and of each level; frames of each motion.
VIEWS, LEVEL_VIEWS, FRAMES = 8, 4, 2
SIZE = 384


class AuditError(RuntimeError):
    """An audit cannot be made; the text says what to do."""


@dataclass(frozen=True)
class Body:
    """Who is rendered: the key, and its files by role (``skin``, perhaps ``motion``) with the take that plays."""

    key: str
    files: Mapping[str, Path]
    takes: Mapping[str, str | None] = dataclasses.field(default_factory=dict)

    def inputs(self, number: int | None = None) -> dict[str, TaskInput]:
        """Its part of a task; of a group, as the person of this number."""
        return {
            (role if number is None else role_of(role, number)): TaskInput(str(path), self.key, self.takes.get(role))
            for role, path in self.files.items()
        }  # fmt: skip


@dataclass(frozen=True)
class Level:
    """One value of an attribute, and in which look it is rendered; or ``persons`` together in the base."""

    attribute: str
    title: str
    value: str
    look: str
    document: Mapping[str, Any]
    persons: int = 1


def levels() -> list[Level]:
    """The levels of all attributes, in order."""
    document = yaml.safe_load(DOCUMENT.read_text("utf-8"))
    base, found = document["base"], []
    for name, attribute in document["attributes"].items():
        for value, change in attribute["levels"].items():
            look = BASE if change is None else f"{name}_{re.sub(r'[^a-z0-9]+', '_', str(value).lower()).strip('_')}"  # fmt: skip
            found.append(
                Level(name, attribute["title"], str(value), look, _changed(base, change or {}))
            )
    people = document["people"]
    for value, count in people["levels"].items():
        found.append(Level("people", people["title"], value, BASE, base, int(count)))
    return found


def _changed(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """A change laid over a document, field by field; null takes a field away."""
    result = dict(base)
    for name, value in change.items():
        if value is None:
            result.pop(name, None)
        elif (
            isinstance(value, Mapping)
            and isinstance(result.get(name), Mapping)
            and name != "framing"
        ):
            result[name] = _changed(result[name], value)
        else:
            result[name] = value
    return result


@dataclass(frozen=True)
class _Part:
    """A set to be rendered: its name, who is in it, in which looks and with how many views."""

    key: str
    bodies: tuple[Body, ...]
    looks: Mapping[str, Mapping[str, Any]]
    views: int

    def settings(self, size: int) -> RenderSettings:
        return RenderSettings(
            num_angles=self.views, frames_per_clip=FRAMES, width=size, height=size, looks=",".join(self.looks), engine="cycles"
        ).resolved()  # fmt: skip


def _parts(bodies: Sequence[Body]) -> Iterator[_Part]:
    wanted = levels()
    base = {BASE: next(v.document for v in wanted if v.look == BASE)}
    others = {v.look: v.document for v in wanted if v.look != BASE}
    for body in bodies:
        yield _Part(f"{body.key}-base", (body,), base, VIEWS)
        yield _Part(f"{body.key}-levels", (body,), others, LEVEL_VIEWS)
    for count in sorted({v.persons for v in wanted} - {1}):
        for first in range(0, len(bodies) - count + 1, count):
            together = tuple(bodies[first : first + count])
            yield _Part(
                f"group-{'-'.join(b.key for b in together)}"[:100], together, base, LEVEL_VIEWS
            )


def render(
    sets: CommittedSets, bodies: Sequence[Body], size: int, tell: Callable[[float, str], None]
) -> list[CommittedSet]:
    """The controlled set of these people; what is committed is not rendered again.

    Args:
        size: of the images, pixels. tell: hears which share is done, and what is rendered.

    Raises:
        AuditError: somebody could not be rendered.
    """
    found = []
    parts = list(_parts(bodies))
    for done, part in enumerate(parts):
        tell(done / len(parts), part.key)
        settings = part.settings(size)
        inputs = {
            "files": [
                [b.key, role, file_sha256(path), b.takes.get(role)]
                for b in part.bodies
                for role, path in sorted(b.files.items())
            ]
        }
        values = {"version": VERSION, "looks": dict(part.looks), **dataclasses.asdict(settings)}
        ref = SetRef(ASSET, part.key, identity_of(ASSET, inputs, values))
        committed = sets.find(ref)
        if committed is None:
            committed = _rendered(
                sets,
                part,
                settings,
                ref,
                inputs,
                values,
                functools.partial(_tell_part, tell, done, len(parts), part.key),
            )
        sets.publish(ref)
        found.append(committed)
    tell(1.0, "")
    return found


def _tell_part(
    tell: Callable[[float, str], None], done: int, parts: int, key: str, event: Event
) -> None:
    if event["event"] == EVENT_IMAGE:
        tell((done + event["done"] / event["total"]) / parts, key)


def _rendered(
    sets: CommittedSets,
    part: _Part,
    settings: RenderSettings,
    ref: SetRef,
    inputs: dict[str, Any],
    values: dict[str, Any],
    on_event: Callable[[Event], None],
) -> CommittedSet:
    with sets.scratch() as scratch:
        files = {
            role: given
            for n, body in enumerate(part.bodies)
            for role, given in body.inputs(n if len(part.bodies) > 1 else None).items()
        }
        # Blender reads what lies beside its job.
        local = {}
        for role, given in files.items():
            copy = scratch / f"{role}{Path(given.file).suffix}"
            copy.write_bytes(Path(given.file).read_bytes())
            local[role] = dataclasses.replace(given, file=str(copy))
        places: tuple[Place, ...] = ()
        if len(part.bodies) > 1:
            places = tuple(Place(b.key) for b in part.bodies)
            _run(
                Task(part.key, local, str(scratch / "found"), places=places, arrangement="crowd"),
                "arrange",
                settings,
                {},
                scratch,
                on_event,
            )
            found = json.loads((scratch / "found" / ARRANGEMENT).read_text("utf-8"))
            places = tuple(Place(**p) for p in found["places"])
        _run(
            Task(part.key, local, str(scratch / "out"), places=places),
            "render",
            settings,
            part.looks,
            scratch,
            on_event,
        )
        return sets.commit(
            ref,
            scratch / "out",
            inputs=inputs,
            settings=values,
            facts={"people": [b.key for b in part.bodies]},
        )


def _run(
    task: Task,
    kind: Any,
    settings: RenderSettings,
    looks: Mapping[str, Mapping[str, Any]],
    scratch: Path,
    on_event: Callable[[Event], None],
) -> None:
    outcome = run_job(new_job(kind, [task], settings, looks), scratch, on_event=on_event)[task.key]
    if outcome.error is not None:
        raise AuditError(f"{task.key}: cannot be rendered: {outcome.error}")
