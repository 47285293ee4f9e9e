"""A character to render, and the set that becomes of it; wherever that happens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from blender_scripts.contract import (
    CAST_CURVES,
    POSES,
    RenderSettings,
    SettingsError,
    Task,
    character_task,
    pictures,
    render_files,
    sample_frames,
)
from posefactory_dagster.compute.frames import diverse_frames
from posefactory_dagster.storage import layout
from posefactory_dagster.storage.sets import CommittedSet, SetRef

#: What a worker elsewhere writes last: the list of a set's files that says they are all there.
RESULT = "result.json"


@dataclass(frozen=True)
class Work:
    """One character to render: the set to make, and the committed character it is made from.

    ``frame_range``: first and last frame of its animation; ``moves``: whether its pose changes over them; ``looks``: the
    documents of the looks that it is rendered in, by name.
    """

    ref: SetRef
    source: CommittedSet
    frame_range: tuple[int, int]
    moves: bool
    looks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def key(self, attempt: str, name: str) -> str:
        """The object key of a file of the set."""
        ref = self.ref
        return layout.set_file(ref.asset, ref.partition, ref.identity, attempt, name)

    def task(self, skin: str, motion: str | None, output: str, settings: RenderSettings) -> Task:
        """The character's part of a job.

        Args:
            skin, motion: paths or names of the files, as the machine that renders knows them.
            output: where the files of the set go there.
            settings: of the job.
        """
        inputs = self.source.inputs
        return character_task(
            self.ref.partition,
            skin,
            output,
            motion,
            take=inputs["skin"].get("take"),
            motion_take=inputs.get("motion", {}).get("take"),
            frames=tuple(self.frames(settings)) if settings.frames == "diverse" else (),
        )

    @property
    def inputs(self) -> dict[str, str]:
        """The names of the files of the source that a renderer needs, by role: its skin, and the motion that was cast on it.

        The motion is a file of curves; sets of casts of version 1 hold the motion's own file.
        """
        stems = {PurePosixPath(name).stem: name for name in self.source.files if "/" not in name}
        cast = PurePosixPath(CAST_CURVES).stem
        found = {"skin": stems["skin"]}
        if cast in stems or "motion" in stems:
            found["motion"] = stems.get(cast) or stems["motion"]
        return found

    def images(self, settings: RenderSettings) -> int:
        """How many images it will have."""
        return sum(name.startswith("images/") for name in self.files(settings))

    def files(self, settings: RenderSettings) -> list[str]:
        """The files that the set will have when it leaves the worker."""
        wanted = pictures(self.frames(settings), settings, self.ref.partition, self.looks)
        return render_files([p.file for p in wanted])

    def frames(self, settings: RenderSettings) -> list[int]:
        """The frames that are rendered.

        Raises:
            SettingsError: ``diverse`` ones are wanted of a character whose poses were not measured.
        """
        if settings.frames == "diverse" and self.moves:
            if POSES not in self.source.files:
                raise SettingsError(
                    f'{self.ref.partition}: its poses were not measured yet, which frames = "diverse" needs; set it in '
                    "posefactory.toml, [render], and run it again"
                )
            return diverse_frames(self.source.path(POSES), settings.frames_per_clip, settings.seed)
        return sample_frames(self.frame_range, self.moves, settings.frames_per_clip)
