"""One static page per batch for people to look at: render and variant side by side, skeletons, reasons, keys."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from blender_scripts.contract import LANDMARKS
from posefactory_dagster.pictures import small_picture
from posefactory_dagster.quality.landmarker import SKELETON
from posefactory_dagster.quality.records import Variant
from posefactory_dagster.variants.shots import Shots

TEMPLATE = Path(__file__).with_name("review_page.html")
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


def page(shots: Shots, variants: Sequence[Variant], paths: Mapping[str, Path]) -> str:
    """The page as HTML that needs nothing else.

    Args:
        paths: where the variants' images are, by object key.
    """
    names = [i["file"] for i in shots.truth.images]
    raws: dict[str, str] = {}
    rows = []
    for variant in sorted(variants, key=lambda v: ORDER.index(v.state)):
        file = variant.source.file
        if file not in raws:
            raws[file] = _picture(shots.paths[f"images/{file}"])
        verdict = variant.verdict or {}
        truth = shots.truth.arrays["pixels"][names.index(file)] / shots.size
        rows.append(
            {
                "character": variant.character,
                "variant": variant.variant,
                "sha256": variant.image.sha256 if variant.image else None,
                "state": variant.state,
                "severity": verdict.get("severity", ""),
                "flags": variant.flags,
                "reasons": variant.reasons,
                "style": variant.style_name,
                "file": file,
                "attempts": [
                    {
                        "number": a.number,
                        "severity": (a.verdict or {}).get("severity", a.error),
                        "correction": a.correction,
                        "seed": a.seed,
                    }
                    for a in variant.attempts
                ],
                "truth": truth.round(4).tolist(),
                "raw_pose": _pose(verdict.get("raw")),
                "pose": _pose(verdict.get("enhanced")),
                "image": _picture(paths[variant.image.key]) if variant.image else "",
            }
        )
    index = {name: i for i, name in enumerate(LANDMARKS)}
    skeleton = [(index[a], index[b]) for a, b in SKELETON]
    data = {"skeleton": skeleton, "raws": raws, "variants": rows}
    # Inside a script "</" could end it early, and "<!--" with "<script" would swallow its end.
    text = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    return TEMPLATE.read_text("utf-8").replace(MARK, text)


def served(page: str, states: Mapping[str, str], save: str) -> str:
    """A page as a server shows it, in the present template: with how its variants stand now, and saving by itself.

    Args:
        page: as it was stored.
        states: by variant.
        save: the address that takes decisions.

    Raises:
        ValueError: it is no such page.
    """
    found = _DATA.search(page)
    if found is None:
        raise ValueError("this page holds no variants; materialize `enhanced_variants` anew")
    data = found.group(1).replace("<", "\\u003c")  # pages of earlier versions escaped less
    more = json.dumps({"states": dict(states), "save": save}).replace("<", "\\u003c")
    return TEMPLATE.read_text("utf-8").replace(MARK, data).replace(SERVED, more)


def _pose(measured: Mapping[str, Any] | None) -> list[list[float]] | None:
    return (measured or {}).get("landmarks")


def _picture(path: Path) -> str:
    """An image as a small JPEG in a data: address; empty where it cannot be opened."""
    image = small_picture(path.read_bytes(), SIDE)
    if image is None:
        return ""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
