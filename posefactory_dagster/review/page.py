"""One static page for people to look at artifacts: what each was made from beside it, skeletons, reasons, keys."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blender_scripts.contract import LANDMARKS
from posefactory_dagster.pictures import small_picture
from posefactory_dagster.quality.landmarker import SKELETON
from posefactory_dagster.review.documents import Reviewed

TEMPLATE = Path(__file__).with_name("page.html")
#: What stands in the template for the data.
MARK, SERVED = "/*DATA*/", "/*SERVED*/"
_DATA = re.compile(r'<script type="application/json" id="data">(.*?)</script>', re.DOTALL)
SIDE = 512
#: Worst first, as that is what people are asked to look at.
ORDER = (
    "blocked",
    "failed",
    "qa_rejected",
    "pending",
    "in_progress",
    "qa_approved",
    "locked_approved",
)
#: Landmarks of a page, (33, 2 or more): x and y as parts of width and height.
Pose = Sequence[Sequence[float]]


@dataclass(frozen=True)
class Attempt:
    """A line of how an artifact came about."""

    number: int
    severity: str
    correction: str
    seed: int


@dataclass(frozen=True)
class Entry:
    """One artifact on a page.

    ``title`` stands beside its subject; ``source`` names the picture that it was made from; ``picture`` is its own, None
    where there is none; poses are the exact one, and what was seen in the source and in the artifact.
    """

    item: Reviewed
    title: str
    source: str
    picture: Path | None
    flags: Sequence[str]
    reasons: Sequence[str]
    attempts: Sequence[Attempt]
    truth: Pose
    source_pose: Pose | None
    pose: Pose | None


def page(entries: Sequence[Entry], sources: Mapping[str, Path]) -> str:
    """The page as HTML that needs nothing else.

    Args:
        sources: the pictures that the artifacts were made from, by name.
    """
    rows = []
    for entry in sorted(entries, key=lambda e: ORDER.index(e.item.state)):
        item = entry.item
        rows.append(
            {
                "kind": item.kind,
                "subject": item.subject,
                "id": item.id,
                "title": entry.title,
                "sha256": item.image.sha256 if item.image else None,
                "state": item.state,
                "severity": item.verdict.severity if item.verdict else "",
                "flags": list(entry.flags),
                "reasons": list(entry.reasons),
                "source": entry.source,
                "attempts": [vars(a) for a in entry.attempts],
                "truth": entry.truth,
                "source_pose": entry.source_pose,
                "pose": entry.pose,
                "image": _picture(entry.picture) if entry.picture else "",
            }
        )
    index = {name: i for i, name in enumerate(LANDMARKS)}
    skeleton = [(index[a], index[b]) for a, b in SKELETON]
    pictures = {name: _picture(path) for name, path in sources.items()}
    return TEMPLATE.read_text("utf-8").replace(
        MARK, _text({"skeleton": skeleton, "sources": pictures, "items": rows})
    )


def served(page: str, states: Mapping[str, str], save: str) -> str:
    """A page as a server shows it, in the present template: with how its artifacts stand now, and saving by itself.

    Args:
        page: as it was stored.
        states: by id.
        save: the address that takes decisions.

    Raises:
        ValueError: it is no such page.
    """
    found = _DATA.search(page)
    if found is None:
        raise ValueError("this page holds nothing to review; materialize its asset anew")
    data = json.loads(found.group(1))
    if "variants" in data:
        data = _of_version_1(data)
    more = {"states": dict(states), "save": save}
    return TEMPLATE.read_text("utf-8").replace(MARK, _text(data)).replace(SERVED, _text(more))


def _of_version_1(data: Mapping[str, Any]) -> dict[str, Any]:
    """The data of a page of the time when there were only variants, in today's words."""
    items = [
        {
            **row,
            "kind": "variant",
            "subject": row["character"],
            "id": row["variant"],
            "title": f"{row['file']} · {row['style']}",
            "source": row["file"],
            "source_pose": row["raw_pose"],
        }
        for row in data["variants"]
    ]
    return {"skeleton": data["skeleton"], "sources": data["raws"], "items": items}


def _text(data: Any) -> str:
    """JSON inside a script, where "</" could end it early, and "<!--" with "<script" would swallow its end."""
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")


def _picture(path: Path) -> str:
    """An image as a small JPEG in a data: address; empty where it cannot be opened."""
    image = small_picture(path.read_bytes(), SIDE)
    if image is None:
        return ""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
