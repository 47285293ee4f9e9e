"""A character or group to render, and the set that becomes of it; wherever that happens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from blender_scripts.contract import (
    CAST_CURVES,
    POSES,
    Place,
    RenderSettings,
    SettingsError,
    Task,
    TaskInput,
    image_folders,
    pictures,
    render_files,
    role_of,
    sample_frames,
)
from posefactory_dagster.compute.frames import diverse_frames
from posefactory_dagster.storage import layout
from posefactory_dagster.storage.sets import CommittedSet, SetRef

#: What a worker elsewhere writes last: the list of a set's files that says they are all there.
RESULT = "result.json"


def files_of(character: CommittedSet) -> dict[str, str]:
    """The names of the files of a character that a renderer needs, by role: its skin, and the motion that was cast on it.

    The motion is a file of curves; sets of casts of version 1 hold the motion's own file.
    """
    stems = {PurePosixPath(name).stem: name for name in character.files if "/" not in name}
    cast = PurePosixPath(CAST_CURVES).stem
    found = {"skin": stems["skin"]}
    if cast in stems or "motion" in stems:
        found["motion"] = stems.get(cast) or stems["motion"]
    return found


def takes_of(character: CommittedSet) -> dict[str, str | None]:
    """Which animation of its files plays, by role."""
    inputs = character.inputs
    return {"skin": inputs["skin"].get("take"), "motion": inputs.get("motion", {}).get("take")}


@dataclass(frozen=True)
class Work:
    """Who to render: the set to make, and the committed character it is made from.

    ``frame_range``: first and last frame of its animation; ``moves``: whether its pose changes over them; ``looks``: the
    documents of the looks that it is rendered in, by name. Of a group, ``members`` are its characters, and ``places`` where they stand.
    """

    ref: SetRef
    source: CommittedSet
    frame_range: tuple[int, int]
    moves: bool
    looks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    members: tuple[CommittedSet, ...] = ()
    places: tuple[Place, ...] = ()

    @property
    def persons(self) -> int:
        """How many people its images show."""
        return max(1, len(self.members))

    def key(self, attempt: str, name: str) -> str:
        """The object key of a file of the set."""
        ref = self.ref
        return layout.set_file(ref.asset, ref.partition, ref.identity, attempt, name)

    def task(self, files: Mapping[str, str], output: str, settings: RenderSettings) -> Task:
        """Its part of a job.

        Args:
            files: paths or names of the files by role, as the machine that renders knows them; see ``inputs``.
            output: where the files of the set go there.
            settings: of the job.
        """
        names = {
            **{role_of("skin", i): p.key for i, p in enumerate(self.places)},
            "skin": self.ref.partition,
        }
        takes = self._by_role(takes_of)
        inputs = {
            role: TaskInput(
                file, names.get(role, f"the motion of {self.ref.partition}"), takes.get(role)
            )
            for role, file in files.items()
        }
        frames = tuple(self.frames(settings)) if settings.frames == "diverse" else ()
        return Task(self.ref.partition, inputs, output, frames, places=self.places)  # fmt: skip

    @property
    def inputs(self) -> dict[str, tuple[CommittedSet, str]]:
        """The files that a renderer needs, by role: the set that holds each, and its name there."""
        if not self.members:
            return {role: (self.source, name) for role, name in files_of(self.source).items()}
        return {
            role_of(role, number): (member, name)
            for number, member in enumerate(self.members)
            for role, name in files_of(member).items()
        }

    def _by_role(self, of: Callable[[CommittedSet], Mapping[str, Any]]) -> dict[str, Any]:
        if not self.members:
            return dict(of(self.source))
        return {role_of(r, i): v for i, m in enumerate(self.members) for r, v in of(m).items()}

    def images(self, settings: RenderSettings) -> int:
        """How many images it will have."""
        return sum(name.startswith("images/") for name in self.files(settings))

    def files(self, settings: RenderSettings) -> list[str]:
        """The files that the set will have when it leaves the worker."""
        wanted = pictures(self.frames(settings), settings, self.ref.partition, self.looks)
        return render_files([p.file for p in wanted], image_folders(settings, self.persons))

    def frames(self, settings: RenderSettings) -> list[int]:
        """The frames that are rendered.

        Raises:
            SettingsError: ``diverse`` ones are wanted of a character whose poses were not measured. Of a group, all poses together
                are not measured, and its frames are spread evenly.
        """
        if settings.frames == "diverse" and self.moves and not self.members:
            if POSES not in self.source.files:
                raise SettingsError(
                    f'{self.ref.partition}: its poses were not measured yet, which frames = "diverse" needs; set it in '
                    "posefactory.toml, [render], and run it again"
                )
            return diverse_frames(self.source.path(POSES), settings.frames_per_clip, settings.seed)
        return sample_frames(self.frame_range, self.moves, settings)
