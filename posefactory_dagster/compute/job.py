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
        rig_map=rig_map(),
        settings=settings,
        views=ring(settings.num_angles),
    )
