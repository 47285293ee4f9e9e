"""Make the job documents that a renderer gets."""

from __future__ import annotations

import datetime
import functools
import json
import secrets
from typing import Any, Literal

from blender_scripts.contract import Job, RenderSettings, Task, ring
from posefactory_dagster.settings import ASSETS_DATA


@functools.cache
def rig_map(name: str = "mixamo") -> dict[str, Any]:
    """The content of ``assets_data/rigs/<name>.json``."""
    path = ASSETS_DATA / "rigs" / f"{name}.json"
    return json.loads(path.read_text("utf-8"))


@functools.cache
def namings() -> list[dict[str, Any]]:
    """The bone names of other families of rigs, as ``assets_data/rigs`` has them beside the humanoid; see ``formats.naming``."""
    humanoid = rig_map()["name"]
    paths = sorted((ASSETS_DATA / "rigs").glob("*.json"))
    return [json.loads(p.read_text("utf-8")) for p in paths if p.stem != humanoid]


def new_job(
    job_type: Literal["render", "character", "enhance"],
    tasks: list[Task],
    settings: RenderSettings | None = None,
) -> Job:
    """A pending job named ``{type}_{YYYYMMDD}_{HHMMSS}_{8 hex}``, as in the original system."""
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
    )
