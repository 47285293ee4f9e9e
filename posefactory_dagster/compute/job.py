"""Make the job documents that a renderer gets."""

from __future__ import annotations

import datetime
import functools
import json
import secrets
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from blender_scripts.contract import Job, RenderSettings, SettingsError, Task, ring
from posefactory_dagster.settings import ASSETS_DATA, environment


@functools.cache
def rig_map(name: str = "mixamo") -> dict[str, Any]:
    """The content of ``assets_data/rigs/<name>.json``."""
    path = ASSETS_DATA / "rigs" / f"{name}.json"
    return json.loads(path.read_text("utf-8"))


class RigNaming(BaseModel):
    """The bone names of one family of rigs; see ``blender_scripts/formats/naming.py``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    about: str = ""
    sides: dict[str, str] = {}
    bones: dict[str, list[str]]


def namings() -> list[dict[str, Any]]:
    """The bone names of other families of rigs: those that ship, and those of the user.

    Raises:
        SettingsError: see ``user_namings``.
    """
    return [*_shipped_namings(), *user_namings()]


def user_namings() -> list[dict[str, Any]]:
    """The rig maps in the folder ``rigs`` beside the settings file.

    Raises:
        SettingsError: a file in that folder is no rig map.
    """
    found = []
    for path in sorted((environment().settings_file.parent / "rigs").glob("*.json")):
        try:
            naming = RigNaming.model_validate_json(path.read_bytes())
        except (ValidationError, OSError) as error:
            said = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
            raise SettingsError(
                f"{path}: no rig map ({said}); mend it, or take it out of that folder"
            ) from error
        found.append(naming.model_dump())
    return found


@functools.cache
def _shipped_namings() -> list[dict[str, Any]]:
    humanoid = rig_map()["name"]
    paths = sorted((ASSETS_DATA / "rigs").glob("*.json"))
    return [
        RigNaming.model_validate_json(p.read_bytes()).model_dump()
        for p in paths
        if p.stem != humanoid
    ]


def new_job(
    job_type: Literal["render", "character", "compare", "rig", "arrange", "engine", "enhance"],
    tasks: list[Task],
    settings: RenderSettings | None = None,
    looks: Mapping[str, Mapping[str, Any]] | None = None,
) -> Job:
    """A pending job named ``{type}_{YYYYMMDD}_{HHMMSS}_{8 hex}``, as in the original system.

    Args:
        looks: the documents of the looks that its tasks are rendered in, by name.
    """
    now = datetime.datetime.now(datetime.UTC)
    settings = settings or RenderSettings()
    return Job(
        job_id=f"{job_type}_{now:%Y%m%d_%H%M%S}_{secrets.token_hex(4)}",
        job_type=job_type,
        created_at=now.isoformat(timespec="seconds"),
        tasks=tuple(tasks),
        rig_map={**rig_map(), "namings": namings()},
        settings=settings,
        views=ring(settings.num_angles),
        looks=looks or {},
    )
